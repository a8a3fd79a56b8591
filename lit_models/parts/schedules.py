"""Learning rate schedules by name.

Short names step once per optimizer step. Their arguments count epochs, which may be fractions; the Trainer gives the
length of the run. Only `plateau`, torch's ReduceLROnPlateau, steps per epoch. Its `patience` counts epochs with a
validation, and its argument `monitor` is val/loss by default. A class path, or the name of a torch class such as
`StepLR`, gets its arguments unchanged and steps per epoch.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import lightning.pytorch as pl
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch.optim import Optimizer, lr_scheduler
from torch.optim.lr_scheduler import LRScheduler

from lit_models.parts import specs
from lit_models.parts.several_steps import batches_per_epoch
from lit_models.parts.specs import Spec


@dataclass(frozen=True)
class RunLength:
    """Length of a run in optimizer steps."""

    total: int
    per_epoch: int

    def steps(self, epochs: float | None, fraction: float = 1.0) -> int:
        """Return the number of optimizer steps in `epochs`, or in a fraction of the run if None; at least 1."""
        count = self.total * fraction if epochs is None else epochs * self.per_epoch
        return max(1, round(count))


def run_length(trainer: pl.Trainer) -> RunLength:
    """Return the length of the Trainer's run; one step takes all accumulated batches on all devices."""
    total = trainer.estimated_stepping_batches
    if not math.isfinite(total):
        raise MisconfigurationException(
            "scheduler: a learning rate schedule needs a run of known length, got max_epochs=-1. "
            "Set --trainer.max_epochs or --trainer.max_steps."
        )
    batches = batches_per_epoch(trainer)
    if not math.isfinite(batches):  # a stream of unknown length, which max_steps ends, is one long epoch
        return RunLength(int(total), int(total))
    per_epoch = max(1, math.ceil(batches / trainer.accumulate_grad_batches))
    if batches != trainer.num_training_batches:  # with steps_per_call the Trainer counts calls
        total = math.inf if trainer.max_epochs in (None, -1) else per_epoch * max(trainer.max_epochs or 1, 1)
        total = total if trainer.max_steps == -1 else min(total, trainer.max_steps)
    return RunLength(int(total), per_epoch)


def _cycles(optimizer: Optimizer, cycle_momentum: bool | None) -> bool:
    """Return whether to cycle the momentum: by default if the optimizer uses one, so that plain SGD gains none."""
    has_momentum = bool(optimizer.defaults.get("momentum")) or "betas" in optimizer.defaults
    return has_momentum if cycle_momentum is None else cycle_momentum


def _lr(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def step(optimizer: Optimizer, run: RunLength, step_size: float | None = None, gamma: float = 0.1) -> LRScheduler:
    """Multiply the learning rate by gamma every `step_size` epochs (default: a third of the run)."""
    return lr_scheduler.StepLR(optimizer, run.steps(step_size, 1 / 3), gamma)


def multistep(
    optimizer: Optimizer, run: RunLength, milestones: Sequence[float] | None = None, gamma: float = 0.1
) -> LRScheduler:
    """Multiply the learning rate by gamma at the epochs `milestones` (default: 50% and 75% of the run)."""
    at = [run.steps(None, 0.5), run.steps(None, 0.75)] if milestones is None else [run.steps(m) for m in milestones]
    return lr_scheduler.MultiStepLR(optimizer, at, gamma)


def exponential(optimizer: Optimizer, run: RunLength, gamma: float = 0.95) -> LRScheduler:
    """Multiply the learning rate by gamma per epoch, in equal factors per step."""
    return lr_scheduler.ExponentialLR(optimizer, gamma ** (1 / run.per_epoch))


def cosine(optimizer: Optimizer, run: RunLength, T_max: float | None = None, eta_min: float = 0.0) -> LRScheduler:  # noqa: N803
    """Decrease to eta_min over `T_max` epochs (default: the run) along half a cosine (arXiv:1608.03983)."""
    return lr_scheduler.CosineAnnealingLR(optimizer, run.steps(T_max), eta_min)


def cosine_restarts(
    optimizer: Optimizer,
    run: RunLength,
    T_0: float | None = None,  # noqa: N803
    T_mult: int = 1,  # noqa: N803
    eta_min: float = 0.0,
) -> LRScheduler:
    """Restart `cosine` after `T_0` epochs (default: 25% of the run), then T_mult times as many (arXiv:1608.03983)."""
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, run.steps(T_0, 0.25), T_mult, eta_min)


