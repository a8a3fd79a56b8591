"""Saving and restoring the position within an epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from datamodules import InMemoryLoader
from tests.datamodules.fakes import Follower, Jitter, JitteredLine, line_batches, train


def loader(**options: Any) -> InMemoryLoader:
    return InMemoryLoader(line_batches(330, 8, shuffle=True, seed=5, preparation=Jitter()), **options)


def two_epochs(it: InMemoryLoader, first: int = 0) -> list[list[float]]:
    """Return the inputs from the current position to the end of the second epoch."""
    served = []
    for epoch in range(first, 2):
        it.sampler.set_epoch(epoch)
        served += [x.flatten().tolist() for x, _ in it]
    return served


def test_resuming_at_any_batch_gives_the_remaining_batches() -> None:
    uninterrupted = two_epochs(loader())
    for done in range(0, len(uninterrupted), 10):
        running, again = loader(), loader()
        epoch, within = divmod(done, len(running))
        running.sampler.set_epoch(epoch)
        served = iter(running)
        for _ in range(within):
            next(served)
        again.load_state_dict(running.state_dict())
        assert two_epochs(again, epoch) == uninterrupted[done:]


def test_the_position_after_the_last_batch_is_the_start_of_the_next_epoch() -> None:
    it, again = loader(), loader()
    uninterrupted = two_epochs(loader())
    assert len(list(it)) == len(it)
    state = it.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 0)
    again.load_state_dict(state)
    assert [x.flatten().tolist() for x, _ in again] == uninterrupted[len(it) :]


def test_creating_iterators_does_not_change_the_position() -> None:
    it = loader()
    next(served := iter(it))
    saved = it.state_dict()
    del served
    again = loader()
    again.load_state_dict(saved)
    iter(again)
    second = iter(again)
    assert again.state_dict() == saved
    again.sampler.set_epoch(0)
    assert torch.equal(next(second)[0], it.batches.make(0, 1)[0])
    assert len(list(again)) == len(again)  # and only once


def test_a_position_applies_only_to_its_epoch() -> None:
    it = loader()
    it.load_state_dict({**it.state_dict(), "batch": 3})
    it.sampler.set_epoch(1)
    assert len(list(it)) == len(it)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"data": "other"}, "data: the checkpoint was saved with other training data or another split"),
        ({"samples": 5}, "data: the checkpoint was saved with 5 training samples, this run has 330"),
        ({"seed": 6}, "seed_everything: the checkpoint was saved with seed 6, this run has 5. Set --seed_everything 6"),
        ({"batch_size": 16}, "batch_size: the checkpoint was saved with 16 samples per batch, this run has 8"),
        ({"batches_per_call": 4, "batch": 4}, "steps_per_call: the checkpoint was saved within an epoch with 4"),
    ],
)
def test_a_position_from_another_run_raises_an_error(change: dict[str, Any], words: str) -> None:
    it = loader(data_hash=lambda: "ours")
    with pytest.raises(MisconfigurationException, match=words):
        it.load_state_dict({**it.state_dict(), **change})


def test_steps_per_call_may_change_at_the_start_of_an_epoch() -> None:
    it = loader()
    it.load_state_dict({**it.state_dict(), "batches_per_call": 4, "epoch": 1})
    assert it.state_dict()["epoch"] == 1


def fresh(**options: Any) -> Follower:
    torch.manual_seed(3)
    return Follower(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"holding": "workers", "num_workers": 1},
        {"val_split": 0},
        {"val_check_interval": 0.25},
        {"limit_train_batches": 15},
        {"max_steps": 35, "max_epochs": -1},
        {"num_sanity_val_steps": 2},
        {"asks_length": True},
    ],
    ids=str,
)
def test_a_run_resumed_within_an_epoch_equals_an_uninterrupted_run(options: dict[str, Any], tmp_path: Path) -> None:
    for_data = {name: options[name] for name in options if name in ("val_split", "holding", "num_workers")}
    asks = {"asks_length": options.get("asks_length", False)}
    for_trainer = {name: options[name] for name in options if name not in {**for_data, **asks}}

    def data() -> JitteredLine:
        return JitteredLine(num_samples=101, batch_size=4, **for_data)

    uninterrupted = fresh(**asks)
    train(uninterrupted, data(), **for_trainer)
    for stop in (1, 10, 15, 20, 25, 30):
        if stop >= len(uninterrupted.seen):
            continue
        path = str(tmp_path / f"{stop}.ckpt")
        train(fresh(save_at=stop, path=path, **asks), data(), **for_trainer)
        again = fresh(**asks)
        train(again, data(), ckpt_path=path, **for_trainer)
        assert again.seen == uninterrupted.seen[stop:]
        assert torch.equal(again.net.weight, uninterrupted.net.weight)


def test_a_checkpoint_stores_data_seed_and_position_as_plain_values(tmp_path: Path) -> None:
    path = str(tmp_path / "within.ckpt")
    train(fresh(save_at=23, path=path), JitteredLine(num_samples=101, batch_size=4))
    loops = torch.load(path, weights_only=True)["loops"]["fit_loop"]
    (state,) = loops["state_dict"]["combined_loader"]
    assert (state["epoch"], state["batch"], state["batch_size"], state["seed"]) == (1, 3, 4, 3)
    with pytest.raises(MisconfigurationException, match="other training data or another split"):
        train(fresh(), JitteredLine(num_samples=101, batch_size=4, data_seed=1), ckpt_path=path)
    with pytest.raises(MisconfigurationException, match="batch_size: the checkpoint was saved with 4"):
        train(fresh(), JitteredLine(num_samples=101, batch_size=8), ckpt_path=path)


def test_testing_a_checkpoint_does_not_change_the_position_of_a_later_fit(tmp_path: Path) -> None:
    path = str(tmp_path / "within.ckpt")
    train(fresh(save_at=10, path=path), JitteredLine(num_samples=101, batch_size=4))
    data, model = JitteredLine(num_samples=101, batch_size=4), fresh()
    data.load_state_dict(torch.load(path, weights_only=True)["JitteredLine"])
    train(model, data, max_epochs=1)
    assert len(model.seen) == len(data.train_dataloader())
