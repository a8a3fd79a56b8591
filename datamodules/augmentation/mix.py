"""Mixup and cutmix: every sample of a finished batch with the one before it, soft targets by the shares."""

import numpy as np
import torch
from torch import Tensor

from datamodules.augmentation.erase import inside
from datamodules.augmentation.transform import Draw, Parameters, integers, number, per_sample
from datamodules.serving.batches import Batch

POINTS = 1024  # of the table of the Beta distribution's quantiles


class Mix:
    """Mixes samples, each with a share of its own from Beta(alpha, alpha), with probability p.

    The partner is the sample before it in the batch of all ranks. torchvision draws one share per batch.
    """

    columns = 2
    whole_batch = True
    name = "mix"

    def __init__(self, alpha: float = 1.0, p: float = 1.0) -> None:
        self.alpha = number(f"{self.name}: alpha", alpha, 0.01, 100)
        self.p = number(f"{self.name}: p", p, 0, 1)
        self._table = beta_table(self.alpha)

    def share(self, draw: Draw) -> Tensor:
        """The share that each sample keeps, float32 (B,)."""
        self._table = self._table.to(draw.uniforms.device)
        kept = beta_quantile(draw.uniforms[:, 1], self.alpha, self._table)
        return torch.where(draw.uniforms[:, 0] < self.p, kept, 1.0)

    def parameters(self, draw: Draw) -> Parameters:
        """A pure function of `draw`; the first is the share each sample keeps of its target, float32 (B,)."""
        raise NotImplementedError

    def mix(self, images: Tensor, parameters: Parameters) -> Tensor:
        """The mixed images."""
        raise NotImplementedError

    def apply(self, batch: Batch, parameters: Parameters, num_classes: int) -> Batch:
        """The mixed images and targets float32 (B, classes); targets may be numbers or rows."""
        images, targets = batch
        if not targets.is_floating_point():
            targets = (targets.unsqueeze(1) == torch.arange(num_classes, device=targets.device)).float()
        share = parameters[0].unsqueeze(1)
        return self.mix(images, parameters), targets * share + targets.roll(1, 0) * (1 - share)


class MixUp(Mix):
    """The weighted mean of two images (arXiv:1710.09412)."""

    name = "mixup"

    def parameters(self, draw: Draw) -> Parameters:
        """The share each sample keeps, float32 (B,)."""
        return (self.share(draw),)

    def mix(self, images: Tensor, parameters: Parameters) -> Tensor:
        """The weighted mean."""
        share = per_sample(parameters[0])
        return images * share + images.roll(1, 0) * (1 - share)


class CutMix(Mix):
    """A rectangle of one image is put into another (arXiv:1905.04899); targets go by the exact area."""

    columns = 4
    name = "cutmix"

    def parameters(self, draw: Draw) -> Parameters:
        """The share each sample keeps, float32; top, left, height and width of the rectangle, int64: (B,) each."""
        half = (1 - self.share(draw)).sqrt() * 0.5
        edges = []
        for column, extent in ((2, draw.height), (3, draw.width)):
            centre, reach = integers(draw.uniforms[:, column], extent), (half * extent).long()
            edges.append(((centre - reach).clamp(min=0), (centre + reach).clamp(max=extent)))
        (top, bottom), (left, right) = edges
        share = 1 - ((bottom - top) * (right - left)) / (draw.height * draw.width)
        return share, top, left, bottom - top, right - left

    def mix(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Put the rectangles in."""
        return torch.where(inside(parameters[1:], *images.shape[2:]), images.roll(1, 0), images)


def beta_table(alpha: float) -> Tensor:
    """Quantiles of Beta(alpha, alpha) from 0 to the median, to the power of alpha: float32 (POINTS + 1,).

    To that power they are almost proportional to the probability, so that straight lines between few points do.
    """
    power = np.linspace(0, 0.5**alpha, 200 * POINTS + 1)
    # With t = x^alpha the density x^(alpha - 1) (1 - x)^(alpha - 1) dx is (1 - x)^(alpha - 1) dt, smooth up to 1/2.
    density = (1 - power ** (1 / alpha)) ** (alpha - 1)
    mass = np.concatenate([[0.0], np.cumsum((density[1:] + density[:-1]) / 2)])
    return torch.from_numpy(np.interp(np.linspace(0, 1, POINTS + 1), mass / mass[-1], power)).float()


def beta_quantile(uniforms: Tensor, alpha: float, table: Tensor) -> Tensor:
    """The number below which a Beta(alpha, alpha) number stays with the given probability."""
    upper = uniforms >= 0.5
    place = torch.where(upper, 1 - uniforms, uniforms) * (2 * POINTS)
    cell = place.long().clamp(max=POINTS - 1)
    low, high = table.index_select(0, cell), table.index_select(0, cell + 1)
    lower = (low + (high - low) * (place - cell)) ** (1 / alpha)
    return torch.where(upper, 1 - lower, lower)
