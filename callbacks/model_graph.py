"""The network as a graph in TensorBoard."""

import io
import warnings
from contextlib import redirect_stdout

from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.step_hooks import NoStepHooks
from callbacks.support import example_input, tensorboard_writer, undisturbed


class ModelGraph(NoStepHooks, Callback):
    """The operations of one forward pass of `example_input_array`, in TensorBoard's GRAPHS tab.

    | key     | what                       | when         |
    |---------|----------------------------|--------------|
    | (graph) | the traced forward pass    | start of fit |

    A model that cannot be traced is said in one line; training goes on.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = tensorboard_writer(trainer)
        if writer is None or pl_module.example_input_array is None:
            return
        try:
            # torch's tracer warns about itself and prints its errors.
            with undisturbed(pl_module), warnings.catch_warnings(), redirect_stdout(io.StringIO()):
                warnings.simplefilter("ignore")
                with trainer.precision_plugin.forward_context():
                    writer.add_graph(pl_module, example_input(pl_module))
        except Exception as error:  # tracing runs the user's forward, which may raise anything
            first_line = (str(error).strip().splitlines() or [""])[0]
            trainer.print(f"No model graph: tracing failed ({type(error).__name__}: {first_line}).")
