"""Checks before training that the transforms accept the images, and the network the transformed images."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.augmentation.per_sample_transform import PerSampleTransform
from datamodules.augmentation.transform import Shape, Transform


def check_transforms(transforms: Sequence[Transform], shape: Shape, is_uint8: bool) -> Shape:
    """Raise an error if a transform does not accept images of this shape; return the smallest shape of the output."""
    original = shape
    for transform in transforms:
        transform.check(shape)
        if isinstance(transform, PerSampleTransform):
            for each in dict.fromkeys((original, shape)):
                transform.check_output(each, is_uint8)
        shape = transform.output_shape(shape)
    return shape


def check_network(module: LightningModule, shape: Shape, small: Shape) -> None:
    """Raise an error if the network accepts images of this shape but not of the shape `small`."""
    if small != shape and not _accepts(module, small) and _accepts(module, shape):
        raise MisconfigurationException(
            f"augment: resize: {type(module).__name__} accepts only images of {shape[1]}x{shape[2]}. Remove resize, "
            "or use a network for any size such as LitSpeedNet or LitResNet."
        )


def _accepts(module: LightningModule, shape: Shape) -> bool:
    """Return True if the network accepts two images; its training modes and random generators do not change."""
    if any(torch.nn.parameter.is_lazy(parameter) for parameter in module.parameters()):
        return True  # a forward call would fix the sizes of its lazy parameters
    modes = [(each, each.training) for each in module.modules()]
    devices = [module.device] if module.device.type == "cuda" else []
    images = torch.zeros(2, *shape, device=module.device, dtype=module.dtype)  # type: ignore[arg-type]
    try:
        # Run eagerly, because a compiled network would be compiled again for each size.
        with torch.random.fork_rng(devices), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            module.eval()
            module(images)
    except Exception:  # any type; `check_network` does not report a network that rejects both sizes
        return False
    finally:
        for each, training in modes:
            each.training = training
    return True
