"""Messages at the start and end of a training run, and its entries in environment.json and results.json."""

from __future__ import annotations

import shlex
import time

from lightning.pytorch import Callback, LightningDataModule, Trainer

from callbacks import BestCheckpoint, HyperParameters
from callbacks.records.best_epoch import BestEpoch
from callbacks.trainer_state import format_number
from datamodules import LitDataModule
from experiments.commands.fit_plan import Plan
from experiments.commands.run_environment import timestamp
from experiments.messages.formatting import count, shown, sizes_text
from experiments.runs import environment
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder


def report_start(trainer: Trainer, plan: Plan) -> None:
    """Print run folder, data and device; store device, precision, layout and threads in environment.json."""
    chosen, data = environment.chosen(trainer, plan.choice), plan.built.data
    if plan.folder is not None:
        with plan.folder.edit_environment() as content:
            content["chosen"] = chosen
        print(f"run     {shown(plan.folder.path)}{f', {plan.resumed.summary()}' if plan.resumed is not None else ''}")
    if plan.resumed is not None and plan.resumed.note:
        print(plan.resumed.note)
    print(f"data    {type(data).__name__}{sizes_text(data)}")
    device = chosen["accelerator"].removesuffix("Accelerator").upper()
    number = f" x {chosen['devices']}" if chosen["devices"] > 1 else ""
    number += f" on each of {chosen['nodes']} nodes" if chosen["nodes"] > 1 else ""
    print(f"device  {device}{number}, {plan.choice.text(chosen['precision'])}", flush=True)
    if trainer.world_size > 1:
        print(f"batch   {_batch_text(trainer.world_size, data)}", flush=True)
    if plan.origin.reference is not None and plan.folder is not None:
        plan.origin.reference.report_differences(plan.folder)


def _batch_text(devices: int, data: LightningDataModule) -> str:
    if not isinstance(data, LitDataModule):
        return (
            f"each of {devices} devices loads its own batches from {type(data).__name__}: an optimizer step uses "
            f"{devices} times as many samples as on one device"
        )
    size, more = divmod(data.batch_size, devices)
    share = f"{size} to {size + 1}" if more else f"{size}"
    return (
        f"{count(data.batch_size)} samples per optimizer step, {share} on each of {devices} devices; the same as on "
        "one device"
    )


def report_end(trainer: Trainer, plan: Plan, folder: RunFolder) -> None:
    """Print the best epoch and add it to results.json, also if checkpoints are disabled."""
    seconds, data = time.monotonic() - plan.started, plan.built.data
    best = _best_epoch(plan.trainer["callbacks"])
    checkpoint = CheckpointFile(folder.best if folder.best.is_file() else None, folder)
    epoch = best.epoch if checkpoint.path is None else checkpoint.epoch
    split, key = ("validation", "val") if any(name.startswith("val/") for name in best.metrics) else ("train", "train")
    samples = plan.samples.number if key == "val" else 0
    if not samples and isinstance(data, LitDataModule):
        samples = data.split_sizes().get(key, 0)
    if epoch is not None:
        result = {
            "verb": "fit",
            "epoch": epoch,
            "step": best.step,
            **checkpoint.as_record(),
            "split": split,
            "n": samples or None,
            "metrics": best.metrics,
            "steps": trainer.global_step,
            "seconds": round(seconds, 2),
            "time": timestamp(),
        }
        try:
            folder.add_result(result)
        except OSError as error:  # reported at the end
            plan.unwritten[folder.results] = error.strerror or str(error)
    value = best.metrics.get(best.monitor or "")
    reason = "the newest; no metric is monitored" if value is None else f"{best.monitor} {format_number(value)}"
    best_text = f" Best: epoch {epoch + 1} ({reason})." if epoch is not None else ""
    missing = " No checkpoint was written." if checkpoint.path is None else ""
    print(f"\nTrained {_length(trainer)} in {seconds:.1f} s.{best_text}{missing}")
    print(f"run     {shown(folder.path)}")
    if folder.figures.is_dir():
        print(f"figures {shown(folder.figures)}")


def _length(trainer: Trainer) -> str:
    """Return the number of epochs as text, or that of optimizer steps if the last epoch is not complete."""
    if trainer.is_last_batch or trainer.max_steps == -1:
        return count(trainer.current_epoch, "epoch")
    epoch = trainer.fit_loop.epoch_progress.current.ready
    return f"{count(trainer.global_step, 'optimizer step')}, the last within epoch {epoch},"


def _best_epoch(callbacks: list[Callback]) -> BestEpoch:
    """Return the best epoch of BestCheckpoint or, in a run without checkpoints, of HyperParameters."""
    kinds = (BestCheckpoint, HyperParameters)
    return next(callback.best for kind in kinds for callback in callbacks if isinstance(callback, kind))


def report_next(folder: RunFolder, tested: bool) -> None:
    """Print the commands that a user runs next."""
    if not tested and folder.best.is_file():
        print(f"next    litlab test {shlex.quote(shown(folder.path))}")
    print(f"look    litlab board {shlex.quote(shown(folder.path.parent))}", flush=True)
