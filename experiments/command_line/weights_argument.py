"""Which weights `validate`, `test` and `predict` are to use."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.commands.score import data_record
from experiments.messages.text import shown
from experiments.runs.checkpoint import Weights, started_from
from experiments.runs.folder import RunFolder, read_environment, read_results


def find_weights(verb: str, words: list[str], source: Path | None) -> tuple[list[str], Weights]:
    """Take `--ckpt_path` and `--untrained` out of the words and decide which weights are meant.

    They are kept from LightningCLI because it would let the checkpoint's settings override flags without a word.
    """
    words, given = take(words, "--ckpt_path")
    untrained = "--untrained" in words
    words = [word for word in words if word != "--untrained"]
    if verb in ("fit", "rerun", "data"):
        return words, Weights(_file_of(Path(given)) if given else None)
    folder = RunFolder(source.resolve()) if source is not None else None
    if verb == "resume":
        if folder is None and not given and any(word in ("--help", "--help-all") or ".help" in word for word in words):
            return words, Weights(None)
        if folder is None or untrained:
            raise MisconfigurationException("resume: give the run: `litlab resume RUN`; `litlab list runs` shows all.")
        if given:
            raise MisconfigurationException(
                "resume: a run goes on from its newest checkpoint; to start a new run from another one give it to "
                "`litlab fit CONFIG --ckpt_path FILE`."
            )
        last = folder.last if folder.last.is_file() else None
        if last is None:
            _check_never_saved(folder)
        return [f"--config={folder.config}", *words], Weights(last, folder)
    if given in ("best", "last"):
        if folder is None:
            raise MisconfigurationException(
                f"{verb}: --ckpt_path {given} needs a run: `litlab {verb} RUN --ckpt_path {given}`."
            )
        path: Path | None = folder.best if given == "best" else folder.last
    elif given:
        path = _file_of(Path(given)).resolve()
        beside = RunFolder(path.parent.parent)
        if folder is None and beside.config.is_file():
            folder = beside
    else:
        path = folder.best if folder is not None and not untrained else None
    if any(word == "--help" or word.startswith("--print_config") or ".help" in word for word in words):
        untrained = True
    if path is None and not untrained:
        raise MisconfigurationException(
            f"{verb}: which weights? `litlab {verb} RUN` takes the best ones of a run (`litlab list runs`), "
            "--ckpt_path FILE those of a file, and --untrained random ones on purpose."
        )
    if path is not None and not path.is_file():
        if given:
            raise MisconfigurationException(
                f"{verb}: {shown(path)} is not there. Give another --ckpt_path; `litlab list runs` shows what there is."
            )
        run = shlex.quote(shown(path.parent.parent))
        remedy = f"has not finished an epoch. Train it on by `litlab resume {run}`"
        if RunFolder(path.parent.parent).last.is_file():
            remedy = f"has its newest weights alone. Take them by `litlab {verb} {run} --ckpt_path last`"
        raise MisconfigurationException(f"{verb}: {shown(path)} is not there; the run {remedy}.")
    if folder is not None and not folder.config.is_file():
        raise MisconfigurationException(f"{verb}: {shown(folder.config)} is not there; give another by --config FILE.")
    config_given = any(word.startswith("--config=") for word in words)
    if (
        path is not None
        and folder is None
        and not config_given
        and "--model" not in {w.partition("=")[0] for w in words}
    ):
        raise MisconfigurationException(
            f"{verb}: {shown(path)} has no config.yaml of a run beside it; give the config that it was trained with by "
            "--config FILE."
        )
    if folder is not None:
        read_results(folder)  # a damaged file is told before anything is computed
        data_record(folder)
    if folder is not None and not config_given:
        words = [f"--config={folder.config}", *words]
    return words, Weights(path, folder)


def _check_never_saved(folder: RunFolder) -> None:
    """A run without last.ckpt starts again only if it never had one: else that would write over what was trained."""
    best = Weights(folder.best if folder.best.is_file() else None, folder)
    ended = any(result.get("verb") == "fit" for result in read_results(folder))
    record: dict[str, Any] = {}
    with suppress(OSError, ValueError):  # told where it is needed
        record = read_environment(folder.environment)
    began = Weights(started_from("resume", folder, record)).epochs_done
    if ended or folder.last.exists() or (best.epoch or 0) > began:
        what = "is no file" if folder.last.exists() else "is not there"
        remedy = f"`litlab fit {shlex.quote(shown(folder.config))}`"
        if best.path is not None:
            remedy += f", with --ckpt_path {shlex.quote(shown(best.path))} from its best epoch on"
        raise MisconfigurationException(
            f"resume: {shown(folder.last)} {what}, and the run has been trained, so it cannot go on exactly. Put the "
            f"file back, or start a new run: {remedy}."
        )


def _file_of(path: Path) -> Path:
    """A run folder stands for its last checkpoint."""
    return RunFolder(path).last if (path / "config.yaml").is_file() else path


def take(words: list[str], name: str) -> tuple[list[str], str | None]:
    """Remove every `name VALUE` and `name=VALUE`; the last value counts."""
    result: list[str] = []
    value: str | None = None
    rest = iter(words)
    for word in rest:
        if word == name:
            value = next(rest, None)
        elif word.startswith(f"{name}="):
            value = word.partition("=")[2]
        else:
            result.append(word)
            continue
        if not value:
            raise MisconfigurationException(f"{name} needs a value after it.")
    return result, value
