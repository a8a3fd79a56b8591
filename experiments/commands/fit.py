"""usage: litlab fit [CONFIG ...] [options]       without CONFIG: the demo, {demo}

config
  CONFIG ...                       YAML files or shipped configs; later ones override earlier ones
  --config FILE                    the same, as an option; other options override all files at any position
  --print_config                   print the merged config and exit
run
  --experiment NAME                folder in runs/ (default: the name of the first config)
  --monitor val/acc --mode max     metric that decides the best epoch (default: val/acc, else val/loss)
  --patience N                     stop after N validations without improvement
  --test_after_fit true            test the best weights after training
  --seed_everything 42             seed of initialization, sample order and dropout
  --ckpt_path FILE                 start a new run from a checkpoint; `litlab resume RUN` continues a run
  --save_every_minutes 10          write last.ckpt within an epoch too; also --save_every_steps N
  --not_finite skip                skip steps whose gradients are NaN or infinite; stop (default) ends the run
data
  --data NAME                      {data}
                                   (each followed by DataModule)
  --data.batch_size 128            samples per optimizer step, over all devices
  --data.val_split 0.2             validation split: a fraction or a count; also --data.split_seed, --data.stratify
  --data.train_fraction 0.1        use a fraction of the training samples
  --data.data_dir DIR              folder of the files (or the environment variable LITLAB_DATA_DIR)
model
  --model NAME                     {models}
  --model.optimizer sgd            sgd momentum nesterov adam adamw rmsprop adagrad adadelta lbfgs, or a class path
  --model.optimizer.lr 0.1         and its other arguments
  --model.scheduler cosine         step multistep exponential cosine plateau cosine_restarts cyclic onecycle
                                   warmup_cosine polynomial, or a class path
  --model.loss NAME  --model.init NAME  --model.l1 X  --model.l2 X  --model.metrics '[acc, f1]'
training
  --trainer.max_epochs 10          --trainer.max_steps N     --trainer.fast_dev_run 1 (a quick check that saves nothing)
  --trainer.accelerator auto       --trainer.devices 2 --trainer.strategy ddp
  --trainer.limit_train_batches 1  a number of batches, or a fraction such as 0.5; also _val_, _test_
  --trainer.gradient_clip_val 1.0  --trainer.accumulate_grad_batches 4
  --trainer.callbacks+=NAME        add a callback; --trainer.callbacks.OPTION sets its arguments
performance (by default chosen for the hardware, see docs/command-line.md)
  --trainer.precision bf16-mixed   override the choice; 32-true for full precision
  --channels_last true             memory layout of images    --threads 2    --compile true (torch.compile)
  --steps_per_call 8               optimizer steps per call of training_step, for tiny networks
more
  --model.help NAME, --data.help NAME, --trainer.callbacks.help NAME      all arguments of one class
  --help-all                       all options      --debug      print tracebacks of user errors

environment  LITLAB_DATA_DIR (data files), LITLAB_RUNS_DIR (run folders), LITLAB_CACHE_DIR (files that can be rebuilt)
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import yaml
from lightning.pytorch import Trainer

from experiments.commands.default_callbacks import users_callbacks
from experiments.commands.find_checkpoint import checkpoint_path
from experiments.commands.fit_plan import Origin, Plan, prepare, prepare_data
from experiments.commands.fit_training import train
from experiments.commands.monitored_metric import check_callbacks, with_monitor
from experiments.commands.rerun_reference import ReferenceRun
from experiments.commands.resume_changes import ResumedRun
from experiments.commands.trainer_command import Built, TrainerCommand
from experiments.messages.errors import DONE
from experiments.options.config_files import dump_yaml
from experiments.options.request import Request
from experiments.options.trainer_checks import check_plain
from experiments.runs.checkpoint import CheckpointFile


class Fit(TrainerCommand):
    """Train a new run."""

    plan: Plan
    resumed: ResumedRun | None = None
    reference: ReferenceRun | None = None  # the run that a rerun repeats

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.weights = self.find_weights()

    def find_weights(self) -> CheckpointFile:
        """Return the checkpoint to start from, if any."""
        given = self.request.option("ckpt_path")
        return CheckpointFile(checkpoint_path(given) if given else None)

    def trainer_arguments(self, built: Built, options: dict[str, Any]) -> dict[str, Any]:
        """Check model, data and checkpoint together, and create the run folder."""
        self.weights.check(built.model)
        self.weights.check_trainable(built.model, exactly=self.resumed is not None)
        check_plain(built.model)
        check_plain(built.data)
        run_options = with_monitor(built.options, built.model, prepare_data(built.data))
        resumed = self.resumed is not None
        check_callbacks(users_callbacks(options), run_options, built.model, self.without_mode, resumed)
        if built.options.monitor is not None and built.options.mode is None and not (resumed or self.reference):
            built = replace(built, config_text=_with_mode(built.config_text, run_options.mode))
        origin = Origin(self.weights, tuple(f"trainer.{name}" for name in self.request.objects), self.reference)
        self.plan = prepare(replace(built, options=run_options), options, self.resumed, origin)
        self.run_folder = self.plan.folder
        self.claimed = self.plan.folder if self.resumed is None else None  # never remove a folder that existed before
        return self.plan.trainer

    def run(self, built: Built, trainer: Trainer | None) -> int:
        """Train, report and, with `test_after_fit`, test."""
        assert trainer is not None
        train(trainer, self.plan)
        return DONE


def _with_mode(config_text: str, mode: str | None) -> str:
    document = {**yaml.safe_load(config_text), "mode": mode}
    text: str = dump_yaml(document)
    return text


COMMAND = Fit
