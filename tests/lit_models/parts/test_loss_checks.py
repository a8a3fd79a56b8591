"""How litlab finds out what a network returns and what a loss divides by, and that this changes nothing else."""

from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.nn import functional

from lit_models import LitClassifier, LitMLP, LitRegressor
from lit_models.parts import losses
from lit_models.parts.loss_checks import mean_problem
from lit_models.parts.output_ending import logits_of


class Net(nn.Module):
    """Network with hidden sigmoids, registered last, and any function at its end."""

    def __init__(self, end: Any, outputs: int) -> None:
        super().__init__()
        self.end = end
        self.first, self.norm, self.last = nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, outputs)
        self.drop, self.act = nn.Dropout(0.5), nn.Sigmoid()

    def forward(self, x: Tensor) -> Tensor:
        return self.end(self.last(self.drop(self.act(self.norm(self.first(x))))))


ENDS: dict[str, tuple[Any, int, str | None]] = {
    "logits": (nn.Identity(), 2, None),
    "module": (nn.Sigmoid(), 1, "sigmoid"),
    "function": (torch.sigmoid, 1, "sigmoid"),
    "method, reshaped": (lambda z: z.sigmoid().squeeze(1).unsqueeze(1), 1, "sigmoid"),
    "softmax": (nn.Softmax(1), 2, "softmax"),
    "softmax function": (lambda z: functional.softmax(z, dim=1), 2, "softmax"),
    "log-softmax": (nn.LogSoftmax(1), 2, None),
    "scaled": (lambda z: 3 * z.sigmoid(), 1, None),
}


class Model(LitClassifier):
    def __init__(self, end: str = "logits", **kwargs: Any) -> None:
        super().__init__((4,), 2, **kwargs)
        self.net = self.initialized(Net(*ENDS[end][:2]))


