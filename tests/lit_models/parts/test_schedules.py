"""Learning rate of each learning rate schedule at every optimizer step, compared with a formula."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer

from lit_models import LitMLP
from lit_models.parts.schedules import SCHEDULES

EPOCHS = 5
LR = 0.1


class At(NamedTuple):
    """Position in a run, in optimizer steps."""

    step: int
    per_epoch: int
    total: int


class Rates(pl.Callback):
    """Callback that collects the learning rate of each optimizer step."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: Optimizer
    ) -> None:
        self.seen.append(optimizer.param_groups[0]["lr"])


def _half_cosine(t: float, high: float = LR, low: float = 0.0) -> float:
    return low + (high - low) * (1 + math.cos(math.pi * t)) / 2


def _restarts(at: At) -> float:
    start, period = 0, at.per_epoch
    while at.step >= start + period:
        start, period = start + period, 2 * period
    return _half_cosine((at.step - start) / period)


def _triangle(at: At) -> float:
    position = (at.step % (2 * at.per_epoch)) / at.per_epoch
    return 0.02 + (LR - 0.02) * (position if position <= 1 else 2 - position)


def _onecycle(at: At) -> float:
    top = 0.3 * at.total - 1
    if at.step <= top:
        return _half_cosine(at.step / top, LR / 25, LR)
    return _half_cosine((at.step - top) / (at.total - 1 - top), LR, LR / 25 / 1e4)


def _warmup(at: At) -> float:
    if at.step < at.per_epoch:
        return LR * (at.step + 1) / at.per_epoch
    return _half_cosine((at.step - at.per_epoch) / (at.total - at.per_epoch), low=0.001)


