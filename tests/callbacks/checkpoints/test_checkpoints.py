"""best.ckpt is the best epoch and last.ckpt the last one, whatever the validation does."""

import lightning.pytorch as pl
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks import BestCheckpoint, LastCheckpoint, unknown_monitor


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
        ([0.3, 0.5, 0.3, 0.3], "min", 0),  # ties keep the earlier epoch
        ([0.4, 0.4, 0.1, 0.1], "min", 2),
    ],
)
def test_best_is_the_best_epoch_and_last_the_last(make_trainer, small, blobs, tmp_path, scores, mode, best) -> None:
    _fit(make_trainer, small(scores=scores), blobs(), mode=mode, max_epochs=4)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": best, "last.ckpt": 3}


def test_last_goes_on_where_validation_is_rare(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(scores=[0.3, 0.5]), blobs(), max_epochs=5, check_val_every_n_epoch=2)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 1, "last.ckpt": 4}


def test_the_best_of_several_validations_in_one_epoch(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(scores=[0.5, 0.2, 0.3, 0.4]), blobs(), max_epochs=2, val_check_interval=0.5)
    assert torch.load(tmp_path / "run/checkpoints/best.ckpt", weights_only=True)["global_step"] == 6
    assert torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["global_step"] == 12


def test_without_validation_best_is_last(make_trainer, small, blobs, tmp_path, capsys) -> None:
    _fit(make_trainer, small(), blobs(validation=False), max_epochs=3)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 2, "last.ckpt": 2}
    assert "No validation part: best.ckpt is the newest epoch" in capsys.readouterr().out


def test_without_a_monitor_best_is_the_newest(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(scores=[0.1, 0.2, 0.3]), blobs(), monitor=None, max_epochs=3)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 2, "last.ckpt": 2}


def test_a_train_metric_is_that_of_its_own_epoch(make_trainer, small, blobs, tmp_path) -> None:
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


def test_without_a_last_checkpoint_there_is_still_a_best(make_trainer, small, blobs, tmp_path) -> None:
    make_trainer([BestCheckpoint("val/loss")], max_steps=3, max_epochs=-1).fit(small(), blobs())
    assert list(_epochs(tmp_path / "run/checkpoints")) == ["best.ckpt"]


def test_resuming_keeps_an_earlier_best(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(scores=[0.2, 0.4]), blobs(), max_epochs=2)
    trainer = make_trainer([BestCheckpoint("val/loss"), LastCheckpoint()], max_epochs=4)
    trainer.fit(small(scores=[0.3, 0.25]), blobs(), ckpt_path=tmp_path / "run/checkpoints/last.ckpt", weights_only=True)
    assert _epochs(tmp_path / "run/checkpoints") == {"best.ckpt": 0, "last.ckpt": 3}


def test_fast_dev_run_writes_nothing(make_trainer, small, blobs, tmp_path) -> None:
    _fit(make_trainer, small(), blobs(), fast_dev_run=True)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_monitor_is_named_before_training(make_trainer, small, blobs, tmp_path) -> None:
    model = small()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with pytest.raises(MisconfigurationException, match=r"'val/ac' is not logged\. Did you mean 'val/acc'\?"):
        _fit(make_trainer, model, blobs(), monitor="val/ac", mode="max")
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not list(tmp_path.glob("run/checkpoints/*"))


def test_a_wrong_train_metric_is_named_after_the_first_epoch(make_trainer, small, blobs) -> None:
    with pytest.raises(MisconfigurationException, match=r"'train/los' .* Did you mean 'train/loss'\?"):
        _fit(make_trainer, small(), blobs(), monitor="train/los")


def test_without_a_sanity_check_the_first_validation_finds_it(make_trainer, small, blobs) -> None:
    with pytest.raises(MisconfigurationException, match=r"Logged are: .*val/acc.*val/loss"):
        _fit(make_trainer, small(), blobs(), monitor="val/f1", num_sanity_val_steps=0)


def test_early_stopping_is_asked_too(make_trainer, small, blobs) -> None:
    with pytest.raises(MisconfigurationException, match=r"EarlyStopping.monitor: the metric 'val/lss'"):
        _fit(make_trainer, small(), blobs(), extra=[EarlyStopping("val/lss")])
    with pytest.raises(MisconfigurationException, match=r"needs a validation part"):
        _fit(make_trainer, small(), blobs(validation=False), extra=[EarlyStopping("val/loss")])


class _Plateau(pl.LightningModule):
    """`Small` under a schedule that goes by a metric."""

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


def test_a_scheduler_is_asked_too(make_trainer, small, blobs) -> None:
    with pytest.raises(MisconfigurationException, match=r"scheduler\.monitor: the metric 'val/los' .* Did you mean"):
        _fit(make_trainer, _Plateau(small(), "val/los"), blobs())
    with pytest.raises(MisconfigurationException, match=r"scheduler\.monitor: the metric 'error' is not logged"):
        _fit(make_trainer, _Plateau(small(), "error"), blobs())
    with pytest.raises(MisconfigurationException, match=r"scheduler\.monitor: .*needs a validation part .* scheduler"):
        _fit(make_trainer, _Plateau(small(), "val/loss"), blobs(validation=False))
    _fit(make_trainer, _Plateau(small(), "val/loss"), blobs(), max_steps=3)


def test_mode_and_sentence() -> None:
    with pytest.raises(MisconfigurationException, match=r"mode: 'most' is not known"):
        BestCheckpoint("val/acc", "most")
    assert str(unknown_monitor("x", [])) == "monitor: the metric 'x' is not logged. Logged are: none."
