"""Every loss compared with a value computed by hand, for class indices and for one-hot targets."""

from typing import Any

import lightning.pytorch as pl
import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.nn import functional

from lit_models import LitLogisticRegression, LitMLP, LitMLPRegressor
from lit_models.parts.losses import CLASS_LOSSES, NUMBER_LOSSES, build_loss

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, -3.0], [1.0, 4.0, 1.5], [-2.0, 0.0, 1.0]])
INDEX = torch.tensor([0, 2, 1, 2])
ONE_HOT = functional.one_hot(INDEX, 3).float()
SOFT = torch.tensor([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5], [0.1, 0.9, 0.0], [0.2, 0.2, 0.6]])
WEIGHT = [1.0, 2.0, 0.5]


def loss(spec: Any) -> Any:
    return build_loss(spec, CLASS_LOSSES, NUMBER_LOSSES)


def _log_p() -> Tensor:
    return LOGITS - LOGITS.exp().sum(1, keepdim=True).log()


def test_cross_entropy_nll_and_kl_by_hand() -> None:
    by_hand = -(ONE_HOT * _log_p()).sum(1).mean()
    for name in ("cross_entropy", "nll", "kl_div"):
        for target in (INDEX, ONE_HOT):
            assert loss(name)(LOGITS, target) == pytest.approx(by_hand.item()), name
    by_hand = -(SOFT * _log_p()).sum(1).mean()
    assert loss("cross_entropy")(LOGITS, SOFT) == pytest.approx(by_hand.item())
    assert loss("nll")(LOGITS, SOFT) == pytest.approx(by_hand.item())
    entropy = -torch.special.xlogy(SOFT, SOFT).sum(1).mean()
    assert loss("kl_div")(LOGITS, SOFT) == pytest.approx((by_hand - entropy).item(), abs=1e-6)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_weights_are_equal_for_indices_and_one_hot(smoothing: float) -> None:
    module = loss({"name": "cross_entropy", "weight": WEIGHT, "label_smoothing": smoothing})
    expected = functional.cross_entropy(LOGITS, INDEX, torch.tensor(WEIGHT), label_smoothing=smoothing).item()
    assert module(LOGITS, INDEX) == pytest.approx(expected)
    assert module(LOGITS, ONE_HOT) == pytest.approx(expected)


def test_binary_losses_by_hand() -> None:
    z, y = torch.tensor([[1.5], [-0.5], [3.0]]), torch.tensor([1, 0, 0])
    p = 1 / (1 + (-z[:, 0]).exp())
    by_hand = -(y * p.log() + (1 - y) * (1 - p).log()).mean().item()
    one_hot = functional.one_hot(y, 2).float()
    for name in ("bce", "bce_with_logits", "cross_entropy", "nll", "kl_div"):
        for target in (y, one_hot, y[:, None].float()):
            assert loss(name)(z, target) == pytest.approx(by_hand), name
    weighted = -(3 * y * p.log() + (1 - y) * (1 - p).log()).mean().item()
    assert loss({"name": "bce_with_logits", "pos_weight": [3.0]})(z, y) == pytest.approx(weighted)


def test_one_versus_rest_is_bce_over_all_logits() -> None:
    p = LOGITS.sigmoid()
    by_hand = -(ONE_HOT * p.log() + (1 - ONE_HOT) * (1 - p).log()).mean().item()
    for target in (INDEX, ONE_HOT):
        assert loss("bce_with_logits")(LOGITS, target) == pytest.approx(by_hand)
        assert loss("bce")(LOGITS, target) == pytest.approx(by_hand)


def test_bce_works_under_mixed_precision() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss("bce")(torch.tensor([[40.0]]).bfloat16(), torch.tensor([1])) == pytest.approx(0.0, abs=1e-6)


