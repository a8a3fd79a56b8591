"""The run folder: all files of one run, created atomically, numbered from 0, never shared by two runs."""

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

from callbacks import atomic_write
from experiments.messages.errors import RunBusy

_LONGEST_NAME = 255  # bytes, the limit of common file systems


@dataclass(frozen=True)
class RunFolder:
    """The folder `runs/<experiment>/<number>/` and the paths of its files.

    `created` lists the parent folders that were created for it, innermost first.
    """

    path: Path
    created: tuple[Path, ...] = field(default=(), compare=False)

    @property
    def config(self) -> Path:
        """The resolved config; `litlab rerun` repeats the run from it."""
        return self.path / "config.yaml"

    @property
    def environment(self) -> Path:
        """Versions, hardware, seed, hashes and the performance options that were chosen."""
        return self.path / "environment.json"

    @property
    def metrics(self) -> Path:
        """All logged metrics, one row per step that logged any."""
        return self.path / "metrics.csv"

    @property
    def results(self) -> Path:
        """The metrics of every fit, validate and test, with checkpoint, split and number of samples."""
        return self.path / "results.json"

    @property
    def figures(self) -> Path:
        """The figures of callbacks as PNG files; missing if there are none."""
        return self.path / "figures"

    @property
    def best(self) -> Path:
        """The checkpoint of the best epoch."""
        return self.path / "checkpoints" / "best.ckpt"

    @property
    def last(self) -> Path:
        """The newest checkpoint."""
        return self.path / "checkpoints" / "last.ckpt"

    @classmethod
    def claim(cls, runs_dir: Path, experiment: str, files: Mapping[str, str]) -> RunFolder:
        """Create the folder of the next free number of an experiment, with these files (name to text) in it.

        A temporary folder is renamed, so that the folder is complete as soon as it exists, and two runs that start at
        the same time get different numbers. The path is absolute, so that a later `chdir` does not matter.
        """
        parent = runs_dir.resolve() / _check_name(experiment)
        created = tuple(folder for folder in (parent, *parent.parents) if not os.path.exists(folder))
        try:
            parent.mkdir(parents=True, exist_ok=True)
            temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=parent))
        except OSError as error:
            _remove_empty(created)
            raise MisconfigurationException(
                f"run folder: {parent} cannot be created ({error.strerror}). "
                "Set LITLAB_RUNS_DIR to a folder with write permission."
            ) from error
        try:
            temporary.chmod(0o755)
            for name, text in files.items():
                (temporary / name).write_text(text, encoding="utf-8")
            return cls(_rename_to_next_number(temporary, parent), created)
        except OSError as error:
            raise MisconfigurationException(
                f"run folder: writing to {parent} failed ({error.strerror}). Free some space there, or set "
                "LITLAB_RUNS_DIR to another folder."
            ) from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
            _remove_empty(created)

    def discard_if_untrained(self) -> bool:
        """Remove the folder and return True if nothing was trained: it has no checkpoint and no metrics."""
        untrained = not any(self.path.glob("checkpoints/*.ckpt")) and not self.metrics.exists()
        if untrained:
            shutil.rmtree(self.path, ignore_errors=True)
            _remove_empty((self.path.parent, *self.created[1:]))
        return untrained

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run for this process while it trains; raise RunBusy if another process trains it.

        The operating system releases the lock of a killed process.
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
                f"run: {self.path} cannot be written to ({error.strerror}), so the run cannot be trained. Set the "
                "permissions of the folder."
            ) from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise RunBusy(
                    f"run: {self.path} is being trained by another process. Wait until it ends, or stop it first."
                ) from error
            except OSError:  # a file system without locks
                pass
            yield

    def identity(self) -> list[Any] | None:
        """Return values that tell this run from another of the same number; None if environment.json is unreadable."""
        try:
            record = read_environment(self.environment)
            return [record["started"], record["command"], record["seed"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @contextmanager
    def edit_environment(self) -> Iterator[dict[str, Any]]:
        """Yield the content of environment.json to be changed in place, and write it back."""
        content = json.loads(self.environment.read_text(encoding="utf-8"))
        yield content
        write_text(self.environment, as_json(content))

    def add_result(self, record: Mapping[str, Any]) -> None:
        """Append one record to results.json; safe if two processes do it at the same time."""
        with _exclusive(self.path):
            write_text(self.results, as_json([*read_results(self), dict(record)]))

    def unused_path(self, stem: str, suffix: str) -> Path:
        """Return the path of a new file, with a number from 2 in its name if `stem` and `suffix` alone exist."""
        number, path = 1, self.path / f"{stem}{suffix}"
        while path.exists():
            number += 1
            path = self.path / f"{stem}-{number}{suffix}"
        return path


# Types of the entries of environment.json by dotted name; an entry may be missing or null.
_ENTRIES: dict[str, type] = {
    "git": dict, "sources": dict, "versions": dict, "hardware": dict, "data": dict, "data.sizes": dict,
    "data.sha256": dict, "chosen": dict, "chosen.devices": int, "chosen.threads": int, "chosen.accelerator": str,
    "chosen.precision": str, "objects": list, "resumed": list, "started_from": dict, "started_from.checkpoint": str,
    "started_from.sha256": str,
}  # fmt: skip


def read_environment(path: Path) -> dict[str, Any]:
    """Return the content of environment.json; raise ValueError with the name of an entry of the wrong type."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    for name, kind in _ENTRIES.items():
        value: Any = content
        for part in name.split("."):
            value = None if value is None else value.get(part)
        if value is not None and not isinstance(value, kind):
            raise ValueError(f"its `{name}` is {json.dumps(value)[:40]}")
    start = content.get("started_from")
    if start and not {"checkpoint", "sha256"} <= start.keys():
        raise ValueError("its `started_from` is incomplete")
    for part in content.get("resumed") or []:
        changed = part.get("changed", {}) if isinstance(part, dict) else None
        if not isinstance(changed, dict) or not all(isinstance(v, list) and len(v) == 2 for v in changed.values()):
            raise ValueError(f"its `resumed` contains {json.dumps(part)[:40]}")
    return content


def read_results(folder: RunFolder) -> list[dict[str, Any]]:
    """Return all records of results.json, oldest first."""
    if not folder.results.exists():
        return []
    try:
        records: list[dict[str, Any]] = json.loads(folder.results.read_text(encoding="utf-8"))
        if not isinstance(records, list) or not all(isinstance(one, dict) and "verb" in one for one in records):
            raise ValueError("it is not a list of results")
    except (ValueError, OSError) as error:
        raise MisconfigurationException(
            f"run: {folder.results} is corrupted ({error}). Move it away; `litlab test` scores the run again."
        ) from error
    return records


def as_json(content: Any) -> str:
    """Return the text of a JSON file in a run folder."""
    return json.dumps(content, indent=2) + "\n"


def write_text(path: Path, text: str) -> None:
    """Write a file atomically: readers see the old content or the new, also after a power failure."""
    with atomic_write(path) as file:
        file.write(text.encode("utf-8"))


def file_version(path: Path) -> tuple[int, int] | None:
    """Return inode and modification time, which change when a file is replaced; None if it does not exist."""
    try:
        found = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found.st_ino, found.st_mtime_ns


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, 64 hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_empty(folders: Iterable[Path]) -> None:
    """Remove empty folders, from the innermost up to the first that is not empty."""
    with suppress(OSError):
        for folder in folders:
            folder.rmdir()


def _check_name(experiment: str) -> str:
    if len(experiment.encode(errors="replace")) > _LONGEST_NAME:
        raise MisconfigurationException(
            f"experiment: '{experiment[:20]}...' is too long for a folder name ({len(experiment)} characters). "
            "Set a shorter one with --experiment NAME."
        )
    unfit = not experiment.strip() or experiment.startswith(".") or not experiment.isprintable()
    if unfit or any(c in experiment for c in "/\\"):
        raise MisconfigurationException(
            f"experiment: {experiment!r} cannot be a folder name. Use letters, digits, - and _ in --experiment NAME."
        )
    return experiment


def _rename_to_next_number(temporary: Path, parent: Path) -> Path:
    number = max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=-1) + 1
    while True:
        target = parent / str(number)
        try:
            os.rename(temporary, target)  # fails if the target is not empty, and a run folder never is
            return target
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES) or not target.exists():
                raise
            number += 1


@contextmanager
def _exclusive(folder: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:  # Windows has no such lock; the rename is still atomic
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
