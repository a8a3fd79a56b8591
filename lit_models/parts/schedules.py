"""Learning-rate schedules by name.

Short names take numbers that count epochs (fractions allowed), know the length of the run from the trainer and step
once per optimizer step; `plateau` alone steps per epoch. A class path, or the bare name of a torch class such as
`StepLR`, gets its numbers as they are and steps per epoch.
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
    """How long a run is: `total` optimizer steps, of which `per_epoch` make an epoch."""

    total: int
    per_epoch: int

    def steps(self, epochs: float | None, share: float = 1.0) -> int:
        """Optimizer steps in so many epochs; None means this share of the whole run. At least 1."""
        count = self.total * share if epochs is None else epochs * self.per_epoch
        return max(1, round(count))


def run_length(trainer: pl.Trainer) -> RunLength:
    """The length of the trainer's run, in optimizer steps over accumulated batches and all devices."""
    total = trainer.estimated_stepping_batches
    if not math.isfinite(total):
        raise MisconfigurationException(
            "scheduler: the run has no end (max_epochs=-1), so its schedule has no length; "
            "set --trainer.max_epochs or --trainer.max_steps."
        )
    batches = trainer.num_training_batches
    if getattr(trainer.lightning_module, "steps_per_call", 1) > 1 and math.isfinite(batches):
        batches = batches_per_epoch(trainer)  # the trainer counts calls
        steps = [trainer.max_steps] if trainer.max_steps != -1 else []
        epochs = -1 if trainer.max_epochs is None else trainer.max_epochs
        return RunLength(min([batches * max(epochs, 1)] * (epochs != -1) + steps), batches)
    if math.isfinite(batches):
        return RunLength(int(total), max(1, math.ceil(batches / trainer.accumulate_grad_batches)))
    return RunLength(int(total), int(total))  # a stream of unknown length, ended by max_steps: one long epoch


def _momentum(optimizer: Optimizer) -> bool:
    """Whether the optimizer has a momentum that is in use; SGD without momentum must not get one from its schedule."""
    return bool(optimizer.defaults.get("momentum")) or "betas" in optimizer.defaults


def _lr(optimizer: Optimizer) -> float:
    return float(optimizer.param_groups[0]["lr"])


def step(optimizer: Optimizer, run: RunLength, step_size: float | None = None, gamma: float = 0.1) -> LRScheduler:
    """Times gamma every `step_size` epochs (default: a third of the run)."""
    return lr_scheduler.StepLR(optimizer, run.steps(step_size, 1 / 3), gamma)


def multistep(
    optimizer: Optimizer, run: RunLength, milestones: Sequence[float] | None = None, gamma: float = 0.1
) -> LRScheduler:
    """Times gamma at each of the epochs `milestones` (default: half and three quarters of the run)."""
    at = [run.steps(None, 0.5), run.steps(None, 0.75)] if milestones is None else [run.steps(m) for m in milestones]
    return lr_scheduler.MultiStepLR(optimizer, at, gamma)


def exponential(optimizer: Optimizer, run: RunLength, gamma: float = 0.95) -> LRScheduler:
    """Times gamma per epoch, smoothly."""
    return lr_scheduler.ExponentialLR(optimizer, gamma ** (1 / run.per_epoch))


def cosine(optimizer: Optimizer, run: RunLength, T_max: float | None = None, eta_min: float = 0.0) -> LRScheduler:  # noqa: N803
    """Half a cosine down to eta_min over `T_max` epochs (default: the run)."""
    return lr_scheduler.CosineAnnealingLR(optimizer, run.steps(T_max), eta_min)


def cosine_restarts(
    optimizer: Optimizer,
    run: RunLength,
    T_0: float | None = None,  # noqa: N803
    T_mult: int = 1,  # noqa: N803
    eta_min: float = 0.0,
) -> LRScheduler:
    """Cosine that starts anew after `T_0` epochs (default: a quarter of the run), each period T_mult times the last."""
    return lr_scheduler.CosineAnnealingWarmRestarts(optimizer, run.steps(T_0, 0.25), T_mult, eta_min)


def _per_group(optimizer: Optimizer, value: float) -> list[float]:
    """A rate for each parameter group: `value` for the first, the others in the ratio that the optimizer gave them."""
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
) -> LRScheduler:
    """Up and down between base_lr (default: a tenth of max_lr) and max_lr (default: the optimizer's learning rate).

    `step_size_up` and `step_size_down` count epochs; by default the run holds four cycles. `gamma` counts per step.
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
        cycle_momentum=_momentum(optimizer) if cycle_momentum is None else cycle_momentum,
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
) -> LRScheduler:
    """One rise to max_lr (default: the optimizer's learning rate) and one long fall over the run (arXiv:1708.07120)."""
    return lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=_per_group(optimizer, _lr(optimizer) if max_lr is None else max_lr),
        total_steps=run.total,
        pct_start=pct_start,
        anneal_strategy=anneal_strategy,  # type: ignore[arg-type]
        div_factor=div_factor,
        final_div_factor=final_div_factor,
        three_phase=three_phase,
        cycle_momentum=_momentum(optimizer) if cycle_momentum is None else cycle_momentum,
    )


