"""Momentum under `onecycle` and `cyclic`, compared with torch's schedules, and settings that a schedule overrides."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.optim import lr_scheduler

from lit_models import LitMLP, rebuild_schedule
from lit_models.parts.learning_rate import check_rate, momentum_remark, rate_remark

EPOCHS, PER_EPOCH = 10, 7
TOTAL = EPOCHS * PER_EPOCH
OPTIMIZERS: dict[str, tuple[dict[str, Any], Any, dict[str, Any]]] = {
    "momentum 0.9": ({"name": "sgd", "lr": 0.1, "momentum": 0.9}, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    "nesterov": ({"name": "nesterov", "lr": 0.1}, torch.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "adam": ({"name": "adam", "lr": 0.01}, torch.optim.Adam, {"lr": 0.01}),
    "adamw": ({"name": "adamw", "lr": 0.01}, torch.optim.AdamW, {"lr": 0.01}),
}


class Groups(pl.Callback):
    """Learning rate, momentum and betas before every optimizer step."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.seen.append(_values(optimizer))


class Rebuild(pl.Callback):
    """Builds the schedule again in the middle of the run."""

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == TOTAL // 2:
            rebuild_schedule(pl_module, trainer)


def _values(optimizer: torch.optim.Optimizer) -> tuple[Any, ...]:
    group = optimizer.param_groups[0]
    return group["lr"], group.get("momentum"), group.get("betas")


def _fit(trainer: Any, loader: Any, *callbacks: pl.Callback, **arguments: Any) -> tuple[Any, list[tuple[Any, ...]]]:
    model, groups = LitMLP((4,), 3, hidden=(4,), **arguments), Groups()
    batches = loader(torch.randn(2 * PER_EPOCH, 4), torch.arange(2 * PER_EPOCH) % 3, batch_size=2)
    run = trainer(max_epochs=EPOCHS, callbacks=[groups, *callbacks], limit_val_batches=0)
    run.fit(model, batches)
    return run, groups.seen


def _torch(schedule: str, optimizer: Any, settings: dict[str, Any], **options: Any) -> list[tuple[Any, ...]]:
    """The same values of torch alone, with its defaults for the momentum."""
    reference = optimizer([torch.nn.Parameter(torch.zeros(1))], **settings)
    top, half = settings["lr"], round(TOTAL / 8)
    cycle = (
        lr_scheduler.OneCycleLR(reference, top, total_steps=TOTAL, **options)
        if schedule == "onecycle"
        else lr_scheduler.CyclicLR(reference, top / 10, top, step_size_up=half, step_size_down=half, **options)
    )
    seen = []
    for step in range(TOTAL):
        seen.append(_values(reference))
        reference.step()
        if step < TOTAL - 1:
            cycle.step()
    return seen


@pytest.mark.parametrize("name", list(OPTIMIZERS))
@pytest.mark.parametrize("schedule", ["onecycle", "cyclic"])
def test_rate_and_momentum_are_those_of_torch_at_every_step(
    trainer: Any, loader: Any, schedule: str, name: str
) -> None:
    spec, optimizer, settings = OPTIMIZERS[name]
    _, seen = _fit(trainer, loader, optimizer=spec, scheduler=schedule)
    assert seen == _torch(schedule, optimizer, settings)
    momenta = [betas[0] if betas else momentum for _, momentum, betas in seen]
    highest = 0.95 if schedule == "onecycle" else 0.9
    assert (min(momenta), max(momenta)) == (pytest.approx(highest - 0.1, abs=2e-3), highest)


@pytest.mark.parametrize("options", [{"cycle_momentum": False}, {"base_momentum": 0.5, "max_momentum": 0.7}])
@pytest.mark.parametrize("schedule", ["onecycle", "cyclic"])
def test_the_range_of_the_momentum_can_be_set(trainer: Any, loader: Any, schedule: str, options: Any) -> None:
    spec, optimizer, settings = OPTIMIZERS["momentum 0.9"]
    _, seen = _fit(trainer, loader, optimizer=spec, scheduler={"name": schedule, **options})
    assert seen == _torch(schedule, optimizer, settings, **options)


