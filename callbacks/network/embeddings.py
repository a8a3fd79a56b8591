"""Callback for embeddings of validation samples in TensorBoard's projector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from callbacks.arguments import require
from callbacks.checkpoints.best_weights import best_weights
from callbacks.forward import isolated_forward, split_batch, to_device, warn_on_error
from callbacks.network.layers import select_layers
from callbacks.step_hooks import Observer
from callbacks.trainer_state import is_dry_run, last_step, tensorboard_writer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

THUMBNAIL = 64  # pixels per side; the sheet of all thumbnails is at most 8,192 x 8,192


class Embeddings(Observer):
    """Inputs of the last linear layer for some validation samples, with their classes and thumbnails.

    The weights are those of best.ckpt, or without it the last ones.

    | key        | what                                               | when       |
    |------------|----------------------------------------------------|------------|
    | embeddings | one point per sample, PROJECTOR tab of TensorBoard | end of fit |

    Args:
        layer: name of the layer whose input is used; the last linear layer of the network if None.
        samples: maximum number of samples.
    """

    def __init__(self, layer: str | None = None, samples: int = 1000) -> None:
        require(samples >= 1, "Embeddings.samples", "1 or more", samples)
        self.layer = layer
        self.samples = samples

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_dry_run(trainer):
            return
        with warn_on_error("Embeddings", "the points for the projector"), best_weights(trainer, pl_module):
            writer = tensorboard_writer(trainer)
            if writer is None or not sum(trainer.num_val_batches):
                missing = "TensorBoard logger" if writer is None else "validation split"
                trainer.print(f"Embeddings: skipped, since the run has no {missing}.")
                return
            layers = select_layers("Embeddings", pl_module, self.layer, ((nn.Linear,),))
            if layers:
                self._write(trainer, pl_module, list(layers.values())[-1], writer)

    def _write(self, trainer: Trainer, module: LightningModule, layer: nn.Module, writer: SummaryWriter) -> None:
        batches = _collect(trainer, module, layer, self.samples)
        if not batches:
            rank_zero_warn("Embeddings: the layer's input does not have one row per sample. Set another `layer`.")
            return
        points, inputs, targets = (torch.cat(values)[: self.samples] for values in zip(*batches, strict=True))
        finite = torch.isfinite(points).all(dim=1)
        if not bool(finite.all()):
            rank_zero_warn(f"Embeddings: skipping {int((~finite).sum())} samples with values that are not finite.")
            points, inputs, targets = points[finite], inputs[finite], targets[finite]
        if len(points):
            images = thumbnails(inputs) if inputs.dim() == 4 else None
            writer.add_embedding(points, _labels(trainer, targets), images, last_step(trainer), tag="embeddings")


def _collect(
    trainer: Trainer, module: LightningModule, layer: nn.Module, samples: int
) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Return layer inputs `(B, F)`, network inputs and targets of the first validation batches.

    From sequences `(B, T, F)` and their targets `(B, T)`, it uses the last position.
    """
    captured: list[Tensor] = []
    batches: list[tuple[Tensor, Tensor, Tensor]] = []
    loaders: Any = trainer.val_dataloaders
    with (
        layer.register_forward_pre_hook(lambda _, args: captured.append(args[0].detach().float().cpu())),
        isolated_forward(module),
        torch.compiler.set_stance("force_eager"),
    ):
        for batch in loaders[0] if isinstance(loaders, (list, tuple)) else loaders:
            inputs, targets = split_batch(to_device(trainer, batch))
            if inputs is None or targets is None or sum(len(points) for points, *_ in batches) >= samples:
                break
            captured.clear()
            with trainer.precision_plugin.forward_context():
                module(inputs)
            if captured and len(captured[0]) == len(inputs):
                is_sequence = targets.dim() >= 2 and not targets.is_floating_point()
                points = captured[0][:, -1] if captured[0].dim() >= 3 else captured[0]
                targets = targets[:, -1] if is_sequence else targets
                batches.append((_flat(points), inputs.float().cpu(), _flat(targets.cpu())))
    return batches


def _flat(values: Tensor) -> Tensor:
    return values if values.dim() < 3 else values.flatten(1)


def _labels(trainer: Trainer, targets: Tensor) -> list[str]:
    """Return one line per sample: the class name, or the values of a regression target."""
    if targets.dim() == 1 and not targets.is_floating_point():
        class_names = getattr(getattr(trainer, "datamodule", None), "class_names", None) or ()
        names = [" ".join(str(name).split()) or repr(name) for name in class_names]
        return [names[int(k)] if int(k) < len(names) else str(int(k)) for k in targets]
    return [", ".join(f"{float(value):.4g}" for value in row) for row in targets.reshape(len(targets), -1)]


def thumbnails(images: Tensor) -> Tensor:
    """Return small images with values in [0, 1] and one or three channels, as the projector needs them."""
    side = min(THUMBNAIL, 8192 // max(1, int(len(images) ** 0.5 + 1)))
    if max(images.shape[2:]) > side:
        images = nn.functional.interpolate(images, size=(side, side), mode="area")
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    images = (images - low) / (high - low).clamp(min=1e-12)
    return images if images.shape[1] in (1, 3) else images[:, :1]
