"""Help that fits one screen and appears at once; `--help-all` asks the real parser."""

from __future__ import annotations

from experiments.options import names
from experiments.options.verbs import DEMO
from experiments.version import VERSION

_OVERVIEW = """\
litlab {version}: deep-learning experiments from one YAML file

commands
  litlab fit [CONFIG] [options]     train, validate and store a run; without a config the demo ({demo})
  litlab resume RUN                 go on with a run that was stopped or killed, as if nothing had happened
  litlab rerun RUN --check          repeat a run from its folder and say whether the numbers agree
  litlab test RUN                   score a run's best weights on the official test set
  litlab validate RUN               score them on the validation part
  litlab predict RUN                write predictions with probabilities to a CSV file
  litlab board [DIR]                TensorBoard of all runs, of an experiment or of one run
  litlab data CONFIG                samples before and after augmentation, statistics, balance, duplicates
  litlab list [configs|models|data|callbacks|runs]
  litlab info                       versions, devices, data found
  litlab completion bash|zsh|fish   a completion script for the shell

examples
  litlab fit
  litlab fit cnn_fashion_mnist --trainer.max_epochs 2
  litlab test cnn_fashion_mnist

configs  {configs}
models   {models}
data     {data}

`litlab fit --help` shows the options. CONFIG is a file or one of the names above; RUN is a folder in runs/ or an
experiment's name, meaning its newest run."""

_CONFIG = """\
config
  CONFIG ...                       a YAML file or a shipped config; several are merged, later ones win
  --config FILE                    the same, as an option; a flag beats every file wherever it stands
  --print_config                   print the merged config and stop
"""

_FIT = """\
usage: litlab fit [CONFIG ...] [options]       without CONFIG: the demo, {demo}

{config}
run
  --experiment NAME                folder below runs/ (default: the first config's name)
  --monitor val/acc --mode max     metric that decides the best epoch (default: val/acc, else val/loss)
  --patience N                     stop after N validations without a better one
  --test_after_fit true            test the best weights when done
  --seed_everything 42             seed of initialisation, order of samples and Dropout
  --ckpt_path FILE                 start a new run from a checkpoint; `litlab resume RUN` goes on with a run
  --save_every_minutes 10          write last.ckpt within an epoch too; --save_every_steps N
  --not_finite skip                leave out steps whose gradients are NaN or infinite; stop (default) ends the run
data
  --data NAME                      {data}
  --data.batch_size 128            samples per optimizer step, over all devices
  --data.val_split 0.2             validation part: a fraction or a count; --data.split_seed, --data.stratify
  --data.train_fraction 0.1        use a part of the training samples
  --data.data_dir DIR              where the files are (or the environment variable LITLAB_DATA_DIR)
model
  --model NAME                     {models}
  --model.optimizer sgd            sgd momentum nesterov adam adamw rmsprop adagrad adadelta lbfgs, or a class path
  --model.optimizer.lr 0.1         and its other settings
  --model.scheduler cosine         step multistep exponential cosine plateau cosine_restarts cyclic onecycle
                                   warmup_cosine polynomial, or a class path
  --model.loss NAME  --model.init NAME  --model.l1 X  --model.l2 X  --model.metrics '[acc, f1]'
training
  --trainer.max_epochs 10          --trainer.max_steps N     --trainer.fast_dev_run 1 (a trial, writes nothing)
  --trainer.accelerator auto       --trainer.devices 2 --trainer.strategy ddp
  --trainer.limit_train_batches 1  a number of batches, or a fraction such as 0.5; also _val_, _test_
  --trainer.gradient_clip_val 1.0  --trainer.accumulate_grad_batches 4
  --trainer.callbacks+=NAME        add a callback; --trainer.callbacks.OPTION sets what it takes
speed (chosen for the machine, see docs/command-line.md)
  --trainer.precision bf16-mixed   instead of the choice; 32-true for full precision
  --channels_last true             memory layout of images    --threads 2    --compile true (torch.compile)
  --steps_per_call 8               optimizer steps per call of training_step, for tiny nets
more
  --model.help NAME, --data.help NAME, --trainer.callbacks.help NAME      all settings of one class
  --help-all                       every option      --debug      tracebacks of mistakes too

environment  LITLAB_DATA_DIR (data files), LITLAB_RUNS_DIR (run folders), LITLAB_CACHE_DIR (what can be made again)"""

