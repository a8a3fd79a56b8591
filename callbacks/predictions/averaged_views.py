"""Accuracy of predictions averaged over several views of each image, reported beside the plain one."""

from typing import Any, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.nn import functional

from callbacks.step_hooks import NoStepHooks


class AveragedViews(NoStepHooks, Callback):
    """Test-time augmentation: mean logits over views of an image (Krizhevsky et al. 2012), as a figure of its own.

    | key            | what                                                               | when             |
    |----------------|--------------------------------------------------------------------|------------------|
    | val/acc_mirror | accuracy over the image and its mirror image                       | every validation |
    | val/acc_shift  | the same, and over both moved a pixel up-left and a pixel down-right | every validation |

    In a test the same under `test/`. The plain accuracy stays what it is. Costs two (`mirror`) or six (`shift`)
    further forward passes.
    """

    def __init__(self, views: Literal["mirror", "shift"] = "mirror") -> None:
        if views not in ("mirror", "shift"):
            raise MisconfigurationException(f"views: {views!r} is not known. Give mirror or shift.")
        self.views = views
        self._correct: Tensor | None = None
        self._count = 0

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._correct, self._count = None, 0

    on_test_epoch_start = on_validation_epoch_start

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        images, target = batch
        if images.dim() != 4:
            raise MisconfigurationException(
                f"AveragedViews: it needs images (B, C, H, W), the batch has the shape {tuple(images.shape)}. "
                "Leave the callback out."
            )
        with trainer.precision_plugin.forward_context(), torch.no_grad():
            logits = averaged_logits(pl_module, images, self.views)
        target = target if target.dim() == 1 else _classes(target, 0.5)
        correct = (_classes(logits, 0.0) == target).sum()
        self._correct = correct if self._correct is None else self._correct + correct
        self._count += len(target)

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "val")

    def on_test_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._log(trainer, pl_module, "test")

    def _log(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        correct = torch.tensor(0, device=pl_module.device) if self._correct is None else self._correct
        counts = torch.stack((correct, torch.tensor(self._count, device=pl_module.device))).double()
        if trainer.world_size > 1:
            counts = trainer.strategy.reduce(counts, reduce_op="sum")
        pl_module.log(
            f"{stage}/acc_{self.views}", (counts[0] / counts[1]).float(), prog_bar=stage != "test", sync_dist=True
        )


def _classes(scores: Tensor, middle: float) -> Tensor:
    """Classes (B,) of scores (B, classes), or of one score a sample (B, 1), which means class 1 above `middle`."""
    return (scores[:, 0] > middle).long() if scores.shape[1] == 1 else scores.argmax(dim=1)


def averaged_logits(module: LightningModule, images: Tensor, views: Literal["mirror", "shift"]) -> Tensor:
    """Mean logits (B, classes) of images (B, C, H, W) over their views; the unmoved ones weigh half of `shift`."""
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
