"""Odd values that are easily typed: empty ones, infinite ones, overlong ones, and names that name nothing."""

from __future__ import annotations

from pathlib import Path

from tests.experiments.bad_inputs.bad import RUN, Bad, edited, folder_instead, write
from tests.experiments.bad_inputs.configs import added, mine
from tests.experiments.bad_inputs.environments import RUNS, variable

MINE, NET, RESULTS = Path("mine.yaml"), Path("my_net.py"), RUN / "results.json"
MODEL = "{class_path: LitMLP, init_args: {hidden: [8]}}"
NO_CLASS = ("model: ", "is not a class")


def trainer(settings: str, offender: str, remedy: str) -> Bad:
    """The config with more settings of the Trainer."""
    return mine(offender, remedy, edited(MINE, "max_epochs: 1", f"max_epochs: 1, {settings}"))


ODDITIES: dict[str, Bad] = {
    "empty seed": Bad("fit --seed_everything ''", ("seed_everything must be", "got ''"), "an integer", "fit"),
    "empty precision": Bad("fit --trainer.precision ''", ("trainer.precision must be", "got ''"), "bf16-mixed", "fit"),
    "empty model": Bad("fit --model ''", "model: ''", "import path", "fit"),
    "empty data": Bad("fit --data ''", "data: ''", "import path", "fit"),
    "empty list": Bad("fit --model.hidden ''", ("model.hidden must be", "got ''"), "must be a list", "fit"),
    "trainer that is a word": Bad("fit --trainer x", "trainer: 'x'", "--trainer.max_epochs 5", "fit"),
    "empty trainer": Bad("fit --trainer ''", "trainer: ''", "--trainer.max_epochs 5", "fit"),
    "model that is a dot": Bad("fit --model .", (*NO_CLASS, "'.'"), "litlab list models", "fit"),
    "model that ends in a dot": Bad("fit --model lit_models.", NO_CLASS, "litlab list models", "fit"),
    "model that begins by a dot": Bad("fit --model .LitMLP", NO_CLASS, "litlab list models", "fit"),
    "model above this package": Bad("fit --model ..x", (*NO_CLASS, "'..x'"), "my_module.MyClass", "fit"),
    "model with a blank in it": Bad("fit --model 'a b.c'", NO_CLASS, "my_module.MyClass", "fit"),
    "data above this package": Bad("fit --data ..x", "data: '..x' is not a class", "litlab list data", "fit"),
    "empty model in a config": mine((*NO_CLASS, "''"), "litlab list models", edited(MINE, MODEL, "''")),
    "model without a class": mine("model names no class", "class_path", edited(MINE, MODEL, "{}")),
    "class that is a number": mine((*NO_CLASS, "'5'"), "litlab list models", edited(MINE, "LitMLP", "5")),
    "settings that are a number": mine("`init_args:` of `model:`", "remove it", edited(MINE, "{hidden: [8]}", "5")),
    "settings that are a list": mine("in mine.yaml is [5]", "remove it", edited(MINE, "{hidden: [8]}", "[5]")),
    "settings left empty": mine("in mine.yaml is empty", "remove it", edited(MINE, "{hidden: [8]}", "null")),
    "list that holds itself": mine("or contain themselves", "Fix the syntax on that line", added("a: &x [*x]\n")),
    "callback that is a number": trainer("callbacks: [5]", "5 in trainer.callbacks", "class_path"),
    "callback of no class": trainer("callbacks: [{class_path: null}]", "in trainer.callbacks", "class_path"),
    "callback of a list": trainer("callbacks: [{class_path: []}]", "in trainer.callbacks", "class_path"),
    "callback without what it needs": Bad(
        "fit --trainer.callbacks+=Gradients --trainer.callbacks+=EarlyStopping",
        "EarlyStopping needs monitor",
        "--trainer.callbacks.monitor",
        "fit --trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/loss",
    ),
    "package that a model asks for late": Bad(
        "fit --model=my_net.Net --data=my_data.Clouds",
        "No module named 'jaxx'",
        ("pip install jaxx", "If jaxx.py is your own file, run litlab in the folder"),
        given="own",
        offence=edited(NET, "    def __init__", "    def setup(self, stage):\n        import jaxx\n\n    def __init__"),
    ),
    "interval of nothing": Bad(
        "fit --trainer.val_check_interval 0",
        ("trainer.val_check_interval must be", "got 0"),
        "limit_val_batches 0",
        "fit --trainer.val_check_interval 1",
    ),
    "clipping by NaN": Bad(
        "fit --trainer.gradient_clip_val .nan", ("gradient_clip_val must be", "got nan"), "0 or more", "fit"
    ),
    "clipping below nothing": Bad(
        "fit --trainer.gradient_clip_val -1", ("gradient_clip_val must be", "got -1"), "0 or more", "fit"
    ),
    "min_delta NaN": Bad("fit --min_delta .nan", ("min_delta must be", "got nan"), "0 or more", "fit"),
    "min_delta without end": Bad("fit --min_delta 1e400", ("min_delta must be", "got inf"), "0 or more", "fit"),
    "learning rate without end": Bad("fit --model.optimizer.lr 1e400", "finite number, got inf", "0.001", "fit"),
    "experiment that is blank": Bad(
        "fit --experiment ' '", ("experiment must be", "got ' '"), "--experiment NAME", "fit"
    ),
    "experiment of two lines": Bad(
        "fit --experiment 'a\nb'", ("experiment must be", r"got 'a\nb'"), "--experiment NAME", "fit"
    ),
    "experiment too long": Bad(
        f"fit --experiment {'x' * 300}", ("experiment", "300 characters"), "at most 255 bytes", "fit"
    ),
    "config that is hidden": Bad(
        "fit .hidden.yaml",
        ("experiment must be", "without a dot", "got '.hidden'"),
        "--experiment NAME",
        "fit .hidden.yaml --experiment seen",
        given="hidden",
    ),
    "config of an overlong name": Bad(f"fit {'x' * 5000}", "'xxxx", "litlab list configs", "fit"),
    "run of an overlong name": Bad(f"test {'x' * 5000}", "'xxxx", "litlab list runs", "test mlp_digits", given="run"),
    "runs in an overlong folder": variable("fit", RUNS, "x" * 300, "run folder: ", RUNS),
    "runs of a user that is not there": variable("fit", RUNS, "~nobody_of_that_name/x", "~nobody_of_that_name", RUNS),
    "tasks of SLURM that are no number": variable(
        "fit", "SLURM_NTASKS", "x", "SLURM_NTASKS must be a number of tasks, got 'x'", "Unset"
    ),
    "results that are a folder": Bad(
        "resume mlp_digits --trainer.max_epochs=2",
        "results.json is corrupted",
        "Move it away",
        given="run",
        offence=folder_instead(RESULTS),
    ),
    "results that are numbers": Bad(
        "test mlp_digits", "results.json is corrupted", "Move it away", given="run", offence=write(str(RESULTS), "[1]")
    ),
    "results that say nothing": Bad(
        "resume mlp_digits --trainer.max_epochs=2",
        "results.json is corrupted",
        "Move it away",
        given="run",
        offence=write(str(RESULTS), "[{}]"),
    ),
}