_SCORED = """\
usage: litlab {verb} RUN [options]

{what}
RUN is a run folder, or an experiment's name, meaning its newest run. Its own config and best weights are used.

  --ckpt_path FILE                 other weights; `last` for the last epoch; works without RUN for a run's file
  --config FILE                    another config than the run's own
  --untrained                      random weights, on purpose
  --data.batch_size N ...          every option of `litlab fit`
{extra}  --help-all                       every option"""

_WHAT = {
    "test": "Scores weights on the official test set, and prints which checkpoint, epoch and split made the number.",
    "validate": "Scores weights on the validation part, and prints which checkpoint and epoch made the number.",
    "predict": "Writes a CSV with a row per test sample: sample, truth, prediction, probabilities.",
}

_SMALL = {
    "resume": """\
usage: litlab resume RUN [options]

Goes on from the run's newest checkpoint, in its own folder, as if it had never stopped: the same weights, bit for bit,
on the same machine with the same number of devices. A run killed before its first checkpoint starts again.

Settings that change what is computed (model, data, batch size, split, seed, precision) are refused. Accepted and
written down are another logger, more callbacks, --patience, the number of devices, and
  --trainer.max_epochs N           more epochs, where no schedule ends with the run
  --extend_schedule hold|stretch   more epochs where one does: keep the rate as it is, or plan the schedule anew over N
  --model.optimizer.lr X           another rate, where no schedule decides it""",
    "rerun": """\
usage: litlab rerun RUN [--check] [options]

Trains the same once more, in a new folder of the same experiment, from the run's own config.yaml. What was chosen for
its machine (precision, memory layout, threads, devices) is taken over, and the checkpoint that it was started from.
Before it trains it says what differs already: code, versions, data, hardware, settings. Ctrl-C stops it.

  --check                          afterwards compare every figure of metrics.csv and results.json and all weights of
                                   best.ckpt and last.ckpt: exit code 0 if they agree, 1 if not, and then where
                                   first, by how much, and what differs of all that they depend on
  --seed_everything N ...          every option of `litlab fit` beats the config; then it is no exact repeat
  --trainer.deterministic true     on GPUs: only computations that repeat bit for bit (docs/repeatability.md)""",
    "board": "usage: litlab board [DIR] [--port N]\n\nStarts TensorBoard on this machine alone (127.0.0.1) at a free "
    "port and prints its address. DIR is a folder,\na run or an experiment's name; without it all runs are shown. "
    "Ctrl-C ends it.",
    "data": "usage: litlab data CONFIG [options]\n\nPrints sizes, statistics per channel, samples per class and equal "
    "samples of the data that CONFIG trains on,\nand draws samples before and after augmentation into runs/data/NAME/ "
    "(PNG and TensorBoard). The test files are\nread for counts and equal samples only. Takes the options of `litlab "
    "fit`, such as --data.augment '[flip]'.",
}


def overview() -> str:
    """What `litlab` alone prints."""
    configs = [e.name for e in names.configs() if not e.summary.startswith("Fragment")]
    return _OVERVIEW.format(
        version=VERSION,
        demo=DEMO,
        configs=_wrap(configs),
        models=_wrap([entry.name for entry in names.classes("models")]),
        data=_wrap([entry.name for entry in names.classes("data")]),
    )


def of_verb(verb: str) -> str:
    """What `litlab VERB --help` prints."""
    if verb == "fit":
        models = " ".join(entry.name for entry in names.classes("models"))
        data = " ".join(entry.name.removesuffix("DataModule") for entry in names.classes("data"))
        return _FIT.format(
            demo=DEMO,
            config=_CONFIG,
            models=_wrap(models.split(), 35, 120),
            data=_wrap(data.split(), 35, 120) + "\n" + " " * 35 + "(each followed by DataModule)",
        )
    if verb in _WHAT:
        extra = (
            "  --output FILE                    where to write; default: the run folder\n" if verb == "predict" else ""
        )
        return _SCORED.format(verb=verb, what=_WHAT[verb], extra=extra)
    return _SMALL[verb]


def _wrap(words: list[str], indent: int = 9, width: int = 120) -> str:
    lines, line = [], ""
    for word in words:
        if line and indent + len(line) + 1 + len(word) > width:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    return ("\n" + " " * indent).join([*lines, line])
