"""Commands: wrong verbs, wrong arguments, runs that are not there."""

from __future__ import annotations

from pathlib import Path

from tests.experiments.bad_inputs.bad import Bad, gone
from tests.experiments.bad_inputs.checkpoints import START

VERBS: dict[str, Bad] = {
    "misspelt verb": Bad("fti", "'fti' is not a command", "Did you mean fit?", "fit"),
    "config before the verb": Bad(
        "--config mlp_digits fit", "the command comes first", "litlab fit --config FILE", "fit --config mlp_digits"
    ),
    "short config before the verb": Bad(
        "-c mlp_digits fit", "the command comes first", "litlab fit --config", "fit -c mlp_digits"
    ),
    "option before the verb": Bad(
        "--trainer.max_epochs=1 fit",
        "'--trainer.max_epochs=1' needs a command before it",
        "litlab fit CONFIG",
        "fit --trainer.max_epochs=1",
    ),
    "list of an unknown kind": Bad("list modles", "'modles'", "Did you mean models?", "list models"),
    "completion of an unknown shell": Bad("completion tcsh", "got 'tcsh'", "bash, zsh, fish", "completion zsh"),
    "completion of no shell": Bad("completion", "got none", "bash, zsh, fish", "completion bash"),
    "info of something": Bad("info torch", "unrecognized arguments: torch", "Usage: litlab info", "info"),
    "board without runs": Bad(
        "board", "runs does not exist yet", "litlab fit", given="run", offence=gone(Path("runs"))
    ),
    "board of a folder that is not there": Bad("board nothing", "'nothing'", "litlab list runs", "board", given="run"),
    "board of a file": Bad("board mine.yaml", "mine.yaml is a file", "folder", "board", given=("run", "config")),
    "board of two folders": Bad("board runs elsewhere", "got 2: runs elsewhere", "one folder", "board", given="run"),
    "board at a port that is none": Bad("board --port=x", "got 'x'", "from 1 to 65535", "board", given="run"),
    "board at a port too high": Bad("board --port 99999", "got '99999'", "from 1 to 65535", "board", given="run"),
    "board without the port": Bad("board --port", "--port", "from 1 to 65535", "board", given="run"),
    "board with an unknown option": Bad(
        "board --bind_all", "unrecognized arguments: --bind_all", "--port N", "board", given="run"
    ),
    "test of a run that is not there": Bad(
        "test mlp_digit",
        "'mlp_digit'",
        ("Did you mean mlp_digits?", "litlab list runs"),
        "test mlp_digits",
        given="run",
    ),
    "test of a run number that is not there": Bad(
        "test runs/mlp_digits/7", "'runs/mlp_digits/7'", "litlab list runs", "test runs/mlp_digits/0", given="run"
    ),
    "test of two runs": Bad(
        "test mlp_digits mlp_mnist", "got 2: mlp_digits mlp_mnist", "one run", "test mlp_digits", given="run"
    ),
    "test of no run": Bad("test", "which weights?", ("litlab test RUN", "--untrained"), "test mlp_digits", given="run"),
    "validate of no run": Bad("validate", "which weights?", "litlab validate RUN", "validate mlp_digits", given="run"),
    "predict of no run": Bad(
        "predict --config mlp_digits", "which weights?", "--untrained", "predict mlp_digits", given="run"
    ),
    "test of the best without a run": Bad(
        "test --ckpt_path best",
        "--ckpt_path best needs a run",
        "litlab test RUN --ckpt_path best",
        "test mlp_digits --ckpt_path best",
        given="run",
    ),
    "random weights of a checkpoint": Bad(
        "test mlp_digits --untrained --ckpt_path=runs/mlp_digits/0/checkpoints/best.ckpt",
        ("--untrained means random weights", "best.ckpt too"),
        "Remove one of them",
        "test mlp_digits",
        given="run",
    ),
    "checkpoint option without a file": Bad(
        "test mlp_digits --ckpt_path", "--ckpt_path", "needs a value", "test mlp_digits", given="run"
    ),
    "unknown option of test": Bad(
        "test mlp_digits --bacth=3", "'--bacth' is not an option", "--help", "test mlp_digits", given="run"
    ),
    "training option of test": Bad(
        "test mlp_digits --patience 3",
        "test: --patience is an option of training",
        "Remove it",
        "test mlp_digits",
        given="run",
    ),
    "wrong type in test": Bad(
        "test mlp_digits --data.batch_size=big",
        ("data.batch_size must be", "got 'big'"),
        "an integer",
        "test mlp_digits",
        given="run",
    ),
    "output without a file": Bad(
        "predict mlp_digits --output", "--output", "needs a value", "predict mlp_digits", given="run"
    ),
    "output that is a folder": Bad(
        "predict mlp_digits --output=runs",
        "runs cannot be written (Is a directory)",
        "--output",
        "predict mlp_digits --output=rows.csv",
        given="run",
    ),
    "output below a file": Bad(
        "predict mlp_digits --output=mine.yaml/rows.csv",
        "mine.yaml",
        "--output",
        "predict mlp_digits --output=rows.csv",
        given=("run", "config"),
    ),
    "validation on another split": Bad(
        "validate mlp_digits --data.split_seed=7",
        "were trained on",
        "Restore the data and remove --data options",
        "validate mlp_digits",
        given="run",
    ),
    "validation of no part": Bad(
        "validate mlp_digits --data.val_split=0",
        "val_split: 0 leaves no validation samples",
        "--data.val_split 0.2",
        "validate mlp_digits",
        given="run",
    ),
    "resume of no run": Bad("resume", "needs a run", "litlab list runs", "resume mlp_digits", given="run"),
    "resume of two runs": Bad("resume mlp_digits mlp_mnist", "got 2", "one run", "resume mlp_digits", given="run"),
    "resume of a run that is not there": Bad(
        "resume nothing", "'nothing'", "litlab list runs", "resume mlp_digits", given="run"
    ),
    "resume of a checkpoint": Bad(
        "resume runs/mlp_digits/0/checkpoints/last.ckpt",
        "needs a run",
        "litlab resume RUN",
        "resume mlp_digits",
        given="run",
    ),
    "resume from another checkpoint": Bad(
        "resume mlp_digits --ckpt_path=best",
        "newest checkpoint",
        "litlab fit CONFIG --ckpt_path FILE",
        "resume mlp_digits",
        given="run",
    ),
    "resume with another model": Bad(
        "resume mlp_digits --model.l2=0.5",
        "model.l2 was 0.0 and is now 0.5",
        "Remove it",
        "resume mlp_digits",
        given="run",
    ),
    "resume with an unknown word": Bad(
        "resume mlp_digits --extend_schedule=strech",
        "'strech'",
        "Did you mean stretch?",
        "resume mlp_digits",
        given="run",
    ),
    "resume with fewer epochs": Bad(
        "resume mlp_digits --trainer.max_epochs=1 --extend_schedule=hold",
        "--extend_schedule",
        "--trainer.max_epochs",
        "resume mlp_digits",
        given="run",
    ),
    "data of an unknown config": Bad("data mlp_digit", "'mlp_digit'", "Did you mean mlp_digits?", "data mlp_digits"),
    "data with an unknown option": Bad(
        "data mlp_digits --data.batchsize=3",
        "'batchsize'",
        "Did you mean batch_size?",
        "data mlp_digits --data.batch_size=3",
    ),
    "start from nothing": Bad(
        "fit --ckpt_path=no.ckpt --trainer.max_epochs=2",
        "checkpoint not found: no.ckpt",
        ("a run folder", "litlab list runs"),
        START,
        given="run",
    ),
}
