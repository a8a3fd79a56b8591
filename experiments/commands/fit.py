"""The verb `fit`: check data and model together, claim the run folder, train, and say what came of it."""

from __future__ import annotations

from contextlib import nullcontext

import torch
from lightning.pytorch import LightningDataModule, LightningModule, Trainer

from callbacks import Stopped, StopSignals, TrainingFailed
from experiments.commands.fit_messages import say_end, say_next, say_start
from experiments.commands.fit_plan import Plan
from experiments.commands.resume import Resumed
from experiments.commands.score import score
from experiments.machine import choice as machine
from experiments.messages.text import shown
from experiments.runs.checkpoint import Weights
from experiments.runs.folder import RunFolder
from experiments.runs.metrics_csv import cut_back


def train(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, weights: Weights | None
) -> None:
    """Fit, then write down and print what came of it; with `test_after_fit` test the best weights too."""
    held = plan.folder.held() if plan.folder is not None and trainer.is_global_zero else nullcontext()
    with machine.settings(plan.choice, trainer.num_devices), held:
        _train(trainer, model, data, plan, weights)


def _train(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, weights: Weights | None
) -> None:
    if plan.resumed is not None:
        if trainer.is_global_zero:
            plan.resumed.check_newest()
        if plan.resumed.finished:
            _go_on_after_the_end(trainer, model, data, plan, plan.resumed)
            return
    if trainer.is_global_zero:
        if plan.resumed is not None:
            cut_back(plan.resumed.folder.metrics, plan.resumed.step)
            for left in plan.resumed.folder.last.parent.glob("*.part"):  # of a save that was killed
                left.unlink(missing_ok=True)
        say_start(trainer, data, plan)
    start = weights.path if weights is not None and weights.path is not None else plan.start
    if start is not None:
        trainer.fit(model, datamodule=data, ckpt_path=start, weights_only=True)
    else:
        trainer.fit(model, datamodule=data)
    if plan.folder is None:
        if trainer.is_global_zero:
            print("fast_dev_run: every stage ran; nothing was written.")
        return
    if trainer.is_global_zero and plan.folder.discard_if_untrained():
        refused = getattr(trainer.strategy.checkpoint_io, "failed", {})
        if refused:
            raise TrainingFailed(
                f"Trained, but nothing could be written to {shown(plan.folder.path)} ({next(iter(refused.values()))}), "
                "so the weights are lost. Mend that, and start again."
            )
        if trainer.global_step and (weights is None or weights.path is None):
            print("Trained, but nothing was kept: loggers and checkpoints are both switched off.")
        else:
            print("Nothing to train: no step was made (max_epochs, max_steps, limit_train_batches, or where it began).")
        return
    if trainer.is_global_zero:
        say_end(trainer, data, plan, plan.folder)
    signals = next((c for c in plan.trainer["callbacks"] if isinstance(c, StopSignals)), None)
    if signals is not None and signals.asked is not None:  # it came when the last step was done
        raise Stopped(signals.asked, trainer.global_step, max(trainer.current_epoch - 1, 0), plan.folder.last.is_file())
    tested = plan.settings.test_after_fit and plan.folder.best.is_file()
    if tested:
        _test(trainer, model, data, plan, plan.folder)
    if trainer.is_global_zero:
        say_next(plan.folder, tested)


def _go_on_after_the_end(
    trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, resumed: Resumed
) -> None:
    """The test, where it is asked for and a kill came before it."""
    owed = plan.settings.test_after_fit and resumed.folder.best.is_file() and not resumed.tested
    if trainer.is_global_zero:
        todo = "Now its test" if owed else "Nothing to do"
        print(
            f"{shown(resumed.folder.path)} has come to its end: {resumed.words()}. {todo}; --trainer.max_epochs N "
            "trains longer."
        )
    if owed:
        _test(trainer, model, data, plan, resumed.folder)


def _test(trainer: Trainer, model: LightningModule, data: LightningDataModule, plan: Plan, folder: RunFolder) -> None:
    # Not compiled, as `litlab test` will do it.
    with torch.compiler.set_stance("force_eager") if plan.settings.machine.compile else nullcontext():
        score("test", trainer, model, data, Weights(folder.best, folder), plan.scored)
