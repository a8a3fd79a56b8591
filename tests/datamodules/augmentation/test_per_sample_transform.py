"""Comparison of every transform with torchvision's, for the same parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torchvision.transforms.functional as tv
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomErasing, RandomPerspective, v2

from datamodules.augmentation.color import Blur, ColorJitter, Grayscale, Noise
from datamodules.augmentation.erase import Cutout, Erasing
from datamodules.augmentation.geometry import Crop, Flip, Perspective, Resize, Rotation, Shift
from datamodules.augmentation.mix import CutMix, MixUp
from datamodules.augmentation.transform import Transform, TransformContext

COUNT = 24
SHAPES = [(1, 28, 28), (3, 32, 32), (3, 12, 20)]
BILINEAR = InterpolationMode.BILINEAR
shapes = pytest.mark.parametrize("shape", SHAPES, ids=str)


def pixels(shape: tuple[int, ...], count: int = COUNT) -> Tensor:
    """Return random uint8 images."""
    return torch.randint(0, 256, (count, *shape), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def context(num_uniforms: int, shape: tuple[int, ...], count: int = COUNT, seed: int = 2) -> TransformContext:
    """Return a context with random numbers for a batch."""
    numbers = torch.rand(count, num_uniforms, generator=torch.Generator().manual_seed(seed))
    return TransformContext(numbers, torch.arange(count), *shape[1:])


def one_by_one(images: Tensor, parameters: tuple[Tensor, ...], reference: Callable[..., Tensor]) -> Tensor:
    """Apply the reference to each sample with its own parameters."""
    lists = [parameter.tolist() for parameter in parameters]
    return torch.stack([reference(image, *values) for image, *values in zip(images, *lists, strict=True)])


def crop(image: Tensor, top: int, left: int, mode: str) -> Tensor:
    """Pad by 4 and crop with torchvision."""
    return tv.crop(tv.pad(image, [4], padding_mode=mode), top, left, *image.shape[1:])


def erased(image: Tensor, top: int, left: int, height: int, width: int) -> Tensor:
    """Erase the part inside the image with torchvision."""
    y, x = max(top, 0), max(left, 0)
    return tv.erase(image, y, x, max(top + height - y, 0), max(left + width - x, 0), torch.zeros((), dtype=image.dtype))


EXACT: list[tuple[Transform, Callable[..., Tensor]]] = [
    (Crop(4), lambda image, top, left: crop(image, top, left, "constant")),
    (Crop(4, mode="reflect"), lambda image, top, left: crop(image, top, left, "reflect")),
    (Flip(), lambda image, flipped: tv.hflip(image) if flipped else image),
    (Shift(3), lambda image, down, right: tv.affine(image, 0, [right, down], 1, [0])),
    (Shift(0.25), lambda image, down, right: tv.affine(image, 0, [right, down], 1, [0])),
    (Cutout(7), erased),
    (Cutout(8), erased),
    (Erasing(p=0.8), erased),
]


@shapes
@pytest.mark.parametrize(("transform", "reference"), EXACT, ids=lambda value: type(value).__name__)
def test_moved_and_erased_pixels_equal_torchvisions(
    transform: Transform, reference: Callable[..., Tensor], shape: tuple[int, ...]
) -> None:
    images = pixels(shape)
    parameters = transform.parameters(context(transform.num_uniforms, shape))
    made = transform.apply(images, parameters)
    assert made.dtype == torch.uint8
    assert torch.equal(made, one_by_one(images, parameters, reference))
    as_floats = transform.apply(images.float(), parameters)
    assert torch.equal(as_floats, made.float())


def jitter(image: Tensor, brightness: float, contrast: float, saturation: float, hue: float) -> Tensor:
    """Apply torchvision's four adjustments in litlab's order."""
    image = tv.adjust_contrast(tv.adjust_brightness(image, brightness), contrast)
    return tv.adjust_hue(tv.adjust_saturation(image, saturation), hue)


def perspective(image: Tensor, distorted: bool, corners: list[list[float]]) -> Tensor:
    """Distort with torchvision, from the image's corners to the given ones."""
    right, bottom = image.shape[2] - 1, image.shape[1] - 1
    start = [[0, 0], [right, 0], [right, bottom], [0, bottom]]
    end = [[int(x), int(y)] for x, y in corners]
    return tv.perspective(image, start, end, BILINEAR) if distorted else image


