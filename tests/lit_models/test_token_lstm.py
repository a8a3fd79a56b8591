"""The language model learns, generates and predicts a text."""

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from lit_models import LitTokenLSTM, TokenLSTM

CYCLE = torch.arange(200) % 7


def _windows(length: int = 12) -> tuple[Tensor, Tensor]:
    windows = CYCLE.unfold(0, length + 1, 1)
    return windows[:, :-1], windows[:, 1:]


def _model(**settings: Any) -> LitTokenLSTM:
    small = {"embedding": 8, "hidden": 16, "layers": 1, "dropout": 0.0, "optimizer": {"name": "adam", "lr": 0.02}}
    return LitTokenLSTM(7, (12,), **{**small, **settings})  # type: ignore[arg-type]


@pytest.mark.parametrize("every_step", [True, False])
def test_it_learns_and_continues_a_cycle(trainer: Any, loader: Any, tmp_path: Path, every_step: bool) -> None:
    x, y = _windows()
    model = _model(every_step=every_step)
    run = trainer(max_epochs=10)
    run.fit(model, loader(x, y, batch_size=40), loader(x, y))
    assert run.callback_metrics["val/acc"] > 0.99
    # If it learned only from the last step of a window, it can continue only windows of that length.
    prompt, length = (torch.tensor([3, 4, 5]), 20) if every_step else (x[3], 1)
    found = model.generate(prompt, length, temperature=0)
    assert found[: len(prompt)].equal(prompt)
    assert found.diff().remainder(7).eq(1).all()
    assert model.training, "generation leaves the mode as it was"
    run.save_checkpoint(tmp_path / "model.ckpt")
    again = LitTokenLSTM.load_from_checkpoint(tmp_path / "model.ckpt", weights_only=True)
    assert again.vocab_size == 7
    assert "num_classes" not in again.hparams


def test_generation_with_a_state_equals_rereading_the_text() -> None:
    model = _model(layers=2, dropout=0.2).eval()
    text = model.generate(torch.tensor([1, 2]), 6, temperature=0)
    with torch.no_grad():
        for end in range(2, 8):
            assert model(text[None, :end])[0, -1].argmax() == text[end]


def test_sampling_uses_the_seed_and_the_temperature() -> None:
    model = _model()

    def sample(seed: int, temperature: float = 1.0) -> Tensor:
        return model.generate(torch.tensor([[0], [1]]), 40, temperature, torch.Generator().manual_seed(seed))

    assert sample(1).shape == (2, 41)
    assert torch.equal(sample(1), sample(1))
    assert not torch.equal(sample(1), sample(2))
    assert torch.equal(sample(1, 1e-4), sample(2, 1e-4))
    with pytest.raises(MisconfigurationException, match=r"generate: .* got length 3, temperature -1 "):
        model.generate(torch.tensor([0]), 3, -1)


def test_the_state_can_be_passed_on() -> None:
    network = TokenLSTM(7, 8, 16, 2, 0.0)
    tokens = CYCLE[None, :10]
    complete, _ = network(tokens)
    first, state = network(tokens[:, :4])
    second, _ = network(tokens[:, 4:], state)
    assert torch.allclose(torch.cat((first, second), dim=1), complete, atol=1e-6)


def test_prediction_is_the_token_after_the_window() -> None:
    x, y = _windows()
    model = _model().eval()
    with torch.no_grad():
        found = model.predict_step((x, y), 0)
    assert torch.equal(found["target"], CYCLE[12:])
    assert found["probabilities"].shape == (len(x), 7)