def _per_group(optimizer: Optimizer, value: float) -> list[float]:
    """Return `value` for the first parameter group, and for each other one scaled by its learning rate's ratio."""
    first = _lr(optimizer)
    return [value * (float(group["lr"]) / first if first else 1.0) for group in optimizer.param_groups]


def cyclic(
    optimizer: Optimizer,
    run: RunLength,
    base_lr: float | None = None,
    max_lr: float | None = None,
    step_size_up: float | None = None,
    step_size_down: float | None = None,
    mode: str = "triangular",
    gamma: float = 1.0,
    cycle_momentum: bool | None = None,
    base_momentum: float = 0.8,
    max_momentum: float = 0.9,
) -> LRScheduler:
    """Cycle between base_lr (default: max_lr / 10) and max_lr (default: the optimizer's lr) (arXiv:1506.01186).

    `step_size_up` and `step_size_down` count epochs; by default the run has four cycles. `gamma` applies per step.
    As in torch, the momentum cycles from `max_momentum` to `base_momentum`.
    """
    top = _lr(optimizer) if max_lr is None else max_lr
    up = run.steps(step_size_up, 1 / 8)
    return lr_scheduler.CyclicLR(
        optimizer,
        base_lr=_per_group(optimizer, top / 10 if base_lr is None else base_lr),
        max_lr=_per_group(optimizer, top),
        step_size_up=up,
        step_size_down=up if step_size_down is None else run.steps(step_size_down),
        mode=mode,  # type: ignore[arg-type]
        gamma=gamma,
        cycle_momentum=_cycles(optimizer, cycle_momentum),
        base_momentum=base_momentum,
        max_momentum=max_momentum,
    )


def onecycle(
    optimizer: Optimizer,
    run: RunLength,
    max_lr: float | None = None,
    pct_start: float = 0.3,
    anneal_strategy: str = "cos",
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    three_phase: bool = False,
    cycle_momentum: bool | None = None,
    base_momentum: float = 0.85,
    max_momentum: float = 0.95,
) -> LRScheduler:
    """Increase once to max_lr (default: the optimizer's lr), then decrease to the end of the run (arXiv:1708.07120).

    As in torch, the momentum decreases to `base_momentum` meanwhile, and increases to `max_momentum` again.
    """
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=_per_group(optimizer, _lr(optimizer) if max_lr is None else max_lr),
        total_steps=run.total,
        pct_start=pct_start,
        anneal_strategy=anneal_strategy,  # type: ignore[arg-type]
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        three_phase=three_phase,
        cycle_momentum=_cycles(optimizer, cycle_momentum),
        base_momentum=base_momentum,
        max_momentum=max_momentum,
    )


def warmup_cosine(
    optimizer: Optimizer, run: RunLength, warmup: float | None = None, eta_min: float = 0.0
) -> LRScheduler:
    """Increase linearly over `warmup` epochs (default: 5% of the run), then decrease to eta_min along half a cosine."""
    warmup_steps = run.steps(warmup, 0.05) if warmup is None or warmup > 0 else 0
    if warmup_steps >= run.total > 1:
        raise ValueError(f"warmup must be shorter than the run of {run.total} steps, got {warmup_steps} steps")
    lowest = eta_min / _lr(optimizer) if _lr(optimizer) > 0 else 0.0

    def factor(index: int) -> float:
        if index < warmup_steps:
            return (index + 1) / warmup_steps
        done = min(1.0, (index - warmup_steps) / max(1, run.total - warmup_steps))
        return lowest + (1 - lowest) * 0.5 * (1 + math.cos(math.pi * done))

    return lr_scheduler.LambdaLR(optimizer, factor)


def polynomial(optimizer: Optimizer, run: RunLength, power: float = 0.9, total: float | None = None) -> LRScheduler:
    """Multiply by (1 - t) ** power, where t goes from 0 to 1 over `total` epochs (default: the run)."""
    return lr_scheduler.PolynomialLR(optimizer, run.steps(total), power)


SCHEDULES: Mapping[str, Callable[..., LRScheduler]] = MappingProxyType(
    {
        "step": step,
        "multistep": multistep,
        "exponential": exponential,
        "cosine": cosine,
        "plateau": lr_scheduler.ReduceLROnPlateau,
        "cosine_restarts": cosine_restarts,
        "cyclic": cyclic,
        "onecycle": onecycle,
        "warmup_cosine": warmup_cosine,
        "polynomial": polynomial,
    }
)


