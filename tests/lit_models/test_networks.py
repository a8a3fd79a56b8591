"""Shapes, gradients and learning of every network, and errors for wrong images and arguments."""

from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from lit_models import (
    LitCNN,
    LitLinearRegression,
    LitLogisticRegression,
    LitLSTM,
    LitMLP,
    LitMLPRegressor,
    LitResNet,
    LitTokenLSTM,
    ResNet,
)
from lit_models.cnn import VARIANTS

GRAY, COLOR = (1, 28, 28), (3, 32, 32)
MODELS = {
    "linear": lambda: LitLinearRegression((3,), 2),
    "linear on images": lambda: LitLinearRegression((1, 4, 4), 1),
    "logistic": lambda: LitLogisticRegression(GRAY, 10),
    "one logit": lambda: LitLogisticRegression((3,), 2),
    "mlp": lambda: LitMLP(GRAY, 10, hidden=(16, 8), batch_norm=True, dropout=0.2, activation="gelu"),
    "mlp regressor": lambda: LitMLPRegressor((10,), 1, activation="tanh"),
    **{f"{name} gray": (lambda name=name: LitCNN(GRAY, 10, variant=name)) for name in VARIANTS},
    **{f"{name} color": (lambda name=name: LitCNN(COLOR, 10, variant=name)) for name in VARIANTS},
    "alexnet 64": lambda: LitCNN((3, 64, 64), 7, variant="alexnet", hidden=(32,)),
    "resnet": lambda: LitResNet(GRAY, 10),
    "resnet large stem": lambda: LitResNet((3, 80, 80), 4, preset="resnet14"),
    "resnet18": lambda: LitResNet(COLOR, 10, preset="resnet18"),
    "lstm": lambda: LitLSTM(GRAY, 10),
    "lstm on sequences": lambda: LitLSTM((12, 5), 3, layers=2, dropout=0.2),
    "token lstm": lambda: LitTokenLSTM(30, (16,), embedding=8, hidden=12),
    "token lstm, last step": lambda: LitTokenLSTM(30, (16,), embedding=8, hidden=12, every_step=False),
}


def _batch(model: Any, size: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(model, LitTokenLSTM):
        tokens = torch.randint(0, 30, (size, 17))
        return tokens[:, :-1], tokens[:, 1:]
    x = torch.randn(size, *model.input_shape)
    if hasattr(model, "num_targets"):
        return x, torch.randn(size, model.num_targets)
    return x, torch.arange(size) % model.num_classes


@pytest.mark.parametrize("name", list(MODELS))
def test_shapes_gradients_and_predictions(name: str) -> None:
    model: Any = MODELS[name]()
    batch = _batch(model)
    output, target = model.outputs(*batch)
    assert torch.isfinite(output).all()
    model.loss_fn(output, target).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert torch.isfinite(parameter.grad).all(), key
        assert parameter.dim() == 1 or parameter.grad.any(), key
    model.eval()
    example = model(model.example_input_array)
    assert example.shape[0] == 1
    with torch.no_grad():
        found = model.predict_step(batch, 0)
        assert set(model.predict_step(batch[0], 0)) == set(found) - {"target"}
    if hasattr(model, "num_targets"):
        assert found["prediction"].shape == found["target"].shape == (4, model.num_targets)
    else:
        assert found["probabilities"].shape == (4, model.num_classes)
        assert torch.allclose(found["probabilities"].sum(1), torch.ones(4))
        assert found["target"].shape == found["prediction"].shape == (4,)
    assert model.metric_names[0] == "val/loss"


@pytest.mark.parametrize(
    ("build", "low", "high"),
    [
        (lambda: LitMLP(GRAY, 10, hidden=(128,)), 101_770, 101_770),
        (lambda: LitMLP(GRAY, 10), 669_706, 669_706),
        (lambda: LitCNN(GRAY, 10), 20_490, 20_490),
        (lambda: LitCNN(GRAY, 10, variant="lenet5"), 61_706, 61_706),
        (lambda: LitResNet(GRAY, 10), 200_000, 499_999),
        (lambda: LitResNet(COLOR, 10, preset="resnet18"), 11_173_962, 11_173_962),
        (lambda: LitLSTM(GRAY, 10), 82_186, 82_186),
    ],
)
def test_reference_sizes(build: Any, low: int, high: int) -> None:
    assert low <= sum(p.numel() for p in build().parameters()) <= high


def test_resnet_stems() -> None:
    x = torch.zeros(1, 3, 64, 64)
    assert ResNet(3, 5, stem="small").stem(x).shape == (1, 32, 64, 64)
    assert ResNet(3, 5, stem="large").stem(x).shape == (1, 32, 16, 16)
    assert LitResNet((3, 224, 224), 5).net.stem[0].kernel_size == (7, 7)


def test_lstm_reads_an_image_row_by_row() -> None:
    model = LitLSTM((3, 6, 5), 4).eval()
    image = torch.randn(2, 3, 6, 5)
    rows = torch.stack([image[:, :, row].flatten(1) for row in range(6)], dim=1)
    assert torch.allclose(model(image), model.net(rows))


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "sigmoid", "tanh", "gelu", {"name": "ELU", "alpha": 0.5}])
def test_activation_is_an_argument_of_every_feedforward_network(activation: Any) -> None:
    for model in (LitMLP((4,), 3, activation=activation), LitCNN(GRAY, 3, activation=activation)):
        assert not any(isinstance(m, nn.ReLU) for m in model.modules()) or activation == "relu"
    found = LitResNet(GRAY, 3, activation=activation)
    assert not any(isinstance(m, nn.ReLU) for m in found.modules()) or activation == "relu"


