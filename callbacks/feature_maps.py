"""What the layers of a network make of an image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from callbacks.drawing import show_image
from callbacks.layers import CONVOLUTIONS, RECURRENT, captured, chosen_layers
from callbacks.mosaic import block, stacked
from callbacks.pictures import as_pixels, channels_of
from callbacks.step_hooks import NoStepHooks
from callbacks.support import is_dry_run, is_fitting, undisturbed

_KINDS = (CONVOLUTIONS, RECURRENT, (nn.Linear,))


class FeatureMaps(NoStepHooks, Callback):
    """Outputs of layers for a few validation images, one grid a layer, beside the image.

    | key                              | what                                                  | when                  |
    |----------------------------------|-------------------------------------------------------|-----------------------|
    | feature_maps/<layer>             | the first channels of the layer's output              | every `every_n_epochs`|
    | feature_maps/<layer>/gradient    | gradient of the true class's score with respect to it | with `gradients`      |

    The same go to figures/. All channels of a grid share one scale, written above it. Of a recurrent layer the hidden
    units are drawn over time, of a fully connected one its units in a row.

    Args:
        layers: names as in the table of layers; the convolutions if None, else recurrent, else linear layers.
        images: places in the first validation batch.
        channels: of the first layer, and of each later one.
        every_n_epochs: how often; the last epoch always. `litlab validate` draws once.
        gradients: draw gradient maps too.
    """

    def __init__(
        self,
        layers: list[str] | None = None,
        images: Sequence[int] = (0,),
        channels: tuple[int, int] = (8, 16),
        every_n_epochs: int = 1,
        gradients: bool = False,
    ) -> None:
        if every_n_epochs < 1 or min(channels) < 1 or not images or min(images) < 0:
            raise MisconfigurationException(
                "FeatureMaps: every_n_epochs and channels must be 1 or more, images 0 or more and at least one."
            )
        self.layers = layers
        self.images = tuple(images)
        self.channels = tuple(channels)
        self.every_n_epochs = every_n_epochs
        self.gradients = gradients
        self._chosen: dict[str, nn.Module] = {}
        self._seen: tuple[Tensor, Tensor | None] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._seen, self._chosen = None, {}
        if stage in ("fit", "validate") and trainer.is_global_zero:
            self._chosen = chosen_layers("FeatureMaps", pl_module, self.layers, _KINDS)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._seen is not None or batch_idx or dataloader_idx or not trainer.is_global_zero or not self._chosen:
            return
        inputs, targets = batch if isinstance(batch, (tuple, list)) and len(batch) == 2 else (batch, None)
        places = [place for place in self.images if place < len(inputs)]
        if len(places) < len(self.images):
            rank_zero_warn(f"FeatureMaps: the first validation batch has {len(inputs)} images; others are left out.")
        rows = torch.tensor(places, dtype=torch.int64, device=inputs.device)
        # Copies: a loader may use the batch's memory again.
        self._seen = inputs[rows].clone(), None if targets is None else targets[rows].clone()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        last = epoch == trainer.max_epochs
        if (epoch % self.every_n_epochs and not last) or is_dry_run(trainer):
            return
        self._draw(trainer, pl_module, epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._chosen and self._seen is None and not is_dry_run(trainer):
            trainer.print("FeatureMaps: without a validation part there are no images to show.")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer) and not is_dry_run(trainer):
            self._draw(trainer, pl_module, None)

    def _draw(self, trainer: Trainer, module: LightningModule, epoch: int | None) -> None:
        if self._seen is None or not len(self._seen[0]) or not trainer.is_global_zero:
            return
        inputs, targets = self._seen
        with (
            undisturbed(module),
            captured(self._chosen) as maps,
            torch.compiler.set_stance("force_eager"),  # hooks do not fire within compiled code
            torch.inference_mode(False),
            torch.set_grad_enabled(self.gradients),
            trainer.precision_plugin.forward_context(),
        ):
            output = module(inputs.clone())  # validation's own was made where gradients are not thought of
            slopes = _gradients(output, targets, maps) if self.gradients else {}
        for index, (name, values) in enumerate(maps.items()):
            count = self.channels[min(index, 1)]
            self._show(trainer, f"feature_maps/{name}", inputs, values, count, epoch, signed=False)
            if name in slopes:
                self._show(trainer, f"feature_maps/{name}/gradient", inputs, slopes[name], count, epoch, signed=True)

    def _show(
        self, trainer: Trainer, tag: str, inputs: Tensor, values: Tensor, count: int, epoch: int | None, signed: bool
    ) -> None:
        blocks = []
        for sample, output in zip(inputs, values.detach().float().cpu(), strict=True):
            tiles = channels_of(output, count)
            joined = torch.cat([tile.flatten() for tile in tiles])
            finite = joined[torch.isfinite(joined)]
            low, high = (float(edge) for edge in finite.aminmax()) if len(finite) else (0.0, 0.0)
            if signed:
                high = max(abs(low), abs(high))
                low = -high
            size = "x".join(str(n) for n in output.shape)
            words = f"{tag.split('/', 1)[1]}  {size}, {low:.3g} to {high:.3g}"
            words += "" if epoch is None else f", epoch {epoch}"
            blocks.append(block(as_pixels(sample), tiles, words, low, high, signed))
        show_image(trainer, tag, stacked(blocks), epoch or 0, epoch)


def _gradients(output: Tensor, targets: Tensor | None, maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the true class's score (the highest where targets are no classes) with respect to each layer's output."""
    scores = output.reshape(len(output), -1).float()
    if targets is not None and targets.dim() == 1 and not targets.is_floating_point() and scores.shape[1] > 1:
        picked = scores.gather(1, targets[:, None])
    else:
        picked = scores.amax(dim=1, keepdim=True)
    inner = {name: value for name, value in maps.items() if value.requires_grad}
    if not inner:
        return {}
    found = torch.autograd.grad(picked.sum(), list(inner.values()), allow_unused=True)
    return {name: slope for name, slope in zip(inner, found, strict=True) if slope is not None}