@pytest.mark.parametrize("name", ["sgd", "rmsprop"])
@pytest.mark.parametrize("schedule", ["onecycle", "cyclic"])
def test_an_optimizer_without_momentum_gains_none(trainer: Any, loader: Any, schedule: str, name: str) -> None:
    _, seen = _fit(trainer, loader, optimizer={"name": name, "lr": 0.1}, scheduler=schedule)
    assert {momentum for _, momentum, _ in seen} == {0}
    plain = _torch(schedule, torch.optim.SGD, {"lr": 0.1}, cycle_momentum=False)
    assert [rate for rate, *_ in seen] == [rate for rate, *_ in plain]


@pytest.mark.parametrize("schedule", ["onecycle", "cyclic"])
def test_a_schedule_that_is_built_again_starts_from_the_optimizers_own_rate(
    trainer: Any, loader: Any, schedule: str
) -> None:
    spec, optimizer, settings = OPTIMIZERS["momentum 0.9"]
    _, seen = _fit(trainer, loader, Rebuild(), optimizer=spec, scheduler=schedule)
    for ours, torchs in zip(seen, _torch(schedule, optimizer, settings), strict=True):
        assert ours[:2] == pytest.approx(torchs[:2])


@pytest.mark.parametrize(
    ("optimizer", "scheduler", "words"),
    [
        (
            {"name": "sgd", "lr": 1.0},
            {"name": "onecycle", "max_lr": 0.01},
            "Remove max_lr and set --model.optimizer.lr",
        ),
        ({"name": "adam", "lr": 0.002}, {"name": "cyclic", "max_lr": 0.01}, "would ignore optimizer.lr 0.002"),
        (
            {"name": "sgd", "lr": 1.0},
            {"class_path": "torch.optim.lr_scheduler.OneCycleLR", "init_args": {"max_lr": 0.1, "total_steps": 9}},
            "Remove optimizer.lr",
        ),
    ],
)
def test_a_learning_rate_that_the_schedule_ignores_is_rejected(optimizer: Any, scheduler: Any, words: str) -> None:
    with pytest.raises(MisconfigurationException, match=r"max_lr 0\.[01]+ would ignore") as error:
        check_rate(optimizer, scheduler)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("optimizer", "scheduler"),
    [
        ("sgd", {"name": "onecycle", "max_lr": 0.01}),
        ({"name": "adam", "betas": [0.8, 0.99]}, {"name": "onecycle", "max_lr": 0.01}),
        ({"name": "sgd", "lr": 1.0}, "onecycle"),
        ({"name": "sgd", "lr": 1.0}, {"name": "cyclic", "base_lr": 0.01}),
        ({"name": "sgd", "lr": 1.0}, None),
    ],
)
def test_one_learning_rate_is_accepted(optimizer: Any, scheduler: Any) -> None:
    check_rate(optimizer, scheduler)


def test_the_rate_of_the_default_optimizer_is_reported_instead() -> None:
    default, scheduler = {"name": "adam", "lr": 0.001}, {"name": "onecycle", "max_lr": 0.01}
    check_rate(default, scheduler)
    assert rate_remark(default, scheduler) == "scheduler: max_lr 0.01 replaces the optimizer's default lr 0.001."
    assert rate_remark(default, "onecycle") == rate_remark("sgd", scheduler) == rate_remark(default, None) == ""


def test_a_momentum_that_the_schedule_replaces_is_reported() -> None:
    said = momentum_remark({"name": "sgd", "lr": 0.1, "momentum": 0.5}, "onecycle")
    assert said.startswith("scheduler: momentum cycles between 0.85 and 0.95, and optimizer.momentum 0.5 is not used.")
    assert "optimizer.betas" in momentum_remark({"name": "adam", "betas": [0.8, 0.99]}, "cyclic")
    for optimizer, scheduler in (
        ("momentum", "onecycle"),
        ({"name": "sgd", "momentum": 0.5}, "cosine"),
        ({"name": "sgd", "momentum": 0.5}, {"name": "onecycle", "cycle_momentum": False}),
        ({"name": "sgd", "momentum": 0.5}, None),
    ):
        assert momentum_remark(optimizer, scheduler) == ""
