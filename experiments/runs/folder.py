"""The folder that holds everything one run produced: claimed whole, numbered from 0, never shared."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import whole_file

_LONGEST_NAME = 255  # bytes; what file systems commonly take


class RunBusy(MisconfigurationException):
    """Another process trains in this folder: nothing in it may be touched."""


@dataclass(frozen=True)
class RunFolder:
    """Paths inside `runs/<experiment>/<number>/`; `made` are the folders above that were made for it, inner first."""

    path: Path
    made: tuple[Path, ...] = field(default=(), compare=False)

    @property
    def config(self) -> Path:
        """The config as it was resolved; `litlab rerun` repeats the run from it."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, hardware, seed, hashes and what was chosen for the machine."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """All logged metrics, one row a step that logged something."""
        return self.path / "metrics.csv"

    @property
    def results(self) -> Path:
        """Every figure of fit, validate and test, with what made it."""
        return self.path / "results.json"

    @property
    def figures(self) -> Path:
        """What callbacks drew, as PNG; there only if one did."""
        return self.path / "figures"

    @property
    def best(self) -> Path:
        """Weights of the best epoch by the monitored metric."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """State at the end of the last epoch."""
        return self.path / "checkpoints" / "last.ckpt"

    @classmethod
    def claim(cls, runs_dir: Path, experiment: str, files: Mapping[str, str]) -> RunFolder:
        """Make the next free number of an experiment with these files in it.

        The folder is made aside and renamed, so that nobody ever sees half of it and of two runs that start at once
        each gets a number of its own. An absolute path: the run must not follow a later `chdir`.
        """
        parent = runs_dir.resolve() / _check_name(experiment)
        made = tuple(folder for folder in (parent, *parent.parents) if not os.path.exists(folder))
        try:
            parent.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
        except OSError as error:
            _remove_empty(made)
            raise MisconfigurationException(
                f"run folder: {parent} cannot be made ({error.strerror}). "
                "Set LITLAB_RUNS_DIR to a folder that you may write to."
            ) from error
        try:
            aside.chmod(0o755)
            for name, text in files.items():
                (aside / name).write_text(text, encoding="utf-8")
            return cls(_rename_to_next_number(aside, parent), made)
        except OSError as error:
            raise MisconfigurationException(
                f"run folder: writing to {parent} failed ({error.strerror}). Make room there, or set LITLAB_RUNS_DIR "
                "to another folder."
            ) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
            _remove_empty(made)

    def discard_if_untrained(self) -> bool:
        """Remove the folder again when nothing was trained: no checkpoint and no metric was written."""
        untrained = not any(self.path.glob("checkpoints/*.ckpt")) and not self.metrics.exists()
        if untrained:
            shutil.rmtree(self.path, ignore_errors=True)
            _remove_empty((self.path.parent, *self.made[1:]))
        return untrained

    @contextmanager
    def held(self) -> Iterator[None]:
        """Take the run for this process while it trains; refuses one that another process has.

        A lock of the operating system, so that a killed process holds nothing.
        """
        try:
            import fcntl
        except ImportError:  # Windows
            yield
            return
        try:
            file = (self.path / ".lock").open("w", encoding="utf-8")
        except OSError as error:
            raise MisconfigurationException(
                f"run: {self.path} cannot be written to ({error.strerror}), so nothing can be trained there. See to it "
                "that you may write to it."
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunBusy(
                    f"run: {self.path} is being trained by another process. Wait for its end, or stop it first."
                ) from error
            except OSError:  # a file system without locks
                pass
            yield

    def identity(self) -> list[Any] | None:
        """What tells this run from another one of the same number; None where the folder is gone or damaged."""
        try:
            record = read_environment(self.environment)
            return [record["started"], record["command"], record["seed"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def restore(self, files: Mapping[str, bytes]) -> bool:
        """Make the folder and those of the files anew that somebody has deleted; whether any was missing."""
        missing = [name for name in files if not (self.path / name).is_file()]
        for name in missing:
            self.path.mkdir(parents=True, exist_ok=True)
            with whole_file(self.path / name) as file:
                file.write(files[name])
        return bool(missing)

    def add_result(self, record: Mapping[str, Any]) -> None:
        """Append one record to results.json; safe when two processes do it at once."""
        with _locked(self.path):
            records = read_results(self)
            records.append(dict(record))
            with whole_file(self.results) as file:
                file.write((json.dumps(records, indent=2) + "\n").encode("utf-8"))

    def free_name(self, stem: str, suffix: str) -> Path:
        """`stem.suffix`, or with a number from 2 when that exists: nothing is written over."""
        number, path = 1, self.path / f"{stem}{suffix}"
        while path.exists():
            number += 1
            path = self.path / f"{stem}-{number}{suffix}"
        return path


# What the entries of environment.json are, by dotted name; one that is missing or null was not known.
_ENTRIES: dict[str, type] = {
    "git": dict, "sources": dict, "versions": dict, "hardware": dict, "data": dict, "data.sizes": dict,
    "data.sha256": dict, "chosen": dict, "chosen.devices": int, "chosen.threads": int, "chosen.accelerator": str,
    "chosen.precision": str, "objects": list, "resumed": list, "started_from": dict, "started_from.checkpoint": str,
    "started_from.sha256": str,
}  # fmt: skip


def read_environment(path: Path) -> dict[str, Any]:
    """What environment.json says; raises ValueError naming the entry that cannot be, OSError without the file."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it is no table")
    for name, kind in _ENTRIES.items():
        value: Any = content
        for part in name.split("."):
            value = None if value is None else value.get(part)
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"its `{name}` is {json.dumps(value)[:40]}")
    for part in content.get("resumed") or []:
        changed = part.get("changed", {}) if isinstance(part, dict) else None
        if not isinstance(changed, dict) or not all(isinstance(v, list) and len(v) == 2 for v in changed.values()):
            raise ValueError(f"its `resumed` holds {json.dumps(part)[:40]}")
    return content


def read_results(folder: RunFolder) -> list[dict[str, Any]]:
    """All records of results.json, oldest first."""
    if not folder.results.exists():
        return []
    try:
        records: list[dict[str, Any]] = json.loads(folder.results.read_text(encoding="utf-8"))
        if not isinstance(records, list) or not all(isinstance(one, dict) and "verb" in one for one in records):
            raise ValueError("no list of results")
    except (ValueError, OSError) as error:
        raise MisconfigurationException(
            f"run: {folder.results} is damaged ({error}). Move it away; figures can be made again."
        ) from error
    return records


def sha256(path: Path) -> str:
    """Hash of a file's content, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_empty(folders: Iterable[Path]) -> None:
    """Those that hold nothing; one that holds other runs stays, and so do those above it."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _check_name(experiment: str) -> str:
    if len(experiment.encode(errors="replace")) > _LONGEST_NAME:
        raise MisconfigurationException(
            f"experiment: '{experiment[:20]}...' is too long for a folder's name ({len(experiment)} characters). "
            "Give a shorter one by --experiment NAME."
        )
    unfit = not experiment.strip() or experiment.startswith(".") or not experiment.isprintable()
    if unfit or any(c in experiment for c in "/\\"):
        raise MisconfigurationException(
            f"experiment: {experiment!r} cannot be a folder's name; use letters, digits, - and _ in --experiment NAME."
        )
    return experiment


def _rename_to_next_number(aside: Path, parent: Path) -> Path:
    number = max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=-1) + 1
    while True:
        target = parent / str(number)
        try:
            os.rename(aside, target)  # fails on a folder that has something in it, and ours always have
            return target
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES) or not target.exists():
                raise
            number += 1


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows: no lock, the rename is still atomic
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