def grayed(image: Tensor, converted: bool) -> Tensor:
    """Convert to gray with torchvision."""
    return tv.rgb_to_grayscale(image, len(image)) if converted else image


CLOSE: list[tuple[Transform, Callable[..., Tensor], float]] = [
    (Rotation(15), lambda image, angle: tv.rotate(image, angle, BILINEAR), 1e-4),
    (Rotation(180), lambda image, angle: tv.rotate(image, angle, BILINEAR), 1e-4),
    (Perspective(p=0.7), perspective, 1e-3),
    (ColorJitter(), jitter, 1e-5),
    (ColorJitter(0.9, 1.5, 2.0, 0.5), jitter, 1e-4),
    (Grayscale(p=0.5), grayed, 1e-6),
    (Blur(3), lambda image, sigma: tv.gaussian_blur(image, [3, 3], [sigma]), 1e-6),
    (Blur(7, sigma=(0.5, 3.0)), lambda image, sigma: tv.gaussian_blur(image, [7, 7], [sigma]), 1e-6),
]


@shapes
@pytest.mark.parametrize(("transform", "reference", "tolerance"), CLOSE, ids=lambda value: type(value).__name__)
def test_computed_pixels_equal_torchvisions_up_to_rounding(
    transform: Transform, reference: Callable[..., Tensor], tolerance: float, shape: tuple[int, ...]
) -> None:
    images = pixels(shape).float() / 255
    parameters = transform.parameters(context(transform.num_uniforms, shape))
    expected = one_by_one(images, parameters, reference)
    assert torch.allclose(transform.apply(images, parameters), expected, atol=tolerance)
    assert not torch.equal(images, expected) or (shape[0] == 1 and isinstance(transform, Grayscale))


@shapes
def test_images_are_small_in_the_first_epochs_only(shape: tuple[int, ...]) -> None:
    images = pixels(shape).float() / 255
    resize = Resize(size=12, epochs=2)
    for epoch in range(4):
        count = len(images)
        made = resize(images, TransformContext(torch.empty(count, 0), torch.arange(count), *shape[1:], epoch=epoch))
        expected = tv.resize(images, [12], BILINEAR, antialias=True) if epoch < 2 else images
        assert torch.allclose(made, expected, atol=1e-6)


@shapes
def test_noise_is_clipped_and_has_its_standard_deviation(shape: tuple[int, ...]) -> None:
    images = torch.full((200, *shape), 0.5)
    made = Noise(0.05)(images, TransformContext(torch.empty(200, 0), torch.arange(200), *shape[1:], seed=3))
    assert abs(float((made - images).std()) - 0.05) < 1e-3
    assert abs(float((made - images).mean())) < 1e-3
    extreme = Noise(5.0)(images, TransformContext(torch.empty(200, 0), torch.arange(200), *shape[1:], seed=3))
    assert (float(extreme.min()), float(extreme.max())) == (0.0, 1.0)


@pytest.mark.parametrize("kind", [MixUp, CutMix])
@shapes
def test_a_batch_mixed_with_one_weight_equals_torchvisions(kind: Any, shape: tuple[int, ...]) -> None:
    images, labels = torch.rand(COUNT, *shape), torch.arange(COUNT) % 10
    theirs = getattr(v2, kind.__name__)(num_classes=10)
    torch.manual_seed(5)
    expected, soft = theirs(images, labels)
    torch.manual_seed(5)
    given = theirs.make_params([images])
    if kind is MixUp:
        parameters: tuple[Tensor, ...] = (torch.full((COUNT,), given["lam"]),)
    else:
        left, top, right, bottom = given["box"]
        box = (top, left, bottom - top, right - left)
        parameters = (torch.full((COUNT,), given["lam_adjusted"]), *(torch.full((COUNT,), value) for value in box))
    mixed, targets = kind().apply((images, labels), parameters, 10)
    assert torch.allclose(mixed, expected, atol=1e-6)
    assert torch.allclose(targets, soft, atol=1e-6)
    assert targets.dtype == torch.float32


