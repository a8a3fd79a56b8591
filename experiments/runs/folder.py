"""Run folder: all files of one run. It is created atomically and numbered from 0."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import atomic_write
from callbacks.checkpoints.file_names import BEST, CHECKPOINTS, LAST
from experiments.messages.errors import RunBusy

_NEW = ".new-"  # beginning of the names of folders that are not complete yet
_LONGEST_NAME = 255  # bytes, the limit of common file systems


@dataclass
class RunFolder:
    """The folder `runs/<experiment>/<number>/` and the paths of its files.

    `created` lists the parent folders that were created for it, innermost first.
    """

    path: Path
    created: tuple[Path, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        self.config = self.path / "config.yaml"  # the resolved config, from which `litlab rerun` repeats the run
        self.environment = self.path / "environment.json"  # versions, hardware, seed, hashes and chosen precision
        self.metrics = self.path / "metrics.csv"  # all logged metrics, one row per step that logged any
        self.results = self.path / "results.json"  # metrics and checkpoint of every fit, validate and test
        self.figures = self.path / "figures"  # PNG files of callbacks; missing if there are none
        self.best = self.path / CHECKPOINTS / BEST  # the checkpoint of the best epoch
        self.last = self.path / CHECKPOINTS / LAST  # the newest checkpoint

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
            with ExitStack() as stack:
                if stack.enter_context(_lock(parent, os.O_RDONLY, wait=True)):  # no other process is claiming here
                    for unfinished in parent.glob(f"{_NEW}*"):
                        shutil.rmtree(unfinished, ignore_errors=True)
                temporary = parent / f"{_NEW}{uuid.uuid4().hex}"
                temporary.mkdir()
                stack.callback(shutil.rmtree, temporary, ignore_errors=True)  # it is renamed on success
                for file, text in files.items():
                    (temporary / file).write_text(text, encoding="utf-8")
                return cls(_rename_to_next_number(temporary, parent), created)
        except OSError as error:
            raise MisconfigurationException(
                f"run folder: {parent} cannot be created or written to ({error.strerror}). Free some space there, or "
                "set LITLAB_RUNS_DIR to another folder with write permission."
            ) from error
        finally:
            _remove_empty(created)

    def discard_if_untrained(self) -> bool:
        """Remove the folder and return True if nothing was trained: it has no checkpoint and no metrics."""
        untrained = not any(self.last.parent.glob("*.ckpt")) and not self.metrics.exists()
        if untrained:
            shutil.rmtree(self.path, ignore_errors=True)
            _remove_empty((self.path.parent, *self.created[1:]))
        return untrained

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Lock the run for this process while it trains; raise RunBusy if another process trains it.

        The operating system releases the lock of a killed process.
        """
        with ExitStack() as stack:
            try:
                stack.enter_context(_lock(self.path / ".lock", os.O_WRONLY | os.O_CREAT, wait=False))
            except BlockingIOError as error:
                raise RunBusy(
                    f"run: {self.path} is being trained by another process. Wait until it ends, or stop it first."
                ) from error
            except OSError as error:
                raise MisconfigurationException(
                    f"run: {self.path} cannot be written to ({error.strerror}), so the run cannot be trained. Set the "
                    "permissions of the folder."
                ) from error
            yield

    def identity(self) -> list[Any] | None:
        """Return values that identify the run among others with its number; None if environment.json is unreadable."""
        try:
            record = read_environment(self.environment)
            return [record["started"], record["command"], record["seed"]]
        except (OSError, ValueError, KeyError, TypeError):
            return None

    @contextmanager
    def edit_environment(self) -> Iterator[dict[str, Any]]:
        """Yield the content of environment.json to be changed in place, and write it back."""
        content = read_json(self.environment)
        yield content
        write_text(self.environment, as_json(content))

    def add_result(self, record: Mapping[str, Any]) -> None:
        """Append one record to results.json; safe if two processes do it at the same time."""
        with _lock(self.path, os.O_RDONLY, wait=True):
            write_text(self.results, as_json([*read_results(self), dict(record)]))

    def unused_path(self, stem: str, suffix: str) -> Path:
        """Return the path of a new file, with a number from 2 in its name if `stem` and `suffix` alone exist."""
        number, path = 1, self.path / f"{stem}{suffix}"
        while path.exists():
            number += 1
            path = self.path / f"{stem}-{number}{suffix}"
        return path