@pytest.mark.parametrize("name", ENDS)
def test_the_last_function_is_found_and_nothing_changes(name: str) -> None:
    model, expected = Model(name), ENDS[name][2]
    model.net.norm.eval()
    state, random = {key: value.clone() for key, value in model.state_dict().items()}, torch.get_rng_state()
    with torch.inference_mode():
        assert model.output_ending() == expected
    assert torch.equal(random, torch.get_rng_state())
    assert all(torch.equal(state[key], value) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.net.drop.training
    assert not model.net.norm.training


def test_probabilities_survive_saturation_and_rank() -> None:
    model = Model("module")
    p = torch.tensor([0.0, 1e-30, 1e-9, 0.5, 0.5000001, 1 - 1e-7, 1.0])[:, None]
    torch.testing.assert_close(model.probabilities(p)[:, 1:], p, rtol=1e-6, atol=1e-7)
    odds = model.predicted(p, None)["log_odds"]
    odds = odds if odds.dim() == 1 else odds[:, -1]
    assert torch.isfinite(odds).all()
    assert (odds.diff() > 0).all()
    assert model.predicted(p, None)["prediction"].tolist() == [0, 0, 0, 0, 1, 1, 1]


class Running(nn.Module):
    """A loss with a state of its own and random numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.tensor(0))

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        self.calls += 1
        return functional.cross_entropy(output, target) + 0 * torch.rand(())


def test_the_check_leaves_the_loss_and_random_numbers_alone() -> None:
    loss, output = Running(), torch.randn(9, 3)
    random = torch.get_rng_state()
    assert mean_problem(loss, None, output, torch.arange(9) % 3, True) is None
    assert loss.calls == 0
    assert torch.equal(random, torch.get_rng_state())


class Regressor(LitRegressor):
    def __init__(self, **kwargs: Any) -> None:
        super().__init__((4,), 1, **kwargs)
        self.net = self.initialized(nn.Linear(4, 1))


@pytest.mark.parametrize("loss", [{"name": "mse", "reduction": "sum"}, "mse", "huber"])
def test_sums_over_samples_of_numbers_are_rejected(trainer: Any, loader: Any, loss: Any) -> None:
    model, data = Regressor(loss=loss), loader(torch.randn(40, 4), torch.randn(40, 1), batch_size=8)
    if isinstance(loss, dict):
        with pytest.raises(MisconfigurationException, match=r"loss: MSELoss must return the mean .* their sum"):
            trainer().fit(model, data)
    else:
        trainer(accumulate_grad_batches=2).fit(model, data)


def test_unknown_class_indices_are_rejected_or_ignored_on_request(trainer: Any, loader: Any) -> None:
    x, y = torch.randn(60, 4), torch.arange(60) % 3
    y[::5] = -100
    data = loader(x, y, batch_size=13)
    with pytest.raises(MisconfigurationException, match=r"must be from 0 to 2, got -100.*loss.ignore_index -100"):
        trainer().fit(LitMLP((4,), 3), data)
    model = LitMLP((4,), 3, loss={"name": "cross_entropy", "ignore_index": -100}, metrics=("acc", "nll"))
    trainer().fit(model, data)
    found = trainer().validate(model, data, verbose=False)[0]
    with torch.no_grad():
        z, kept = model.net(x).double(), y >= 0
    expected = functional.cross_entropy(z[kept], y[kept]).item()
    assert found["val/loss"] == pytest.approx(expected, rel=1e-6)
    assert found["val/nll"] == pytest.approx(expected, rel=1e-6)
    assert found["val/acc"] == pytest.approx((z.argmax(1) == y)[kept].double().mean().item())


def test_a_loss_without_any_weight_is_not_defined(trainer: Any, loader: Any) -> None:
    model = LitMLP((4,), 3, loss={"name": "cross_entropy", "ignore_index": 2}, metrics=())
    data = loader(torch.randn(20, 4), torch.full((20,), 2), batch_size=7)
    with pytest.warns(UserWarning, match="val/loss is not defined, because no sample has a weight above 0"):
        found = trainer().validate(model, data, verbose=False)[0]
    assert torch.tensor(found["val/loss"]).isnan()


def test_weighted_means_continue_within_an_epoch() -> None:
    model = LitMLP((4,), 3, loss={"name": "cross_entropy", "weight": [1, 2, 3]})
    other = LitMLP((4,), 3)
    for value, weight in ((2.0, 3.0), (5.0, 1.5)):
        model.train_metrics.add_mean("loss", torch.tensor(value), torch.tensor(weight))
        list(model.train_metrics.flush())
    model.train_metrics.add_mean("loss", torch.tensor(float("nan")), torch.tensor(0.0))
    model.train_metrics.add_mean("loss", torch.tensor(1.0), torch.tensor(10.0))
    other.load_epoch_state(model.epoch_state())
    list(other.train_metrics.flush())
    assert float(other.train_metrics.mean_loss()) == pytest.approx((2 * 3 + 5 * 1.5 + 10) / 14.5, rel=1e-12)


class _Weighted(nn.Module):
    """Weighted mean without `batch_weight`, for class indices, one-hot rows or numbers."""

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point() and output.shape == target.shape and output.shape[1] == 1:
            weight = 1 + target.abs()
            return (weight * (output - target) ** 2).sum() / weight.sum()
        index = target.argmax(1) if target.is_floating_point() else target
        return nn.functional.cross_entropy(output, index, torch.tensor([1.0, 49.0]))


@pytest.mark.parametrize(
    ("output", "target"),
    [
        (torch.randn(1, 2), torch.tensor([1])),
        (torch.zeros(64, 2), torch.arange(64) % 2),
        (torch.randn(8, 2), torch.zeros(8, dtype=torch.long)),
        (torch.randn(8, 2), torch.eye(2)[torch.arange(8) % 2]),
        (torch.randn(8, 1) + 1e4, torch.randn(8, 1) + 1e4),
    ],
    ids=["one sample", "equal losses", "one class", "one-hot", "large offset"],
)
def test_a_weighted_mean_is_recognized_on_any_first_batch(output: Tensor, target: Tensor) -> None:
    problem = mean_problem(_Weighted(), None, output, target, shares_step=True)
    assert problem is not None
    assert "is not a mean over samples" in problem
    assert mean_problem(nn.MSELoss(), None, output, output, shares_step=True) is None


def test_a_sum_is_recognized_on_a_batch_of_one_sample() -> None:
    problem = mean_problem(nn.CrossEntropyLoss(reduction="sum"), None, torch.randn(1, 2), torch.tensor([0]), False)
    assert problem is not None
    assert "returns their sum" in problem


@pytest.mark.parametrize("weight", [[1.0, -2.0], [0.0, 0.0], [1.0, float("nan")], [1.0, float("inf")]])
def test_weights_below_0_or_all_0_are_rejected(weight: list[float]) -> None:
    with pytest.raises(MisconfigurationException, match="weight must contain numbers of at least 0"):
        LitMLP((4,), 2, loss={"name": "cross_entropy", "weight": weight})


def test_ignore_index_needs_class_indices() -> None:
    with pytest.raises(MisconfigurationException, match="ignore_index must be an integer, got 'abc'"):
        LitMLP((4,), 3, loss={"name": "cross_entropy", "ignore_index": "abc"})
    loss = losses.CrossEntropy(ignore_index=0)
    with pytest.raises(MisconfigurationException, match="needs class indices"):
        loss(torch.randn(3, 3), torch.eye(3))


def test_the_nll_of_saturated_sigmoids_is_torchs_bce_loss() -> None:
    probabilities, target = torch.tensor([[0.0], [1.0], [0.3], [1.0]]), torch.tensor([1, 0, 1, 1])
    logits = losses.two_logits(logits_of(probabilities, "sigmoid"))
    expected = nn.BCELoss()(probabilities, target[:, None].float())
    assert nn.functional.cross_entropy(logits, target).item() == pytest.approx(expected.item(), rel=1e-5)
