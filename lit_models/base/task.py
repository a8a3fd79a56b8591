"""What every model shares: one step for train, validation and test, optimizer, schedule, loss, penalties, metrics."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningModule
from torch import Tensor, nn
from torchmetrics import Metric

from lit_models.base.epoch_state import EpochState
from lit_models.base.plain_hparams import plain_settings
from lit_models.parts.initialise import check_initialisation, initialise
from lit_models.parts.losses import build_loss
from lit_models.parts.metrics import StageMetrics, build_metrics
from lit_models.parts.optimizers import DEFAULT_OPTIMIZER, build_optimizer, check_optimizer
from lit_models.parts.penalties import penalty_terms
from lit_models.parts.schedules import build_schedule, check_schedule
from lit_models.parts.several_steps import SeveralSteps
from lit_models.parts.specs import Spec, brief

_SPEC_ARGUMENTS = ("optimizer", "scheduler", "loss", "init", "activation")


@dataclass
class _Pace:
    """What a step keeps, apart from the module, whose attributes take as long to set as a small addition."""

    counted: int = -1  # the batch that was counted last
    weight: Callable[[int], float] | None = None  # of a batch in its optimizer step, where that is not always 1


class LitTask(EpochState, LightningModule, ABC):
    """Base of `LitClassifier` and `LitRegressor`; a child sets ``self.net = self.initialised(network)``.

    Logged per epoch: ``<stage>/loss`` (the data loss alone, mean over samples), ``<stage>/<metric>``, ``train/l1`` and
    ``train/l2`` where these are on, ``gap/loss`` (val/loss over train/loss); every `log_every_n_steps` optimizer steps
    ``train/loss_step``.

    Args:
        input_shape: shape of one sample, from the data.
        optimizer: short name, class of `torch.optim` or class path, with settings.
        scheduler: short name (counts epochs, stepped per batch) or class path (stepped per epoch).
        loss: short name or class path.
        init: how the weights start, see `initialise.py`.
        l1: adds l1 * sum(abs(w)) over the weights, biases and normalisation left out.
        l2: adds l2 / 2 * sum(w ** 2) over the same, so that it compares with an optimizer's weight_decay.
        metrics: names of the metrics that every stage logs.
    """

    known_losses: ClassVar[Mapping[str, Callable[..., Any]]]
    other_losses: ClassVar[Mapping[str, Callable[..., Any]]]
    known_metrics: ClassVar[Mapping[str, Callable[[int], Metric]]]

    #: arguments of a base that a child computes by itself and so does not take; they are not stored
    derived_arguments: ClassVar[tuple[str, ...]] = ()

    #: the kind of work that a step is, for the choice of precision and memory layout
    machine_kind: ClassVar[Literal["conv", "recurrent", "dense"]] = "dense"
    #: whether results are wanted in float32 whatever the machine is good at
    exact: ClassVar[bool] = False
    #: set before a fit, with the module laid out alike: batches of images come in channels-last order
    channels_last: bool = False
    #: optimizer steps per call of `training_step`, see `run_several_steps`
    steps_per_call: int = 1

    net: nn.Module

    def __init__(
        self,
        input_shape: Sequence[int] | None = None,
        optimizer: Spec = DEFAULT_OPTIMIZER,
        scheduler: Spec | None = None,
        loss: Spec = "mse",
        init: Spec = "default",
        l1: float = 0.0,
        l2: float = 0.0,
        metrics: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        kept = plain_settings(self.hparams, self.derived_arguments, _SPEC_ARGUMENTS)
        self.save_hyperparameters(kept, ignore=[name for name in self.hparams if name not in kept])
        for name, penalty in (("l1", l1), ("l2", l2)):
            if not 0.0 <= penalty < float("inf"):
                raise MisconfigurationException(f"{name}: {penalty} is no penalty; give 0 (off) or a positive number.")
        spare = check_optimizer(optimizer)
        check_initialisation(init)
        if scheduler is not None:
            check_schedule(scheduler, spare)
        self.optimizer_spec, self.scheduler_spec, self.init_spec = optimizer, scheduler, init
        self.l1, self.l2 = l1, l2
        self.loss_fn = build_loss(loss, self.known_losses, self.other_losses)
        self.input_shape = None if input_shape is None else tuple(input_shape)
        if self.input_shape is not None:
            self.example_input_array = torch.zeros(1, *self.input_shape)
        self._initialised = False
        self._pace = _Pace()
        self._several: SeveralSteps | None = None
        self._val_loss: Tensor | None = None

    def _prepare_metrics(self, names: Sequence[str], size: int) -> None:
        """Children call this once they know the number of classes or targets."""
        built = build_metrics(names, self.known_metrics, size)
        penalties = [name for name, value in (("l1", self.l1), ("l2", self.l2)) if value > 0]
        self.train_metrics = StageMetrics("train", built, ("loss", *penalties))
        self.val_metrics = StageMetrics("val", built)
        self.test_metrics = StageMetrics("test", built)
        self.metric_names: tuple[str, ...] = ("val/loss", *(f"val/{name}" for name in built))

    def initialised(self, network: nn.Module) -> nn.Module:
        """The network with its weights started as the argument `init` says."""
        self._initialised = True
        return initialise(network, self.init_spec)

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.net(x)
        return output

    # What a task decides, beside `observe`

    @abstractmethod
    def predicted(self, output: Tensor, target: Tensor | None) -> dict[str, Tensor]:
        """A batch's predictions as `predict_step` returns them."""

    @abstractmethod
    def facts(self) -> dict[str, Any]:
        """What the model was built for, under the names by which the data states it."""

    @abstractmethod
    def check_target(self, data: Any) -> None:
        """Refuse a datamodule whose targets this task cannot learn, in words that name the model to use instead."""

    def outputs(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """What the loss compares: the network's output and the target, in shapes that fit."""
        return self(x), y

    def final_output(self, x: Tensor) -> Tensor:
        """The output that a prediction is made from."""
        output: Tensor = self(x)
        return output

    # The shared step

    def _step(self, metrics: StageMetrics, batch: Any, count: bool = True) -> Tensor:
        x, y = batch
        output, target = self.outputs(x, y)
        loss: Tensor = self.loss_fn(output, target)
        if count:
            metrics.add_mean("loss", loss, x.shape[0])
            if metrics.add(output.detach(), target):
                self._take(metrics)
        return loss

    @torch.no_grad()
    def _take(self, metrics: StageMetrics) -> None:
        for output, target in metrics.take():
            self.observe(metrics, output, target)

    def losses(self, batch: Any, count: bool = True) -> tuple[Tensor, Tensor]:
        """The data loss of a training batch, and with the penalties what is minimised."""
        loss = self._step(self.train_metrics, batch, count)
        return loss, self._with_penalties(loss, batch[0].shape[0] if count else 0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        pace, several = self._pace, self._several
        # LBFGS evaluates one batch many times: the first evaluation counts, as with every other optimizer.
        count = batch_idx != pace.counted
        pace.counted = batch_idx
        if several is not None:
            batch, several.last = several.last, None
        loss, objective = self.losses(batch, count)
        if count:
            trainer = self.trainer
            every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
            shown = loss.detach() if every and (trainer.global_step + 1) % every == 0 else None
            if shown is None and several is not None:
                shown = several.logged
            if shown is not None:
                self.log("train/loss_step", shown, prog_bar=True, batch_size=batch[0].shape[0])
        weight = 1.0 if pace.weight is None else pace.weight(batch_idx)
        return objective if weight == 1.0 else objective * weight

    def run_several_steps(self, n: int) -> None:
        """Make a call of `training_step` take up to `n` batches and as many optimizer steps; before a fit, 1 is off.

        For networks whose step takes less time than Lightning's call. The results are those of single steps, bit for
        bit; hooks of the module and of callbacks that belong to a step run once per call. The datamodule's
        `batches_per_call` must be the same. A fit refuses clipping, accumulation, LBFGS, several devices.
        """
        several = SeveralSteps(n)
        self.steps_per_call, self._several = n, several if n > 1 else None

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        if self._several is not None:
            self._several.run(self, self, batch, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._step(self.val_metrics, batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._step(self.test_metrics, batch)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        x, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
        return self.predicted(self.final_output(x), y)

    def penalised(self) -> list[nn.Parameter]:
        """The weights that l1 and l2 act on: matrices and filters, so no biases and no normalisation."""
        return [p for p in self.net.parameters() if p.requires_grad and p.dim() >= 2]

    def _with_penalties(self, loss: Tensor, samples: int) -> Tensor:
        if self.l1 or self.l2:
            for name, term in penalty_terms(self.penalised(), self.l1, self.l2).items():
                if samples:
                    self.train_metrics.add_mean(name, term, samples)
                loss = loss + term
        return loss

    # Epochs

    def _log_epoch(self, metrics: StageMetrics) -> None:
        self._take(metrics)
        for name, metric in metrics.measured().items():
            self.log(name, metric, on_step=False, on_epoch=True, prog_bar=metrics.stage != "test")

    def on_train_start(self) -> None:  # not with the epoch: a run may go on within one
        shared = self.trainer.world_size > 1 or self.trainer.accumulate_grad_batches > 1
        self._pace = _Pace(weight=getattr(self.trainer.train_dataloader, "weight", None) if shared else None)
        if self._several is not None:
            self._several.check_start(self.trainer)

    def on_train_epoch_start(self) -> None:
        self.train_metrics.reset()
        self._val_loss = None
        self._pace.counted = -1

    def on_train_epoch_end(self) -> None:
        self._log_epoch(self.train_metrics)
        if self._val_loss is not None and "train/loss" in self.train_metrics.measured():
            self.log("gap/loss", self._val_loss / self.train_metrics.mean_loss(), sync_dist=True)

    def on_validation_epoch_start(self) -> None:
        self.val_metrics.reset()

    def on_validation_epoch_end(self) -> None:
        self._log_epoch(self.val_metrics)
        if not self.trainer.sanity_checking and "val/loss" in self.val_metrics.measured():
            self._val_loss = self.val_metrics.mean_loss()

    def on_test_epoch_start(self) -> None:
        self.test_metrics.reset()

    def on_test_epoch_end(self) -> None:
        self._log_epoch(self.test_metrics)

    # Set-up

    def setup(self, stage: str) -> None:
        """Refuse a model without a network and data that contradict what the model was built for."""
        name = type(self).__name__
        if not isinstance(getattr(self, "net", None), nn.Module):
            raise MisconfigurationException(f"model: {name} has no network; set self.net in its constructor.")
        if not self._initialised and brief(self.init_spec, "init") != "default":
            raise MisconfigurationException(
                f"init: {name} does not apply it; write self.net = self.initialised(network) in its constructor."
            )
        if self._several is not None and stage == "fit":
            self._several.check(self.trainer)
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        self.check_target(data)
        for fact, own in self.facts().items():
            stated = getattr(data, fact, None)
            stated = tuple(stated) if isinstance(stated, (list, tuple)) else stated
            if own is not None and stated is not None and own != stated:
                raise MisconfigurationException(
                    f"{fact}: {name} was built for {own}, the data gives {stated}; leave it out, the data sets it."
                )

    def teardown(self, stage: str) -> None:
        if self._several is not None:
            self._several.restore(self.trainer)

    def configure_optimizers(self) -> Any:
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not parameters:
            raise MisconfigurationException(f"optimizer: {type(self).__name__} has no parameters that can be trained.")
        fused = not self.trainer.gradient_clip_val  # in mixed precision Lightning cannot clip for a fused one
        optimizer = build_optimizer(self.optimizer_spec, parameters, fused)
        if self.scheduler_spec is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": build_schedule(self.scheduler_spec, optimizer, self.trainer)}