_MOST = 1_000_000  # devices or threads

# Types of the entries of environment.json by dotted name; an entry may be missing or null.
_ENTRIES: dict[str, type] = {
    "git": dict, "sources": dict, "versions": dict, "hardware": dict, "data": dict, "data.sizes": dict,
    "data.sha256": dict, "data.properties": dict, "chosen": dict, "chosen.devices": int, "chosen.threads": int,
    "chosen.accelerator": str,
    "chosen.precision": str, "objects": list, "resumed": list, "started_from": dict, "started_from.checkpoint": str,
    "started_from.sha256": str,
}  # fmt: skip


def read_environment(path: Path) -> dict[str, Any]:
    """Return the content of environment.json; raise ValueError with the name of an entry of the wrong type."""
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError("it is not a JSON object")
    for name, kind in _ENTRIES.items():
        value: Any = content
        for key in name.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        wrong = isinstance(value, bool) or (isinstance(value, int) and not 0 < value < _MOST) if kind is int else False
        if value is not None and (wrong or not isinstance(value, kind)):
            raise ValueError(f"its `{name}` is {json.dumps(value)[:40]}")
    start = content.get("started_from")
    if start and not {"checkpoint", "sha256"} <= start.keys():
        raise ValueError("its `started_from` is incomplete")
    for entry in content.get("resumed") or []:
        changed = entry.get("changed", {}) if isinstance(entry, dict) else None
        if not isinstance(changed, dict) or not all(isinstance(v, list) and len(v) == 2 for v in changed.values()):
            raise ValueError(f"its `resumed` contains {json.dumps(entry)[:40]}")
    return content


def read_results(folder: RunFolder) -> list[dict[str, Any]]:
    """Return all records of results.json, oldest first."""
    if not folder.results.exists():
        return []
    try:
        records: list[dict[str, Any]] = read_json(folder.results)
        if not isinstance(records, list) or not all(
            isinstance(record, dict) and "verb" in record for record in records
        ):
            raise ValueError("it is not a list of results")
    except (ValueError, OSError) as error:
        raise MisconfigurationException(
            f"run: {folder.results} is corrupted ({error}). Move it away and run `litlab test` again."
        ) from error
    return records


def read_json(path: Path) -> Any:
    """Return the content of a JSON file; raise OSError or ValueError, also if it is nested too deeply to read."""
    if path.exists() and not path.is_file():  # reading a named pipe would block
        raise ValueError("it is not a regular file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


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
    given = repr(experiment)
    if len(experiment.encode(errors="replace")) > _LONGEST_NAME:
        given = f"{len(experiment)} characters"
    elif experiment.strip() and experiment.isprintable() and experiment[0] not in ".-" and not {*"/\\"} & {*experiment}:
        return experiment
    raise MisconfigurationException(
        f"experiment must be a folder name of at most {_LONGEST_NAME} bytes without a dot or a minus at its start, "
        f"got {given}. Use letters, digits, - and _ in --experiment NAME."
    )


def _rename_to_next_number(temporary: Path, parent: Path) -> Path:
    number = max((int(path.name) for path in parent.iterdir() if path.name.isdigit()), default=-1) + 1
    while True:
        target = parent / str(number)
        try:
            os.rename(temporary, target)  # fails if the target is not empty; a run folder never is empty
            return target
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EACCES) or not target.exists():
                raise
            number += 1


@contextmanager
def _lock(path: Path, flags: int, wait: bool) -> Iterator[bool]:
    """Open a file or folder and lock it; if `wait` is False, raise BlockingIOError if another process has the lock.

    Windows and some file systems have no such locks; then the block runs without a lock, and the value is False.
    """
    try:
        import fcntl
    except ImportError:
        yield False
        return
    locked = True
    handle = os.open(path, flags, 0o666)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if isinstance(error, BlockingIOError):
                raise
            locked = False
        yield locked
    finally:
        os.close(handle)