def warmup_cosine(
    optimizer: Optimizer, run: RunLength, warmup: float | None = None, eta_min: float = 0.0
) -> LRScheduler:
    """Linear rise over `warmup` epochs (default: a twentieth of the run), then half a cosine down to eta_min."""
    rise = run.steps(warmup, 0.05) if warmup is None or warmup > 0 else 0
    if rise >= run.total > 1:
        raise ValueError(f"a warm-up of {rise} steps leaves nothing of a run of {run.total}")
    floor = eta_min / _lr(optimizer) if _lr(optimizer) > 0 else 0.0

    def factor(index: int) -> float:
        if index < rise:
            return (index + 1) / rise
        done = min(1.0, (index - rise) / max(1, run.total - rise))
        return floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * done))

    return lr_scheduler.LambdaLR(optimizer, factor)


def polynomial(optimizer: Optimizer, run: RunLength, power: float = 0.9, total: float | None = None) -> LRScheduler:
    """To zero as (1 - t) ** power over `total` epochs (default: the run)."""
    return lr_scheduler.PolynomialLR(optimizer, run.steps(total), power)


def plateau(
    optimizer: Optimizer,
    mode: str = "min",
    factor: float = 0.1,
    patience: int = 10,
    threshold: float = 1e-4,
    threshold_mode: str = "rel",
    cooldown: int = 0,
    min_lr: float = 0.0,
) -> lr_scheduler.ReduceLROnPlateau:
    """Times `factor` once `monitor` (a setting too, default val/loss) is no better for more than `patience` epochs.

    Where `check_val_every_n_epoch` makes validation rarer, `patience` counts validations.
    """
    return lr_scheduler.ReduceLROnPlateau(
        optimizer,
        mode=mode,  # type: ignore[arg-type]
        factor=factor,
        patience=patience,
        threshold=threshold,
        threshold_mode=threshold_mode,  # type: ignore[arg-type]
        cooldown=cooldown,
        min_lr=min_lr,
    )


SCHEDULES: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {
        "step": step,
        "multistep": multistep,
        "exponential": exponential,
        "cosine": cosine,
        "plateau": plateau,
        "cosine_restarts": cosine_restarts,
        "cyclic": cyclic,
        "onecycle": onecycle,
        "warmup_cosine": warmup_cosine,
        "polynomial": polynomial,
    }
)


def _resolve(spec: Spec) -> tuple[Callable[..., Any], dict[str, Any], str]:
    """What the spec names, its settings, and the metric that a plateau schedule watches."""
    plain = specs.as_spec(spec, "scheduler")
    name = plain["class_path"].lower()
    by_steps = name in SCHEDULES and name != "plateau"
    monitor = "" if by_steps else plain["init_args"].pop("monitor", "val/loss")
    target, settings = specs.resolve(
        plain, SCHEDULES, "scheduler", LRScheduler, lr_scheduler, supplied=2 if by_steps else 1
    )
    return target, settings, monitor


def check_schedule(spec: Spec, optimizer: Optimizer) -> None:
    """Find a wrong name or value now, by building the schedule on a spare optimizer, for a run longer than any."""
    target, settings, monitor = _resolve(spec)
    arguments = (optimizer,) if monitor else (optimizer, RunLength(10**9, 1000))
    specs.build(target, arguments, settings, "scheduler")


def ends_with_run(spec: Spec | None) -> bool:
    """Whether a schedule is planned over the run's length, so that a longer run would need another one."""
    if spec is None:
        return False
    plain = specs.as_spec(spec, "scheduler")
    name, given = plain["class_path"].lower(), plain["init_args"]
    own = {"step": "step_size", "multistep": "milestones", "cosine_restarts": "T_0", "cyclic": "step_size_up"}
    return name in SCHEDULES and name not in ("plateau", "exponential") and given.get(own.get(name, "")) is None


def plan_anew(module: pl.LightningModule, trainer: pl.Trainer) -> None:
    """Replace the schedule that a checkpoint brought by one for the trainer's present length, at the present step."""
    (optimizer,) = trainer.optimizers
    configured: Any = module.configure_optimizers()
    fresh: Optimizer = configured["optimizer"]
    for group, new in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        group.update({name: value for name, value in new.items() if name != "params"})
    (config,) = trainer.lr_scheduler_configs
    schedule: LRScheduler = build_schedule(module.scheduler_spec, optimizer, trainer)["scheduler"]  # type: ignore[arg-type]
    for _ in range(trainer.global_step):
        schedule.step()
    config.scheduler = schedule


def build_schedule(spec: Spec, optimizer: Optimizer, trainer: pl.Trainer) -> dict[str, Any]:
    """Lightning's scheduler entry for `spec`, with interval and monitor set."""
    target, settings, monitor = _resolve(spec)
    if not monitor:
        built = specs.build(target, (optimizer, run_length(trainer)), settings, "scheduler")
        return {"scheduler": built, "interval": "step", "frequency": 1}
    built = specs.build(target, (optimizer,), settings, "scheduler")
    entry: dict[str, Any] = {"scheduler": built, "interval": "epoch", "frequency": 1}
    if not isinstance(built, lr_scheduler.ReduceLROnPlateau):
        return entry
    # A validation metric exists in the epochs that validate.
    rarely = trainer.check_val_every_n_epoch or 1 if monitor.startswith("val") else 1
    return {**entry, "monitor": monitor, "frequency": rarely}
