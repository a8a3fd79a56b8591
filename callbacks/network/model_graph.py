"""Callback for the graph of the network in TensorBoard."""

import io
import tempfile
import warnings
from collections import OrderedDict
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer

from callbacks.forward import describe_error, example_input, isolated_forward
from callbacks.step_hooks import Observer
from callbacks.trainer_state import tensorboard_writer

# torch never frees a traced graph (0.6 MiB for a small network), so runs in one process share those of equal models.
_CACHE: OrderedDict[tuple[Any, ...], list[bytes]] = OrderedDict()
_CACHE_SIZE = 16


class ModelGraph(Observer):
    """Graph of the operations of one forward pass of `example_input_array`, in TensorBoard's GRAPHS tab.

    | key     | what                    | when         |
    |---------|-------------------------|--------------|
    | (graph) | the traced forward pass | start of fit |

    If a model cannot be traced, litlab prints one line and training continues.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = tensorboard_writer(trainer)
        if writer is None or pl_module.example_input_array is None or writer.file_writer is None:
            return
        try:
            from tensorboard.compat.proto.event_pb2 import Event

            # The key does not determine the graph if a model has no hyperparameters or a replaced forward method.
            cacheable = pl_module.hparams and not any("forward" in vars(child) for child in pl_module.modules())
            key = _key(trainer, pl_module)
            events = (_CACHE.get(key) if cacheable else None) or _trace(trainer, pl_module)
            if cacheable:
                _CACHE[key] = events
                _CACHE.move_to_end(key)
                while len(_CACHE) > _CACHE_SIZE:
                    _CACHE.popitem(last=False)
            for event in events:
                writer.file_writer.add_event(Event.FromString(event))
        except Exception as error:  # forward() of the user may raise any error
            trainer.print(f"No model graph: tracing failed ({describe_error(error)}).")


def _key(trainer: Trainer, module: LightningModule) -> tuple[Any, ...]:
    """Return class, hyperparameters, layers, input shape and precision, which determine the graph."""
    inputs = example_input(module)
    shapes = repr([getattr(value, "shape", value) for value in (inputs if isinstance(inputs, tuple) else (inputs,))])
    return type(module), repr(dict(module.hparams)), repr(module), shapes, str(trainer.precision)


def _trace(trainer: Trainer, module: LightningModule) -> list[bytes]:
    """Return the graph as TensorBoard events, read from a temporary file, since torch can only write a file."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        # The tracer of torch emits warnings and prints its errors.
        with isolated_forward(module), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with SummaryWriter(folder) as writer, trainer.precision_plugin.forward_context():
                writer.add_graph(module, example_input(module))
        (path,) = Path(folder).iterdir()
        events = [bytes(event) for event in RawEventFileLoader(str(path)).Load()]
    return [event for event in events if not Event.FromString(event).file_version]
