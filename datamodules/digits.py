"""Handwritten digits included in scikit-learn, which need no download; the default data."""

import torch
from torch import Tensor

from datamodules.base import Split
from datamodules.pixels import PixelDataModule
from datamodules.serving.batches import Batch
from datamodules.serving.splits import quotas

TEST_SAMPLES = 360


class DigitsDataModule(PixelDataModule):
    """scikit-learn's digits: 1,797 gray 8x8 images of the digits 0 to 9, values 0 to 16.

    litlab defines the test set, because scikit-learn has none: 360 samples, stratified and evenly spaced in the file,
    independent of seeds (`digits_test_indices`). The other 1,437 samples are for training and validation.

    >>> data = DigitsDataModule(batch_size=32)
    >>> data.setup("fit")
    >>> images, labels = next(iter(data.train_dataloader()))
    >>> images.shape, labels.shape
    (torch.Size([32, 1, 8, 8]), torch.Size([32]))
    """

    input_shape = (1, 8, 8)
    num_classes = 10
    class_names = tuple("0123456789")
    mean, std = (0.3053,), (0.3760,)
    max_value = 16

    def load_part(self, split: Split) -> Batch:
        """Return images uint8 `(N, 1, 8, 8)` and labels of one split."""
        from sklearn.datasets import load_digits  # 0.75 s to import

        images, labels = load_digits(return_X_y=True)
        inputs = torch.from_numpy(images).to(torch.uint8).view(-1, 1, 8, 8)
        targets = torch.from_numpy(labels).long()
        mask = torch.zeros(len(targets), dtype=torch.bool)
        mask[digits_test_indices(targets)] = True
        selected = mask if split == "test" else ~mask
        return inputs[selected], targets[selected]


def digits_test_indices(labels: Tensor) -> Tensor:
    """Return the sorted indices of the fixed test set: stratified, evenly spaced within each class, not random."""
    sizes = labels.bincount()
    indices = []
    for label, (size, quota) in enumerate(zip(sizes.tolist(), quotas(sizes, TEST_SAMPLES).tolist(), strict=True)):
        members = (labels == label).nonzero().squeeze(1)
        indices.append(members[[(2 * i + 1) * size // (2 * quota) for i in range(quota)]])
    return torch.cat(indices).sort().values
