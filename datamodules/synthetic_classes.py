"""Made-up problems of two classes: a threshold, two planes, two moons, and pure noise."""

from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.base import Part
from datamodules.serving.batches import Batch
from datamodules.synthetic import Spacing, SyntheticDataModule, check_features, check_noise, check_range, points


class TwoClassDataModule(SyntheticDataModule):
    """Base of the synthetic problems with the classes 0 and 1."""

    num_classes = 2
    class_names: tuple[str, ...] | None = ("0", "1")


class ThresholdDataModule(TwoClassDataModule):
    """y = [x > boundary] for one feature; by default the points 1, 2, 3, 4 and the boundary 2."""

    input_shape = (1,)

    def __init__(
        self,
        boundary: float = 2.0,
        low: float = 1.0,
        high: float = 4.0,
        spacing: Spacing = "even",
        num_samples: int = 4,
        **options: Any,
    ) -> None:
        """Set the threshold.

        Args:
            boundary: x above it is class 1, x equal to it class 0.
            low: least x.
            high: largest x.
            spacing: x evenly spaced with both ends, or drawn at random (the test set is always drawn at random).
            num_samples: samples for training and validation together.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_range(low, high, spacing)
        if not low <= boundary < high:
            raise MisconfigurationException(
                f"boundary: {boundary} does not lie between low: {low} and high: {high}, so one class would be empty. "
                "Move one of them."
            )
        self.boundary = boundary
        self.low = low
        self.high = high
        self.spacing = spacing

    def draw(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """Points (N, 1) and their classes."""
        x = points(part, count, self.low, self.high, self.spacing, generator)
        return x, (x.squeeze(1) > self.boundary).long()


class PlanesDataModule(TwoClassDataModule):
    """Two classes on either side of a random plane through the origin, with an empty margin: linearly separable."""

    def __init__(self, num_features: int = 2, margin: float = 0.5, num_samples: int = 500, **options: Any) -> None:
        """Set the planes.

        Args:
            num_features: dimensions.
            margin: least distance of a point from the plane; 0 lets the classes touch.
            num_samples: samples for training and validation together.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_features(num_features)
        if margin < 0:
            raise MisconfigurationException(f"margin: {margin} is negative. Give a distance, 0 for none.")
        self.input_shape = (num_features,)
        self.margin = margin

    def draw(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """Normal points (N, F), pushed away from the plane; the plane is the same in both parts."""
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
        """Set the noise.

        Args:
            noise: standard deviation of the noise on both features.
            num_samples: samples for training and validation together.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_noise(noise)
        self.noise = noise

    def draw(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """Points (N, 2) and their moon."""
        from sklearn.datasets import make_moons  # 0.75 s to import

        x, y = make_moons(
            count,
            noise=self.noise,
            random_state=self.data_seed if part == "train" else self.generator("test").initial_seed(),
        )
        return torch.from_numpy(x).float(), torch.from_numpy(y).long()


class PureNoiseDataModule(TwoClassDataModule):
    """Normal inputs and classes that have nothing to do with them: whatever is learned here is memorised."""

    def __init__(self, num_features: int = 20, num_classes: int = 2, num_samples: int = 500, **options: Any) -> None:
        """Set the size.

        Args:
            num_features: features of each sample.
            num_classes: classes, equally likely.
            num_samples: samples for training and validation together.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_features(num_features)
        if num_classes < 2:
            raise MisconfigurationException(f"num_classes: {num_classes} is not possible. Give 2 or more.")
        self.input_shape = (num_features,)
        self.num_classes = num_classes
        self.class_names = tuple(map(str, range(num_classes)))

    def draw(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """Inputs (N, F) and independent classes."""
        x = torch.randn(count, self.input_shape[0], generator=generator)
        assert self.num_classes is not None
        return x, torch.randint(self.num_classes, (count,), generator=generator)
