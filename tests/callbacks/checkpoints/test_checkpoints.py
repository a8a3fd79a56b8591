"""Tests of best.ckpt and last.ckpt under all kinds of validation."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import BestCheckpoint, HyperParameters, LastCheckpoint, unknown_monitor


def _epochs(folder) -> dict[str, int]:
    return {path.name: torch.load(path, weights_only=True)["epoch"] for path in sorted(folder.glob("*"))}


def _fit(make_trainer, model, data, monitor="val/loss", mode="min", extra=(), **arguments):
    trainer = make_trainer([BestCheckpoint(monitor, mode), LastCheckpoint(), *extra], **arguments)
    trainer.fit(model, data)
    return trainer


@pytest.mark.parametrize(
    ("scores", "mode", "best"),
    [
        ([0.5, 0.3, 0.4, 0.6], "min", 1),
        ([0.5, 0.3, 0.4, 0.6], "max", 3),
        ([0.3, 0.5, 0.3, 0.3], "min", 0),  # of equal epochs the first is the best
        ([0.4, 0.4, 0.1, 0.1], "min", 2),
    ],
)
def test_best_is_the_best_epoch_and_last_the_final_one(
    make_trainer, small, blobs, tmp_path, scores, mode, best
) -> None:
    _fit(make_trainer, small(scores=scores), blobs(), mode=mode, max_epochs=4)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": best, "last.ckpt": 3}


def test_last_is_saved_in_epochs_without_validation(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(scores=[0.3, 0.5]), blobs(), max_epochs=5, check_val_every_n_epoch=2)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 1, "last.ckpt": 4}


def test_best_with_several_validations_per_epoch(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(scores=[0.5, 0.2, 0.3, 0.4]), blobs(), max_epochs=2, val_check_interval=0.5)
    assert torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)["global_step"] == 6
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 12


def test_without_validation_best_is_last(make_trainer, small, blobs, tmp_path, capsys) -> None:
    _fit(make_trainer, small(), blobs(validation=False), max_epochs=3)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 2, "last.ckpt": 2}
    assert "No validation split: best.ckpt is the newest epoch" in capsys.readouterr().out


def test_without_a_monitor_best_is_the_newest(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(scores=[0.1, 0.2, 0.3]), blobs(), monitor=None, max_epochs=3)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 2, "last.ckpt": 2}


def test_a_train_metric_is_compared_in_its_own_epoch(make_trainer, small, blobs, tmp_path) -> None:
    trainer = _fit(make_trainer, small(lr=0.05), blobs(), monitor="train/loss", max_epochs=3, check_val_every_n_epoch=2)
    score = trainer.checkpoint_callback.best_model_score
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 2, "last.ckpt": 2}
    assert float(score) == float(trainer.callback_metrics["train/loss"])


@pytest.mark.parametrize(
    ("settings", "epoch", "step"),
    [({"max_steps": 3, "max_epochs": -1}, 0, 3), ({"max_epochs": 2, "check_val_every_n_epoch": 3}, 1, 12)],
)
def test_stopped_before_the_first_validation_best_is_last(
    make_trainer, small, blobs, tmp_path, caplog, settings, epoch, step
) -> None:
    model = small()
    with caplog.at_level("INFO"):
        trainer = _fit(make_trainer, model, blobs(), **settings)
    folder = tmp_path / "run/checkpoints"
    assert _epochs(folder) == {"best.ckpt": epoch, "last.ckpt": epoch}
    assert (folder / "best.ckpt").read_bytes() == (folder / "last.ckpt").read_bytes()
    state = torch.load(folder / "best.ckpt", weights_only=True)
    assert state["global_step"] == step
    assert all(torch.equal(value, state["state_dict"][name]) for name, value in model.state_dict().items())
    assert trainer.checkpoint_callback.best_model_path == str(folder / "best.ckpt")
    assert "weights_only" not in caplog.text


def test_best_is_saved_without_a_last_checkpoint(make_trainer, small, blobs, tmp_path) -> None:
    make_trainer([BestCheckpoint("val/loss")], max_steps=3, max_epochs=-1).fit(small(), blobs())
    assert list(_epochs(tmp_path / "run/checkpoints")) == ["best.ckpt"]


def test_resuming_keeps_an_earlier_best(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(scores=[0.2, 0.4]), blobs(), max_epochs=2)
    trainer = make_trainer([BestCheckpoint("val/loss"), LastCheckpoint()], max_epochs=4)
    trainer.fit(small(scores=[0.3, 0.25]), blobs(), ckpt_path=tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 0, "last.ckpt": 3}


def test_resuming_knows_the_best_metrics_of_an_older_checkpoint(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(scores=[0.2, 0.4]), blobs(), extra=[HyperParameters()], max_epochs=2)
    path = tmp_path / "run/checkpoints/last.ckpt"
    content = torch.load(path, weights_only=True)
    (key,) = (key for key in content["callbacks"] if key.startswith("BestCheckpoint"))
    best = content["callbacks"][key].pop("best")
    content["callbacks"]["HyperParameters"] = {name: best[name] for name in ("monitor", "score", "metrics")}
    torch.save(content, path)
    checkpoint = BestCheckpoint("val/loss")
    trainer = make_trainer([HyperParameters(), checkpoint, LastCheckpoint()], max_epochs=4)
    trainer.fit(small(scores=[0.3, 0.25]), blobs(), ckpt_path=path, weights_only=True)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 0, "last.ckpt": 3}
    assert checkpoint.best.metrics == best["metrics"]


def test_rare_validation_without_a_sanity_check_is_known(make_trainer, small, blobs, tmp_path, capsys) -> None:
    rare = {"check_val_every_n_epoch": 2, "num_sanity_val_steps": 0}
    _fit(make_trainer, small(scores=[0.2]), blobs(), max_epochs=3, **rare)
    checkpoint = BestCheckpoint("val/loss")
    last = tmp_path / "run/checkpoints/last.ckpt"
    make_trainer([HyperParameters(), checkpoint, LastCheckpoint()], max_epochs=5, **rare).fit(
        small(scores=[0.3]), blobs(), ckpt_path=last, weights_only=True
    )
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 1, "last.ckpt": 4}
    assert checkpoint.best.metrics["val/loss"] == pytest.approx(0.2)
    assert "No validation split" not in capsys.readouterr().out


def test_fast_dev_run_writes_nothing(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(), blobs(), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_monitor_raises_before_training(make_trainer, small, blobs, tmp_path) -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(MisconfigurationException, match=r"'val/ac' is not logged\. Did you mean 'val/acc'\?"):
        _fit(make_trainer, model, blobs(), monitor="val/ac", mode="max")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_a_wrong_train_metric_raises_after_the_first_epoch(make_trainer, small, blobs) -> None:
    with pytest.raises(MisconfigurationException, match=r"'train/los' .* Did you mean 'train/loss'\?"):
        _fit(make_trainer, small(), blobs(), monitor="train/los")


def test_a_wrong_monitor_raises_in_the_first_validation_without_a_sanity_check(make_trainer, small, blobs) -> None:
    with pytest.raises(MisconfigurationException, match=r"Set a logged metric: .*val/acc.*val/loss"):
        _fit(make_trainer, small(), blobs(), monitor="val/f1", num_sanity_val_steps=0)


def test_the_monitor_of_early_stopping_is_checked(make_trainer, small, blobs) -> None:
    with pytest.raises(MisconfigurationException, match=r"EarlyStopping.monitor: the metric 'val/lss'"):
        _fit(make_trainer, small(), blobs(), extra=[EarlyStopping("val/lss")])
    with pytest.raises(MisconfigurationException, match=r"needs a validation split"):
        _fit(make_trainer, small(), blobs(validation=False), extra=[EarlyStopping("val/loss")])


class _Plateau(pl.LightningModule):
    """`Small` with a learning rate schedule that monitors a metric."""

    def __init__(self, inner, monitor) -> None:
        super().__init__()
        self.inner, self.watched = inner, monitor

    def training_step(self, batch, batch_idx):
        return self.inner.criterion(self.inner(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.inner.criterion(self.inner(batch[0]), batch[1]))

    def configure_optimizers(self):
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        schedule = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "monitor": self.watched}}


def test_the_monitor_of_a_scheduler_is_checked(make_trainer, small, blobs) -> None:
    with pytest.raises(MisconfigurationException, match=r"scheduler\.monitor: the metric 'val/los' .* Did you mean"):
        _fit(make_trainer, _Plateau(small(), "val/los"), blobs())
    with pytest.raises(MisconfigurationException, match=r"scheduler\.monitor: the metric 'error' is not logged"):
        _fit(make_trainer, _Plateau(small(), "error"), blobs())
    with pytest.raises(
        MisconfigurationException, match=r"scheduler\.monitor: .*needs a validation split\. .* scheduler"
    ):
        _fit(make_trainer, _Plateau(small(), "val/loss"), blobs(validation=False))
    _fit(make_trainer, _Plateau(small(), "val/loss"), blobs(), max_steps=3)


def test_wrong_mode_and_error_without_metrics() -> None:
    with pytest.raises(MisconfigurationException, match=r"mode must be 'min' .* got 'most'"):
        BestCheckpoint("val/acc", "most")
    assert str(unknown_monitor("x", [])) == "monitor: the metric 'x' is not logged. Log a metric in the model."
