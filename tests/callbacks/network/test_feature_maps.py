"""Tests of feature maps for known kernels, and of their warnings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from callbacks import FeatureMaps
from callbacks.figures.mosaic import GAP, LINE, TILE
from callbacks.network.layers import capture_outputs, named_layers, select_layers

SIDE = 12


class Known(nn.Module):
    """An identity and a horizontal-edge kernel, an in-place ReLU and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1, bias=False)
        with torch.no_grad():
            self.conv.weight.zero_()
            self.conv.weight[0, 0, 1, 1] = 1.0
            self.conv.weight[1, 0, 0, 1], self.conv.weight[1, 0, 2, 1] = -1.0, 1.0
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Linear(2 * SIDE * SIDE, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.relu(self.conv(x)).flatten(1))


class Module(LightningModule):
    def __init__(self, net: nn.Module, lr: float = 0.0) -> None:
        super().__init__()
        self.net, self.lr = net, lr

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    def training_step(self, batch: Any, _: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[0]), batch[1])

    def validation_step(self, batch: Any, _: int) -> None:
        self(batch[0])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


def images(channels: int = 1) -> DataLoader:
    x = torch.zeros(8, channels, SIDE, SIDE)
    x[:, :, SIDE // 2 :] = 1.0  # dark above, bright below: one horizontal edge
    return DataLoader(TensorDataset(x, torch.arange(8) % 2), batch_size=4)


def fit(make_trainer, net: nn.Module, maps: FeatureMaps, channels: int = 1, **arguments: Any) -> Trainer:
    trainer = make_trainer([maps], **arguments)
    trainer.fit(Module(net), images(channels), images(channels))
    return trainer


def tile(tmp_path, layer: str, channel: int, epoch: int = 1) -> np.ndarray:
    """Return the plotted map of one channel, with one pixel per element."""
    sheet = np.asarray(Image.open(tmp_path / "run" / "figures" / "feature_maps" / layer / f"epoch_{epoch:04d}.png"))
    times = TILE // SIDE
    left = GAP + SIDE * times + 3 * GAP + channel * (SIDE * times + GAP)
    top = GAP + LINE
    return sheet[top : top + SIDE * times : times, left : left + SIDE * times : times, 0].astype(float)


def test_feature_maps_of_known_kernels(make_trainer, tmp_path) -> None:
    fit(make_trainer, Known(), FeatureMaps())
    x = images().dataset.tensors[0][0, 0]
    edge = torch.zeros(SIDE, SIDE)
    edge[SIDE // 2 - 1 : SIDE // 2 + 1] = 1.0
    edge[-1] = -1.0  # the padding below is dark
    low, high = -1.0, 1.0  # the shared scale of both maps
    for channel, expected in ((0, x), (1, edge)):
        drawn = tile(tmp_path, "conv", channel) / 255 * (high - low) + low
        assert np.abs(drawn - expected.numpy()).max() < 0.01


def test_every_layer_has_one_tag_with_one_step_per_epoch(make_trainer, tmp_path) -> None:
    fit(make_trainer, Known(), FeatureMaps(gradients=True, images=(0, 2)), tensorboard=True, max_epochs=3)
    events = EventAccumulator(str(tmp_path / "run"), size_guidance={"images": 0})
    events.Reload()
    assert events.Tags()["images"] == ["feature_maps/conv", "feature_maps/conv/gradient"]
    assert [event.step for event in events.Images("feature_maps/conv")] == [1, 2, 3]


def test_hooks_are_removed_also_after_an_error() -> None:
    net = Known()
    with pytest.raises(ValueError, match="wrong"), capture_outputs({"conv": net.conv}):
        raise ValueError("wrong")
    assert not net.conv._forward_hooks
    with capture_outputs({"conv": net.conv}) as found:
        net(torch.ones(1, 1, SIDE, SIDE) * -1.0)
    assert float(found["conv"].detach().min()) < 0, "the captured output is from before the in-place ReLU"
    assert not net.conv._forward_hooks


def test_gradient_maps_are_the_gradients_of_the_true_class(make_trainer, tmp_path) -> None:
    net = Known()
    seen: dict[str, Tensor] = {}

    class Listening(FeatureMaps):
        def _show(self, trainer, tag, inputs, samples, shape, epoch) -> None:
            seen[tag] = torch.stack(samples)

    fit(make_trainer, net, Listening(gradients=True))
    slopes = net.head.weight[0].reshape(2, SIDE, SIDE)  # image 0 is of class 0
    passed = seen["feature_maps/conv"][0] > 0
    expected = torch.where(passed, slopes, torch.zeros_like(slopes))
    assert torch.allclose(seen["feature_maps/conv/gradient"][0], expected.detach(), atol=1e-6)


class Shortcut(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Conv2d(3, 3, 3, padding=1)
        self.head = nn.Linear(3 * SIDE * SIDE, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head((x + self.inner(x)).flatten(1))


class Rows(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(SIDE, 5, batch_first=True)
        self.head = nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.lstm(x[:, 0])[0][:, -1])


class Dense(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(SIDE * SIDE, 7), nn.Linear(7, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.first(x.flatten(1)).relu())


@pytest.mark.parametrize(
    ("net", "channels", "layers"),
    [(Shortcut, 3, {"inner"}), (Rows, 1, {"lstm"}), (Dense, 1, {"first", "second"})],
)
def test_default_layers_of_other_networks(make_trainer, tmp_path, net, channels, layers) -> None:
    fit(make_trainer, net(), FeatureMaps(gradients=True), channels)
    found = {path.name for path in (tmp_path / "run/figures/feature_maps").iterdir()}
    assert found == layers
    assert len(list((tmp_path / "run/figures/feature_maps").glob("*/epoch_*.png"))) == 2 * len(layers)


@pytest.mark.filterwarnings("ignore:.*no layer.*")
def test_a_wrong_layer_name_gives_a_warning(make_trainer, tmp_path) -> None:
    module = Module(Known())
    with pytest.warns(UserWarning, match=r"no layer 'cnv'; skipping it\. Did you mean conv\?"):
        assert list(select_layers("FeatureMaps", module, ["cnv", "net.relu"], ())) == ["relu"]
    trainer = fit(make_trainer, Known(), FeatureMaps(layers=["nothing"]))
    assert trainer.current_epoch == 2
    assert not (tmp_path / "run/figures").exists()


def test_a_network_without_layers_gives_a_warning(make_trainer) -> None:
    class Bare(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(SIDE * SIDE, 2))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1) @ self.weight

    with pytest.warns(UserWarning, match="no layer of the default kinds"):
        assert fit(make_trainer, Bare(), FeatureMaps()).current_epoch == 2


def test_layer_names_have_no_prefix() -> None:
    module = Module(nn.Sequential(nn.Conv2d(1, 1, 1), nn.ReLU()))
    assert list(named_layers(module)) == ["0", "1"]


def test_feature_maps_of_a_compiled_bf16_network(make_trainer, tmp_path) -> None:
    net = Known()
    net.compile(backend="eager")
    fit(make_trainer, net, FeatureMaps(), precision="bf16-mixed")
    assert (tmp_path / "run/figures/feature_maps/conv/epoch_0002.png").is_file()


def test_validate_plots_feature_maps(make_trainer, tmp_path) -> None:
    trainer = make_trainer([FeatureMaps()])
    trainer.validate(Module(Known()), images(), verbose=False)
    assert (tmp_path / "run/figures/feature_maps/conv.png").is_file()
