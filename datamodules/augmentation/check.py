"""What is refused before training begins: a chain that does not fit the images, a network that does not fit a chain."""

from collections.abc import Sequence

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules.augmentation.per_sample import PerSample
from datamodules.augmentation.transform import Shape, Transform


def check_chain(transforms: Sequence[Transform], shape: Shape, whole: bool) -> Shape:
    """Refuse what does not fit images of this shape; `whole`: they are whole numbers up to 255.

    Returns the shape at the end of the chain, where it is smallest.
    """
    first = shape
    for transform in transforms:
        transform.check(shape)
        if isinstance(transform, PerSample):
            for each in dict.fromkeys((first, shape)):
                transform.try_out(each, whole)
        shape = transform.made_shape(shape)
    return shape


def check_network(module: LightningModule, shape: Shape, small: Shape) -> None:
    """Refuse a network that takes images of this shape and not of the small one."""
    if small != shape and not _takes(module, small) and _takes(module, shape):
        raise MisconfigurationException(
            f"augment: resize: {type(module).__name__} takes only images of {shape[1]}x{shape[2]}. Leave resize out, "
            "or take a network for any size such as LitSpeedNet or LitResNet."
        )


def _takes(module: LightningModule, shape: Shape) -> bool:
    """Whether it makes something of two images; neither its modes nor the random generators are changed."""
    if any(torch.nn.parameter.is_lazy(parameter) for parameter in module.parameters()):
        return True  # the images it sees first would fix its sizes
    modes = [(each, each.training) for each in module.modules()]
    devices = [module.device] if module.device.type == "cuda" else []
    images = torch.zeros(2, *shape, device=module.device, dtype=module.dtype)  # type: ignore[arg-type]
    try:
        # A compiled network would compile again, for sizes that change.
        with torch.random.fork_rng(devices), torch.no_grad(), torch.compiler.set_stance("force_eager"):
            module.eval()
            module(images)
    except Exception:  # whatever a network raises; who takes neither size is not judged
        return False
    finally:
        for each, training in modes:
            each.training = training
    return True