def histogram_gap(ours: Tensor, theirs: Tensor) -> float:
    """Return the maximum distance between the two distribution functions (Kolmogorov-Smirnov)."""
    points = torch.cat([ours, theirs]).unique()
    below = [(values.sort().values, len(values)) for values in (ours, theirs)]
    first, second = (torch.searchsorted(values, points, right=True) / count for values, count in below)
    return float((first - second).abs().max())


MANY = 4000
CRITICAL = 1.95 * (2 / MANY) ** 0.5  # of the distance, at level 0.001; the seeds are fixed


def test_erased_rectangles_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    image = torch.zeros(3, 32, 32)
    theirs = torch.tensor(
        [RandomErasing.get_params(image, (0.02, 0.33), (0.3, 3.3), [0.0])[:4] for _ in range(MANY)], dtype=torch.float64
    )
    erasing = Erasing(p=1.0)
    ours = torch.stack(erasing.parameters(context(erasing.num_uniforms, (3, 32, 32), MANY)), dim=1).double()
    for column in range(4):
        assert histogram_gap(ours[:, column], theirs[:, column]) < CRITICAL, column
    assert histogram_gap(ours[:, 2] * ours[:, 3], theirs[:, 2] * theirs[:, 3]) < CRITICAL


def test_corners_are_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    theirs = torch.tensor([RandomPerspective.get_params(20, 12, 0.5)[1] for _ in range(MANY)], dtype=torch.float64)
    transform = Perspective(0.5, p=1.0)
    _, ours = transform.parameters(context(transform.num_uniforms, (3, 12, 20), MANY))
    for corner in range(4):
        for axis in range(2):
            assert histogram_gap(ours[:, corner, axis].double(), theirs[:, corner, axis]) < CRITICAL


@pytest.mark.parametrize(
    ("transform", "theirs", "key"),
    [
        (Rotation(15), v2.RandomRotation(15), "angle"),
        (Shift(0.2), v2.RandomAffine(0, translate=(0.2, 0.2)), "translate"),
        (Blur(3), v2.GaussianBlur(3), "sigma"),
        (CutMix(), v2.CutMix(num_classes=10), "lam_adjusted"),
        (MixUp(alpha=0.2), v2.MixUp(alpha=0.2, num_classes=10), "lam"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_parameters_are_distributed_as_torchvisions(transform: Any, theirs: Any, key: str) -> None:
    torch.manual_seed(0)
    image = torch.zeros(1, 3, 32, 32)
    values = [theirs.make_params([image])[key] for _ in range(MANY)]
    expected = torch.tensor([value[0] if isinstance(value, (list, tuple)) else value for value in values])
    ours = transform.parameters(context(transform.num_uniforms, (3, 32, 32), MANY))
    assert histogram_gap(ours[-1 if key == "translate" else 0].double(), expected.double()) < CRITICAL


def test_jitter_is_distributed_as_torchvisions() -> None:
    torch.manual_seed(0)
    arguments = ([0.8, 1.2], [0.5, 1.5], [0.0, 2.5], [-0.2, 0.2])
    theirs = torch.tensor([v2_values(*arguments) for _ in range(MANY)]).double()
    transform = ColorJitter(0.2, 0.5, 1.5, 0.2)
    for column, ours in enumerate(transform.parameters(context(4, (3, 32, 32), MANY))):
        assert histogram_gap(ours.double(), theirs[:, column]) < CRITICAL


def v2_values(*ranges: list[float]) -> list[float]:
    """Return random parameters of torchvision's ColorJitter, without its order."""
    from torchvision.transforms import ColorJitter as Theirs

    return [float(value or 0) for value in Theirs.get_params(*ranges)[1:]]
