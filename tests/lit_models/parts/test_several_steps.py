"""Several steps per call are bit-equal to single steps, and features that need single steps raise errors."""

from collections.abc import Callable, Iterator
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.loggers import Logger
from torch import Tensor

from lit_models import LitMLP


class Grouped:
    """Batches in order, in lists of `batches_per_call`."""

    sampler = batch_sampler = None

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, batches_per_call: int = 1) -> None:
        self.batches = list(zip(x.split(batch_size), y.split(batch_size), strict=True))
        self.batches_per_call = batches_per_call

    def __len__(self) -> int:
        return -(-len(self.batches) // self.batches_per_call)

    def __iter__(self) -> Iterator[Any]:
        n = self.batches_per_call
        yield from self.batches if n == 1 else (self.batches[i : i + n] for i in range(0, len(self.batches), n))


class Lines(Logger):
    """Logger that collects (step, name, value)."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, float]] = []

    name = version = "lines"

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing."""

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.lines += [(int(step or 0), name, float(value)) for name, value in metrics.items()]


@pytest.fixture
def train(trainer: Callable[..., pl.Trainer], blobs: Any) -> Callable[..., tuple[Any, ...]]:
    """Fit an MLP with dropout and BatchNorm in calls of `n` steps; 90 samples make 18 batches of 5."""

    def fit(n: int, model: dict[str, Any] | None = None, every: int = 4, **settings: Any) -> tuple[Any, ...]:
        torch.manual_seed(3)
        settings = {"max_epochs": 3, "log_every_n_steps": every, **settings}
        task = LitMLP(
            (4,), 3, hidden=(9, 7), batch_norm=True, dropout=0.3, metrics=("acc", "f1", "auroc"), **(model or {})
        )
        task.run_several_steps(n)
        lines = Lines()
        callbacks = [LearningRateMonitor(), *[make() for make in settings.pop("watch", ())]]
        run = trainer(logger=lines, callbacks=callbacks, **settings)
        run.fit(task, Grouped(*blobs, 5, n), Grouped(*blobs, 20))
        return run, task, lines.lines

    return fit


def _same(one: tuple[Any, ...], other: tuple[Any, ...]) -> None:
    (run, task, lines), (other_run, other_task, other_lines) = one, other
    state, other_state = task.state_dict(), other_task.state_dict()
    assert all(torch.equal(value, other_state[name]) for name, value in state.items())
    assert sorted(lines) == sorted(other_lines)
    assert run.global_step == other_run.global_step
    assert run.current_epoch == other_run.current_epoch
    assert run.callback_metrics.keys() == other_run.callback_metrics.keys()
    assert all(torch.equal(value, other_run.callback_metrics[name]) for name, value in run.callback_metrics.items())
    assert torch.equal(run.optimizers[0].param_groups[0]["params"][0], next(iter(task.parameters())))


@pytest.mark.parametrize("n", [2, 4, 5, 7, 18, 50])
def test_bit_equal_to_single_steps(train: Any, n: int) -> None:
    """Include lists that end early with the epoch, and logging at any step within a list."""
    model = {"optimizer": {"name": "adamw", "lr": 0.02}, "scheduler": "onecycle", "l2": 0.01}
    _same(train(1, model), train(n, model))


@pytest.mark.parametrize("every", [1, 3, 50])
def test_logged_at_the_same_steps(train: Any, every: int) -> None:
    one, several = train(1, {"scheduler": "cosine"}, every), train(4, {"scheduler": "cosine"}, every)
    _same(one, several)
    steps = [step for step, name, _ in several[2] if name == "train/loss_step"]
    assert steps == list(range(every - 1, 54, every))
    assert [step for step, name, _ in several[2] if name.startswith("lr-")] == steps


@pytest.mark.parametrize("scheduler", ["plateau", {"class_path": "StepLR", "init_args": {"step_size": 1}}, None])
def test_schedules_per_epoch_are_stepped_by_lightning(train: Any, scheduler: Any) -> None:
    model = {"optimizer": {"name": "momentum", "lr": 0.05}, "scheduler": scheduler}
    _same(train(1, model), train(4, model))


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precisions(train: Any, precision: str) -> None:
    """Check that autocast's cache contains bf16 copies of the newest weights."""
    _same(train(1, precision=precision), train(6, precision=precision))


@pytest.mark.parametrize("steps", [1, 4, 17, 18, 19, 29])
def test_max_steps_within_a_list(train: Any, steps: int) -> None:
    settings = {"max_epochs": -1, "max_steps": steps}
    model = {"scheduler": "cosine"}
    one, several = train(1, model, **settings), train(5, model, **settings)
    assert several[0].global_step == steps
    _same(one, several)


@pytest.mark.parametrize(("interval", "first"), [(6, 6), (12, 12), (0.34, 6), (0.67, 12)])
def test_validation_within_an_epoch(train: Any, interval: float, first: int) -> None:
    one, several = train(1, val_check_interval=interval), train(6, val_check_interval=interval)
    _same(one, several)
    assert several[0].val_check_interval == interval
    validated = {step for step, name, _ in several[2] if name == "val/loss"}
    assert validated == {step - 1 for step in range(1, 55) if step % 18 % first == 0 and (first < 12 or step % 18)}


def test_early_stopping_and_checkpoints(train: Any, tmp_path: Any) -> None:
    def run(n: int) -> tuple[Any, ...]:
        def stop() -> EarlyStopping:
            return EarlyStopping("val/loss", patience=1, min_delta=0.5)

        def keep() -> ModelCheckpoint:
            return ModelCheckpoint(tmp_path / str(n), monitor="val/loss", save_top_k=-1)

        return train(n, max_epochs=9, watch=[stop, keep], enable_checkpointing=True)

    one, several = run(1), run(4)
    assert several[0].current_epoch < 9
    _same(one, several)
    names = sorted(path.name for path in (tmp_path / "4").iterdir())
    assert names == sorted(path.name for path in (tmp_path / "1").iterdir())
    for name in names:
        first, second = (torch.load(tmp_path / str(n) / name, weights_only=True) for n in (1, 4))
        assert (first["epoch"], first["global_step"]) == (second["epoch"], second["global_step"])
        assert first["optimizer_states"][0]["state"][0]["step"] == second["optimizer_states"][0]["state"][0]["step"]


def test_resumed_from_a_run_of_single_steps(train: Any, trainer: Any, blobs: Any, tmp_path: Any) -> None:
    def resume(n: int) -> tuple[Any, ...]:
        torch.manual_seed(9)
        task, lines = LitMLP((4,), 3, hidden=(9, 7), batch_norm=True), Lines()
        task.run_several_steps(n)
        run = trainer(max_epochs=3, logger=lines, log_every_n_steps=4, callbacks=[LearningRateMonitor()])
        run.fit(task, Grouped(*blobs, 5, n), Grouped(*blobs, 20), ckpt_path=path, weights_only=True)
        return run, task, lines.lines

    path = tmp_path / "half.ckpt"
    torch.manual_seed(3)
    half = trainer(max_epochs=1)
    half.fit(LitMLP((4,), 3, hidden=(9, 7), batch_norm=True), Grouped(*blobs, 5), Grouped(*blobs, 20))
    half.save_checkpoint(path)
    _same(resume(1), resume(4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gradient_clip_val": 1.0}, r"must be 1 with gradient clipping \(trainer.gradient_clip_val\), got 4\. Remove"),
        ({"accumulate_grad_batches": 2}, r"must be 1 with gradient accumulation"),
        ({"limit_train_batches": 3}, r"must be 1 with a limited number of batches"),
        ({"val_check_interval": 7}, r"val_check_interval must be a multiple .*\(4\), got 7, which is 7 batches.* 8"),
        ({"val_check_interval": 0.5}, r"val_check_interval must .* got 0\.5, which is 9 batches.* 8"),
        ({"model": {"optimizer": "lbfgs"}}, r"must be 1 with LBFGS"),
        ({"watch": [EMAWeightAveraging]}, r"must be 1 with the callback EMAWeightAveraging"),
    ],
)
def test_features_that_need_single_steps_raise_an_error(train: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        train(4, **settings)


def test_several_devices_raise_an_error(trainer: Any) -> None:
    task = LitMLP((4,), 3)
    task.run_several_steps(4)
    task.trainer = trainer(strategy="ddp", devices=2)
    with pytest.raises(MisconfigurationException, match=r"steps_per_call must be 1 with several devices"):
        task.setup("fit")


def test_model_and_data_must_agree(trainer: Any, blobs: Any) -> None:
    task = LitMLP((4,), 3)
    task.run_several_steps(3)
    with pytest.raises(MisconfigurationException, match=r"batches_per_call must .* \(3\), got 1\. Set batches_per"):
        trainer().fit(task, Grouped(*blobs, 5))
    with pytest.raises(MisconfigurationException, match=r"steps_per_call must be a positive integer, got 0"):
        task.run_several_steps(0)
