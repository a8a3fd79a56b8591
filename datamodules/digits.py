"""The embedded default: handwritten digits that come with scikit-learn, no download at all."""

import torch
from torch import Tensor

from datamodules.base import Part
from datamodules.pixels import PixelDataModule
from datamodules.serving.batches import Batch
from datamodules.serving.splits import quotas

TEST_SAMPLES = 360


class DigitsDataModule(PixelDataModule):
    """scikit-learn's digits: 1,797 grey 8x8 images of the digits 0 to 9, values 0 to 16.

    They have no official test set. Ours is fixed and no seed moves it: of every class its share of 360 samples,
    spaced evenly through the file (`digits_test_indices`); the other 1,437 are for training and validation.
    """

    input_shape = (1, 8, 8)
    num_classes = 10
    class_names = tuple("0123456789")
    mean, std = (0.3053,), (0.3760,)
    max_value = 16

    def load_part(self, part: Part) -> Batch:
        """Images uint8 (N, 1, 8, 8) and labels of one part."""
        from sklearn.datasets import load_digits  # 0.75 s to import

        images, labels = load_digits(return_X_y=True)
        inputs = torch.from_numpy(images).to(torch.uint8).view(-1, 1, 8, 8)
        targets = torch.from_numpy(labels).long()
        mask = torch.zeros(len(targets), dtype=torch.bool)
        mask[digits_test_indices(targets)] = True
        chosen = mask if part == "test" else ~mask
        return inputs[chosen], targets[chosen]


def digits_test_indices(labels: Tensor) -> Tensor:
    """Indices of the fixed test set, sorted: stratified, evenly spaced within each class, free of random numbers."""
    sizes = labels.bincount()
    parts = []
    for label, (size, quota) in enumerate(zip(sizes.tolist(), quotas(sizes, TEST_SAMPLES).tolist(), strict=True)):
        members = (labels == label).nonzero().squeeze(1)
        parts.append(members[[(2 * i + 1) * size // (2 * quota) for i in range(quota)]])
    return torch.cat(parts).sort().values
