"""A training that can no longer succeed stops, in words."""

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.step_hooks import NoStepHooks
from callbacks.support import is_fitting


class TrainingFailed(RuntimeError):  # noqa: N818 - says what happened
    """Training cannot go on for a reason that lies in its numbers; the message says what to try."""


class FiniteLoss(NoStepHooks, Callback):
    """Stops a run whose loss or weights are NaN or infinite, before its checkpoints are overwritten.

    | raises         | what is looked at          | when                                                       |
    |----------------|----------------------------|------------------------------------------------------------|
    | TrainingFailed | loss of the training batch | first step, every `log_every_n_steps`, last of each epoch  |
    | TrainingFailed | validation loss            | every validation, the sanity check included                |
    | TrainingFailed | all trainable weights      | end of each epoch                                          |

    Other steps are not looked at: reading a number waits for the device.
    """

    def __init__(self) -> None:
        self._next = 0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._next = 0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        if step < self._next and not trainer.is_last_batch:
            return
        interval = max(1, int(trainer.log_every_n_steps))  # type: ignore[attr-defined]
        self._next = step - step % interval + interval  # where a call takes several steps, the first call beyond it
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, torch.Tensor) and _any_process(trainer, not bool(torch.isfinite(loss).all())):
            raise TrainingFailed(f"The training loss was {_word(loss)} {_place(trainer)}. {_advice(trainer)}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finite = [torch.isfinite(weight.detach()).all() for weight in pl_module.parameters() if weight.requires_grad]
        bad = bool(finite) and not all(torch.stack([flag.cpu() for flag in finite]).tolist())
        if _any_process(trainer, bad):
            raise TrainingFailed(f"The weights were NaN or infinite {_place(trainer)}. {_advice(trainer)}")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer):
            return
        losses = {name: value for name, value in trainer.callback_metrics.items() if _is_validation_loss(name)}
        bad = {name: value for name, value in losses.items() if not bool(torch.isfinite(value).all())}
        if not _any_process(trainer, bool(bad)):
            return
        name = next(iter(bad), next(iter(losses), "val/loss"))
        value = _word(bad[name]) if name in bad else "NaN or infinite"
        if trainer.sanity_checking:
            raise TrainingFailed(
                f"{name} was {value} before the first step. Look for NaN in the data, for inputs that are not "
                "scaled, or for a loss that divides by zero or takes the logarithm of 0."
            )
        raise TrainingFailed(f"{name} was {value} {_place(trainer)}. {_advice(trainer)}")


def _is_validation_loss(name: str) -> bool:
    return name.startswith("val") and name.endswith("loss")


def _any_process(trainer: Trainer, bad: bool) -> bool:
    """The same answer on every process, so that all of them stop."""
    return bool(trainer.strategy.reduce_boolean_decision(bad, all=False))


def _word(value: torch.Tensor) -> str:
    if not bool(torch.isfinite(value).all()):
        return "NaN" if bool(torch.isnan(value).any()) else "infinite"
    return "NaN or infinite on another process"


def _place(trainer: Trainer) -> str:
    return f"at optimizer step {trainer.global_step} (epoch {trainer.current_epoch + 1})"


def _advice(trainer: Trainer) -> str:
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups]
    now = f" (now {float(rates[0]):g})" if rates else ""
    clip = trainer.gradient_clip_val
    clipping = "gradient clipping (trainer.gradient_clip_val)" if not clip else f"a stronger clipping (now {clip:g})"
    precision = str(trainer.precision)
    wider = f", precision 32-true (now {precision})" if precision.startswith(("16", "bf16")) else ""
    return f"Try a smaller learning rate{now}, {clipping}{wider}, or look for NaN in the data."