@pytest.mark.parametrize("name", ["two_conv", "resnet", "lstm"])
def test_image_models_learn_bright_stripes(trainer: Any, loader: Any, name: str) -> None:
    """Train on three classes of 12x12 images, each with a bright stripe at a different height."""
    y = torch.arange(60) % 3
    x = 0.3 * torch.randn(60, 1, 12, 12)
    for index, label in enumerate(y):
        x[index, :, 4 * label : 4 * label + 4] += 1
    settings: dict[str, Any] = {"optimizer": {"name": "adam", "lr": 0.01}, "scheduler": "onecycle"}
    model: Any = {
        "two_conv": lambda: LitCNN((1, 12, 12), 3, widths=(4, 8), **settings),
        "resnet": lambda: LitResNet((1, 12, 12), 3, widths=(4, 8), blocks=(1, 1), **settings),
        "lstm": lambda: LitLSTM((1, 12, 12), 3, hidden=16, **settings),
    }[name]()
    run = trainer(max_epochs=10)
    run.fit(model, loader(x, y, batch_size=20))
    assert trainer().validate(model, loader(x, y), verbose=False)[0]["val/acc"] > 0.95


def test_mlp_regressor_learns_a_sine(trainer: Any, loader: Any) -> None:
    x = torch.linspace(-3, 3, 100)[:, None]
    model = LitMLPRegressor((1,), 1, activation="tanh", optimizer={"name": "adam", "lr": 0.02}, scheduler="cosine")
    run = trainer(max_epochs=120)
    run.fit(model, loader(x, x.sin(), batch_size=25))
    assert run.callback_metrics["train/loss"] < 1e-3


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: LitCNN((1,), 2),
            r"^model: LitCNN needs images \(channels, .*, got samples of shape \(1,\)\. Use",
        ),
        (lambda: LitResNet((4, 4), 2), r"^model: LitResNet needs images .* got samples of shape \(4, 4\)\. Use"),
        (lambda: LitLSTM((7,), 2), r"^model: LitLSTM needs images .* or sequences .* shape \(7,\)\. Use such data"),
        (lambda: LitCNN((1, 8, 8), 2, variant="batchnorm"), r"'batchnorm': images of 8x8 pixels are too small"),
        (lambda: LitCNN(GRAY, 2, variant="vgg"), r"variant must be one of two_conv.*, got 'vgg'"),  # type: ignore[arg-type]
        (lambda: LitCNN(GRAY, 2, widths=(3, -1)), r"widths must be .* positive integers, got \(3, -1\)"),
        (lambda: LitResNet(GRAY, 2, blocks=(1, 1)), r"blocks must have one number per stage .*, got \[1, 1\]"),
        (lambda: LitResNet(GRAY, 2, preset="tiny"), r"preset must be one of small.*, got 'tiny'"),  # type: ignore[arg-type]
        (lambda: LitLSTM(GRAY, 2, dropout=0.5), r"dropout must be 0 with 1 layer, got 0.5"),
    ],
)
def test_wrong_images_and_arguments_raise_an_error(build: Any, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        build()