def test_number_losses_by_hand() -> None:
    a, b = torch.tensor([[0.0], [3.0]]), torch.tensor([[0.5], [-1.0]])
    cases = {"mse": (0.25 + 16) / 2, "l1": 2.25, "smooth_l1": (0.125 + 3.5) / 2, "huber": (0.125 + 3.5) / 2}
    assert set(cases) == set(NUMBER_LOSSES)
    for name, expected in cases.items():
        assert build_loss(name, NUMBER_LOSSES, CLASS_LOSSES)(a, b) == pytest.approx(expected), name
    huber = build_loss({"name": "huber", "delta": 2.0}, NUMBER_LOSSES, CLASS_LOSSES)
    assert huber(a, b) == pytest.approx((0.125 + 2 * (4 - 1)) / 2)


def test_a_class_path_loss_with_a_list_of_weights() -> None:
    module = loss({"class_path": "torch.nn.CrossEntropyLoss", "init_args": {"weight": WEIGHT}})
    assert module(LOGITS, INDEX) == pytest.approx(
        loss({"name": "cross_entropy", "weight": WEIGHT})(LOGITS, INDEX).item()
    )
    assert module.state_dict() == {}


def test_losses_add_nothing_to_the_checkpoint() -> None:
    model = LitMLP((4,), 3, loss={"name": "cross_entropy", "weight": WEIGHT}, metrics=("acc", "f1", "auroc"))
    assert all(key.startswith("net.") for key in model.state_dict())
    assert model.to(torch.float64).loss_fn.weight.dtype == torch.float64


def test_targets_of_a_wrong_shape_raise_an_error() -> None:
    with pytest.raises(MisconfigurationException, match=r"logits of shape \(4, 3\) must be .*, got shape \(4, 2\)"):
        loss("cross_entropy")(LOGITS, torch.zeros(4, 2))
    with pytest.raises(MisconfigurationException, match=r"loss must be one of mse.*, got 'cross_entropy'"):
        LitMLPRegressor((4,), 1, loss="cross_entropy")
    model = LitMLPRegressor((4,), 1)
    with pytest.raises(MisconfigurationException, match=r"must have the shape of its output \(5, 1\), got \(5,\)"):
        model.outputs(torch.zeros(5, 4), torch.zeros(5))


def test_a_wrong_number_of_class_weights_raises_an_error() -> None:
    for spec in ({"name": "cross_entropy", "weight": [1, 2]}, {"class_path": "torch.nn.NLLLoss", "weight": [1, 2]}):
        with pytest.raises(MisconfigurationException, match=r"loss: weight must have one number .* \(10\), got 2"):
            LitMLP((4,), 10, loss=spec)
    with pytest.raises(MisconfigurationException, match=r"loss: pos_weight must have one number .* \(3\), got 2"):
        LitMLP((4,), 3, loss={"name": "bce_with_logits", "pos_weight": [1, 2]})
    LitMLP((4,), 3, loss={"name": "bce_with_logits", "pos_weight": [2]})
    LitLogisticRegression((4,), 2, loss={"name": "cross_entropy", "weight": [1, 2]})


class _Data(pl.LightningDataModule):
    def __init__(self, data: Any, target_form: str | None) -> None:
        super().__init__()
        self.data = data
        if target_form is not None:
            self.target_form = target_form

    def train_dataloader(self) -> Any:
        return self.data


def test_a_custom_loss_of_wrong_shapes_raises_an_error_before_training(trainer: Any, loader: Any) -> None:
    x, index = torch.zeros(8, 4), torch.arange(8) % 3
    one_hot = functional.one_hot(index, 3).float()
    model = LitMLP((4,), 3, loss="torch.nn.MSELoss")
    with pytest.raises(MisconfigurationException, match=r"loss: MSELoss fails for logits \(2, 3\) and class ind"):
        trainer().fit(model, datamodule=_Data(loader(x, index), "index"))
    for form in ("one_hot", None):
        trainer().fit(model, datamodule=_Data(loader(x, one_hot), form))
    single = LitMLP((4,), 3, loss={"class_path": "torch.nn.CrossEntropyLoss", "reduction": "none"})
    with pytest.raises(MisconfigurationException, match=r"CrossEntropyLoss fails for .* must return one number"):
        trainer().fit(single, datamodule=_Data(loader(x, index), "index"))
    fitting = LitMLP((4,), 3, loss="torch.nn.CrossEntropyLoss")
    trainer().fit(fitting, datamodule=_Data(loader(x, index), "index"))
