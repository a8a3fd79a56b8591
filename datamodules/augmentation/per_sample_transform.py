"""Transforms of torchvision or of the user, applied to one image at a time."""

import importlib
import inspect
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.augmentation.transform import Parameters, Transform, TransformContext
from datamodules.checks import did_you_mean


class PerSampleTransform(Transform):
    """A transform that calls `transform(image)` once per image, with torch's generator seeded for each image.

    The results therefore depend neither on batch size and number of ranks nor on where a run resumes. The transform is
    slow, and each batch waits for the device. Images `(C, H, W)` are uint8, or floats in 0..1 if it rejects uint8.
    """

    num_uniforms = 2

    def __init__(self, transform: Callable[[Tensor], Any], name: str) -> None:
        self.transform = transform
        self.name = name

    def check_output(self, shape: tuple[int, ...], is_uint8: bool) -> None:
        """Call the transform on an image of this shape, uint8 first if `is_uint8`; raise an error if it fails.

        It must return a tensor of the same shape. Set `exact` if it accepts uint8.
        """
        dtypes = (torch.uint8, torch.float32)
        problem: Exception | None = None
        for exact in (True, False) if is_uint8 else (False,):
            image = torch.full(shape, 100, dtype=torch.uint8) if exact else torch.full(shape, 0.4)
            try:
                with torch.random.fork_rng(devices=[]):
                    output = self.transform(image)
            except Exception as error:  # a transform may raise anything
                problem = error
                continue
            if not isinstance(output, Tensor) or output.shape != image.shape or output.dtype not in dtypes:
                got = f"{output.dtype} {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
                raise MisconfigurationException(
                    f"augment: {self.name} must return a uint8 or float32 tensor of shape {tuple(shape)}, got {got}. "
                    "Use another transform."
                )
            self.exact = exact
            return
        raise MisconfigurationException(f"augment: {self.name} fails on an image: {problem}. Use another transform.")

    def parameters(self, context: TransformContext) -> Parameters:
        """Return a seed for each sample, int64 `(B,)`."""
        high, low = (context.uniforms * 2**24).long().unbind(1)
        return ((high << 24) | low,)

    def apply(self, images: Tensor, parameters: Parameters) -> Tensor:
        """Transform one image at a time, each with its seed."""
        devices = [images.device] if images.device.type == "cuda" else []
        results = []
        with torch.random.fork_rng(devices=devices):
            for image, seed in zip(images, parameters[0].tolist(), strict=True):
                torch.manual_seed(seed)
                results.append(self.transform(image))
        return torch.stack(results)


def import_transform(path: str, init_args: dict[str, Any]) -> Callable[[Tensor], Any]:
    """Import a class and return an instance of it; raise an error if it is not a transform."""
    module_name, _, attribute = path.rpartition(".")
    try:
        module = importlib.import_module(module_name)
    except (ImportError, ValueError) as error:
        raise MisconfigurationException(f"augment: cannot import {path!r} ({error}). Correct the path.") from error
    found = getattr(module, attribute, None)
    if not isinstance(found, type):
        known = [name for name, entry in vars(module).items() if inspect.isclass(entry) and not name.startswith("_")]
        raise MisconfigurationException(
            f"augment: {module_name} has no class {attribute!r}.{did_you_mean(attribute, known) or ' Change the path.'}"
        )
    if not any("__call__" in vars(parent) for parent in found.__mro__):  # checked before its code runs
        raise MisconfigurationException(f"augment: {path} is not a transform: it has no __call__. Use another.")
    try:
        transform: Callable[[Tensor], Any] = found(**init_args)
    except (TypeError, ValueError, RuntimeError) as error:
        given = ", ".join(f"{key}={value!r}" for key, value in init_args.items())
        raise MisconfigurationException(
            f"augment: {attribute}({given}) fails: {error}. Change its init_args."
        ) from error
    return transform
