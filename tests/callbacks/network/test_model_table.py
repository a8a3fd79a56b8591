"""Tests of the model table."""

import pytest
import torch
from lightning.pytorch import LightningModule
from torch import nn

from callbacks import ModelGraph, ModelTable


class _Module(LightningModule):
    def __init__(self, net: nn.Module, example: torch.Tensor | None) -> None:
        super().__init__()
        self.net = net
        self.example_input_array = example

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = self.net(x)
        return out[0] if isinstance(out, tuple) else out


def test_table_of_a_small_model(make_trainer, small, blobs, capsys) -> None:
    make_trainer([ModelTable()], max_epochs=1).fit(small(), blobs())
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["layer", "type", "in", "out", "parameters", "FLOPs/sample"],
        ["net.0", "Linear", "2", "8", "24", "32"],
        ["net.1", "ReLU", "8", "8", "0", "0"],
        ["net.2", "Dropout", "8", "8", "0", "0"],
        ["net.3", "Linear", "8", "3", "27", "48"],
        ["51", "parameters,", "51", "trainable;", "80", "FLOPs", "for", "one", "sample,", "forward"],
    ]


def test_flops_are_counted_per_sample() -> None:
    one, four = (ModelTable().table(_Module(nn.Linear(2, 3), torch.zeros(n, 2))) for n in (1, 4))
    assert one == four
    assert "; 12 FLOPs for one sample" in one


def test_a_recurrent_layer_without_flops_is_marked() -> None:
    text = ModelTable().table(_Module(nn.LSTM(4, 8, batch_first=True), torch.zeros(1, 5, 4)))
    assert text.splitlines()[1].split()[:2] == ["net", "LSTM"]
    assert text.splitlines()[1].endswith("not counted")
    assert text.endswith("0 FLOPs for one sample, forward (LSTM not counted)")


def test_the_table_of_a_deep_network_is_limited() -> None:
    block = [nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU()) for _ in range(10)]
    text = ModelTable().table(_Module(nn.Sequential(*block), torch.zeros(1, 4)))
    rows = text.splitlines()[1:-1]
    assert [row.split()[0] for row in rows] == [f"net.{index}" for index in range(10)]
    assert all(row.split()[4] == "40" for row in rows)
    wide = ModelTable(max_rows=5).table(_Module(nn.Sequential(*block), torch.zeros(1, 4)))
    assert len(wide.splitlines()) == 3  # header, net, total


def test_frozen_parameters_and_those_outside_of_layers_are_counted() -> None:
    model = _Module(nn.Linear(2, 2), torch.zeros(1, 2))
    model.scale = nn.Parameter(torch.ones(5))
    model.net.bias.requires_grad_(False)
    text = ModelTable().table(model)
    assert text.splitlines()[2].split() == ["(other)", "5"]
    assert "11 parameters, 9 trainable" in text


def test_without_an_example_the_table_has_parameters_only() -> None:
    text = ModelTable().table(_Module(nn.Linear(2, 2), None))
    assert text.splitlines() == ["layer  type    parameters", "net    Linear           6", "6 parameters, 6 trainable"]


def test_a_failing_forward_prints_a_line_and_restores_the_mode(make_trainer, small, blobs, capsys) -> None:
    model = small()
    model.example_input_array = torch.zeros(1, 7)
    make_trainer([ModelTable()], max_epochs=1).fit(model, blobs())
    assert "model table: the forward pass of example_input_array failed (RuntimeError" in capsys.readouterr().out
    assert model.net.training


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
def test_the_table_is_the_same_in_every_precision(make_trainer, small, blobs, tmp_path, capsys, precision) -> None:
    model = small()
    callbacks = [ModelTable(), ModelGraph()]
    make_trainer(callbacks, max_steps=1, limit_val_batches=0, precision=precision, tensorboard=True).fit(model, blobs())
    text = capsys.readouterr().out
    assert "failed" not in text
    assert "80 FLOPs for one sample, forward" in text
    assert model.example_input_array.dtype == torch.float32
