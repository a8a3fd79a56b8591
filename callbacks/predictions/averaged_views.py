"""Callback for test-time augmentation."""

from typing import Any, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional
from torchmetrics import MeanMetric

from callbacks.arguments import require
from callbacks.step_hooks import NoStepHooks


class AveragedViews(NoStepHooks, Callback):
    """Accuracy of the mean logits over several views of each image (Krizhevsky et al. 2012).

    | key            | what                                                               | when             |
    |----------------|--------------------------------------------------------------------|------------------|
    | val/acc_mirror | views: the image and its mirror image                              | every validation |
    | val/acc_shift  | also both shifted by one pixel up-left and by one pixel down-right | every validation |

    In a test, the keys start with `test/`. The plain accuracy does not change. The callback needs two (`mirror`) or six
    (`shift`) additional forward passes.
    """

    changes_training = True  # best.ckpt and early stopping may use its metric

    def __init__(self, views: Literal["mirror", "shift"] = "mirror") -> None:
        require(views in ("mirror", "shift"), "AveragedViews.views", "mirror or shift", views)
        self.views = views

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._accuracy = MeanMetric().to(pl_module.device)

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *_: Any, **__: Any
    ) -> None:
        images, target = batch
        if images.dim() != 4:
            raise MisconfigurationException(
                f"AveragedViews: inputs must be images (B, C, H, W), got the shape {tuple(images.shape)}. "
                "Remove the callback."
            )
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            logits = averaged_logits(pl_module, images, self.views)
        to_logits: Any = getattr(pl_module, "output_logits", None)
        if to_logits is not None:  # the network may end in sigmoid
            logits = to_logits(logits)
        target = target if target.dim() == 1 else _classes(target, 0.5)
        self._accuracy.update((_classes(logits, 0.0) == target).float())

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        stage = "test" if trainer.testing else "val"
        pl_module.log(f"{stage}/acc_{self.views}", self._accuracy.compute(), prog_bar=stage != "test", sync_dist=True)

    on_test_epoch_end = on_validation_epoch_end


def _classes(scores: Tensor, threshold: float) -> Tensor:
    """Return classes `(B,)` of scores `(B, K)`; for `(B, 1)`, class 1 if the score is above `threshold`."""
    return (scores[:, 0] > threshold).long() if scores.shape[1] == 1 else scores.argmax(dim=1)


def averaged_logits(module: LightningModule, images: Tensor, views: Literal["mirror", "shift"]) -> Tensor:
    """Return mean logits `(B, K)` of images `(B, C, H, W)`; with `shift`, the unshifted views have half the weight."""
    logits = _with_mirror(module, images)
    if views == "mirror":
        return logits
    height, width = images.shape[-2:]
    padded = functional.pad(images, (1, 1, 1, 1), mode="reflect")
    up_left = _with_mirror(module, padded[:, :, 2 : height + 2, 2 : width + 2])
    down_right = _with_mirror(module, padded[:, :, :height, :width])
    return 0.5 * logits + 0.25 * (up_left + down_right)


def _with_mirror(module: LightningModule, images: Tensor) -> Tensor:
    logits: Tensor = 0.5 * (module(images).float() + module(images.flip(-1)).float())
    return logits