def _build(
    spec: Spec, optimizer: Optimizer, run: Callable[[], RunLength], direction: Callable[[str], str | None]
) -> tuple[LRScheduler, str]:
    """Return the schedule that the spec names, and the metric that it monitors if it steps per epoch, else ''.

    `direction` returns whether the lower ("min") or the higher ("max") value of a metric is better, if that is known.
    """
    plain = specs.as_spec(spec, "scheduler")
    name = plain["class_path"].lower()
    by_steps = name in SCHEDULES and name != "plateau"
    monitor = "" if by_steps else plain["init_args"].pop("monitor", "val/loss")
    number = 2 if by_steps else 1
    target, arguments = specs.resolve(plain, SCHEDULES, "scheduler", LRScheduler, lr_scheduler, number)
    supplied = (optimizer, run()) if by_steps else (optimizer,)
    if isinstance(target, type) and issubclass(target, lr_scheduler.ReduceLROnPlateau):
        arguments["mode"] = _plateau_mode(monitor, arguments.get("mode"), direction(monitor))
    return specs.build(target, supplied, arguments, "scheduler"), monitor


def check_schedule(spec: Spec, optimizer: Optimizer) -> None:
    """Raise an error if a name or an argument is wrong, by building the schedule for an example optimizer."""
    plain = specs.as_spec(spec, "scheduler")["init_args"]
    _build(spec, optimizer, lambda: RunLength(10**9, 1000), lambda _: plain.get("mode", "min"))


def momentum_range(spec: Spec, optimizer: Optimizer) -> tuple[float, float] | None:
    """Return the lowest and the highest momentum if the schedule cycles it, else None; it changes the optimizer."""
    _build(spec, optimizer, lambda: RunLength(10**9, 1000), lambda _: "min")
    group = optimizer.param_groups[0]
    return (group["base_momentum"], group["max_momentum"]) if "base_momentum" in group else None


def depends_on_run_length(spec: Spec | None) -> bool:
    """Return True if the learning rate schedule depends on the length of the run."""
    if spec is None:
        return False
    plain = specs.as_spec(spec, "scheduler")
    name, arguments = plain["class_path"].lower(), plain["init_args"]
    fixed_by = {"step": "step_size", "multistep": "milestones", "cosine_restarts": "T_0", "cyclic": "step_size_up"}
    in_table = name in SCHEDULES and name not in ("plateau", "exponential")
    return in_table and arguments.get(fixed_by.get(name, "")) is None


def _plateau_mode(monitor: str, asked: str | None, known: str | None) -> str:
    """Return the direction in which the monitored metric improves; raise an error for a wrong or an unknown one."""
    if asked is None and known is None:
        raise MisconfigurationException(
            f"scheduler: is a higher or a lower {monitor} better? Set mode: max or mode: min next to monitor."
        )
    if asked is not None and known is not None and asked != known:
        better = "higher" if known == "max" else "lower"
        raise MisconfigurationException(
            f"scheduler: mode must be {known}, because a {better} {monitor} is better, got {asked}. Remove mode."
        )
    return asked or known or "min"


def rebuild_schedule(module: pl.LightningModule, trainer: pl.Trainer) -> None:
    """Replace the learning rate schedule by one for the Trainer's new length, at the current step."""
    (optimizer,) = trainer.optimizers
    fresh: Optimizer = module.new_optimizer()  # type: ignore[operator]
    for group, new in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        for name in [*group]:  # also remove what the old schedule added
            if name != "params":
                del group[name]
        group.update({name: value for name, value in new.items() if name != "params"})
    (config,) = trainer.lr_scheduler_configs
    schedule: LRScheduler = build_schedule(module.scheduler_spec, optimizer, module)["scheduler"]  # type: ignore[arg-type]
    for _ in range(trainer.global_step):
        schedule.step()
    config.scheduler = schedule


def build_schedule(spec: Spec, optimizer: Optimizer, module: pl.LightningModule) -> dict[str, Any]:
    """Return Lightning's `lr_scheduler` dictionary for the learning rate schedule that `spec` names.

    `module.direction` tells how the metric that a plateau schedule monitors improves.
    """
    trainer = module.trainer
    schedule, monitor = _build(spec, optimizer, lambda: run_length(trainer), module.direction)  # type: ignore[arg-type]
    entry = {"scheduler": schedule, "interval": "epoch" if monitor else "step", "frequency": 1}
    if isinstance(schedule, lr_scheduler.ReduceLROnPlateau):
        entry["monitor"] = monitor
        if monitor.startswith("val"):  # a validation metric exists only in epochs with a validation
            entry["frequency"] = trainer.check_val_every_n_epoch or 1
    return entry
