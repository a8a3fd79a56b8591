"""The `augment` argument: transforms built from names and options."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_info, rank_zero_warn
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.augmentation.color import Blur, ColorJitter, Grayscale, Noise
from datamodules.augmentation.erase import Cutout, Erasing
from datamodules.augmentation.geometry import Crop, Flip, Perspective, Resize, Rotation, Shift
from datamodules.augmentation.mix import CutMix, Mix, MixUp
from datamodules.augmentation.per_sample_transform import PerSampleTransform, import_transform
from datamodules.augmentation.transform import Transform
from datamodules.checks import did_you_mean

Spec = str | dict[str, Any]

TRANSFORMS: dict[str, type[Transform] | type[Mix]] = {
    "crop": Crop,
    "flip": Flip,
    "cutout": Cutout,
    "erasing": Erasing,
    "shift": Shift,
    "rotation": Rotation,
    "color_jitter": ColorJitter,
    "perspective": Perspective,
    "resize": Resize,
    "grayscale": Grayscale,
    "blur": Blur,
    "noise": Noise,
    "mixup": MixUp,
    "cutmix": CutMix,
}
DEPRECATED_NAMES = {"greyscale": "grayscale"}


def normalize_specs(augment: Any) -> list[Spec]:
    """Return the specs in the form that config.yaml stores: a name, {name, options...} or {class_path, init_args}."""
    if isinstance(augment, (str, Mapping)):
        augment = [augment]
    if augment is None:
        return []
    if not isinstance(augment, Sequence):
        raise MisconfigurationException(
            f"augment must be a list, got {augment!r}. Write [crop, flip] or [{{name: crop}}]."
        )
    return [_normalize(entry) for entry in augment]


def _normalize(entry: Any) -> Spec:
    if isinstance(entry, str):
        return {"class_path": entry, "init_args": {}} if "." in entry else entry
    if not isinstance(entry, Mapping):
        raise MisconfigurationException(
            f"augment: each entry must be a name or a mapping, got {entry!r}. Write {{name: crop, padding: 4}}."
        )
    options = dict(entry)
    if "class_path" in options and "name" not in options:
        path, init_args = options.pop("class_path"), options.pop("init_args", None) or {}
        options = {**init_args, **options}
        return {"class_path": path, "init_args": options} if "." in str(path) else {"name": path, **options}
    return _normalize(options["name"]) if set(options) == {"name"} else options


def build_transforms(specs: Sequence[Spec]) -> tuple[list[Transform], list[Mix]]:
    """Return the transforms of images and the transforms that mix normalized batches, which must come last."""
    transforms: list[Transform] = []
    mixes: list[Mix] = []
    for spec in specs:
        made = _build(spec)
        if isinstance(made, Mix):
            mixes.append(made)
            continue
        if mixes:
            raise MisconfigurationException(
                f"augment: {spec!r} comes after {mixes[-1].name}, which mixes normalized batches. Move it before."
            )
        transforms.append(made)
    return transforms, mixes


def _build(spec: Spec) -> Transform | Mix:
    options: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "class_path" in options and "name" not in options:
        path = str(options["class_path"])
        transform = import_transform(path, options["init_args"])
        rank_zero_info(f"augment: {path} runs on one image at a time, which is slower than {', '.join(TRANSFORMS)}.")
        return PerSampleTransform(transform, path)
    name = options.pop("name", None)
    if name is None:
        raise MisconfigurationException(f"augment: {spec!r} has no name. Write {{name: crop, padding: 4}}.")
    if name in DEPRECATED_NAMES:
        rank_zero_warn(f"augment: {name} is deprecated. Use {DEPRECATED_NAMES[name]}.")
        name = DEPRECATED_NAMES[name]
    if name not in TRANSFORMS:
        near = did_you_mean(str(name), TRANSFORMS) or f" Known transforms: {', '.join(TRANSFORMS)}."
        raise MisconfigurationException(f"augment: unknown transform {name!r}.{near}")
    kind = TRANSFORMS[name]
    known = list(inspect.signature(kind).parameters)
    for key in options:
        if key not in known:
            near = did_you_mean(str(key), known) or f" Its options: {', '.join(known)}."
            raise MisconfigurationException(f"augment: {name} has no option {key!r}.{near}")
    return kind(**options)
