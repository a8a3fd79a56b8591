"""TensorBoard logger whose write errors do not end training."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only

from experiments.messages.formatting import say, shown
from experiments.runs.folder import RunFolder
from experiments.runs.folder_guard import FolderGuard


class RunTensorBoard(TensorBoardLogger):
    """TensorBoard logger that writes to the run folder itself, without a copy of the hyperparameters.

    If a run resumes after `steps` optimizer steps, TensorBoard hides the events that were logged later. If writing
    fails (disk full or removed), the logger warns once, the curves end there, and training continues.
    """

    def __init__(self, folder: RunFolder, steps: int | None = None) -> None:
        super().__init__(save_dir=folder.path, name="", version="", default_hp_metric=False, purge_step=steps)
        self._folder, self._guard = folder, FolderGuard(folder)
        self._writer: _SafeWriter | None = None
        self.place: tuple[int, int] | None = None  # if set, the epoch and the step of every value

    @property
    def experiment(self) -> Any:
        """A SummaryWriter that ignores all calls after an error."""
        if self._writer is None:
            _hide_writer_tracebacks()
            self._writer = _SafeWriter(self._warn)
            self._writer.writer = self._writer.attempt(lambda: super(RunTensorBoard, self).experiment)
        return self._writer

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log the values at this step, or at `place`."""
        if self.place is not None:
            metrics, step = {**metrics, "epoch": self.place[0]}, self.place[1]
        super().log_metrics(metrics, step)

    @rank_zero_only
    def save(self) -> None:
        """Do nothing; the writer flushes every 2 minutes and at the end."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Close the file, and remove it if the folder now belongs to another run."""
        super().finalize(status)
        if self._guard.lost():
            for events in self._folder.path.glob(f"events.out.tfevents.*.{os.getpid()}.*"):
                events.unlink(missing_ok=True)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the writer, because each process that Lightning starts opens its own."""
        return {**super().__getstate__(), "_writer": None}

    def _warn(self, error: OSError) -> None:
        if self._guard.lost():
            return  # the guard ends the run and reports it
        reason = error.strerror or str(error)
        say(f"litlab: TensorBoard's events in {shown(self._folder.path)} could not be written ({reason}); the curves "
            "end here. Training continues.")  # fmt: skip


@cache
def _hide_writer_tracebacks() -> None:
    """Print no traceback for an OSError in TensorBoard's writer thread; the next call raises the same error."""
    previous = threading.excepthook

    def hook(args: threading.ExceptHookArgs) -> None:
        if not (type(args.thread).__module__.startswith("tensorboard.") and isinstance(args.exc_value, OSError)):
            previous(args)

    threading.excepthook = hook


class _SafeWriter:
    """Wrapper of a SummaryWriter that ignores all calls after the first OSError."""

    def __init__(self, warn: Callable[[OSError], None]) -> None:
        self.writer: Any = None
        self._warn = warn

    def attempt(self, call: Callable[[], Any]) -> Any:
        """Return the result of the call; on an OSError, warn and ignore all later calls."""
        try:
            return call()
        except OSError as error:
            self.writer = None
            self._warn(error)

    def __getattr__(self, name: str) -> Any:
        if self.writer is None:
            return self
        found = getattr(self.writer, name)
        return (lambda *args, **kwargs: self.attempt(lambda: found(*args, **kwargs))) if callable(found) else found

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self
