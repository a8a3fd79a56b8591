"""Checkpoints and run folders: missing, damaged, of something else."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

from tests.experiments.bad_inputs.bad import (
    BEST,
    LAST,
    RUN,
    Arrange,
    Bad,
    checkpoint,
    cut,
    edited,
    folder_instead,
    gone,
    without,
    write,
)  # fmt: skip

ENVIRONMENT, CONFIG, METRICS, RESULTS = (
    RUN / name for name in ("environment.json", "config.yaml", "metrics.csv", "results.json")
)
START = f"fit --ckpt_path={BEST} --model.scheduler=null --trainer.max_epochs=2 --trainer.limit_train_batches=2"
GO_ON = "resume mlp_digits --trainer.max_epochs=2"


class Evil:
    """Would make a folder when unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        import os

        return os.mkdir, ("ran",)


def zipped() -> bytes:
    """A zip archive that is no checkpoint."""
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("readme.txt", "hello")
        return file.getvalue()


def scored(offender: str | tuple[str, ...], remedy: str | tuple[str, ...], offence: Arrange, verb: str = "test") -> Bad:
    """Scoring a run with something in its folder spoilt."""
    return Bad(f"{verb} mlp_digits", offender, remedy, given="run", offence=offence)


def resumed(offender: str | tuple[str, ...], remedy: str | tuple[str, ...], offence: Arrange) -> Bad:
    """A run that is to train longer, with something in its folder spoilt."""
    return Bad(GO_ON, offender, remedy, given="run", offence=offence)


def started(offender: str | tuple[str, ...], remedy: str | tuple[str, ...], offence: Arrange) -> Bad:
    """A new run that is to start from a checkpoint that is spoilt."""
    return Bad(START, offender, remedy, given="run", offence=offence)


