"""The decisions that were kept for this machine, in one small file: made once, read ever after."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from datamodules.files.places import cache_root
from experiments.messages.text import one_line, say

_WAIT_S = 60.0  # for another process that is timing


def kept_file() -> Path:
    """`machine.json` in litlab's cache folder."""
    return cache_root() / "machine.json"


def key_of(facts: Mapping[str, Any]) -> str:
    """A short name for one machine, versions and kind of model."""
    text = json.dumps(facts, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def read_kept(path: Path | None = None) -> dict[str, dict[str, Any]]:
    """All decisions by key; raises ValueError or OSError where the file is damaged or cannot be read."""
    path = path or kept_file()
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise ValueError("no table of decisions")
    return content


def decide_once(facts: Mapping[str, Any], decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The decision kept under these facts, else what `decide` finds, which is then kept.

    A file that is damaged, or that cannot be written, costs a line and a decision of this run alone. Two processes
    decide one after the other, so that the second takes what the first found.
    """
    path, key = kept_file(), key_of(facts)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_suffix(".lock"))
        lock.acquire(timeout=_WAIT_S)
    except (OSError, Timeout, NotImplementedError) as error:  # the last: a file system without locks
        return _without_lock(path, key, decide, error)
    try:
        try:
            kept = read_kept(path)
        except (OSError, ValueError) as error:
            say(f"machine: {path} is damaged ({one_line(str(error), 100)}); it is written anew.")
            kept = {}
        if key not in kept:
            kept[key] = {**facts, **decide()}
            try:
                _write(path, kept)
            except OSError as error:
                _say_not_kept(path, error)
        return kept[key]
    finally:
        lock.release()


def _without_lock(path: Path, key: str, decide: Callable[[], dict[str, Any]], error: Exception) -> dict[str, Any]:
    """A folder that is read-only may still hold decisions."""
    try:
        kept = read_kept(path)
    except (OSError, ValueError):
        kept = {}
    if key in kept:
        return kept[key]
    _say_not_kept(path, error)
    return decide()


def _say_not_kept(path: Path, error: Exception) -> None:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else one_line(str(error), 100)
    say(f"machine: what is chosen for this machine cannot be kept in {path} ({reason}); set LITLAB_CACHE_DIR.")


def _write(path: Path, kept: Mapping[str, Any]) -> None:
    """Whole or not at all."""
    handle, aside = tempfile.mkstemp(dir=path.parent, prefix=".machine.")
    try:
        with open(handle, "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=1, default=str)
            file.write("\n")
        os.replace(aside, path)
    finally:
        Path(aside).unlink(missing_ok=True)
