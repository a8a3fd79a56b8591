"""Variables of the environment, and the working folder itself."""

from __future__ import annotations

import os

from tests.experiments.bad_inputs.bad import Bad
from tests.experiments.bad_inputs.data_files import MNIST
from tests.experiments.bad_inputs.pictures import IMAGES

FOUND = MNIST.replace(" --data.data_dir=mine", "")
HERE = f"fit {FOUND}"


def variable(
    words: str,
    name: str,
    value: str,
    offender: str | tuple[str, ...],
    remedy: str | tuple[str, ...],
    given: str | tuple[str, ...] = (),
) -> Bad:
    """A command under a variable that is wrong; its twin runs without it."""
    return Bad(words, offender, remedy, given=given, variables={name: value})


def working_folder_removed() -> None:
    """The terminal stands in a folder that somebody removed."""
    os.mkdir("gone")
    os.chdir("gone")
    os.rmdir(os.getcwd())


RUNS, DATA, CACHE = "LITLAB_RUNS_DIR", "LITLAB_DATA_DIR", "LITLAB_CACHE_DIR"

ENVIRONMENTS: dict[str, Bad] = {
    "runs in a file": variable("fit", RUNS, "mine.yaml", "mine.yaml", "LITLAB_RUNS_DIR", "config"),
    "runs below a file": variable("fit", RUNS, "mine.yaml/runs", "mine.yaml", "LITLAB_RUNS_DIR", "config"),
    "runs where nothing can be made": variable("fit", RUNS, "/proc/litlab", "/proc/litlab", "LITLAB_RUNS_DIR"),
    "test with the runs elsewhere": variable(
        "test mlp_digits", RUNS, "elsewhere", ("'mlp_digits'", "elsewhere"), "litlab list runs", "run"
    ),
    "board with the runs in a file": variable(
        "board", RUNS, "mine.yaml", "mine.yaml is a file", ("Set", RUNS), ("run", "config")
    ),
    "report with the runs in a file": variable("data", RUNS, "mine.yaml", "mine.yaml", RUNS, "config"),
    "data that is not there": variable(HERE, DATA, "nowhere", ("MNIST is not complete", "nowhere"), DATA),
    "data in a file": variable(HERE, DATA, "mine.yaml", ("MNIST is not complete", "mine.yaml"), DATA, "config"),
    "data of a user that is not there": variable(
        HERE, DATA, "~nobody_of_that_name/data", "~nobody_of_that_name/data", DATA
    ),
    "cache of a user that is not there": variable(
        HERE, CACHE, "~nobody_of_that_name/x", "~nobody_of_that_name/x", CACHE
    ),
    "images of a folder that is not there": variable(
        f"fit {IMAGES.replace(' --data.data_dir=pictures', '')}", DATA, "nowhere", "nowhere/train", DATA
    ),
    "threads that are no number": variable(
        "fit", "OMP_NUM_THREADS", "many", "OMP_NUM_THREADS must be a positive integer, got 'many'", "or unset it"
    ),
    "threads of nothing": variable(
        "fit", "OMP_NUM_THREADS", "0", "OMP_NUM_THREADS must be a positive integer, got '0'", "or unset it"
    ),
    "threads below nothing": variable(
        "test mlp_digits",
        "OMP_NUM_THREADS",
        "-2",
        "OMP_NUM_THREADS must be a positive integer, got '-2'",
        "or unset it",
        "run",
    ),
    "compiler that is not there": Bad(
        "fit --compile true",
        ("compile", "CXX=no-such-compiler"),
        "remove --compile",
        "fit --compile false",
        variables={"CXX": "no-such-compiler"},
    ),
    "working folder removed": Bad("fit", "working folder", "cd ", offence=working_folder_removed),
}
