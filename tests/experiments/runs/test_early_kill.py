"""A run that was killed right after its folder appeared resumes with the choice that it had made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from experiments.commands import fit_plan
from experiments.runs.folder import RunFolder
from tests.experiments.conftest import Command

FIT = ("fit", "mlp_digits", "--data.train_fraction=0.2", "--model.hidden=[8]", "--trainer.max_epochs=1",
       "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")  # fmt: skip
RUN = Path("runs/mlp_digits/0")


def test_precision_and_threads_are_part_of_a_new_folder(litlab: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    claim = fit_plan._claim

    def die_after(plan: fit_plan.Plan) -> RunFolder:
        claim(plan)
        raise Killed

    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with monkeypatch.context() as patch:
        patch.setattr(fit_plan, "_claim", die_after)
        patch.setattr("experiments.command_line.exit_codes._end", lambda *_: 9)
        assert litlab(*FIT, "--trainer.precision=bf16-mixed").code == 9
        assert litlab(*FIT).code == 9
    chosen = json.loads(Path("runs/mlp_digits/1/environment.json").read_text())["chosen"]
    assert (chosen["precision"], chosen["threads"]) == ("32-true", 1)
    monkeypatch.setattr("experiments.machine.performance_choice.bf16_gains", lambda *_: (True, "another machine"))
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    found = litlab("resume", "runs/mlp_digits/1")
    assert found.code == 0, found.err
    assert "CPU, 1 thread, precision 32-true" in found.out
    assert "CPU, 1 thread, precision bf16-mixed" in litlab("resume", str(RUN)).out  # as the config says


def test_the_message_counts_complete_epochs(litlab: Command) -> None:
    found = litlab(*FIT, "--trainer.max_epochs=-1", "--trainer.max_steps=9")
    assert found.code == 0, found.err
    assert "Trained 9 optimizer steps, the last within epoch 2, in" in found.out
    found = litlab(*FIT, "--trainer.max_epochs=-1", "--trainer.max_steps=8")
    assert "Trained 1 epoch in" in found.out
