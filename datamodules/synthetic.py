"""Synthetic regression problems with a known solution: a line, a sine, a noisy plane."""

from abc import abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.base import LitDataModule, Part, TargetKind
from datamodules.checks import check_integer
from datamodules.serving.batches import Batch

Spacing = Literal["random", "even"]


class SyntheticDataModule(LitDataModule):
    """Base of the generated problems; inputs and targets are not rescaled.

    The samples depend on `data_seed` only, not on the run's seed or the split seed. The test split has its own
    generator, so its size does not change the training data.
    """

    def __init__(self, num_samples: int = 500, test_samples: int = 200, data_seed: int = 0, **options: Any) -> None:
        """Check the arguments.

        Args:
            num_samples: training and validation samples.
            test_samples: samples of the test split.
            data_seed: seed of the samples.
            **options: arguments of every datamodule, see `LitDataModule`.
        """
        super().__init__(**options)
        for name, count in (("num_samples", num_samples), ("test_samples", test_samples)):
            check_integer(name, count)
        if not 0 <= data_seed < 2**32:
            raise MisconfigurationException(
                f"data_seed must be an integer from 0 to 2^32 - 1, got {data_seed}. Set --data.data_seed 0."
            )
        self.num_samples = num_samples
        self.test_samples = test_samples
        self.data_seed = data_seed

    @abstractmethod
    def generate(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """Return `count` samples (inputs, targets) of one split."""

    def load_part(self, part: Part) -> Batch:
        """Generate one split, the same at every call."""
        count = self.num_samples if part == "train" else self.test_samples
        return self.generate(part, count, self.generator(part))

    def generator(self, purpose: Literal["train", "test", "plane"]) -> torch.Generator:
        """Return a generator for one purpose, unrelated to the others and to the run's generator."""
        number = ("train", "test", "plane").index(purpose)
        state = np.random.SeedSequence([self.data_seed, number, 0x5EED]).generate_state(1)
        return torch.Generator().manual_seed(int(state[0]))


class CurveDataModule(SyntheticDataModule):
    """Base of the problems y = f(x) + noise, for one feature x between `low` and `high`."""

    input_shape = (1,)
    num_targets = 1
    target_kind: ClassVar[TargetKind] = "numbers"

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
        """Return y without noise, in the shape of x."""

    def generate(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """Return points on the curve, with normal noise added to y."""
        x = points(part, count, self.low, self.high, self.spacing, generator)
        return x, self.curve(x) + self.noise * torch.randn(x.shape, generator=generator)


class LineDataModule(CurveDataModule):
    """y = slope * x + intercept + noise; a linear model should learn the slope and intercept."""

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
            slope: of the line.
            intercept: its value at x = 0.
            noise: standard deviation of the noise on y.
            low: smallest x.
            high: largest x.
            spacing: random x, or evenly spaced x including both ends (always random in the test split).
            num_samples: training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(low=low, high=high, noise=noise, spacing=spacing, num_samples=num_samples, **options)
        self.slope = slope
        self.intercept = intercept

    def curve(self, x: Tensor) -> Tensor:
        """Return the line."""
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
            spacing: random x, or evenly spaced x including both ends (always random in the test split).
            num_samples: training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(low=low, high=high, noise=noise, spacing=spacing, num_samples=num_samples, **options)

    def curve(self, x: Tensor) -> Tensor:
        """Return the sine."""
        return x.sin()


class NoisyRegressionDataModule(SyntheticDataModule):
    """scikit-learn's `make_regression`: normal features, random true coefficients, noise; no intercept.

    The training and validation samples are those of `make_regression(num_samples, num_features, noise=noise,
    random_state=data_seed)`. The test split has the same coefficients.
    """

    num_targets = 1
    target_kind: ClassVar[TargetKind] = "numbers"

    def __init__(self, num_features: int = 1, noise: float = 10.0, num_samples: int = 100, **options: Any) -> None:
        """Store the parameters.

        Args:
            num_features: features; all are informative.
            noise: standard deviation of the noise on y.
            num_samples: training and validation samples.
            **options: arguments of every synthetic problem, see `SyntheticDataModule`.
        """
        super().__init__(num_samples=num_samples, **options)
        check_integer("num_features", num_features)
        check_noise(noise)
        self.input_shape = (num_features,)
        self.noise = noise

    def generate(self, part: Part, count: int, generator: torch.Generator) -> Batch:
        """Return features `(N, F)` and targets `(N, 1)`."""
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
    """Return inputs (count, 1) between low and high; only training inputs are evenly spaced, so that tests differ."""
    if spacing == "even" and part == "train":
        return torch.linspace(low, high, count).unsqueeze(1)
    return low + (high - low) * torch.rand(count, 1, generator=generator)


def check_range(low: float, high: float, spacing: str) -> None:
    """Raise an error for an empty range or an unknown spacing."""
    if not low < high:
        raise MisconfigurationException(f"low must be below high, got {low} and {high}. Set a smaller --data.low.")
    if spacing not in ("random", "even"):
        raise MisconfigurationException(f"spacing must be random or even, got {spacing!r}. Set --data.spacing even.")


def check_noise(noise: float) -> None:
    """Raise an error for a negative standard deviation."""
    if noise < 0:
        raise MisconfigurationException(f"noise must be at least 0, got {noise}. Set --data.noise 0 for none.")
