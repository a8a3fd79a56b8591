"""The last hidden layer's outputs for TensorBoard's projector."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from callbacks.forward import split_batch, told, undisturbed
from callbacks.network.layers import chosen_layers
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_dry_run, last_step, tensorboard_writer

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

THUMBNAIL = 64  # pixels; the sheet that holds all of them may have 8,192 a side


class Embeddings(NoStepHooks, Callback):
    """What the last linear layer gets, for some validation samples, with their classes and thumbnails.

    | key              | what                                             | when       |
    |------------------|--------------------------------------------------|------------|
    | embeddings       | one point a sample, PROJECTOR tab of TensorBoard | end of fit |

    Args:
        layer: whose input is taken; the last linear layer of the network if None.
        samples: how many.
    """

    def __init__(self, layer: str | None = None, samples: int = 1000) -> None:
        if samples < 1:
            raise MisconfigurationException(f"Embeddings.samples must be 1 or more, not {samples}.")
        self.layer = layer
        self.samples = samples

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        writer = tensorboard_writer(trainer)
        if is_dry_run(trainer):
            return
        if writer is None or not sum(trainer.num_val_batches):
            why = (
                "a validation part there are no samples" if writer is not None else "TensorBoard there is no projector"
            )
            trainer.print(f"Embeddings: without {why} to show.")
            return
        with told("Embeddings", "the points of the projector"):
            layer = self._chosen(pl_module)
            if layer is not None:
                self._write(trainer, pl_module, layer, writer)

    def _write(self, trainer: Trainer, module: LightningModule, layer: nn.Module, writer: SummaryWriter) -> None:
        points, inputs, targets = _collect(trainer, module, layer, self.samples)
        if not len(points):
            rank_zero_warn("Embeddings: the layer does not get one row a sample; nothing is written.")
            return
        finite = torch.isfinite(points).all(dim=1)
        if not bool(finite.all()):
            rank_zero_warn(f"Embeddings: {int((~finite).sum())} samples are not finite and are left out.")
            points, inputs, targets = points[finite], inputs[finite], targets[finite]
        if len(points):
            writer.add_embedding(
                points,
                metadata=_labels(trainer, targets),
                label_img=thumbnails(inputs) if inputs.dim() == 4 else None,
                global_step=last_step(trainer),
                tag="embeddings",
            )

    def _chosen(self, module: LightningModule) -> nn.Module | None:
        wanted = None if self.layer is None else [self.layer]
        return next(reversed(chosen_layers("Embeddings", module, wanted, ((nn.Linear,),)).values()), None)


def _collect(trainer: Trainer, module: LightningModule, layer: nn.Module, most: int) -> tuple[Tensor, Tensor, Tensor]:
    """What the layer gets (N, F), inputs of the network and targets, of the first samples that validation has.

    Of sequences (N, T, F) and their targets (N, T) it is the last place.
    """
    seen: list[Tensor] = []
    kept: list[tuple[Tensor, Tensor, Tensor]] = []
    loaders: Any = trainer.val_dataloaders
    first = loaders[0] if isinstance(loaders, (list, tuple)) else loaders
    handle = layer.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach().float().cpu()))
    try:
        with undisturbed(module), torch.compiler.set_stance("force_eager"):
            for batch in first:
                if sum(len(points) for points, *_ in kept) >= most:
                    break
                batch = trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))
                inputs, targets = split_batch(batch)
                if inputs is None or targets is None:
                    break
                seen.clear()
                with trainer.precision_plugin.forward_context():
                    module(inputs)
                if seen and len(seen[0]) == len(inputs):
                    points, targets = _last_place(seen[0]), _last_place(targets.cpu(), whole=2)
                    kept.append((points, inputs.float().cpu(), targets))
    finally:
        handle.remove()
    if not kept:
        return torch.zeros(0, 0), torch.zeros(0), torch.zeros(0)
    points, inputs, targets = (torch.cat(values)[:most] for values in zip(*kept, strict=True))
    return points, inputs, targets


def _last_place(values: Tensor, whole: int = 3) -> Tensor:
    """(N, T, ...) at the end of T; what has fewer dimensions than `whole` is no sequence, numbers are targets."""
    if values.dim() >= whole and not (whole == 2 and values.is_floating_point()):
        values = values[:, -1]
    return values if values.dim() < 3 else values.flatten(1)


def _labels(trainer: Trainer, targets: Tensor) -> list[str]:
    """A class's name, or the number of a regression."""
    if targets.dim() == 1 and not targets.is_floating_point():
        stated = getattr(getattr(trainer, "datamodule", None), "class_names", None) or ()
        names = [" ".join(str(name).split()) or repr(name) for name in stated]  # a line each
        return [names[int(k)] if int(k) < len(names) else str(int(k)) for k in targets]
    return [", ".join(f"{float(value):.4g}" for value in row) for row in targets.reshape(len(targets), -1)]


def thumbnails(images: Tensor) -> Tensor:
    """Images (N, C, H, W) as the projector wants them: values from 0 to 1, three or one channels, not too large."""
    side = min(THUMBNAIL, 8192 // max(1, int(len(images) ** 0.5 + 1)))
    if max(images.shape[2:]) > side:
        images = nn.functional.interpolate(images, size=(side, side), mode="area")
    low, high = images.amin((1, 2, 3), keepdim=True), images.amax((1, 2, 3), keepdim=True)
    images = (images - low) / (high - low).clamp(min=1e-12)
    return images if images.shape[1] in (1, 3) else images[:, :1]
