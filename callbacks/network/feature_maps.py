"""What the layers of a network make of an image."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from callbacks.figures.drawing import show_image
from callbacks.figures.mosaic import block, stacked
from callbacks.figures.pictures import as_pixels, channels_of
from callbacks.forward import split_batch, told, undisturbed
from callbacks.network.layers import CONVOLUTIONS, RECURRENT, captured, chosen_layers, first_tensor
from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_dry_run, is_fitting

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
        layers: list[str] | str | None = None,
        images: list[int] | int = 0,
        channels: tuple[int, int] = (8, 16),
        every_n_epochs: int = 1,
        gradients: bool = False,
    ) -> None:
        places = [images] if isinstance(images, int) else list(images)
        for name, value, fine, wanted in (
            ("every_n_epochs", every_n_epochs, every_n_epochs >= 1, "1 or more"),
            ("images", images, bool(places) and min(places) >= 0, "one or more places in the batch, from 0 on"),
            (
                "channels",
                channels,
                not isinstance(channels, int) and len(channels) == 2 and min(channels) >= 1,
                "two numbers of 1 or more: of the first layer and of later ones",
            ),
        ):
            if not fine:
                raise MisconfigurationException(f"FeatureMaps.{name}: {value} is not possible; give {wanted}.")
        self.layers = [layers] if isinstance(layers, str) else layers
        self.images = tuple(places)
        self.channels = channels[0], channels[1]
        self.every_n_epochs = every_n_epochs
        self.gradients = gradients
        self._chosen: dict[str, nn.Module] = {}
        self._seen: tuple[Tensor, Tensor | None] | None = None
        self._drawn = -1

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._seen, self._chosen, self._drawn = None, {}, -1
        if stage in ("fit", "validate") and trainer.is_global_zero:
            self._chosen = chosen_layers("FeatureMaps", pl_module, self.layers, _KINDS)

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._seen is not None or batch_idx or dataloader_idx or not trainer.is_global_zero or not self._chosen:
            return
        inputs, targets = split_batch(batch)
        if inputs is None:
            rank_zero_warn("FeatureMaps: a batch does not begin with a tensor; nothing is drawn.")
            self._chosen = {}
            return
        places = [place for place in self.images if place < len(inputs)]
        if len(places) < len(self.images):
            rank_zero_warn(f"FeatureMaps: the first validation batch has {len(inputs)} images; others are left out.")
        rows = torch.tensor(places, dtype=torch.int64, device=inputs.device)
        # Copies: a loader may use the batch's memory again.
        self._seen = inputs[rows].clone(), None if targets is None else targets[rows].clone()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        epoch = trainer.current_epoch + 1
        if epoch % self.every_n_epochs == 0:
            self._draw(trainer, pl_module, epoch)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._chosen and self._seen is None and not is_dry_run(trainer):
            trainer.print("FeatureMaps: without a validation part there are no images to show.")
        if trainer.current_epoch > self._drawn:  # the newest, however the run came to its end
            self._draw(trainer, pl_module, trainer.current_epoch)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer):
            self._draw(trainer, pl_module, None)

    def _draw(self, trainer: Trainer, module: LightningModule, epoch: int | None) -> None:
        if self._seen is None or not len(self._seen[0]) or not trainer.is_global_zero or is_dry_run(trainer):
            return
        self._drawn = epoch or 0
        with told("FeatureMaps", "feature maps"):
            self._look(trainer, module, *self._seen, epoch)

    def _look(
        self, trainer: Trainer, module: LightningModule, inputs: Tensor, targets: Tensor | None, epoch: int | None
    ) -> None:
        with (
            undisturbed(module),
            captured(self._chosen) as maps,
            torch.compiler.set_stance("force_eager"),  # hooks do not fire within compiled code
            torch.inference_mode(False),
            torch.set_grad_enabled(self.gradients),
            # cuDNN's LSTM has no backward pass in evaluation mode.
            torch.backends.cudnn.flags(enabled=False) if self.gradients else nullcontext(),
            trainer.precision_plugin.forward_context(),
        ):
            # Copies: validation's own were made where gradients are not thought of.
            inputs, targets = inputs.clone(), None if targets is None else targets.clone()
            output = module(inputs)
            slopes = _gradients(output, targets, maps) if self.gradients else {}
        for index, (name, values) in enumerate(maps.items()):
            if len(values) != len(inputs):
                rank_zero_warn(f"FeatureMaps: {name} does not give one output a sample; it is left out.")
                continue
            count = self.channels[min(index, 1)]
            rows = isinstance(self._chosen[name.partition("#")[0]], nn.Conv1d)
            for tag, shown in (("", values), ("/gradient", slopes.get(name))):
                if shown is not None:
                    made = [channels_of(one, count, rows) for one in shown.detach().float().cpu()]
                    self._show(trainer, f"feature_maps/{name}{tag}", inputs, made, values.shape[1:], epoch)

    def _show(
        self,
        trainer: Trainer,
        tag: str,
        inputs: Tensor,
        samples: list[list[Tensor]],
        shape: Sequence[int],
        epoch: int | None,
    ) -> None:
        """One block for each sample, its input beside its tiles."""
        signed = tag.endswith("/gradient")
        blocks = []
        for sample, tiles in zip(inputs, samples, strict=True):
            joined = torch.cat([tile.flatten() for tile in tiles])
            finite = joined[torch.isfinite(joined)]
            low, high = (float(edge) for edge in finite.aminmax()) if len(finite) else (0.0, 0.0)
            if signed:
                high = max(abs(low), abs(high))
                low = -high
            size = "x".join(str(n) for n in shape)
            words = f"{tag.split('/', 1)[1]}  {size}, {low:.3g} to {high:.3g}"
            words += "" if epoch is None else f", epoch {epoch}"
            blocks.append(block(as_pixels(sample), tiles, words, low, high, signed))
        show_image(trainer, tag, stacked(blocks), epoch or 0, epoch)


def _gradients(output: Any, targets: Tensor | None, maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Of the true class's score (the highest where targets are no classes) with respect to each layer's output."""
    first = first_tensor(output)
    if first is None:
        return {}
    scores = first.reshape(len(first), -1).float()
    if targets is not None and targets.dim() == 1 and not targets.is_floating_point() and scores.shape[1] > 1:
        picked = scores.gather(1, targets[:, None].long())
    else:
        picked = scores.amax(dim=1, keepdim=True)
    inner = {name: value for name, value in maps.items() if value.requires_grad}
    if not inner:
        return {}
    found = torch.autograd.grad(picked.sum(), list(inner.values()), allow_unused=True)
    return {name: slope for name, slope in zip(inner, found, strict=True) if slope is not None}