CHECKPOINTS: dict[str, Bad] = {
    "checkpoint that is not there": Bad(
        "test mlp_digits --ckpt_path=no.ckpt",
        "no.ckpt does not exist",
        "litlab list runs",
        f"test mlp_digits --ckpt_path={BEST}",
        given="run",
    ),
    "run without a checkpoint": scored(
        ("best.ckpt does not exist", "has not finished an epoch"), "litlab resume", gone(RUN / "checkpoints")
    ),
    "checkpoint cut short": scored(("best.ckpt", "corrupted or not a checkpoint"), "Use another", cut(BEST, 5000)),
    "checkpoint without its end": scored(
        ("best.ckpt", "corrupted or not a checkpoint"),
        "Use another",
        lambda: BEST.write_bytes(BEST.read_bytes()[:-100]),
    ),
    "checkpoint of no bytes": scored(("best.ckpt", "corrupted or not a checkpoint"), "Use another", cut(BEST, 0)),
    "checkpoint that is text": scored(
        ("best.ckpt", "corrupted or not a checkpoint"), "Use another", write(str(BEST), "hello")
    ),
    "checkpoint that is a picture": scored(
        ("best.ckpt", "corrupted or not a checkpoint"),
        "Use another",
        write(str(BEST), b"\x89PNG\r\n\x1a\n" + bytes(99)),
    ),
    "checkpoint that is an archive": scored(
        ("best.ckpt", "corrupted or not a checkpoint"), "Use another", write(str(BEST), zipped())
    ),
    "checkpoint that is a folder": scored("best.ckpt does not exist", "litlab", folder_instead(BEST)),
    "checkpoint that is a pickled list": scored("best.ckpt", "Use another", write(str(BEST), pickle.dumps([1, 2]))),
    "checkpoint that runs code": scored(
        ("best.ckpt", "never runs code"), "Use another", checkpoint(lambda content: {**content, "evil": Evil()})
    ),
    "checkpoint with a whole model": scored(
        ("best.ckpt", "never runs code"), "Use another", checkpoint(lambda content: {**content, "path": Path("x")})
    ),
    "checkpoint of weights alone": scored(
        "best.ckpt has no `state_dict`", "Use another", checkpoint(lambda content: content["state_dict"])
    ),
    "checkpoint of a tensor": scored(
        "best.ckpt has no `state_dict`",
        "Use another",
        checkpoint(lambda content: next(iter(content["state_dict"].values()))),
    ),
    "checkpoint whose weights are a number": scored(
        "best.ckpt", "Use another", checkpoint(lambda content: {**content, "state_dict": 3})
    ),
    "checkpoint whose weights are text": scored(
        "best.ckpt",
        "Use another",
        checkpoint(lambda content: {**content, "state_dict": dict.fromkeys(content["state_dict"], "x")}),
    ),
    "checkpoint with a layer missing": scored(
        ("best.ckpt belongs to another model", "is missing there"),
        "the config that",
        checkpoint(lambda content: content["state_dict"].popitem() and None),
    ),
    "checkpoint with a layer too many": scored(
        ("best.ckpt belongs to another model", "is only there"),
        "the config that",
        checkpoint(lambda content: content["state_dict"].update(more=content["state_dict"].copy().popitem()[1])),
    ),
    "checkpoint of another size": Bad(
        "test mlp_digits --model.hidden=[8]",
        ("best.ckpt belongs to another model", "8x64"),
        "Remove the --model options",
        "test mlp_digits",
        given="run",
    ),
    "checkpoint of another model": Bad(
        f"test --config mlp_digits --model LitLogisticRegression --ckpt_path {BEST}",
        "best.ckpt belongs to another model",
        "Remove the --model options",
        f"test --config mlp_digits --ckpt_path {BEST}",
        given="run",
    ),
    "checkpoint of Lightning without a config": Bad(
        "test --ckpt_path theirs.ckpt",
        "theirs.ckpt",
        "--config",
        f"test --ckpt_path {BEST}",
        given=("run", "theirs"),
    ),
    "checkpoint of Lightning for another model": Bad(
        "test --config mlp_digits --ckpt_path theirs.ckpt",
        "theirs.ckpt belongs to another model",
        "the config that",
        f"test --config mlp_digits --ckpt_path {BEST}",
        given=("run", "theirs"),
    ),
    "start without the optimizer's state": started(
        (str(BEST), "optimizer"), "Use another", checkpoint(without("optimizer_states"))
    ),
    "start without the place in the training": started(
        (str(BEST), "loops"), "Use another", checkpoint(without("loops"))
    ),
    "start without the version": started(
        (str(BEST), "version"), "Use another", checkpoint(without("pytorch-lightning_version"))
    ),
    "start from another optimizer": Bad(
        f"{START} --model.optimizer=sgd", (str(BEST), "optimizer"), "Set --model.optimizer Adam", START, given="run"
    ),
    "start from another model": Bad(
        f"{START} --model.hidden=[8]", "belongs to another model", "--model options", START, given="run"
    ),
    "resume from a file cut short": resumed(("last.ckpt", "corrupted"), "Use another", cut(LAST, 3000)),
    "resume from weights alone": resumed(
        "last.ckpt has no `state_dict`", "Use another", checkpoint(lambda content: content["state_dict"], LAST)
    ),
    "resume without the optimizer's state": resumed(
        ("last.ckpt", "optimizer"), "Use another", checkpoint(without("optimizer_states"), LAST)
    ),
    "resume without the place in the training": resumed(
        ("last.ckpt", "loops"), "Use another", checkpoint(without("loops"), LAST)
    ),
    "resume without the config": Bad(
        f"resume {RUN} --trainer.max_epochs=2", str(RUN), "litlab list runs", given="run", offence=gone(CONFIG)
    ),
    "resume with a config cut short": resumed("config.yaml", "Fix", write(str(CONFIG), "model: {")),
    "resume with an empty config": resumed("config.yaml is not a mapping", "Add keys such as", write(str(CONFIG), "")),
    "resume without the environment": resumed(
        "environment.json is missing or corrupted", "Restore the file", gone(ENVIRONMENT)
    ),
    "resume with an environment cut short": resumed(
        "environment.json is missing or corrupted", "Restore the file", cut(ENVIRONMENT, 100)
    ),
    "resume with an environment of no facts": resumed(
        "environment.json is missing or corrupted", "Restore the file", write(str(ENVIRONMENT), "[]")
    ),
    "resume with results cut short": resumed("results.json is corrupted", "Move it away", cut(RESULTS, 20)),
    "test without the config": Bad(f"test {RUN}", str(RUN), "litlab list runs", given="run", offence=gone(CONFIG)),
    "test of a file without the config": Bad(
        f"test --ckpt_path {BEST}", ("best.ckpt", "config"), "--config FILE", given="run", offence=gone(CONFIG)
    ),
    "test with a config cut short": scored("config.yaml", "Fix", write(str(CONFIG), "model: {")),
    "test with a class that is gone": scored(
        "'my_net.Net' cannot be imported",
        "run litlab in the folder",
        edited(CONFIG, "lit_models.LitMLP", "my_net.Net"),
    ),
    "test with results cut short": scored("results.json is corrupted", "Move it away", cut(RESULTS, 20)),
    "validate with an environment cut short": scored(
        "environment.json is missing or corrupted", "Restore the file", cut(ENVIRONMENT, 100), "validate"
    ),
    "validate with an environment of no facts": scored(
        "environment.json is missing or corrupted", "Restore the file", write(str(ENVIRONMENT), "[]"), "validate"
    ),
}
