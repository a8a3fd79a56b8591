"""TensorBoard events of a run, that cannot end its training."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import cache
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from experiments.messages.text import say, shown
from experiments.runs.folder import RunFolder
from experiments.runs.folder_guard import Owner


class RunTensorBoard(TensorBoardLogger):
    """TensorBoard events right in the run folder, without the copy of the settings (they stand in config.yaml).

    A run that goes on after `steps` optimizer steps takes back what was logged later, so that its curves have no fold.
    Where the disk refuses (full, gone), the curves end there, which is said once, and training goes on.
    """

    def __init__(self, folder: RunFolder, steps: int | None = None) -> None:
        super().__init__(save_dir=folder.path, name="", version="", default_hp_metric=False, purge_step=steps)
        self._folder, self._owner = folder, Owner(folder)
        self._guarded: _Guarded | None = None

    @property
    def experiment(self) -> Any:
        """The SummaryWriter; one that takes everything and writes nothing once the disk has refused."""
        if self._guarded is None:
            _leave_writers_to_us()
            self._guarded = _Guarded(self._tell)
            self._guarded.writer = self._guarded.attempt(lambda: super(RunTensorBoard, self).experiment)
        return self._guarded

    @rank_zero_only
    def save(self) -> None:
        """Lightning calls this after every logging; the writer flushes by itself every two minutes and at the end."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file; where the folder is another run's by now, nothing of this one stays in it."""
        super().finalize(status)
        if self._owner.taken():
            for left in self._folder.path.glob(f"events.out.tfevents.*.{os.getpid()}.*"):
                left.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        """For processes that Lightning starts: each opens its own."""
        return {**super().__getstate__(), "_guarded": None}

    def _tell(self, problem: OSError) -> None:
        words = problem.strerror or str(problem)
        say(f"litlab: TensorBoard's events in {shown(self._folder.path)} could not be written ({words}); their curves "
            "end here. Training goes on.")  # fmt: skip


@cache
def _leave_writers_to_us() -> None:
    """TensorBoard's writer thread keeps what the disk said for the next call; its traceback would only come on top."""
    before = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not (type(args.thread).__module__.startswith("tensorboard.") and isinstance(args.exc_value, OSError)):
            before(args)

    threading.excepthook = hook


class _Nothing:
    """Takes every call and does nothing; what a call gives is the same again."""

    def __getattr__(self, name: str) -> _Nothing:
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> _Nothing:
        return self


class _Guarded:
    """A SummaryWriter whose calls do nothing from the first one on that the disk refuses."""

    def __init__(self, tell: Callable[[OSError], None]) -> None:
        self.writer: Any = _Nothing()
        self._tell = tell

    def attempt(self, call: Callable[[], Any]) -> Any:
        """What the call gives, or nothing where the disk refuses it."""
        try:
            return call()
        except OSError as problem:
            self.writer = _Nothing()
            self._tell(problem)
            return self.writer

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.writer, name)
        if not callable(found) or isinstance(found, _Nothing):
            return found
        return lambda *args, **kwargs: self.attempt(lambda: found(*args, **kwargs))
