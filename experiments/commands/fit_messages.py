"""What a fit says when it begins and when it has ended, and writes down of it."""

from __future__ import annotations

import json
import shlex
import time
from typing import TYPE_CHECKING

from lightning.pytorch import LightningDataModule, Trainer

from callbacks import BestCheckpoint, HyperParameters, whole_file
from datamodules import LitDataModule
from experiments.messages.text import count, shown, sizes_text
from experiments.runs import environment
from experiments.runs.checkpoint import Weights
from experiments.runs.folder import RunFolder

if TYPE_CHECKING:
    from experiments.commands.fit_plan import Plan


def say_start(trainer: Trainer, data: LightningDataModule, plan: Plan) -> None:
    chosen = environment.chosen(trainer, plan.choice)
    if plan.folder is not None:
        record = json.loads(plan.folder.environment.read_text(encoding="utf-8"))
        record["chosen"] = chosen
        with whole_file(plan.folder.environment) as file:
            file.write((json.dumps(record, indent=2) + "\n").encode("utf-8"))
        print(f"run     {shown(plan.folder.path)}{f', {plan.resumed.words()}' if plan.resumed is not None else ''}")
    if plan.resumed is not None and plan.resumed.note:
        print(plan.resumed.note)
    print(f"data    {type(data).__name__}{sizes_text(data)}")
    device = chosen["accelerator"].removesuffix("Accelerator").upper()
    number = f" x {chosen['devices']}" if chosen["devices"] > 1 else ""
    number += f" on each of {chosen['nodes']} machines" if chosen["nodes"] > 1 else ""
    print(f"device  {device}{number}, {plan.choice.words(chosen['precision'])}", flush=True)
    if trainer.world_size > 1:
        print(f"batch   {_batch_words(trainer.world_size, data)}", flush=True)
    if plan.origin.repeated is not None and plan.folder is not None:
        plan.origin.repeated.say_before(plan.folder)


def _batch_words(processes: int, data: LightningDataModule) -> str:
    if not isinstance(data, LitDataModule):
        return (
            f"each of {processes} devices takes batches of its own from {type(data).__name__}: a step sees "
            f"{processes} times the samples that it does on one device"
        )
    size, more = divmod(data.batch_size, processes)
    share = f"{size} to {size + 1}" if more else f"{size}"
    return f"{count(data.batch_size)} samples a step, {share} on each of {processes} devices; the same as on one device"


def say_end(trainer: Trainer, data: LightningDataModule, plan: Plan, folder: RunFolder) -> None:
    seconds = time.monotonic() - plan.started
    trained = f"\nTrained {count(trainer.current_epoch, 'epoch')} in {seconds:.1f} s."
    if not folder.best.is_file():
        print(f"{trained} No checkpoint was written.\nrun     {shown(folder.path)}")
        return
    weights = Weights(folder.best, folder)
    record = next((c for c in plan.trainer["callbacks"] if isinstance(c, HyperParameters)), None)
    figures = record.metrics if record is not None else {}
    kept = next((c for c in plan.trainer["callbacks"] if isinstance(c, BestCheckpoint)), None)
    score_kept = None if kept is None or kept.best_model_score is None else float(kept.best_model_score)
    if score_kept is not None and figures.get(plan.settings.monitor or "") != score_kept:
        figures = {str(plan.settings.monitor): score_kept}  # the disk has refused a better one, or somebody removed it
    validated = plan.scored.number > 0
    folder.add_result(
        {
            "verb": "fit",
            **weights.facts(),
            "split": "validation" if validated else "train",
            "n": plan.scored.number if validated else _sizes(data).get("train"),
            "metrics": figures,
            "steps": trainer.global_step,
            "seconds": round(seconds, 2),
            "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        }
    )
    monitor = plan.settings.monitor
    reason = f"{monitor} {figures[monitor]:.6f}" if monitor in figures else "the newest; no metric was there to decide"
    print(f"{trained} Best: epoch {weights.epoch_shown} ({reason}).")
    print(f"run     {shown(folder.path)}")
    if folder.figures.is_dir():
        print(f"figures {shown(folder.figures)}")


def _sizes(data: LightningDataModule) -> dict[str, int]:
    sizes: dict[str, int] = data.split_sizes() if hasattr(data, "split_sizes") else {}
    return sizes


def say_next(folder: RunFolder, tested: bool) -> None:
    if not tested and folder.best.is_file():
        print(f"next    litlab test {shlex.quote(shown(folder.path))}")
    print(f"look    litlab board {shlex.quote(shown(folder.path.parent))}", flush=True)
