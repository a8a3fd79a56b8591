"""Metrics, penalties and hyperparameters of every model, and errors for data that it cannot learn."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from sklearn import metrics as sk
from torch import nn
from torch.nn import functional

from lit_models import LitClassifier, LitLogisticRegression, LitMLP, LitMLPRegressor, LitTokenLSTM
from lit_models.parts.initialize import INITIALIZATIONS
from lit_models.parts.metrics import CLASS_METRICS, NUMBER_METRICS


def _evaluate(trainer: Any, loader: Any, model: Any, x: Any, y: Any) -> dict[str, float]:
    """Return validation metrics over batches of 40, 40 and 10."""
    batches = loader(x, y, batch_size=40)
    return {k: float(v) for k, v in trainer().validate(model, batches, verbose=False)[0].items()}


@pytest.mark.parametrize("one_hot", [False, True])
def test_metrics_equal_scikit_learn(trainer: Any, loader: Any, blobs: Any, one_hot: bool) -> None:
    x, y = blobs
    names = [name for name in CLASS_METRICS if name != "top5"]
    model = LitMLP((4,), 3, hidden=(8,), metrics=names)
    found = _evaluate(trainer, loader, model, x, functional.one_hot(y, 3).float() if one_hot else y)
    with torch.no_grad():
        logits = model.eval()(x)
    p, guess = logits.softmax(1).numpy(), logits.argmax(1).numpy()
    truth = y.numpy()
    assert found["val/loss"] == pytest.approx(functional.cross_entropy(logits, y).item(), rel=1e-5)
    assert found["val/acc"] == pytest.approx(sk.accuracy_score(truth, guess))
    assert found["val/precision"] == pytest.approx(sk.precision_score(truth, guess, average="macro", zero_division=0))
    assert found["val/recall"] == pytest.approx(sk.recall_score(truth, guess, average="macro"))
    assert found["val/f1"] == pytest.approx(sk.f1_score(truth, guess, average="macro"))
    assert found["val/auroc"] == pytest.approx(sk.roc_auc_score(truth, p, multi_class="ovr"))
    assert set(found) == set(model.metric_names)


@pytest.mark.parametrize("two_classes", ["sigmoid", "softmax"])
def test_metrics_of_two_classes_are_those_of_class_1(trainer: Any, loader: Any, blobs: Any, two_classes: Any) -> None:
    x, y = blobs[0], (blobs[1] > 0).long()
    names = ("acc", "precision", "recall", "f1", "auroc")
    model = LitLogisticRegression((4,), 2, two_classes=two_classes, metrics=names)
    found = _evaluate(trainer, loader, model, x, y)
    with torch.no_grad():
        p = model.probabilities(model(x))[:, 1].numpy()
    truth, guess = y.numpy(), p > 0.5
    assert found["val/precision"] == pytest.approx(sk.precision_score(truth, guess))
    assert found["val/recall"] == pytest.approx(sk.recall_score(truth, guess))
    assert found["val/f1"] == pytest.approx(sk.f1_score(truth, guess))
    assert found["val/auroc"] == pytest.approx(sk.roc_auc_score(truth, p))


def test_top5(trainer: Any, loader: Any) -> None:
    x, y = torch.randn(90, 4), torch.arange(90) % 9
    model = LitMLP((4,), 9, metrics=("top5",))
    with torch.no_grad():
        p = model.eval()(x).numpy()
    assert _evaluate(trainer, loader, model, x, y)["val/top5"] == pytest.approx(
        sk.top_k_accuracy_score(y.numpy(), p, k=5)
    )


@pytest.mark.parametrize("targets", [1, 2])
def test_regression_metrics_equal_scikit_learn(trainer: Any, loader: Any, targets: int) -> None:
    x = torch.randn(90, 4)
    y = x[:, :targets] + torch.randn(90, targets)
    model = LitMLPRegressor((4,), targets, metrics=tuple(NUMBER_METRICS), loss="huber")
    found = _evaluate(trainer, loader, model, x, y)
    with torch.no_grad():
        guess = model(x)
    assert found["val/loss"] == pytest.approx(functional.huber_loss(guess, y).item(), rel=1e-5)
    assert found["val/mae"] == pytest.approx(sk.mean_absolute_error(y, guess), rel=1e-5)
    assert found["val/mse"] == pytest.approx(sk.mean_squared_error(y, guess), rel=1e-5)
    assert found["val/r2"] == pytest.approx(sk.r2_score(y, guess), rel=1e-4)


def test_r2_of_a_single_sample_is_nan(trainer: Any, loader: Any) -> None:
    model = LitMLPRegressor((1,), 1)
    with pytest.warns(UserWarning, match="val/r2 is not defined, because all samples have the same target"):
        found = trainer().validate(model, loader(torch.zeros(1, 1), torch.zeros(1, 1)), verbose=False)[0]
    assert found["val/r2"] != found["val/r2"]


class Logged(pl.Callback):
    """Callback that stores the metrics at the end of the fit."""

    def __init__(self) -> None:
        self.epochs: list[dict[str, float]] = []

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self.epochs.append({k: float(v) for k, v in trainer.callback_metrics.items()})


def test_train_and_validation_metrics_of_an_epoch(trainer: Any, loader: Any, blobs: Any) -> None:
    """Check that with a learning rate of 0 both are means over samples in the second epoch too, and the gap is 1."""
    logged = Logged()
    model = LitMLP((4,), 3, optimizer={"name": "sgd", "lr": 0.0})
    batches = loader(*blobs, batch_size=40)
    trainer(max_epochs=2, callbacks=[logged], log_every_n_steps=1).fit(model, batches, batches)
    with torch.no_grad():
        logits = model.eval()(blobs[0])
    found = logged.epochs[0]
    expected = functional.cross_entropy(logits, blobs[1]).item()
    assert found["train/loss"] == found["val/loss"] == pytest.approx(expected, rel=1e-5)
    assert found["train/acc"] == found["val/acc"] == pytest.approx((logits.argmax(1) == blobs[1]).float().mean().item())
    assert found["gap/loss"] == pytest.approx(1.0)
    assert found["train/loss_step"] == pytest.approx(
        functional.cross_entropy(logits[80:], blobs[1][80:]).item(), rel=1e-5
    )


@pytest.mark.parametrize("accumulate", [1, 2])
def test_loss_per_step_is_logged_every_n_optimizer_steps(
    trainer: Any, loader: Any, blobs: Any, tmp_path: Path, accumulate: int
) -> None:
    from lightning.pytorch.loggers import CSVLogger

    logger = CSVLogger(tmp_path, name="", version="run")
    model = LitMLP((4,), 3)
    run = trainer(max_epochs=4, logger=logger, log_every_n_steps=3, accumulate_grad_batches=accumulate)
    run.fit(model, loader(*blobs, batch_size=30 // accumulate))
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()
    header = rows[0].split(",")
    cells = [dict(zip(header, row.split(","), strict=True)) for row in rows[1:]]
    assert [int(row["step"]) for row in cells if row["train/loss_step"]] == [2, 5, 8, 11]


def test_no_gap_without_validation(trainer: Any, loader: Any, blobs: Any) -> None:
    run = trainer(max_epochs=1)
    run.fit(LitMLP((4,), 3), loader(*blobs))
    assert "gap/loss" not in run.callback_metrics
    assert "train/loss" in run.callback_metrics


def test_penalties_are_logged_apart_from_the_loss(trainer: Any, loader: Any, blobs: Any) -> None:
    model = LitMLP((4,), 3, hidden=(5,), batch_norm=True, l1=0.01, l2=0.1, optimizer={"name": "sgd", "lr": 0.0})
    weights = [layer.weight for layer in model.net.layers if isinstance(layer, nn.Linear)]
    run = trainer(max_epochs=1)
    run.fit(model, loader(*blobs), loader(*blobs))
    found = run.callback_metrics
    assert found["train/l1"] == pytest.approx(0.01 * sum(w.abs().sum().item() for w in weights), rel=1e-5)
    assert found["train/l2"] == pytest.approx(0.05 * sum(w.square().sum().item() for w in weights), rel=1e-5)
    plain = LitMLP((4,), 3, hidden=(5,), batch_norm=True, optimizer={"name": "sgd", "lr": 0.0})
    plain.load_state_dict(model.state_dict())
    run = trainer(max_epochs=1)
    run.fit(plain, loader(*blobs))
    assert run.callback_metrics["train/loss"] == pytest.approx(found["train/loss"].item(), rel=1e-6)
    assert "train/l1" not in run.callback_metrics


def test_lbfgs_counts_each_batch_once(trainer: Any, loader: Any, blobs: Any) -> None:
    model = LitMLP((4,), 3, optimizer="lbfgs")
    with torch.no_grad():
        before = functional.cross_entropy(model(blobs[0]), blobs[1]).item()
    run = trainer(max_epochs=1)
    run.fit(model, loader(*blobs))
    assert run.callback_metrics["train/loss"] == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize(
    "optimizer",
    [
        torch.optim.Adagrad,
        partial(torch.optim.SGD, lr=0.5),
        {"class_path": "torch.optim.Adam", "init_args": {"lr": 0.1, "betas": (0.8, 0.9)}},
        "rmsprop",
    ],
)
def test_a_checkpoint_of_a_model_built_in_python_is_plain_data(
    trainer: Any, loader: Any, blobs: Any, tmp_path: Path, optimizer: Any
) -> None:
    model = LitMLP((4,), 3, hidden=(7,), activation=nn.Tanh, optimizer=optimizer, scheduler="cosine")
    run = trainer(max_epochs=1)
    run.fit(model, loader(*blobs))
    run.save_checkpoint(tmp_path / "model.ckpt")
    stored = torch.load(tmp_path / "model.ckpt", weights_only=True)["hyper_parameters"]
    assert stored["input_shape"] == [4]
    assert stored["activation"] in ("torch.nn.Tanh", "torch.nn.modules.activation.Tanh")
    assert dict(model.hparams_initial) == stored
    again = LitMLP.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert dict(again.hparams) == stored
    with torch.no_grad():
        assert torch.equal(again.eval()(blobs[0]), model.eval()(blobs[0]))
    fresh = trainer(max_epochs=2)
    fresh.fit(again.train(), loader(*blobs), ckpt_path=tmp_path / "model.ckpt", weights_only=True)
    assert type(fresh.optimizers[0]) is type(run.optimizers[0])


class Custom(LitClassifier):
    """Custom model with an argument that is not plain data."""

    def __init__(self, num_classes: int = 3, body: Any = None, **kwargs: Any) -> None:
        super().__init__(input_shape=(4,), num_classes=num_classes, **kwargs)
        self.net = nn.Sequential(nn.Linear(4, num_classes))

    derived_arguments = ("input_shape",)


def test_custom_model(trainer: Any, loader: Any, blobs: Any, tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="body is not stored with the hyperparameters"):
        model = Custom(body=object())
    run = trainer(max_epochs=1)
    run.fit(model, loader(*blobs), loader(*blobs))
    run.save_checkpoint(tmp_path / "model.ckpt")
    assert Custom.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True).num_classes == 3
    with pytest.raises(MisconfigurationException, match=r"init: Custom does not use this argument"):
        trainer().fit(Custom(init="zeros"), loader(*blobs))


def test_initialised_is_a_deprecated_name(blobs: Any) -> None:
    model = LitMLP((4,), 3, init="zeros")
    with pytest.warns(DeprecationWarning, match=r"Use self\.initialized\(network\)"):
        network = model.initialised(nn.Linear(4, 3))
    assert not network(blobs[0]).any()


def test_a_model_without_a_network_raises_an_error(trainer: Any, loader: Any, blobs: Any) -> None:
    with pytest.raises(MisconfigurationException, match=r"LitClassifier has no network. Set self.net"):
        trainer().fit(LitClassifier((4,), 3), loader(*blobs))


@pytest.mark.parametrize("init", [name for name in INITIALIZATIONS if name not in ("zeros", "ones", "constant")])
def test_these_initializations_learn(trainer: Any, loader: Any, blobs: Any, init: str) -> None:
    model = LitMLP((4,), 3, hidden=(16,), init=init, optimizer={"name": "adam", "lr": 0.03})
    run = trainer(max_epochs=20)
    run.fit(model, loader(*blobs, batch_size=45))
    assert run.callback_metrics["train/acc"] > 0.75


def test_zeros_fail_to_learn(trainer: Any, loader: Any, blobs: Any) -> None:
    model = LitMLP((4,), 3, hidden=(16, 16), init="zeros", optimizer={"name": "adam", "lr": 0.03})
    run = trainer(max_epochs=20)
    run.fit(model, loader(*blobs, batch_size=45))
    assert run.callback_metrics["train/acc"] < 0.4
    assert all(not w.any() for w in model.penalized())


def test_init_by_layer_and_with_arguments() -> None:
    model = LitMLP((4,), 3, batch_norm=True, init={"name": "constant", "value": 0.25})
    for name, parameter in model.net.named_parameters():
        expected = 0.25 if parameter.dim() > 1 else 1.0 if ("weight" in name) else 0.0
        assert (parameter == expected).all(), name


def _data(**properties: Any) -> SimpleNamespace:
    return SimpleNamespace(**{"num_classes": None, "num_targets": None, "vocab_size": None, **properties})


@pytest.mark.parametrize(
    ("model", "data", "message"),
    [
        (lambda: LitMLP((4,), 3), _data(num_targets=1), r"LitMLP predicts classes.*use LitMLPRegressor"),
        (lambda: LitMLPRegressor((4,), 1), _data(num_classes=3), r"LitMLPRegressor predicts numbers.*use LitMLP\."),
        (lambda: LitMLP((4,), 3), _data(num_classes=10), r"num_classes of LitMLP must be 10 as in the data, got 3"),
        (
            lambda: LitMLP((4,), 3),
            _data(num_classes=3, input_shape=(5,)),
            r"input_shape of LitMLP must be \(5,\) as in the data, got \(4,\)",
        ),
        (lambda: LitMLP((4,), 9), _data(num_classes=9, vocab_size=9), r"the data is text. Use LitTokenLSTM"),
        (lambda: LitTokenLSTM(9), _data(num_classes=9), r"LitTokenLSTM needs text"),
    ],
)
def test_data_of_another_task_raises_an_error(model: Any, data: Any, message: str) -> None:
    built = model()
    built.trainer = SimpleNamespace(datamodule=data)
    with pytest.raises(MisconfigurationException, match=message):
        built.setup("fit")


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: LitMLP((4,)), r"LitMLP predicts classes, but the data has no num_classes.*LitMLPRegressor"),
        (
            lambda: LitMLPRegressor((4,)),
            r"LitMLPRegressor predicts numbers, but the data has no .*use LitMLP\.",
        ),
        (lambda: LitMLP((4,), 1), r"num_classes must be at least 2, got 1"),
        (lambda: LitMLPRegressor((4,), 0), r"num_targets must be at least 1, got 0"),
        (lambda: LitMLP(None, 3), r"input_shape of LitMLP must be the shape of one sample"),
        (lambda: LitTokenLSTM(), r"LitTokenLSTM needs text, but the data has no vocab_size"),
    ],
)
def test_building_a_model_of_another_task_raises_an_error(build: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        build()
