"""Callback for images of layer outputs and of their gradients."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor, nn

from callbacks.arguments import require
from callbacks.figures.mosaic import image_with_tiles, line_of_text, stack_vertically
from callbacks.figures.plotting import show_image, source_line
from callbacks.figures.sample_images import as_pixels, channels_of
from callbacks.forward import NOT_A_TENSOR, isolated_forward, split_batch, warn_on_error
from callbacks.network.layers import CONVOLUTIONS, RECURRENT, capture_outputs, first_tensor, select_layers
from callbacks.step_hooks import EpochObserver
from callbacks.trainer_state import is_dry_run, is_fitting

_KINDS = (CONVOLUTIONS, RECURRENT, (nn.Linear,))


class FeatureMaps(EpochObserver):
    """Outputs of layers for some validation images, as one grid per layer next to the image.

    | key                           | what                                                  | when                   |
    |-------------------------------|-------------------------------------------------------|------------------------|
    | feature_maps/<layer>          | the first channels of the layer's output              | every `every_n_epochs` |
    | feature_maps/<layer>/gradient | gradient of the true class's score with respect to it | with `gradients`       |

    The images are also saved in figures/. A line below them names run, data, split and epoch. All channels of a grid
    share one scale, shown above it. Outputs of recurrent layers are images of hidden units over time, outputs of fully
    connected layers are one row of units.

    Args:
        layers: names as in the model table. If None, all convolutions, or else all recurrent or all linear layers.
        images: indices in the first validation batch, from 0.
        channels: maximum number of channels of the first layer, and of each later layer.
        every_n_epochs: epochs between plots; the last epoch is always plotted. `litlab validate` plots once.
        gradients: whether to plot gradients too.
    """

    def __init__(
        self,
        layers: list[str] | str | None = None,
        images: list[int] | int = 0,
        channels: tuple[int, int] = (8, 16),
        every_n_epochs: int = 1,
        gradients: bool = False,
    ) -> None:
        indices = [images] if isinstance(images, int) else list(images)
        is_pair = not isinstance(channels, int) and len(channels) == 2 and min(channels) >= 1
        super().__init__(every_n_epochs)
        require(bool(indices) and min(indices) >= 0, "FeatureMaps.images", "one or more indices of 0 or more", images)
        require(is_pair, "FeatureMaps.channels", "two integers of 1 or more, for the first and later layers", channels)
        self.layers = layers
        self.images = tuple(indices)
        self.channels = channels[0], channels[1]
        self.gradients = gradients
        self._chosen: dict[str, nn.Module] = {}
        self._batch: tuple[Tensor, Tensor | None] | None = None
        self._loaded = ""  # epoch of the weights that `litlab validate` loads

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._batch, self._chosen, self._loaded = None, {}, ""
        if stage in ("fit", "validate") and trainer.is_global_zero:
            self._chosen = select_layers("FeatureMaps", pl_module, self.layers, _KINDS)

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._loaded = f"epoch {checkpoint['epoch'] + 1}"

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        if self._batch is not None or batch_idx or dataloader_idx or not trainer.is_global_zero or not self._chosen:
            return
        inputs, targets = split_batch(batch)
        if inputs is None:
            rank_zero_warn(NOT_A_TENSOR.format("FeatureMaps"))
            self._chosen = {}
            return
        indices = [index for index in self.images if index < len(inputs)]
        if len(indices) < len(self.images):
            rank_zero_warn(
                f"FeatureMaps: `images` must be below {len(inputs)}, the size of the first batch, got {self.images}; "
                "skipping the others."
            )
        rows = torch.tensor(indices, dtype=torch.int64, device=inputs.device)
        # Copies, since a dataloader may reuse the memory of the batch.
        self._batch = inputs[rows].clone(), None if targets is None else targets[rows].clone()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._chosen and self._batch is None and not is_dry_run(trainer):
            trainer.print("FeatureMaps: skipped, since the run has no validation split.")
        super().on_train_end(trainer, pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer) and not is_dry_run(trainer):
            self.write(trainer, pl_module, None)

    def write(self, trainer: Trainer, module: LightningModule, epoch: int | None) -> None:
        if self._batch is not None and len(self._batch[0]):
            with warn_on_error("FeatureMaps", "feature maps"):
                self._plot_layers(trainer, module, *self._batch, epoch)

    def _plot_layers(
        self, trainer: Trainer, module: LightningModule, inputs: Tensor, targets: Tensor | None, epoch: int | None
    ) -> None:
        with (
            isolated_forward(module),
            capture_outputs(self._chosen) as maps,
            torch.compiler.set_stance("force_eager"),  # compiled code does not call hooks
            torch.inference_mode(False),
            torch.set_grad_enabled(self.gradients),
            # cuDNN's LSTM has no backward pass in evaluation mode.
            torch.backends.cudnn.flags(enabled=False) if self.gradients else nullcontext(),
            trainer.precision_plugin.forward_context(),
        ):
            # Copies, since tensors from validation may be inference tensors, which have no gradients.
            inputs, targets = inputs.clone(), None if targets is None else targets.clone()
            output = module(inputs)
            gradients = _gradients(output, targets, maps) if self.gradients else {}
        for index, (name, values) in enumerate(maps.items()):
            if len(values) != len(inputs):
                rank_zero_warn(f"FeatureMaps: {name} does not have one output per sample; skipping it.")
                continue
            is_conv1d = isinstance(self._chosen[name.partition("#")[0]], nn.Conv1d)
            for tag, tensor in (("", values), ("/gradient", gradients.get(name))):
                if tensor is not None:
                    samples = tensor.detach().float().cpu()
                    tiles = [channels_of(sample, self.channels[min(index, 1)], is_conv1d) for sample in samples]
                    self._show(trainer, f"feature_maps/{name}{tag}", inputs, tiles, values.shape[1:], epoch)

    def _show(
        self, trainer: Trainer, tag: str, inputs: Tensor, samples: list[Tensor], shape: Sequence[int], epoch: Any
    ) -> None:
        """Write an image with one row per sample: its input next to the tiles of its channels."""
        signed = tag.endswith("/gradient")
        blocks = []
        for sample, tiles in zip(inputs, samples, strict=True):
            finite = tiles[torch.isfinite(tiles)]
            low, high = (float(edge) for edge in finite.aminmax()) if len(finite) else (0.0, 0.0)
            if signed:
                high = max(abs(low), abs(high))
                low = -high
            caption = f"{tag.split('/', 1)[1]}  {'x'.join(map(str, shape))}, {low:.3g} to {high:.3g}"
            blocks.append(image_with_tiles(as_pixels(sample), tiles, caption, low, high, signed))
        source = source_line(trainer, "validation", self._loaded if epoch is None else f"epoch {epoch}")
        show_image(trainer, tag, stack_vertically([*blocks, line_of_text(source)]), epoch or 0, epoch)


def _gradients(output: Any, targets: Tensor | None, maps: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the gradients of the true class's score with respect to the layer outputs.

    If the targets are not classes, the highest score is used.
    """
    first = first_tensor(output)
    if first is None:
        return {}
    scores = first.reshape(len(first), -1).float()
    if targets is not None and targets.dim() == 1 and not targets.is_floating_point() and scores.shape[1] > 1:
        chosen = scores.gather(1, targets[:, None].long())
    else:
        chosen = scores.amax(dim=1, keepdim=True)
    inner = {name: value for name, value in maps.items() if value.requires_grad}
    if not inner:
        return {}
    gradients = torch.autograd.grad(chosen.sum(), list(inner.values()), allow_unused=True)
    return {name: gradient for name, gradient in zip(inner, gradients, strict=True) if gradient is not None}
