"""Synthetic regression problems with a known solution: a line, a sine and a noisy plane."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.base import LitDataModule, Split, TargetKind
from datamodules.checks import check_choice, check_integer, check_number
from datamodules.serving.batches import Batch

Spacing = Literal["random", "even"]


class SyntheticDataModule(LitDataModule):
    """Base of the generated problems, whose inputs and targets are not normalized.

    The samples depend on `data_seed` only, not on the run's seed or the split seed. The test split has its own
    generator, so the training data does not depend on its size.
    """

    def __init__(self, num_samples: int = 500, test_samples: int = 200, data_seed: int = 0, **options: Any) -> None:
        """Check the arguments.

        Args:
            num_samples: number of training and validation samples.
            test_samples: number of test samples.
            data_seed: seed of the generated samples.
            **options: arguments of every datamodule, see `LitDataModule`.
        """
        super().__init__(**options)
        self.num_samples = check_integer("num_samples", num_samples)
        self.test_samples = check_integer("test_samples", test_samples)
        self.data_seed = check_integer("data_seed", data_seed, 0, 2**32 - 1)

    @abstractmethod
    def generate(self, split: Split, count: int, generator: torch.Generator) -> Batch:
        """Return `count` samples (inputs, targets) of one split."""

    def load_part(self, split: Split) -> Batch:
        """Generate one split, the same at every call."""
        count = self.num_samples if split == "train" else self.test_samples
        return self.generate(split, count, self.generator(split))

    def generator(self, purpose: Literal["train", "test", "plane"]) -> torch.Generator:
        """Return the generator for one purpose, independent of the others and of the run's generator."""
        number = ("train", "test", "plane").index(purpose)
        state = np.random.SeedSequence([self.data_seed, number, 0x5EED]).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))


class IntervalDataModule(SyntheticDataModule):
    """Base of the problems with one feature x between `low` and `high`."""

    input_shape = (1,)

    def __init__(self, low: float, high: float, spacing: Spacing, **options: Any) -> None:
        super().__init__(**options)
        if not low < high:
            raise MisconfigurationException(f"low must be below high, got {low} and {high}. Set a smaller --data.low.")
        self.low = low
        self.high = high
        self.spacing = check_choice("spacing", spacing, ("random", "even"))

    def points(self, split: Split, count: int, generator: torch.Generator) -> Tensor:
        """Return inputs `(count, 1)`; only training inputs are evenly spaced, so that test inputs differ from them."""
        if self.spacing == "even" and split == "train":
            return torch.linspace(self.low, self.high, count).unsqueeze(1)
        return self.low + (self.high - self.low) * torch.rand(count, 1, generator=generator)


class CurveDataModule(IntervalDataModule):
    """Base of the problems y = f(x) + noise."""

    num_targets = 1
    target_kind: ClassVar[TargetKind] = "numbers"

    def __init__(self, noise: float, **options: Any) -> None:
        super().__init__(**options)
        check_number("noise", noise)
        self.noise = noise

    @abstractmethod
    def curve(self, x: Tensor) -> Tensor:
        """Return y without noise, in the shape of x."""

    def generate(self, split: Split, count: int, generator: torch.Generator) -> Batch:
        """Return points on the curve, with normal noise added to y."""
        x = self.points(split, count, generator)
        return x, self.curve(x) + self.noise * torch.randn(x.shape, generator=generator)


class LineDataModule(CurveDataModule):
    """Points with y = slope * x + intercept + noise, for a linear model that should learn slope and intercept."""

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
        """Store the parameters.

        Args:
            slope: slope of the line.
            intercept: y at x = 0.
            noise: standard deviation of the noise on y.
            low: smallest x.
            high: largest x.
            spacing: random, or even (evenly spaced x including low and high; the test split is always random).
            num_samples: number of training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(low=low, high=high, noise=noise, spacing=spacing, num_samples=num_samples, **options)
        self.slope = slope
        self.intercept = intercept

    def curve(self, x: Tensor) -> Tensor:
        return self.slope * x + self.intercept


class SineDataModule(CurveDataModule):
    """y = sin(x) + noise, by default one period without noise.

    >>> data = SineDataModule(num_samples=100, val_split=20)
    >>> data.setup("fit")
    >>> data.split_sizes()["val"]
    20
    """

    def __init__(
        self,
        noise: float = 0.0,
        low: float = -float(np.pi),
        high: float = float(np.pi),
        spacing: Spacing = "random",
        num_samples: int = 1000,
        **options: Any,
    ) -> None:
        """Store the parameters.

        Args:
            noise: standard deviation of the noise on y.
            low: smallest x.
            high: largest x.
            spacing: random, or even (evenly spaced x including low and high; the test split is always random).
            num_samples: number of training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(low=low, high=high, noise=noise, spacing=spacing, num_samples=num_samples, **options)

    def curve(self, x: Tensor) -> Tensor:
        return x.sin()


class NoisyRegressionDataModule(SyntheticDataModule):
    """scikit-learn's `make_regression`: normal features, random coefficients and noise, without an intercept.

    The training and validation samples are the output of `make_regression(num_samples, num_features, noise=noise,
    random_state=data_seed)`. The test split has the same coefficients.
    """

    num_targets = 1
    target_kind: ClassVar[TargetKind] = "numbers"

    def __init__(self, num_features: int = 1, noise: float = 10.0, num_samples: int = 100, **options: Any) -> None:
        """Store the parameters.

        Args:
            num_features: number of features, which are all informative.
            noise: standard deviation of the noise on y.
            num_samples: number of training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_integer("num_features", num_features)
        check_number("noise", noise)
        self.input_shape = (num_features,)
        self.noise = noise

    def generate(self, split: Split, count: int, generator: torch.Generator) -> Batch:
        """Return features `(N, F)` and targets `(N, 1)`."""
        from sklearn.datasets import make_regression  # 0.75 s to import

        features = self.input_shape[0]
        x, y, coefficients = make_regression(
            self.num_samples, features, n_informative=features, noise=self.noise, coef=True, random_state=self.data_seed
        )
        if split == "train":
            return torch.from_numpy(x).float(), torch.from_numpy(y).float().unsqueeze(1)
        inputs = torch.randn(count, features, generator=generator)
        exact = inputs @ torch.as_tensor(np.atleast_1d(coefficients)).float()
        return inputs, (exact + self.noise * torch.randn(count, generator=generator)).unsqueeze(1)