#: schedule -> arguments and formula of the learning rate
CASES: dict[str, tuple[dict[str, Any], Callable[[At], float]]] = {
    "step": ({"step_size": 2, "gamma": 0.5}, lambda at: LR * 0.5 ** (at.step // (2 * at.per_epoch))),
    "multistep": (
        {"milestones": [1, 3], "gamma": 0.5},
        lambda at: LR * 0.5 ** ((at.step >= at.per_epoch) + (at.step >= 3 * at.per_epoch)),
    ),
    "exponential": ({"gamma": 0.5}, lambda at: LR * 0.5 ** (at.step / at.per_epoch)),
    "cosine": ({"eta_min": 0.01}, lambda at: _half_cosine(at.step / at.total, low=0.01)),
    "cosine_restarts": ({"T_0": 1, "T_mult": 2}, _restarts),
    "cyclic": ({"base_lr": 0.02, "step_size_up": 1}, _triangle),
    "onecycle": ({}, _onecycle),
    "warmup_cosine": ({"warmup": 1, "eta_min": 0.001}, _warmup),
    "polynomial": ({}, lambda at: LR * (1 - at.step / at.total) ** 0.9),
    # No epoch improves by 99.99%, so that every epoch after the first counts as bad.
    "plateau": (
        {"patience": 0, "threshold": 0.9999, "factor": 0.5, "min_lr": 0.02},
        lambda at: max(0.02, LR * 0.5 ** max(0, at.step // at.per_epoch - 1)),
    ),
}


def _fit(
    trainer: Callable[..., pl.Trainer], loader: Any, scheduler: Any, optimizer: Any = None, **settings: Any
) -> Any:
    x, y = torch.randn(14, 4), torch.arange(14) % 3
    model = LitMLP((4,), 3, hidden=(4,), optimizer=optimizer or {"name": "sgd", "lr": LR}, scheduler=scheduler)
    rates = Rates()
    run = trainer(**{"max_epochs": EPOCHS, "callbacks": [rates], **settings})
    batches = loader(x, y, batch_size=2)
    run.fit(model, batches, batches)
    return run, rates.seen, run.optimizers[0].param_groups[0]["lr"]


def test_every_short_name_has_a_case() -> None:
    assert set(CASES) == set(SCHEDULES)
    assert len(SCHEDULES) == 10


@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", list(CASES))
def test_every_optimizer_step_gets_its_learning_rate(trainer: Any, loader: Any, name: str, accumulate: int) -> None:
    settings, rate = CASES[name]
    _, seen, end = _fit(trainer, loader, {"name": name, **settings}, accumulate_grad_batches=accumulate)
    per_epoch = math.ceil(7 / accumulate)
    total = per_epoch * EPOCHS
    assert len(seen) == total
    assert seen == pytest.approx([rate(At(step, per_epoch, total)) for step in range(total)], rel=1e-6, abs=1e-9)
    # OneCycleLR has no meaningful value one step after its end.
    if name != "onecycle":
        assert end == pytest.approx(rate(At(total, per_epoch, total)), rel=1e-6, abs=1e-9)


def test_onecycle_ends_at_its_smallest_learning_rate(trainer: Any, loader: Any) -> None:
    _, seen, _ = _fit(trainer, loader, "onecycle")
    assert max(seen) == pytest.approx(LR, rel=0.02)
    assert seen[-1] == pytest.approx(LR / 25 / 1e4)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "nesterov", "adam", "rmsprop", "adagrad", "lbfgs"])
@pytest.mark.parametrize("name", list(CASES))
def test_every_schedule_runs_by_name_with_every_kind_of_optimizer(
    trainer: Any, loader: Any, name: str, optimizer: str
) -> None:
    spec = {"name": optimizer, "lr": 0.01}
    run, seen, _ = _fit(trainer, loader, name, optimizer=spec, max_epochs=2, limit_train_batches=3)
    assert len(seen) >= 6
    group = run.optimizers[0].param_groups[0]
    if optimizer == "sgd":
        assert group["momentum"] == 0, "a learning rate schedule must not add momentum to plain SGD"


@pytest.mark.parametrize("name", list(CASES))
def test_a_run_of_one_step_and_a_checkpoint_work(trainer: Any, loader: Any, tmp_path: Path, name: str) -> None:
    _fit(trainer, loader, name, fast_dev_run=True)
    run, _, _ = _fit(trainer, loader, name, max_epochs=1)
    run.save_checkpoint(tmp_path / "last.ckpt")
    assert torch.load(tmp_path / "last.ckpt", weights_only=True)["lr_schedulers"]


def test_max_steps_alone_sets_the_length(trainer: Any, loader: Any) -> None:
    _, seen, end = _fit(trainer, loader, "polynomial", max_epochs=-1, max_steps=9)
    assert len(seen) == 9
    assert end == pytest.approx(0.0)


def test_a_class_path_counts_epochs(trainer: Any, loader: Any) -> None:
    for name in ("torch.optim.lr_scheduler.StepLR", "StepLR"):
        _, seen, _ = _fit(trainer, loader, {"class_path": name, "init_args": {"step_size": 2, "gamma": 0.5}})
        assert seen == pytest.approx([LR * 0.5 ** (step // 7 // 2) for step in range(35)])


def test_plateau_by_class_path_monitors_the_given_metric(trainer: Any, loader: Any) -> None:
    spec = {"class_path": "torch.optim.lr_scheduler.ReduceLROnPlateau", "monitor": "val/acc", "mode": "max"}
    _, seen, _ = _fit(trainer, loader, {**spec, "patience": 0, "threshold": 100.0, "factor": 0.5})
    assert seen[0] == LR
    assert seen[-1] == pytest.approx(LR * 0.5**3)


def test_a_run_without_end_raises_an_error(trainer: Any, loader: Any) -> None:
    with pytest.raises(MisconfigurationException, match=r"max_epochs=-1.*Set --trainer.max_epochs"):
        _fit(trainer, loader, "cosine", max_epochs=-1)


@pytest.mark.parametrize(
    ("scheduler", "message"),
    [
        ("cosin", r"scheduler: unknown name 'cosin'. Did you mean cosine\?"),
        ({"name": "cosine", "tmax": 3}, r"cosine has no argument 'tmax'. Did you mean T_max\?"),
        ({"name": "step", "gamma": "much"}, r"scheduler: step: gamma must be a number, got gamma='much'"),
        ("StepLR", r"StepLR needs step_size"),
        ({"name": "onecycle", "pct_start": 3.0}, r"pct_start"),
        ({"step_size": 3}, r"got step_size=3 without a name"),
    ],
)
def test_building_a_model_with_a_wrong_schedule_raises_an_error(scheduler: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        LitMLP((4,), 3, scheduler=scheduler)


def test_a_warmup_longer_than_the_run_raises_an_error(trainer: Any, loader: Any) -> None:
    with pytest.raises(MisconfigurationException, match=r"shorter than the run of 35 steps, got 70 steps"):
        _fit(trainer, loader, {"name": "warmup_cosine", "warmup": 10})


def test_plateau_follows_the_direction_of_its_metric(trainer: Any, loader: Any) -> None:
    spec = {"name": "plateau", "monitor": "val/acc", "patience": 0, "factor": 0.5}
    run, *_ = _fit(trainer, loader, spec)
    assert run.lr_scheduler_configs[0].scheduler.mode == "max"
    with pytest.raises(
        MisconfigurationException, match=r"mode must be max, because a higher val/acc is better, got min"
    ):
        _fit(trainer, loader, {**spec, "mode": "min"})
    with pytest.raises(MisconfigurationException, match=r"is a higher or a lower val/iou better\? Set mode: max"):
        _fit(trainer, loader, {**spec, "monitor": "val/iou"})
