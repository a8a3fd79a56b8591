"""Made-up problems whose answer is known: numbers from a line, a sine, a noisy plane."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.base import LitDataModule, Part
from datamodules.serving.batches import Batch

Spacing = Literal["random", "even"]


class SyntheticDataModule(LitDataModule):
    """Base of the problems that are drawn: inputs and targets stay in natural units, nothing is rescaled.

    `data_seed` draws the samples, apart from the run's seed and the split's. The test set is drawn separately,
    from a generator of its own; so its size never changes the training data.
    """

    def __init__(self, num_samples: int = 500, test_samples: int = 200, data_seed: int = 0, **options: Any) -> None:
        """Check the sizes; nothing is drawn yet.

        Args:
            num_samples: samples for training and validation together.
            test_samples: samples of the test set.
            data_seed: seed of the drawing.
            **options: arguments of every datamodule, see `LitDataModule`.
        """
        super().__init__(**options)
        for name, count in (("num_samples", num_samples), ("test_samples", test_samples)):
            if count < 1:
                raise MisconfigurationException(f"{name}: {count} is not possible. Give a whole number above 0.")
        if not 0 <= data_seed < 2**32:
            raise MisconfigurationException(
                f"data_seed: {data_seed} is no seed. Give a whole number from 0 to 2^32 - 1."
            )
        self.num_samples = num_samples
        self.test_samples = test_samples
        self.data_seed = data_seed

    @abstractmethod
    def draw(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """`count` samples (inputs, targets) of one part."""

    def load_part(self, part: Part) -> Batch:
        """Draw one part; the same at every call."""
        count = self.num_samples if part == "train" else self.test_samples
        return self.draw(part, count, self.generator(part))

    def generator(self, purpose: Literal["train", "test", "plane"]) -> torch.Generator:
        """A generator for one purpose, unrelated to those for others and to the run's, whatever the data seed."""
        number = ("train", "test", "plane").index(purpose)
        state = np.random.SeedSequence([self.data_seed, number, 0x5EED]).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))


class CurveDataModule(SyntheticDataModule):
    """Base of y = f(x) + noise for one feature x between `low` and `high`."""

    input_shape = (1,)
    num_targets = 1
    target_kind: ClassVar[Literal["classes", "numbers", "tokens"]] = "numbers"

    def __init__(self, low: float, high: float, noise: float, spacing: Spacing, **options: Any) -> None:
        super().__init__(**options)
        check_range(low, high, spacing)
        check_noise(noise)
        self.low = low
        self.high = high
        self.noise = noise
        self.spacing = spacing

    @abstractmethod
    def curve(self, x: Tensor) -> Tensor:
        """The value without noise, of the shape of x."""

    def draw(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """Points on the curve, normally distributed noise added to y."""
        x = points(part, count, self.low, self.high, self.spacing, generator)
        return x, self.curve(x) + self.noise * torch.randn(x.shape, generator=generator)


class LineDataModule(CurveDataModule):
    """y = slope * x + intercept + noise; the weights of a linear model are to become slope and intercept."""

    def __init__(
        self,
        slope: float = 3.0,
        intercept: float = 2.0,
        noise: float = 1.5,
        low: float = 0.0,
        high: float = 10.0,
        spacing: Spacing = "random",
        num_samples: int = 500,
        **options: Any,
    ) -> None:
        """Set the line.

        Args:
            slope: of the line.
            intercept: its value at x = 0.
            noise: standard deviation of the noise on y.
            low: least x.
            high: largest x.
            spacing: x drawn at random, or evenly spaced with both ends (the test set is always drawn at random).
            num_samples: samples for training and validation together.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(low=low, high=high, noise=noise, spacing=spacing, num_samples=num_samples, **options)
        self.slope = slope
        self.intercept = intercept

    def curve(self, x: Tensor) -> Tensor:
        """The line."""
        return self.slope * x + self.intercept


class SineDataModule(CurveDataModule):
    """y = sin(x) + noise, by default one period without noise."""

    def __init__(
        self,
        noise: float = 0.0,
        low: float = -float(np.pi),
        high: float = float(np.pi),
        spacing: Spacing = "random",
        num_samples: int = 1000,
        **options: Any,
    ) -> None:
        """Set the range.

        Args:
            noise: standard deviation of the noise on y.
            low: least x.
            high: largest x.
            spacing: x drawn at random, or evenly spaced with both ends (the test set is always drawn at random).
            num_samples: samples for training and validation together.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(low=low, high=high, noise=noise, spacing=spacing, num_samples=num_samples, **options)

    def curve(self, x: Tensor) -> Tensor:
        """The sine."""
        return x.sin()


class NoisyRegressionDataModule(SyntheticDataModule):
    """scikit-learn's `make_regression`: normal features, random true coefficients, noise; no intercept.

    Training and validation are exactly what `make_regression(num_samples, num_features, noise=noise,
    random_state=data_seed)` gives; the test set has the same coefficients.
    """

    num_targets = 1
    target_kind: ClassVar[Literal["classes", "numbers", "tokens"]] = "numbers"

    def __init__(self, num_features: int = 1, noise: float = 10.0, num_samples: int = 100, **options: Any) -> None:
        """Set the size.

        Args:
            num_features: features, all of which matter.
            noise: standard deviation of the noise on y.
            num_samples: samples for training and validation together.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_features(num_features)
        check_noise(noise)
        self.input_shape = (num_features,)
        self.noise = noise

    def draw(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """Features (N, F) and targets (N, 1)."""
        from sklearn.datasets import make_regression  # 0.75 s to import

        features = self.input_shape[0]
        x, y, coefficients = make_regression(
            self.num_samples, features, n_informative=features, noise=self.noise, coef=True, random_state=self.data_seed
        )
        if part == "train":
            return torch.from_numpy(x).float(), torch.from_numpy(y).float().unsqueeze(1)
        inputs = torch.randn(count, features, generator=generator)
        exact = inputs @ torch.as_tensor(np.atleast_1d(coefficients)).float()
        return inputs, (exact + self.noise * torch.randn(count, generator=generator)).unsqueeze(1)


def points(part: Part, count: int, low: float, high: float, spacing: Spacing, generator: torch.Generator) -> Tensor:
    """Inputs (count, 1) between low and high; evenly spaced only in training, else the test set would repeat them."""
    if spacing == "even" and part == "train":
        return torch.linspace(low, high, count).unsqueeze(1)
    return low + (high - low) * torch.rand(count, 1, generator=generator)


def check_range(low: float, high: float, spacing: str) -> None:
    """Refuse an empty range and an unknown spacing."""
    if not low < high:
        raise MisconfigurationException(f"low: {low} is not below high: {high}. Give low a smaller value.")
    if spacing not in ("random", "even"):
        raise MisconfigurationException(f"spacing: {spacing!r} is not known. Give random or even.")


def check_noise(noise: float) -> None:
    """Refuse a negative standard deviation."""
    if noise < 0:
        raise MisconfigurationException(f"noise: {noise} is negative. Give a standard deviation, 0 for none.")


def check_features(num_features: int) -> None:
    """Refuse inputs without a feature."""
    if num_features < 1:
        raise MisconfigurationException(f"num_features: {num_features} is not possible. Give a whole number above 0.")
