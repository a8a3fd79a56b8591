"""Training as planned, then the report and, if asked for, the test."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from callbacks import Stopped, StopSignals, TrainingFailed
from experiments.commands.fit_messages import report_end, report_next, report_start
from experiments.commands.fit_plan import Plan
from experiments.commands.resumed_run import Resumed
from experiments.commands.scoring import score
from experiments.machine.performance_choice import thread_settings
from experiments.messages.formatting import shown
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder
from experiments.runs.metrics_csv import cut_back


def train(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, weights: CheckpointFile | None
) -> None:
    """Fit, then record and print the result; with `test_after_fit` test the best weights too."""
    held = plan.folder.locked() if plan.folder is not None and trainer.is_global_zero else nullcontext()
    with thread_settings(plan.choice, trainer.num_devices), held:
        if plan.resumed is not None and trainer.is_global_zero:
            plan.resumed.check_newest()
        if plan.resumed is not None and plan.resumed.finished:
            _test_after_end(trainer, model, data, plan, plan.resumed)
            return
        if trainer.is_global_zero:
            if plan.resumed is not None:
                _cut_back(plan.resumed)
            report_start(trainer, data, plan)
        start = weights.path if weights is not None and weights.path is not None else plan.start
        if start is not None:
            trainer.fit(model, datamodule=data, ckpt_path=start, weights_only=True)
        else:
            trainer.fit(model, datamodule=data)
        if plan.folder is not None:
            started = weights is not None and weights.path is not None
            _finish(trainer, model, data, plan, plan.folder, started)
        elif trainer.is_global_zero:
            print("fast_dev_run: every stage ran; nothing was written.")


def _cut_back(resumed: Resumed) -> None:
    """Remove what was logged after the checkpoint, and the remains of a save that was killed."""
    cut_back(resumed.folder.metrics, resumed.step)
    for left in resumed.folder.last.parent.glob("*.part"):
        left.unlink(missing_ok=True)


def _finish(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, folder: RunFolder, started: bool
) -> None:
    """Report what was trained, and test it; `started` says whether training began from a checkpoint."""
    if trainer.is_global_zero and folder.discard_if_untrained():
        _say_nothing_kept(trainer, folder, started)
        return
    if trainer.is_global_zero:
        report_end(trainer, data, plan, folder)
    signals = next((c for c in plan.trainer["callbacks"] if isinstance(c, StopSignals)), None)
    if signals is not None and signals.received is not None:  # it came when the last step was done
        raise Stopped(signals.received, trainer.global_step, max(trainer.current_epoch - 1, 0), folder.last.is_file())
    tested = plan.options.test_after_fit and folder.best.is_file()
    if tested:
        _test(trainer, model, data, plan, folder)
    if trainer.is_global_zero:
        report_next(folder, tested)


def _say_nothing_kept(trainer: Trainer, folder: RunFolder, started: bool) -> None:
    failed = getattr(trainer.strategy.checkpoint_io, "failed", {})
    if failed:
        raise TrainingFailed(
            f"Trained, but nothing could be written to {shown(folder.path)} ({next(iter(failed.values()))}), so the "
            "weights are lost. Fix that and start again."
        )
    if trainer.global_step and not started:
        print("Trained, but nothing was saved: loggers and checkpoints are both switched off.")
    else:
        print("Nothing to train: no step was made (see max_epochs, max_steps, limit_train_batches, or the checkpoint).")


def _test_after_end(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, resumed: Resumed
) -> None:
    """Run the test that was asked for, if the run was killed before it."""
    owed = plan.options.test_after_fit and resumed.folder.best.is_file() and not resumed.tested
    if trainer.is_global_zero:
        todo = "Now its test" if owed else "Nothing to do"
        run = shown(resumed.folder.path)
        print(f"{run} is finished: {resumed.words()}. {todo}; --trainer.max_epochs N trains longer.")
    if owed:
        _test(trainer, model, data, plan, resumed.folder)


def _test(trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, folder: RunFolder) -> None:
    # Not compiled, as `litlab test` will do it.
    with torch.compiler.set_stance("force_eager") if plan.options.compile else nullcontext():
        score("test", trainer, model, data, CheckpointFile(folder.best, folder), plan.scored)
