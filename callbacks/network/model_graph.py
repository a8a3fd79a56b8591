"""The network as a graph in TensorBoard."""

import io
import tempfile
import warnings
from collections import OrderedDict
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.forward import example_input, undisturbed
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import tensorboard_writer

# torch never frees what it traced, 0.6 MiB for a small network: runs of one model in one process trace it once.
_TRACED: OrderedDict[tuple[Any, ...], list[bytes]] = OrderedDict()
_KEPT = 16


class ModelGraph(NoStepHooks, Callback):
    """The operations of one forward pass of `example_input_array`, in TensorBoard's GRAPHS tab.

    | key     | what                       | when         |
    |---------|----------------------------|--------------|
    | (graph) | the traced forward pass    | start of fit |

    A model that cannot be traced is said in one line; training goes on.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = tensorboard_writer(trainer)
        if writer is None or pl_module.example_input_array is None or writer.file_writer is None:
            return
        try:
            from tensorboard.compat.proto.event_pb2 import Event

            # Without settings, or with a forward of its own, nobody knows whether the next of these models is the same.
            told = pl_module.hparams and not any("forward" in vars(child) for child in pl_module.modules())
            key = _key(trainer, pl_module)
            events = (_TRACED.get(key) if told else None) or _traced(trainer, pl_module)
            if told:
                _TRACED[key] = events
                _TRACED.move_to_end(key)
                while len(_TRACED) > _KEPT:
                    _TRACED.popitem(last=False)
            for event in events:
                writer.file_writer.add_event(Event.FromString(event))
        except Exception as error:  # tracing runs the user's forward, which may raise anything
            first_line = (str(error).strip().splitlines() or [""])[0]
            trainer.print(f"No model graph: tracing failed ({type(error).__name__}: {first_line}).")


def _key(trainer: Trainer, module: LightningModule) -> tuple[Any, ...]:
    """What the graph depends on: the class, its settings and layers, the input's shape, the precision."""
    inputs = example_input(module)
    shapes = repr([getattr(value, "shape", value) for value in (inputs if isinstance(inputs, tuple) else (inputs,))])
    return type(module), repr(dict(module.hparams)), repr(module), shapes, str(trainer.precision)


def _traced(trainer: Trainer, module: LightningModule) -> list[bytes]:
    """The graph as TensorBoard events: torch writes it into a file only."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from torch.utils.tensorboard import SummaryWriter

    with tempfile.TemporaryDirectory() as folder:
        # torch's tracer warns about itself and prints its errors.
        with undisturbed(module), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            with SummaryWriter(folder) as writer, trainer.precision_plugin.forward_context():
                writer.add_graph(module, example_input(module))
        (path,) = Path(folder).iterdir()
        events = [bytes(event) for event in RawEventFileLoader(str(path)).Load()]
    return [event for event in events if not Event.FromString(event).file_version]
