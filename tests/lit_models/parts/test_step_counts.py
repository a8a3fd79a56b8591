"""Metrics updated from stored batches equal metrics updated in every step."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torchmetrics import Accuracy, F1Score, MeanAbsoluteError, MeanMetric, MeanSquaredError, R2Score
from torchmetrics.classification import MulticlassAUROC, MulticlassPrecision, MulticlassRecall

from lit_models import LitMLP, LitMLPRegressor, LitTask
from lit_models.parts import stage_metrics


class Everything(pl.Callback):
    """Callback that updates torchmetrics' own metrics in every step with the model's outputs."""

    def __init__(self, built: dict[str, Any], scores: tuple[str, ...] = ()) -> None:
        self.built, self.scores = built, scores
        self.epochs: list[dict[str, float]] = []
        self.found: list[dict[str, float]] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close(trainer)
        for metric in self.built.values():
            metric.reset()

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._close(trainer)

    def _close(self, trainer: pl.Trainer) -> None:
        names = {f"train/{name}": name for name in self.built}
        if "train/loss" in trainer.callback_metrics:
            self.found.append({name: float(trainer.callback_metrics[key]) for key, name in names.items()})
            self.epochs.append({name: float(metric.compute()) for name, metric in self.built.items()})

    def watch(self, model: LitTask) -> LitTask:
        """Update the metrics with the outputs and the loss of every step of the model."""
        outputs, loss_fn = model.outputs, model.loss_fn

        def seen(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            output, target = outputs(x, y)
            if model.training:
                self._update(output.detach(), target, loss_fn(output, target).detach())
            return output, target

        model.outputs = seen  # type: ignore[method-assign]
        return model

    def _update(self, output: Tensor, target: Tensor, loss: Tensor) -> None:
        for name, metric in self.built.items():
            if name == "loss":
                metric.update(loss, len(target))
            else:
                metric.update(output.softmax(1) if name in self.scores else output, target)


@pytest.fixture(params=[40, 10**6], ids=["updated often", "updated at the end"])
def _space(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stage_metrics, "_MAX_STORED_VALUES", request.param)


@pytest.mark.usefixtures("_space")
def test_class_metrics_equal_torchmetrics(trainer: Any, blobs: Any) -> None:
    of = {"num_classes": 3, "average": "macro"}
    watch = Everything(
        {
            "loss": MeanMetric(),
            "acc": Accuracy("multiclass", num_classes=3),
            "precision": MulticlassPrecision(**of),
            "recall": MulticlassRecall(**of),
            "f1": F1Score("multiclass", **of),
            "auroc": MulticlassAUROC(**of),
        },
        scores=("auroc",),
    )
    names = tuple(name for name in watch.built if name != "loss")
    model = watch.watch(LitMLP((4,), 3, hidden=(8,), dropout=0.2, metrics=names))
    trainer(max_epochs=3, callbacks=[watch]).fit(model, DataLoader(list(zip(*blobs, strict=True)), batch_size=7))
    assert len(watch.found) == len(watch.epochs) == 3
    for found, expected in zip(watch.found, watch.epochs, strict=True):
        assert found == pytest.approx(expected, rel=1e-5)


@pytest.mark.usefixtures("_space")
def test_number_metrics_equal_torchmetrics(trainer: Any) -> None:
    x = torch.randn(90, 4)
    y = x[:, :2] + 0.1 * torch.randn(90, 2)
    watch = Everything(
        {"loss": MeanMetric(), "mae": MeanAbsoluteError(), "mse": MeanSquaredError(), "r2": R2Score()},
    )
    model = watch.watch(LitMLPRegressor((4,), 2, hidden=(8,), metrics=("mae", "mse", "r2"), loss="huber"))
    trainer(max_epochs=3, callbacks=[watch]).fit(model, DataLoader(list(zip(x, y, strict=True)), batch_size=7))
    assert len(watch.found) == 3
    for found, expected in zip(watch.found, watch.epochs, strict=True):
        assert found == pytest.approx(expected, rel=1e-4)


def test_index_and_soft_targets_may_alternate(trainer: Any) -> None:
    """Train on targets as from mixup; the accuracy uses the class with the largest probability."""
    x = torch.randn(30, 4)
    index = torch.arange(30) % 3
    soft = 0.7 * torch.nn.functional.one_hot(index, 3) + 0.1
    batches = [(x[:10], index[:10]), (x[10:20], soft[10:20]), (x[20:], index[20:])]
    model = LitMLP((4,), 3, dropout=0.0, optimizer={"name": "sgd", "lr": 0.0})
    model.loss_fn.label_smoothing = 0.1  # type: ignore[assignment]
    run = trainer()
    run.fit(model, _served(batches))
    with torch.no_grad():
        logits = model(x)
        losses = [model.loss_fn(model(part), target) for part, target in batches]
    assert run.callback_metrics["train/acc"] == pytest.approx((logits.argmax(1) == index).float().mean().item())
    assert run.callback_metrics["train/loss"] == pytest.approx(torch.stack(losses).mean().item(), rel=1e-6)


def _served(batches: list[Any]) -> DataLoader[Any]:
    return DataLoader(batches, batch_size=None)  # type: ignore[arg-type]


class Weighted(DataLoader[Any]):
    """Loader of 40, 40 and 10 samples, with weights that make accumulated gradients means over samples."""

    def weight(self, index: int) -> float:
        """Return the weight of a batch; the last step has one batch, the others two."""
        return (1.0, 1.0, 2.0)[index]


def test_accumulated_steps_are_weighted(trainer: Any, blobs: Any) -> None:
    def weights(batches: Any, **settings: Any) -> tuple[Tensor, Any]:
        torch.manual_seed(5)
        model = LitMLP((4,), 3, hidden=(6,), l2=0.1, optimizer={"name": "sgd", "lr": 0.5})
        run = trainer(**settings)
        run.fit(model, batches)
        return torch.cat([value.flatten() for value in model.state_dict().values()]), run.callback_metrics

    x, y = blobs
    parts = list(zip(x.split(40), y.split(40), strict=True))
    split, logged = weights(Weighted(parts, batch_size=None), accumulate_grad_batches=2)
    joined, other = weights(_served([(x[:80], y[:80]), parts[2]]))
    torch.testing.assert_close(split, joined)
    plain, _ = weights(_served(parts), accumulate_grad_batches=2)
    assert not torch.allclose(plain, joined)
    assert logged["train/loss"] == pytest.approx(other["train/loss"].item(), rel=1e-5)


def test_a_validation_within_an_epoch_keeps_the_training_metrics(trainer: Any, blobs: Any) -> None:
    x, y = blobs
    batches = list(zip(x.split(10), y.split(10), strict=True))
    model = LitMLP((4,), 3, optimizer={"name": "sgd", "lr": 0.0})
    run = trainer(val_check_interval=2)
    run.fit(model, _served(batches), _served(batches))
    for name in ("loss", "acc"):
        assert run.callback_metrics[f"train/{name}"] == pytest.approx(run.callback_metrics[f"val/{name}"].item())
