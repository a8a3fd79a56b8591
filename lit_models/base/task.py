"""Base class of every model: training step, optimizer, learning rate schedule, loss, penalties and metrics."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities import rank_zero_deprecation
from torch import Tensor, nn

from lit_models.base.epoch_metrics import EpochMetrics
from lit_models.base.one_sample import one_sample_error
from lit_models.base.plain_hparams import plain_arguments
from lit_models.base.weighted_steps import WeightedSteps
from lit_models.parts.initialize import check_initialization, initialize
from lit_models.parts.learning_rate import SearchedRate
from lit_models.parts.loss_checks import mean_problem
from lit_models.parts.losses import batch_weight, build_loss
from lit_models.parts.optimizers import DEFAULT_OPTIMIZER, build_optimizer, check_optimizer
from lit_models.parts.penalties import penalty_terms
from lit_models.parts.schedules import build_schedule, check_schedule
from lit_models.parts.several_steps import StepsPerCall
from lit_models.parts.specs import Spec, short_form
from lit_models.parts.stage_metrics import StageMetrics
from lit_models.parts.step_state import StepState

_SPEC_ARGUMENTS = ("optimizer", "scheduler", "loss", "init", "activation")

#: Data properties that name a task: what its models do, and the data for which the message names another model.
_TARGETS = {
    "num_classes": ("predicts classes", "numbers"),
    "num_targets": ("predicts numbers", "classes"),
    "vocab_size": ("needs text", "images"),
}


class LitTask(WeightedSteps, StepsPerCall, EpochMetrics, SearchedRate, ABC):
    """Base class of `LitClassifier` and `LitRegressor`; a subclass sets ``self.net = self.initialized(network)``.

    Logs the values of `EpochMetrics` per epoch, and ``train/loss_step`` every `log_every_n_steps` optimizer steps.

    Args:
        input_shape: shape of one sample, from the data.
        optimizer: short name, class of `torch.optim` or class path, with arguments.
        scheduler: short name (counts epochs, stepped per batch) or class path (stepped per epoch).
        loss: short name or class path.
        init: name of the weight initialization, see `initialize.py`; "default" keeps the weights of a user's network.
        l1: adds l1 * sum(abs(w)) over the weights, without biases and normalization.
        l2: adds l2 / 2 * sum(w ** 2) over the same weights, comparable to an optimizer's weight_decay.
        metrics: names of the metrics that every stage logs.
    """

    known_losses: ClassVar[Mapping[str, Callable[..., Any]]]
    other_losses: ClassVar[Mapping[str, Callable[..., Any]]]

    #: data property that the constructor requires: num_classes, num_targets or vocab_size
    target_property: ClassVar[str]
    #: model that an error recommends for other data
    counterpart: ClassVar[str]
    #: arguments of a base class that a subclass computes itself; they are not stored as hyperparameters
    derived_arguments: ClassVar[tuple[str, ...]] = ()
    #: kind of computation, for the choice of precision and memory layout
    machine_kind: ClassVar[Literal["conv", "recurrent", "dense"]] = "dense"
    #: whether to compute in float32 even if the machine is faster in bfloat16
    exact: ClassVar[bool] = False
    #: whether the inputs are numbers of tokens
    token_inputs: ClassVar[bool] = False
    #: whether image batches and weights are channels-last; set before a fit
    channels_last: bool = False

    net: nn.Module
    #: divisor of the loss, if that is not the number of samples; read from the loss before every stage
    _batch_weight: Callable[[Tensor, Tensor], Tensor] | None = None
    _is_unchecked: bool = False

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
        stored = plain_arguments(self.hparams, self.derived_arguments, _SPEC_ARGUMENTS)
        self.save_hyperparameters(stored, ignore=[name for name in self.hparams if name not in stored])
        for name, penalty in (("l1", l1), ("l2", l2)):
            if not 0.0 <= penalty < float("inf"):
                raise MisconfigurationException(
                    f"{name} must be 0 (off) or a positive number, got {penalty}. Set --model.{name} 0.001 or 0."
                )
        example_optimizer = check_optimizer(optimizer)
        check_initialization(init)
        if scheduler is not None:
            check_schedule(scheduler, example_optimizer)
        self.optimizer_spec, self.scheduler_spec, self.init_spec = optimizer, scheduler, init
        self.l1, self.l2 = l1, l2
        self.loss_fn = build_loss(loss, self.known_losses, self.other_losses)
        self.input_shape = None if input_shape is None else tuple(input_shape)
        if self.input_shape is not None:
            self.example_input_array = torch.zeros(1, *self.input_shape)
        self._is_initialized = False
        self._step_state = StepState()

    def initialized(self, network: nn.Module, fresh: bool = False) -> nn.Module:
        """Initialize the network's weights in place by the argument `init`, and return the network.

        "default" keeps all weights, which may be loaded or set, unless the caller states that they are `fresh` from the
        constructors of torch's layers. Every other name replaces them.
        """
        self._is_initialized = True
        keep = not fresh and str(short_form(self.init_spec, "init")).lower() == "default"
        return network if keep else initialize(network, self.init_spec)

    def initialised(self, network: nn.Module) -> nn.Module:
        """Return `initialized(network)`; deprecated."""
        rank_zero_deprecation("LitTask.initialised is deprecated. Use self.initialized(network).")
        return self.initialized(network)

    # Methods and properties that define the task, besides `observe`

    @abstractmethod
    def predicted(self, output: Tensor, target: Tensor | None) -> dict[str, Tensor]:
        """Return the predictions of a batch, the result of `predict_step`."""

    def data_properties(self) -> dict[str, Any]:
        """Return the data properties that the model was built for."""
        return {"input_shape": self.input_shape, self.target_property: getattr(self, self.target_property)}

    def check_target(self, data: Any) -> None:
        """Raise an error that names another model if the datamodule's targets belong to another task."""
        given = {name for name in _TARGETS if getattr(data, name, None) is not None}
        if given and self.target_property not in given:
            raise self._wrong_task()

    def _wrong_task(self) -> MisconfigurationException:
        does, other = _TARGETS[self.target_property]
        return MisconfigurationException(
            f"model: {type(self).__name__} {does}, but the data has no {self.target_property}. "
            f"For {other} use {self.counterpart}."
        )

    def _checked_size(self, size: int | None, least: int) -> int:
        """Return the number of classes or targets; raise an error if the data has none or too few."""
        if size is None:
            raise self._wrong_task()
        if size < least:
            name = self.target_property
            raise MisconfigurationException(f"{name} must be at least {least}, got {size}. Use data with more.")
        return size

    def typed_input(self, x: Tensor) -> Tensor:
        """Return inputs of any integer or float type in the type of the weights, or token numbers as int64."""
        dtype = torch.int64 if self.token_inputs else self.dtype
        return x.to(dtype) if isinstance(x, Tensor) and x.dtype != dtype else x

    def typed_target(self, y: Tensor) -> Tensor:
        """Return targets of any integer or float type in the type that the loss needs."""
        return y

    def outputs(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the network's output and the target in shapes that the loss can compare."""
        return self(x), y

    def final_output(self, x: Tensor) -> Tensor:
        """Return the output that `predict_step` converts to predictions."""
        output: Tensor = self(x)
        return output

    # Hooks, in the order in which Lightning calls them

    def setup(self, stage: str) -> None:
        """Raise an error if the model has no network or was not built for the data."""
        name = type(self).__name__
        if not isinstance(getattr(self, "net", None), nn.Module):
            raise MisconfigurationException(f"model: {name} has no network. Set self.net in its constructor.")
        if not self._is_initialized and short_form(self.init_spec, "init") != "default":
            raise MisconfigurationException(
                f"init: {name} does not use this argument. Set self.net = self.initialized(network) in its constructor."
            )
        super().setup(stage)
        self._batch_weight, self._is_unchecked = batch_weight(self.loss_fn), stage == "fit"
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            return
        self.check_target(data)
        for key, built_for in self.data_properties().items():
            given = getattr(data, key, None)
            given = tuple(given) if isinstance(given, (list, tuple)) else given
            if built_for is not None and given is not None and built_for != given:
                raise MisconfigurationException(
                    f"{key} of {name} must be {given} as in the data, got {built_for}. "
                    f"Remove --model.{key}; litlab reads it from the data."
                )

    def new_optimizer(self) -> torch.optim.Optimizer:
        """Return the optimizer before a learning rate schedule changes it."""
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        if not parameters:
            raise MisconfigurationException(
                f"optimizer: {type(self).__name__} has no trainable parameters. Set requires_grad of at least one."
            )
        fused = not self.trainer.gradient_clip_val  # Lightning cannot clip gradients of a fused mixed-precision step
        return build_optimizer(self.optimizer_spec, parameters, fused)

    def configure_optimizers(self) -> Any:
        optimizer = self.new_optimizer()
        if self.scheduler_spec is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": build_schedule(self.scheduler_spec, optimizer, self)}

    def on_train_epoch_start(self) -> None:
        super().on_train_epoch_start()
        self._step_state.counted = -1

    def forward(self, x: Tensor) -> Tensor:
        output: Tensor = self.net(self.typed_input(x))
        return output

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        state = self._step_state
        batch = state.take(batch)
        count = state.is_new(batch_idx)
        loss, objective = self.losses(batch, count)
        if count:
            self._log_step_loss(loss, batch)
        return self._shared_objective(objective, batch_idx)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._shared_step(self.val_metrics, batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._shared_step(self.test_metrics, batch)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        x, y = batch if isinstance(batch, (tuple, list)) else (batch, None)
        return self.predicted(self.final_output(x), self.typed_target(y) if isinstance(y, Tensor) else y)

    # Helpers of the steps

    def _shared_step(self, metrics: StageMetrics, batch: Any, count: bool = True) -> Tensor:
        x, y = batch
        try:
            output, target = self.outputs(x, self.typed_target(y) if isinstance(y, Tensor) else y)
        except ValueError as error:
            if (known := one_sample_error(error)) is not None:
                raise known from error
            raise
        if output.dtype in (torch.bfloat16, torch.float16):
            output = output.float()  # a loss in bfloat16 has three digits
        if self._is_unchecked:
            self._check_first_batch(output, target)
        loss: Tensor = self.loss_fn(output, target)
        samples: int | Tensor = x.shape[0]
        if self._batch_weight is not None:
            samples = self._step_state.divisor = self._batch_weight(output, target).detach()
        if count:
            metrics.add_mean("loss", loss, samples)
            if metrics.add(output.detach(), target):
                self._flush(metrics)
        return loss

    def _check_first_batch(self, output: Tensor, target: Tensor) -> None:
        self._is_unchecked = False
        problem = self.loss_problem(output.detach(), target)
        if self.trainer.strategy.reduce_boolean_decision(problem is not None, all=False):
            raise MisconfigurationException(problem or "loss: another process reports the error.")

    def loss_problem(self, output: Tensor, target: Tensor) -> str | None:
        """Return why the loss does not suit the first batch of a fit, or None; warn about what may be wrong."""
        return mean_problem(self.loss_fn, self._batch_weight, output, target, self._shares_step())

    def losses(self, batch: Any, count: bool = True) -> tuple[Tensor, Tensor]:
        loss = objective = self._shared_step(self.train_metrics, batch, count)
        if self.l1 or self.l2:
            for name, term in penalty_terms(self.penalized(), self.l1, self.l2).items():
                if count:
                    self.train_metrics.add_mean(name, term, batch[0].shape[0])
                objective = objective + term
        return loss, objective

    def penalized(self) -> list[nn.Parameter]:
        """Return the weights that l1 and l2 apply to: matrices and filters, without biases and normalization."""
        return [p for p in self.net.parameters() if p.requires_grad and p.dim() >= 2]

    def _log_step_loss(self, loss: Tensor, batch: Any) -> None:
        """Log `train/loss_step` every `log_every_n_steps` optimizer steps.

        Other steps skip `self.log`, because one call takes about as long as a step of a small network.
        """
        every: int = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        due = every and (self.trainer.global_step + 1) % every == 0
        shown = loss.detach() if due else self._step_state.logged
        if shown is not None:
            self.log("train/loss_step", shown, prog_bar=True, batch_size=batch[0].shape[0])
