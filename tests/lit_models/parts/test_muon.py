"""Muon takes orthogonal steps for filters and matrices, and SGD steps for other parameters."""

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from lit_models.parts.muon import Muon, orthogonalize
from lit_models.parts.optimizers import build_optimizer
from lit_models.parts.schedules import SCHEDULES, RunLength


@pytest.mark.parametrize("shape", [(8, 27), (27, 8), (16, 16)])
def test_orthogonalize_keeps_singular_vectors_and_equalizes_singular_values(shape) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = left.T @ orthogonalize(matrix, steps=5) @ right.T  # diagonal in the basis of the matrix's singular vectors
    assert (found - found.diag().diag()).abs().max() < 0.05
    assert 0.5 < found.diag().min() <= found.diag().max() < 1.4


def _net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def test_filters_move_by_the_learning_rate_and_keep_their_length() -> None:
    net = _net()
    optimizer = Muon(net.parameters(), lr=0.1)
    net(torch.randn(8, 1, 4, 4)).logsumexp(1).sum().backward()
    before = net[0].weight.detach().clone()
    optimizer.step()
    unit = before * (2.0 / before.norm())  # sqrt(4 rows)
    moved = (net[0].weight.detach() - unit).norm() / unit.norm()
    assert 0.05 < moved < 0.13


def test_biases_normalization_and_the_output_layer_are_trained_by_nesterov_sgd() -> None:
    mine, theirs = _net(), _net()
    muon = Muon(mine.parameters(), lr=0.0, unit_length=False, head_lr=0.3, bias_lr=0.2, sgd_momentum=0.9)
    rest = [theirs[1].weight, theirs[1].bias, theirs[0].bias, theirs[4].bias]
    groups = [{"params": [theirs[4].weight], "lr": 0.3}, {"params": rest, "lr": 0.2}]
    sgd = torch.optim.SGD(groups, lr=1.0, momentum=0.9, nesterov=True)
    for step in range(3):
        x = torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(step))
        for net, optimizer in ((mine, muon), (theirs, sgd)):
            optimizer.zero_grad()
            net(x).square().mean().backward()
            optimizer.step()
    for (name, one), two in zip(mine.named_parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, two, msg=name)


def test_training_continues_exactly_from_its_saved_state(tmp_path) -> None:
    def train(net: nn.Module, optimizer: Muon, steps: range) -> None:
        for step in steps:
            optimizer.zero_grad()
            net(torch.randn(8, 1, 4, 4, generator=torch.Generator().manual_seed(step))).square().mean().backward()
            optimizer.step()

    complete, resumed = _net(), _net()
    train(complete, Muon(complete.parameters()), range(4))
    first = Muon(resumed.parameters())
    train(resumed, first, range(2))
    torch.save(first.state_dict(), tmp_path / "state.pt")
    second = Muon(resumed.parameters(), lr=0.5)
    second.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    train(resumed, second, range(2, 4))
    assert all(torch.equal(a, b) for a, b in zip(complete.parameters(), resumed.parameters(), strict=True))


@pytest.mark.parametrize("name", ["onecycle", "cyclic", "polynomial", "warmup_cosine"])
def test_schedules_keep_the_ratios_of_learning_rates(name) -> None:
    optimizer = Muon(_net().parameters(), lr=0.2, head_lr=1.5, bias_lr=30.0)
    schedule = SCHEDULES[name](optimizer, RunLength(20, 10))
    for _ in range(7):
        optimizer.step()
        schedule.step()
    first, head, bias = (group["lr"] for group in optimizer.param_groups)
    assert (head / first, bias / first) == (pytest.approx(7.5, rel=1e-3), pytest.approx(150, rel=1e-3))


@pytest.mark.parametrize(
    ("settings", "word"), [({"lr": -1}, "lr"), ({"momentum": 1.0}, "momentum"), ({"steps": 0}, "steps")]
)
def test_wrong_arguments_are_named_in_errors(settings, word) -> None:
    with pytest.raises(MisconfigurationException, match=word):
        build_optimizer({"name": "muon", **settings}, [nn.Parameter(torch.zeros(1, 1))])
