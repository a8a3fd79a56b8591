"""Tests of the stop on NaN or infinite losses and weights."""

import pytest
import torch
from lightning.pytorch import Callback

from callbacks import BestCheckpoint, FiniteLoss, LastCheckpoint, TrainingFailed


@pytest.mark.parametrize(("poison", "every", "found"), [(1, 50, 1), (3, 2, 3), (4, 50, 4)])
def test_nan_stops_the_run(make_trainer, small, blobs, poison, every, found) -> None:
    trainer = make_trainer([FiniteLoss()], log_every_n_steps=every)
    with pytest.raises(TrainingFailed, match=rf"training loss was NaN at optimizer step {found} \(epoch 1\)\."):
        trainer.fit(small(poison=poison), blobs())


def test_the_error_suggests_what_to_try(make_trainer, small, blobs) -> None:
    with pytest.raises(TrainingFailed, match=r"smaller learning rate \(now 0\.25\), gradient clipping"):
        make_trainer([FiniteLoss()]).fit(small(poison=1, lr=0.25), blobs())
    with pytest.raises(TrainingFailed, match=r"stronger clipping \(now 1\)"):
        make_trainer([FiniteLoss()], gradient_clip_val=1.0).fit(small(poison=1), blobs())


def test_a_validation_loss_that_is_not_finite_stops_the_run(make_trainer, small, blobs) -> None:
    with pytest.raises(TrainingFailed, match=r"val/loss was infinite at optimizer step 12 \(epoch 2\)"):
        make_trainer([FiniteLoss()]).fit(small(scores=[0.5, float("inf")]), blobs())
    with pytest.raises(TrainingFailed, match=r"val/loss was NaN before the first step"):
        make_trainer([FiniteLoss()]).fit(small(scores=[float("nan")]), blobs())


def test_weights_that_are_not_finite_are_not_saved(make_trainer, small, blobs, tmp_path) -> None:
    class Ruin(Callback):
        def on_train_batch_end(self, trainer, pl_module, *_) -> None:
            if trainer.current_epoch == 1 and trainer.is_last_batch:
                with torch.no_grad():
                    pl_module.net[0].weight.fill_(float("nan"))

    trainer = make_trainer([Ruin(), FiniteLoss(), BestCheckpoint(None), LastCheckpoint()], limit_val_batches=0)
    with pytest.raises(TrainingFailed, match=r"weights were NaN or infinite .*epoch 2"):
        trainer.fit(small(), blobs())
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["epoch"] == 0


def test_a_run_with_finite_losses_finishes(make_trainer, small, blobs) -> None:
    trainer = make_trainer([FiniteLoss()])
    trainer.fit(small(), blobs())
    assert trainer.current_epoch == 2
