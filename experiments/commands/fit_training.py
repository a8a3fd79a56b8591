"""Training by a plan, then the report and, with `test_after_fit`, the test."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from lightning.pytorch import Trainer

from callbacks import Stopped, StopSignals, TrainingFailed
from experiments.commands.evaluation import evaluate
from experiments.commands.fit_plan import Plan
from experiments.commands.fit_report import report_end, report_next, report_start
from experiments.commands.resume_changes import ResumedRun
from experiments.machine import performance_choice
from experiments.messages.formatting import shown
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.folder import RunFolder
from experiments.runs.metrics_csv import cut_back


def train(trainer: Trainer, plan: Plan) -> None:
    """Fit, report and store the result; with `test_after_fit`, test the best weights too."""
    rank_zero, resumed = trainer.is_global_zero, plan.resumed
    lock = plan.folder.locked() if plan.folder is not None and rank_zero else nullcontext()
    with performance_choice.thread_settings(plan.choice, trainer.num_devices), lock:
        if resumed is not None and rank_zero:
            resumed.check_newest()
        if resumed is not None and resumed.finished:
            _complete_finished(trainer, plan, resumed)
            return
        if rank_zero:
            if resumed is not None:
                _discard_after_checkpoint(resumed)
            report_start(trainer, plan)
        trainer.fit(plan.built.model, datamodule=plan.built.data, ckpt_path=plan.start, weights_only=True)
        if plan.folder is not None:
            _finish(trainer, plan, plan.folder)
        elif rank_zero:
            print("fast_dev_run: all stages ran; nothing was saved.")


def _discard_after_checkpoint(resumed: ResumedRun) -> None:
    """Remove rows that were logged after the checkpoint, and the incomplete file of a killed save."""
    cut_back(resumed.folder.metrics, resumed.step)
    for incomplete in resumed.folder.last.parent.glob("*.part"):
        incomplete.unlink(missing_ok=True)


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
    test = plan.built.options.test_after_fit and folder.best.is_file()
    if test:
        _test(trainer, plan, folder)
    if trainer.is_global_zero:
        report_next(folder, test)


def _report_nothing_saved(trainer: Trainer, plan: Plan, folder: RunFolder) -> None:
    failed = getattr(trainer.strategy.checkpoint_io, "failed", {})
    if failed:
        raise TrainingFailed(
            f"Training finished, but writing to {shown(folder.path)} failed ({next(iter(failed.values()))}), so the "
            "weights are lost. Fix the cause and start again."
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
    # Not compiled, as in `litlab test`.
    with torch.compiler.set_stance("force_eager") if plan.built.options.compile else nullcontext():
        evaluate("test", trainer, plan.built, CheckpointFile(folder.best, folder), plan.samples, folder)
