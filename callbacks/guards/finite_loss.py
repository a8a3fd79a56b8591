"""Callback and exception for runs that cannot recover from NaN or infinite values."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_fitting

_MAX_PENDING = 1000  # maximum number of losses on the device, even if `log_every_n_steps` is larger


class TrainingFailed(RuntimeError):  # noqa: N818 - public name
    """Exception for a run that cannot continue because of its values; the message suggests what to try."""


class FiniteLoss(NoStepHooks, Callback):
    """Check that stops a run with NaN or infinite loss or weights, before it overwrites its checkpoints.

    | raises         | checks                         | when                                                        |
    |----------------|--------------------------------|-------------------------------------------------------------|
    | TrainingFailed | losses of all training batches | first step, every `log_every_n_steps`, end of epoch, saving |
    | TrainingFailed | validation loss                | every validation, including the sanity check                |
    | TrainingFailed | all trainable weights          | end of each epoch, before a checkpoint is saved             |

    Reading a loss waits for the device, so many losses are read together. The message names the first step
    with a bad loss, and the samples of its batch if the train dataloader has `samples` and `not_finite`.
    """

    def __init__(self) -> None:
        self._next_read = self._last_step = 0
        self._pending: list[tuple[int, int, torch.Tensor]] = []  # optimizer step, batch index, loss

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._next_read = 0
        self._pending = []
        self._last_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        current = step if step != self._last_step else step + 1  # gradients accumulate until the next step
        self._last_step = step
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, torch.Tensor):
            self._pending.append((current, batch_idx, loss.detach() if loss.requires_grad else loss))
        if step < self._next_read and not trainer.is_last_batch and len(self._pending) < _MAX_PENDING:
            return
        interval = max(1, int(trainer.log_every_n_steps))  # type: ignore[attr-defined]
        # If a call takes several steps, the first call after this step reads.
        self._next_read = step - step % interval + interval
        self._check_losses(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check_losses(trainer)
        self._check_weights(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if is_fitting(trainer):
            self._check_losses(trainer)
            self._check_weights(trainer, pl_module)

    def _check_losses(self, trainer: Trainer) -> None:
        pending, self._pending = self._pending, []
        losses = [loss.sum() if loss.dim() else loss for *_, loss in pending]
        finite = torch.isfinite(torch.stack(losses)).tolist() if losses else []
        bad = finite.index(False) if not all(finite) else None
        if not _on_any_rank(trainer, bad is not None):
            return
        step, batch, loss = pending[bad if bad is not None else -1]
        if trainer.world_size > 1:  # the first bad step of all processes
            here = torch.tensor(step if bad is not None else 2**62, device=trainer.strategy.root_device)
            first = int(trainer.strategy.reduce(here, reduce_op="min"))
            step, batch, loss = next((entry for entry in pending if entry[0] == first), (step, batch, loss))
        samples = describe_samples(trainer, [batch])
        raise _failure(trainer, f"The training loss was {_kind(loss)}", step, samples)

    def _check_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finite = [torch.isfinite(weight.detach()).all() for weight in pl_module.parameters() if weight.requires_grad]
        bad = bool(finite) and not all(torch.stack([flag.cpu() for flag in finite]).tolist())
        if _on_any_rank(trainer, bad):
            raise _failure(trainer, "The weights were NaN or infinite", trainer.global_step)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer) and not trainer.sanity_checking:
            self._check_losses(trainer)  # its message is more helpful than that of the validation loss

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not is_fitting(trainer):
            return
        metrics = trainer.callback_metrics.items()
        losses = {name: value for name, value in metrics if name.startswith("val") and name.endswith("loss")}
        bad = {name: value for name, value in losses.items() if not bool(torch.isfinite(value).all())}
        if not _on_any_rank(trainer, bool(bad)):
            return
        name = next(iter(bad), next(iter(losses), "val/loss"))
        kind = _kind(bad[name]) if name in bad else "NaN or infinite"
        if trainer.sanity_checking:
            raise TrainingFailed(
                f"{name} was {kind} before the first step. Look for NaN in the data, for inputs that are not "
                "scaled, or for a loss that divides by zero or takes the logarithm of 0."
            )
        raise _failure(trainer, f"{name} was {kind}", trainer.global_step)


def _on_any_rank(trainer: Trainer, bad: bool) -> bool:
    """Return True on all processes if `bad` is True on any of them, so that all stop."""
    return bool(trainer.strategy.reduce_boolean_decision(bad, all=False))


def _kind(value: torch.Tensor) -> str:
    if not bool(torch.isfinite(value).all()):
        return "NaN" if bool(torch.isnan(value).any()) else "infinite"
    return "NaN or infinite on another process"


def describe_samples(trainer: Trainer, batches: Sequence[int]) -> str:
    """Return a sentence on the samples of batches, or on those with NaN in the data; '' if the loader has no `samples`.

    Samples are numbered by their position in the training files, from 0.
    """
    loader: Any = trainer.train_dataloader
    samples_of = getattr(loader, "samples", None)
    if samples_of is None:
        return ""
    samples: list[int] = [sample for batch in batches for sample in samples_of(batch)]
    bad: list[int] = loader.not_finite(samples)
    if bad:
        return f"The training data contains NaN or infinite values in {_list_samples(bad)}. "
    return f"Its batch was {_list_samples(samples)} of the training data. "


def _list_samples(samples: Sequence[int], limit: int = 12) -> str:
    shown = ", ".join(str(sample) for sample in samples[:limit])
    more = f" and {len(samples) - limit} more" if len(samples) > limit else ""
    return f"sample{'' if len(samples) == 1 else 's'} {shown}{more}"


def _failure(trainer: Trainer, event: str, step: int, samples: str = "") -> TrainingFailed:
    where = f"at optimizer step {step} (epoch {trainer.current_epoch + 1})"
    return TrainingFailed(f"{event} {where}. {samples}{_last_finite_checkpoint(trainer)}{_advice(trainer)}")


def _last_finite_checkpoint(trainer: Trainer) -> str:
    """Return a sentence on the newest checkpoint, whose values are finite, since `on_save_checkpoint` checks them."""
    best = ""
    for callback in trainer.checkpoint_callbacks:
        path, step = getattr(callback, "best_model_path", ""), getattr(callback, "saved_step", None)
        if path and os.path.isfile(path):
            if step is not None:
                return f"The last good checkpoint is {os.path.relpath(path)} (optimizer step {step}). "
            best = f"The best checkpoint so far is {os.path.relpath(path)}. "
    return best


def _advice(trainer: Trainer) -> str:
    learning_rates = [
        group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups if group["lr"]
    ]
    current = f" (now {float(learning_rates[0]):g})" if learning_rates else ""
    clip = trainer.gradient_clip_val
    clipping = "gradient clipping (trainer.gradient_clip_val)" if not clip else f"stronger clipping (now {clip:g})"
    is_low = str(trainer.precision).startswith(("16", "bf16"))
    precision = f", precision 32-true (now {trainer.precision})" if is_low else ""
    return f"Try a smaller learning rate{current}, {clipping}{precision}, or look for NaN in the data."
