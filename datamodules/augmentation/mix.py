"""Mixup and cutmix for normalized batches, with soft targets."""

import numpy as np
import torch
from torch import Tensor

from datamodules.augmentation.erase import rectangle_masks
from datamodules.augmentation.transform import Parameters, TransformContext, integers, to_4d
from datamodules.checks import check_number
from datamodules.serving.batches import Batch

POINTS = 1024  # of the quantile table of the Beta distribution


class Mix:
    """Base of the transforms that mix each sample, with probability p, with the previous one in the batch of all ranks.

    Each sample has its own weight from Beta(alpha, alpha), whereas torchvision uses one weight per batch.
    """

    num_uniforms = 2
    full_batch = True
    name = "mix"

    def __init__(self, alpha: float = 1.0, p: float = 1.0) -> None:
        self.alpha = check_number(f"augment: {self.name}: alpha", alpha, 0.01, 100)
        self.p = check_number(f"augment: {self.name}: p", p, 0, 1)
        self._table = beta_table(self.alpha)

    def weights(self, context: TransformContext) -> Tensor:
        """Return the weight of each sample, float32 `(B,)`."""
        self._table = self._table.to(context.uniforms.device)
        weights = beta_quantile(context.uniforms[:, 1], self.alpha, self._table)
        return torch.where(context.uniforms[:, 0] < self.p, weights, 1.0)

    def parameters(self, context: TransformContext) -> Parameters:
        """Return the weight of each sample's own target, float32 `(B,)`, followed by the parameters of `mix`."""
        raise NotImplementedError

    def mix(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Return the mixed images."""
        raise NotImplementedError

    def apply(self, batch: Batch, parameters: Parameters, num_classes: int) -> Batch:
        """Return mixed images and targets float32 `(B, num_classes)`, from targets that are class indices or rows."""
        images, targets = batch
        if not targets.is_floating_point():
            targets = (targets.unsqueeze(1) == torch.arange(num_classes, device=targets.device)).float()
        weights = parameters[0].unsqueeze(1)
        return self.mix(images, parameters), targets * weights + targets.roll(1, 0) * (1 - weights)


class MixUp(Mix):
    """The weighted mean of two images (arXiv:1710.09412)."""

    name = "mixup"

    def parameters(self, context: TransformContext) -> Parameters:
        """Return the weight of each sample, float32 `(B,)`."""
        return (self.weights(context),)

    def mix(self, images: Tensor, parameters: Parameters) -> Tensor:
        weights = to_4d(parameters[0])
        return images * weights + images.roll(1, 0) * (1 - weights)


class CutMix(Mix):
    """A rectangle of one image pasted into another (arXiv:1905.04899); targets are weighted by the exact area."""

    num_uniforms = 4
    name = "cutmix"

    def parameters(self, context: TransformContext) -> Parameters:
        """Return weights, float32, and top, left, height and width of the rectangles, int64: `(B,)` each."""
        half = (1 - self.weights(context)).sqrt() * 0.5
        edges = []
        for column, extent in ((2, context.height), (3, context.width)):
            center, reach = integers(context.uniforms[:, column], extent), (half * extent).long()
            edges.append(((center - reach).clamp(min=0), (center + reach).clamp(max=extent)))
        (top, bottom), (left, right) = edges
        weights = 1 - ((bottom - top) * (right - left)) / (context.height * context.width)
        return weights, top, left, bottom - top, right - left

    def mix(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Paste the rectangles."""
        return torch.where(rectangle_masks(parameters[1:], *images.shape[2:]), images.roll(1, 0), images)


def beta_table(alpha: float) -> Tensor:
    """Return the quantiles of Beta(alpha, alpha) up to the median, to the power of alpha: float32 `(POINTS + 1,)`.

    These powers are almost proportional to the probability, so linear interpolation needs few points.
    """
    power = np.linspace(0, 0.5**alpha, 200 * POINTS + 1)
    # With t = x^alpha, the density x^(alpha - 1) (1 - x)^(alpha - 1) dx is (1 - x)^(alpha - 1) dt, smooth up to 1/2.
    density = (1 - power ** (1 / alpha)) ** (alpha - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return torch.from_numpy(np.interp(np.linspace(0, 1, POINTS + 1), mass / mass[-1], power)).float()


def beta_quantile(uniforms: Tensor, alpha: float, table: Tensor) -> Tensor:
    """Return the quantiles of Beta(alpha, alpha) at the given probabilities."""
    upper = uniforms >= 0.5
    position = torch.where(upper, 1 - uniforms, uniforms) * (2 * POINTS)
    cell = position.long().clamp(max=POINTS - 1)
    low, high = table.index_select(0, cell), table.index_select(0, cell + 1)
    lower = (low + (high - low) * (position - cell)) ** (1 / alpha)
    return torch.where(upper, 1 - lower, lower)
