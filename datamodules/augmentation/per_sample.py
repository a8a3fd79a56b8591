"""Any transform class of torchvision (or of the user), applied image by image."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augmentation.transform import Draw, Parameters, Transform, did_you_mean


class PerSample(Transform):
    """Calls `transform(image)` once per image, with torch's generator seeded for that image alone.

    What torch draws is so the same for every batch size, number of ranks and resume point. Slow, and each batch waits
    for the device. Images are whole numbers (C, H, W) unless the transform refuses them: then floats in 0..1.
    """

    columns = 2

    def __init__(self, transform: Callable[[Tensor], Any], name: str) -> None:
        self.transform = transform
        self.name = name

    def try_out(self, shape: tuple[int, ...], whole: bool) -> None:
        """Find out on an image of this shape what it accepts; `whole`: images are whole numbers up to 255."""
        kinds = (torch.uint8, torch.float32)
        problems = []
        for exact in (True, False) if whole else (False,):
            image = torch.full(shape, 100, dtype=torch.uint8) if exact else torch.full(shape, 0.4)
            try:
                with torch.random.fork_rng(devices=[]):
                    made = self.transform(image)
            except Exception as error:
                problems.append(error)
                continue
            if not isinstance(made, Tensor) or made.shape != image.shape or made.dtype not in kinds:
                raise MisconfigurationException(
                    f"augment: {self.name} makes {_described(made)} of an image {tuple(shape)}. "
                    "It must keep the shape and return uint8 or float32."
                )
            self.exact = exact
            return
        raise MisconfigurationException(f"augment: {self.name} cannot be applied to an image: {problems[-1]}.")

    def parameters(self, draw: Draw) -> Parameters:
        """A seed for each sample, int64 (B,)."""
        high, low = (draw.uniforms * 2**24).long().unbind(1)
        return ((high << 24) | low,)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Transform them one by one."""
        devices = [images.device] if images.device.type == "cuda" else []
        made = []
        with torch.random.fork_rng(devices=devices):
            for image, seed in zip(images, parameters[0].tolist(), strict=True):
                torch.manual_seed(seed)
                made.append(self.transform(image))
        return torch.stack(made)


def import_transform(path: str, init_args: dict[str, Any]) -> Callable[[Tensor], Any]:
    """An object of the class at an import path."""
    module_name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise MisconfigurationException(f"augment: {path!r} cannot be imported ({error}).") from error
    found = getattr(module, attribute, None)
    if not inspect.isclass(found):
        known = [name for name, entry in vars(module).items() if inspect.isclass(entry) and not name.startswith("_")]
        raise MisconfigurationException(
            f"augment: {module_name} has no class {attribute!r}.{did_you_mean(attribute, known)}"
        )
    if not any("__call__" in vars(parent) for parent in found.__mro__):  # told before anything of it runs
        raise MisconfigurationException(f"augment: {path} is no transform: its objects cannot be called.")
    try:
        made: Any = found(**init_args)
    except (TypeError, ValueError, RuntimeError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in init_args.items())
        raise MisconfigurationException(f"augment: {attribute}({given}) is refused: {error}") from error
    transform: Callable[[Tensor], Any] = made
    return transform


def _described(made: Any) -> str:
    return f"{made.dtype} {tuple(made.shape)}" if isinstance(made, Tensor) else f"a {type(made).__name__}"
