"""A training that can no longer succeed stops, in words."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from callbacks.step_hooks import NoStepHooks
from callbacks.trainer_state import is_fitting

_MOST_UNREAD = 1000  # losses that are kept on the device before they are read, whatever the interval


class TrainingFailed(RuntimeError):  # noqa: N818 - says what happened
    """Training cannot go on for a reason that lies in its numbers; the message says what to try."""


class FiniteLoss(NoStepHooks, Callback):
    """Stops a run whose loss or weights are NaN or infinite, before its checkpoints are overwritten.

    | raises         | what is looked at              | when                                                        |
    |----------------|--------------------------------|-------------------------------------------------------------|
    | TrainingFailed | losses of all training batches | first step, every `log_every_n_steps`, end of epoch, saving |
    | TrainingFailed | validation loss                | every validation, the sanity check included                 |
    | TrainingFailed | all trainable weights          | end of each epoch, before a checkpoint is written           |

    Reading a number waits for the device, so that losses are kept there and read together; the message names the step
    where it began, and the samples of its batch as far as the loader knows them (`samples`, `not_finite`).
    """

    def __init__(self) -> None:
        self._next = self._stepped = 0
        self._unread: list[tuple[int, int, torch.Tensor]] = []  # optimizer step, batch, loss

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._next = 0
        self._unread = []
        self._stepped = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step = trainer.global_step
        running = step if step != self._stepped else step + 1  # a batch of a step that is still being gathered
        self._stepped = step
        loss = outputs.get("loss") if isinstance(outputs, Mapping) else outputs
        if isinstance(loss, torch.Tensor):
            self._unread.append((running, batch_idx, loss.detach() if loss.requires_grad else loss))
        if step < self._next and not trainer.is_last_batch and len(self._unread) < _MOST_UNREAD:
            return
        interval = max(1, int(trainer.log_every_n_steps))  # type: ignore[attr-defined]
        self._next = step - step % interval + interval  # where a call takes several steps, the first call beyond it
        self._read_losses(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._read_losses(trainer)
        self._read_weights(trainer, pl_module)

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        if is_fitting(trainer):
            self._read_losses(trainer)
            self._read_weights(trainer, pl_module)

    def _read_losses(self, trainer: Trainer) -> None:
        kept, self._unread = self._unread, []
        losses = [loss.sum() if loss.dim() else loss for *_, loss in kept]
        finite = torch.isfinite(torch.stack(losses)).tolist() if losses else []
        bad = finite.index(False) if not all(finite) else None
        if not _any_process(trainer, bad is not None):
            return
        step, batch, loss = kept[bad if bad is not None else -1]
        if trainer.world_size > 1:  # the first one of all processes
            here = torch.tensor(step if bad is not None else 2**62, device=trainer.strategy.root_device)
            first = int(trainer.strategy.reduce(here, reduce_op="min"))
            step, batch, loss = next((entry for entry in kept if entry[0] == first), (step, batch, loss))
        raise TrainingFailed(
            f"The training loss was {_word(loss)} {_place(trainer, step)}. {samples_words(trainer, [batch])}"
            f"{_last_good(trainer)}{_advice(trainer)}"
        )

    def _read_weights(self, trainer: Trainer, pl_module: LightningModule) -> None:
        finite = [torch.isfinite(weight.detach()).all() for weight in pl_module.parameters() if weight.requires_grad]
        bad = bool(finite) and not all(torch.stack([flag.cpu() for flag in finite]).tolist())
        if _any_process(trainer, bad):
            place = _place(trainer, trainer.global_step)
            raise TrainingFailed(f"The weights were NaN or infinite {place}. {_last_good(trainer)}{_advice(trainer)}")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if is_fitting(trainer) and not trainer.sanity_checking:
            self._read_losses(trainer)  # or the validation would find it later, and know less

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
        raise TrainingFailed(
            f"{name} was {value} {_place(trainer, trainer.global_step)}. {_last_good(trainer)}{_advice(trainer)}"
        )


def _is_validation_loss(name: str) -> bool:
    return name.startswith("val") and name.endswith("loss")


def _any_process(trainer: Trainer, bad: bool) -> bool:
    """The same answer on every process, so that all of them stop."""
    return bool(trainer.strategy.reduce_boolean_decision(bad, all=False))


def _word(value: torch.Tensor) -> str:
    if not bool(torch.isfinite(value).all()):
        return "NaN" if bool(torch.isnan(value).any()) else "infinite"
    return "NaN or infinite on another process"


def _place(trainer: Trainer, step: int) -> str:
    return f"at optimizer step {step} (epoch {trainer.current_epoch + 1})"


def samples_words(trainer: Trainer, batches: Sequence[int]) -> str:
    """The samples of batches by their place in the training files, or those of them that hold NaN themselves."""
    loader: Any = trainer.train_dataloader
    known = getattr(loader, "samples", None)
    if known is None:
        return ""
    samples: list[int] = [sample for batch in batches for sample in known(batch)]
    bad: list[int] = loader.not_finite(samples)
    if bad:
        return f"The training data itself holds NaN or infinite numbers, in {_listed(bad)}. "
    return f"Its batch was {_listed(samples)} of the training data. "


def _listed(samples: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(str(sample) for sample in samples[:most])
    more = f" and {len(samples) - most} more" if len(samples) > most else ""
    return f"sample{'' if len(samples) == 1 else 's'} {shown}{more}"


def _last_good(trainer: Trainer) -> str:
    """The newest checkpoint, which was finite when it was written."""
    best = ""
    for callback in trainer.checkpoint_callbacks:
        path, step = getattr(callback, "best_model_path", ""), getattr(callback, "saved_step", None)
        if path and os.path.isfile(path):
            if step is not None:
                return f"The last good state is {os.path.relpath(path)} (optimizer step {step}). "
            best = f"The best state until then is {os.path.relpath(path)}. "
    return best


def _advice(trainer: Trainer) -> str:
    rates = [group["lr"] for optimizer in trainer.optimizers for group in optimizer.param_groups if group["lr"]]
    now = f" (now {float(rates[0]):g})" if rates else ""
    clip = trainer.gradient_clip_val
    clipping = "gradient clipping (trainer.gradient_clip_val)" if not clip else f"a stronger clipping (now {clip:g})"
    precision = str(trainer.precision)
    wider = f", precision 32-true (now {precision})" if precision.startswith(("16", "bf16")) else ""
    return f"Try a smaller learning rate{now}, {clipping}{wider}, or look for NaN in the data."
