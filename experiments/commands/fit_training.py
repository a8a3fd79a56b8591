"""Training by a plan, then the report and, with `test_after_fit`, the test."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import torch
from lightning.pytorch import Trainer

from callbacks import Stopped, StopSignals, TrainingFailed
from callbacks.checkpoints.atomic_files import remove_unfinished
from experiments.commands.evaluation import evaluate
from experiments.commands.fit_plan import Plan
from experiments.commands.fit_report import report_end, report_next, report_start
from experiments.commands.resume_changes import ResumedRun
from experiments.machine import performance_choice
from experiments.messages.formatting import say, shown
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder
from experiments.runs.metrics_csv import MetricsCSV, cut_back
from experiments.runs.tensorboard import RunTensorBoard


def train(trainer: Trainer, plan: Plan) -> None:
    """Fit, report and store the result; with `test_after_fit`, test the best weights too."""
    rank_zero, resumed = trainer.is_global_zero, plan.resumed
    lock = plan.folder.locked() if plan.folder is not None and rank_zero else nullcontext()
    with performance_choice.thread_settings(plan.choice, trainer.num_devices), lock:
        if resumed is not None and rank_zero:
            resumed.check_newest()
            _discard_after_checkpoint(resumed)
        if resumed is not None and resumed.finished:
            _complete_finished(trainer, plan, resumed)
            return
        if rank_zero:
            report_start(trainer, plan)
        trainer.fit(plan.built.model, datamodule=plan.built.data, ckpt_path=plan.start, weights_only=True)
        if plan.folder is not None:
            _finish(trainer, plan, plan.folder)
        elif rank_zero:
            print("fast_dev_run: all stages ran; nothing was saved.")


def _discard_after_checkpoint(resumed: ResumedRun) -> None:
    """Remove incomplete files of killed processes and, unless nothing is to be done, rows after the checkpoint."""
    remove_unfinished(resumed.folder.path)
    if not (resumed.finished and resumed.tested):
        cut_back(resumed.folder.metrics, resumed.logged_steps)


def _finish(trainer: Trainer, plan: Plan, folder: RunFolder) -> None:
    """Report what was trained and test it, or explain why nothing was saved."""
    if trainer.is_global_zero and folder.discard_if_untrained():
        _report_nothing_saved(trainer, plan, folder)
        return
    if trainer.is_global_zero:
        report_end(trainer, plan, folder)
    signals = next((c for c in plan.trainer["callbacks"] if isinstance(c, StopSignals)), None)
    if signals is not None and signals.received is not None:  # it arrived after the last step
        raise Stopped(signals.received, trainer.global_step, max(trainer.current_epoch - 1, 0), folder.last.is_file())
    asked = plan.built.options.test_after_fit
    test = asked and folder.best.is_file()
    if test:
        _test(trainer, plan, folder)
    if trainer.is_global_zero:
        _check_written(trainer, plan, folder, " The requested test was skipped." if asked and not test else "")
        report_next(folder, test)


def _check_written(trainer: Trainer, plan: Plan, folder: RunFolder, skipped: str) -> None:
    """Report what could not be written; raise TrainingFailed if it is a checkpoint, a result or a requested test."""
    for logger in trainer.loggers:
        if isinstance(logger, MetricsCSV) and logger.error:
            say(f"litlab: {shown(folder.metrics)} is incomplete: it could not be written ({logger.error}).")
    failed: dict[Path, str] = getattr(trainer.strategy.checkpoint_io, "failed", {})
    reasons = {**failed, **plan.unwritten}
    texts = {path: f"{path.name} could not be written ({reason})" for path, reason in reasons.items()}
    kept = [CheckpointFile(path, folder) for path in (folder.best, folder.last) if path.is_file()]
    state = ", and ".join(f"{each.path.name} is of epoch {each.epoch_shown}" for each in kept if each.path is not None)
    if texts.keys() == {folder.best} and len(kept) == 2 and not skipped:
        say(f"litlab: {texts[folder.best]}, so it has the weights of an earlier epoch. {state}.")
        return
    if not texts and not skipped:
        return
    state = f" {state}." if kept else " There is no checkpoint, so the weights are lost."
    action = "Free some space, then start again." if texts else "Set enable_checkpointing to true."
    if texts and folder.last.is_file():
        action = f"Free some space, then train the lost epochs again: `litlab resume {shown(folder.path)}`."
    text = " and ".join(texts.values()) or "there is no best.ckpt"
    raise TrainingFailed(f"Training finished, but {text}.{state}{skipped} {action}")


def _report_nothing_saved(trainer: Trainer, plan: Plan, folder: RunFolder) -> None:
    failed = getattr(trainer.strategy.checkpoint_io, "failed", {})
    skipped = " The requested test was skipped." if plan.built.options.test_after_fit else ""
    if failed:
        raise TrainingFailed(
            f"Training finished, but writing to {shown(folder.path)} failed ({next(iter(failed.values()))}), so the "
            f"weights are lost.{skipped} Fix the cause and start again."
        )
    if trainer.global_step and plan.start is None:
        print("Training finished, but nothing was saved: loggers and checkpoints are disabled.")
    else:
        print("Nothing to train: no step was run (see max_epochs, max_steps, limit_train_batches, or the checkpoint).")


def _complete_finished(trainer: Trainer, plan: Plan, resumed: ResumedRun) -> None:
    """Run the test of a finished run if the run was killed before it."""
    test = plan.built.options.test_after_fit and resumed.folder.best.is_file() and not resumed.tested
    if trainer.is_global_zero:
        todo = "Now its test" if test else "Nothing to do"
        run = shown(resumed.folder.path)
        print(f"{run} is finished: {resumed.summary()}. {todo}; --trainer.max_epochs N trains longer.")
    if test:
        _test(trainer, plan, resumed.folder)


def _test(trainer: Trainer, plan: Plan, folder: RunFolder) -> None:
    """Test the best weights; log the metrics after those of the last step, also if another process trained it."""
    last = CheckpointFile(folder.last, folder)
    for logger in trainer.loggers:
        if isinstance(logger, (MetricsCSV, RunTensorBoard)):
            logger.place = (last.epoch or 0, last.logged_steps)
    # Not compiled, as in `litlab test`.
    with torch.compiler.set_stance("force_eager") if plan.built.options.compile else nullcontext():
        evaluate("test", trainer, plan.built, CheckpointFile(folder.best, folder), plan.samples, folder)
