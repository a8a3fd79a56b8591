"""What the `augment` argument says: names and settings as plain data, and the transformations they stand for."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.augmentation.colour import Blur, ColorJitter, Greyscale, Noise
from datamodules.augmentation.erase import Cutout, Erasing
from datamodules.augmentation.geometry import Crop, Flip, Perspective, Resize, Rotation, Shift
from datamodules.augmentation.mix import CutMix, Mix, MixUp
from datamodules.augmentation.per_sample import PerSample, import_transform
from datamodules.augmentation.transform import Transform, did_you_mean

Spec = str | dict[str, Any]

NAMES: dict[str, type[Transform] | type[Mix]] = {
    "crop": Crop,
    "flip": Flip,
    "cutout": Cutout,
    "erasing": Erasing,
    "shift": Shift,
    "rotation": Rotation,
    "color_jitter": ColorJitter,
    "perspective": Perspective,
    "resize": Resize,
    "greyscale": Greyscale,
    "blur": Blur,
    "noise": Noise,
    "mixup": MixUp,
    "cutmix": CutMix,
}


def plain_specs(augment: Any) -> list[Spec]:
    """The specs in the form that is saved: a name alone, {name, settings...}, or {class_path, init_args}."""
    if isinstance(augment, (str, Mapping)):
        augment = [augment]
    if augment is None:
        return []
    if not isinstance(augment, Sequence):
        raise MisconfigurationException(f"augment: {augment!r} is no list. Write [crop, flip] or [{{name: crop}}].")
    return [_plain(entry) for entry in augment]


def _plain(entry: Any) -> Spec:
    if isinstance(entry, str):
        return {"class_path": entry, "init_args": {}} if "." in entry else entry
    if not isinstance(entry, Mapping):
        raise MisconfigurationException(
            f"augment: {entry!r} is neither a name nor a dictionary such as {{name: crop, padding: 4}}."
        )
    settings = dict(entry)
    if "class_path" in settings and "name" not in settings:
        path, init_args = settings.pop("class_path"), settings.pop("init_args", None) or {}
        settings = {**init_args, **settings}
        return {"class_path": path, "init_args": settings} if "." in str(path) else {"name": path, **settings}
    if set(settings) == {"name"}:
        return _plain(settings["name"])
    return settings


def build(specs: Sequence[Spec]) -> tuple[list[Transform], list[Mix]]:
    """The transformations of images, and those that mix finished batches, which come last."""
    transforms: list[Transform] = []
    mixes: list[Mix] = []
    for spec in specs:
        made = _build(spec)
        if isinstance(made, Mix):
            mixes.append(made)
            continue
        if mixes:
            raise MisconfigurationException(
                f"augment: {spec!r} stands after {mixes[-1].name}, which mixes finished batches. Put it before."
            )
        transforms.append(made)
    return transforms, mixes


def _build(spec: Spec) -> Transform | Mix:
    settings: dict[str, Any] = {"name": spec} if isinstance(spec, str) else dict(spec)
    if "class_path" in settings and "name" not in settings:
        path = str(settings["class_path"])
        transform = import_transform(path, settings["init_args"])
        rank_zero_info(f"augment: {path} is applied image by image, which is slower than {', '.join(NAMES)}.")
        return PerSample(transform, path)
    name = settings.pop("name", None)
    if name is None:
        raise MisconfigurationException(f"augment: {spec!r} has no name. Write {{name: crop, padding: 4}}.")
    if name not in NAMES:
        near = did_you_mean(str(name), NAMES) or f" Known are {', '.join(NAMES)}."
        raise MisconfigurationException(f"augment: {name!r} is not known.{near}")
    kind = NAMES[name]
    known = list(inspect.signature(kind).parameters)
    for key in settings:
        if key not in known:
            near = did_you_mean(str(key), known) or f" It has {', '.join(known)}."
            raise MisconfigurationException(f"augment: {name} has no setting {key!r}.{near}")
    return kind(**settings)
