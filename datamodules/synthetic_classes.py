"""Synthetic classification problems: a threshold, a plane, two moons and pure noise."""

from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.base import Split
from datamodules.checks import check_integer, check_number
from datamodules.serving.batches import Batch
from datamodules.synthetic import IntervalDataModule, Spacing, SyntheticDataModule


class TwoClassDataModule(SyntheticDataModule):
    """Base of the synthetic problems with the classes 0 and 1."""

    num_classes = 2
    class_names: tuple[str, ...] | None = ("0", "1")


class ThresholdDataModule(TwoClassDataModule, IntervalDataModule):
    """Class 1 if x > boundary, else class 0; by default for x = 1, 2, 3, 4 with the boundary 2."""

    def __init__(
        self,
        boundary: float = 2.0,
        low: float = 1.0,
        high: float = 4.0,
        spacing: Spacing = "even",
        num_samples: int = 4,
        **options: Any,
    ) -> None:
        """Store the parameters.

        Args:
            boundary: largest x of class 0.
            low: smallest x.
            high: largest x.
            spacing: random, or even (evenly spaced x including low and high; the test split is always random).
            num_samples: number of training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(low=low, high=high, spacing=spacing, num_samples=num_samples, **options)
        if not low <= boundary < high:
            raise MisconfigurationException(
                f"boundary must be at least low and below high, got {boundary} with low={low} and high={high}, which "
                "leaves one class empty. Change --data.boundary."
            )
        self.boundary = boundary

    def generate(self, split: Split, count: int, generator: torch.Generator) -> Batch:
        """Return points `(N, 1)` and their classes."""
        x = self.points(split, count, generator)
        return x, (x.squeeze(1) > self.boundary).long()


class PlanesDataModule(TwoClassDataModule):
    """Linearly separable classes on the two sides of a random plane through the origin, with an empty margin."""

    def __init__(self, num_features: int = 2, margin: float = 0.5, num_samples: int = 500, **options: Any) -> None:
        """Store the parameters.

        Args:
            num_features: number of features.
            margin: minimum distance of a point from the plane.
            num_samples: number of training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_integer("num_features", num_features)
        check_number("margin", margin)
        self.input_shape = (num_features,)
        self.margin = margin

    def generate(self, split: Split, count: int, generator: torch.Generator) -> Batch:
        """Return normal points `(N, F)`, moved away from the plane, and their classes; all splits share the plane."""
        size = self.input_shape[0]
        normal = torch.randn(size, generator=self.generator("plane"))
        normal /= normal.norm()
        x = torch.randn(count, size, generator=generator)
        y = (x @ normal > 0).long()
        return x + self.margin * (2 * y - 1).unsqueeze(1) * normal, y


class MoonsDataModule(TwoClassDataModule):
    """scikit-learn's `make_moons`: two interleaved half circles, not linearly separable."""

    input_shape = (2,)

    def __init__(self, noise: float = 0.1, num_samples: int = 500, **options: Any) -> None:
        """Store the parameters.

        Args:
            noise: standard deviation of the noise on both features.
            num_samples: number of training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_number("noise", noise)
        self.noise = noise

    def generate(self, split: Split, count: int, generator: torch.Generator) -> Batch:
        """Return points `(N, 2)` and their classes."""
        from sklearn.datasets import make_moons  # 0.75 s to import

        x, y = make_moons(
            count,
            noise=self.noise,
            random_state=self.data_seed if split == "train" else self.generator("test").initial_seed(),
        )
        return torch.from_numpy(x).float(), torch.from_numpy(y).long()


class PureNoiseDataModule(TwoClassDataModule):
    """Normal inputs with independent random classes, which a model can only memorize."""

    def __init__(self, num_features: int = 20, num_classes: int = 2, num_samples: int = 500, **options: Any) -> None:
        """Store the parameters.

        Args:
            num_features: number of features.
            num_classes: number of equally likely classes.
            num_samples: number of training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_integer("num_features", num_features)
        check_integer("num_classes", num_classes, 2)
        self.input_shape = (num_features,)
        self.num_classes = num_classes
        self.class_names = tuple(map(str, range(num_classes)))

    def generate(self, split: Split, count: int, generator: torch.Generator) -> Batch:
        """Return inputs `(N, F)` and independent classes."""
        x = torch.randn(count, self.input_shape[0], generator=generator)
        assert self.num_classes is not None
        return x, torch.randint(self.num_classes, (count,), generator=generator)
