"""Test that two processes write every file once."""

import pytest
import torch

from callbacks import (
    BestCheckpoint,
    FiniteLoss,
    HyperParameters,
    LastCheckpoint,
    ModelGraph,
    ModelTable,
    PlainProgress,
    RunSettings,
)


@pytest.mark.slow
def test_two_processes_write_once(make_trainer, small, blobs, tmp_path, capfd) -> None:
    chosen = [
        *(FiniteLoss(), ModelTable(), PlainProgress(), RunSettings("a: 1"), ModelGraph(), HyperParameters()),
        *(BestCheckpoint("val/loss"), LastCheckpoint()),
    ]
    trainer = make_trainer(
        chosen, tensorboard=True, strategy="ddp_fork", devices=2, max_epochs=2, use_distributed_sampler=False
    )
    trainer.fit(small(scores=[0.2, 0.4]), blobs())
    checkpoints = {path.name: torch.load(path)["epoch"] for path in (tmp_path / "run/checkpoints").iterdir()}
    assert checkpoints == {"best.ckpt": 0, "last.ckpt": 1}
    assert len(list((tmp_path / "run").glob("events.*"))) == 1
    lines = capfd.readouterr().out.splitlines()
    assert [line.split()[1] for line in lines if line.startswith("epoch ")] == ["1/2", "2/2"]
    assert sum(line.startswith("layer ") for line in lines) == 1
