"""Worker processes make the same batches as the loader itself."""

from __future__ import annotations

import itertools
import os
from typing import Any

import pytest
import torch

from datamodules import InMemoryLoader
from datamodules.serving.batches import Batch, Preparation
from datamodules.serving.workers import WorkerBatches
from tests.datamodules.fakes import Follower, Jitter, JitteredLine, Mixed, line_batches, train


def by_workers(num_workers: int, preparation: Preparation, **options: Any) -> InMemoryLoader:
    """Return a loader of 53 samples with workers."""
    batches = line_batches(53, 8, shuffle=True, seed=3, preparation=preparation)
    return InMemoryLoader(batches, source=WorkerBatches(batches, num_workers), **options)


def assert_equal(ours: list[Batch], theirs: list[Batch]) -> None:
    """Compare bit for bit, including the dtype."""
    for (x, y), (x2, y2) in zip(ours, theirs, strict=True):
        assert torch.equal(x, x2)
        assert torch.equal(y, y2)
        assert (x.dtype, y.dtype) == (x2.dtype, y2.dtype)


@pytest.mark.parametrize("preparation", [Jitter(), Mixed()], ids=["per sample", "full batch"])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_workers_make_the_same_batches_in_every_epoch(num_workers: int, preparation: Preparation) -> None:
    plain = InMemoryLoader(line_batches(53, 8, shuffle=True, seed=3, preparation=preparation))
    loader = by_workers(num_workers, preparation)
    random_state = torch.get_rng_state()
    for epoch in (0, 1, 4):
        plain.sampler.set_epoch(epoch)
        loader.sampler.set_epoch(epoch)
        assert_equal(list(loader), list(plain))
    assert torch.equal(random_state, torch.get_rng_state())
    loader.close()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("batches_per_call", [1, 2])
def test_prefetched_batches_do_not_count_in_the_position(num_workers: int, batches_per_call: int) -> None:
    loader = by_workers(num_workers, Jitter(), batches_per_call=batches_per_call)
    loader.sampler.set_epoch(1)
    batches = list(loader)
    running = iter(loader)
    for _ in range(2):
        next(running)
    state = loader.state_dict()
    assert (state["epoch"], state["batch"]) == (1, 2 * batches_per_call)
    again = by_workers(num_workers, Jitter(), batches_per_call=batches_per_call)
    again.load_state_dict(state)
    rest = list(again)
    assert len(rest) == len(loader) - 2
    if batches_per_call == 1:
        assert_equal(rest, batches[2:])
    else:
        assert_equal(list(itertools.chain(*rest)), list(itertools.chain(*batches[2:])))
    loader.close()
    again.close()


def test_a_second_iterator_changes_neither_the_batches_nor_the_position() -> None:
    for loader in (by_workers(2, Jitter()), InMemoryLoader(line_batches(53, 8, shuffle=True, preparation=Jitter()))):
        expected = list(loader)
        running = iter(loader)
        served = [next(running), next(running)]
        assert_equal([next(iter(loader))], expected[:1])
        assert loader.state_dict()["batch"] == 2
        assert_equal(served + list(running), expected)
        loader.close()


class ProcessInfo(Preparation):
    """A preparation that returns the process and its number of threads as inputs."""

    def __call__(self, *arguments: Any) -> Batch:
        _, y = super().__call__(*arguments)
        return torch.tensor([os.getpid(), torch.get_num_threads()]), y


def test_workers_live_until_the_loader_is_closed() -> None:
    loader = by_workers(2, ProcessInfo())
    first = {tuple(x.tolist()) for x, _ in loader}
    loader.sampler.set_epoch(1)
    assert {tuple(x.tolist()) for x, _ in loader} == first
    assert {threads for _, threads in first} == {1}
    processes = {process for process, _ in first}
    assert len(processes) == 2
    assert os.getpid() not in processes
    loader.close()
    for process in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_training_with_workers_gives_the_same_result(caplog: pytest.LogCaptureFixture) -> None:
    results = []
    for options in ({}, {"holding": "workers", "num_workers": 0}, {"holding": "workers", "num_workers": 1}):
        torch.manual_seed(1)
        model, data = Follower(), JitteredLine(num_samples=60, batch_size=8, **options)
        caplog.clear()
        with caplog.at_level("INFO"):
            train(model, data)
        results.append((model.seen, model.net.weight.item()))
        lines = [record.getMessage() for record in caplog.records if record.getMessage().startswith("data:")]
        assert len(lines) == (1 if options else 0)
    assert results[0] == results[1] == results[2]
    assert lines == ["data: reading 0.5 kB of training data with 1 worker process, as set by data.holding."]
