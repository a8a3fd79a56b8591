"""Changes given to `litlab resume` outlive a kill, and odd lengths of runs stop and go on like others."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import torch

from experiments import load_run
from tests.experiments.commands.test_resume import RUN, SMALL, STOP, equal, rows, stopping
from tests.experiments.conftest import Command

NO_SCHEDULE = "--model.scheduler=null"


@pytest.fixture
def stopper(workshop: Path) -> Path:
    (workshop / "stop.py").write_text(STOP)
    return workshop


def again(workshop: Path) -> None:
    """Let the stopping callback act once more."""
    (workshop / "stopped").unlink()


def last(run: Path = RUN) -> dict[str, object]:
    found: dict[str, object] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return found


def test_a_change_that_reached_no_checkpoint_is_made_again(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, NO_SCHEDULE, *stopping(13, times=2)).code == 130
    again(stopper)
    assert litlab("resume", "mlp_digits", "--model.optimizer.lr=0.00001").code == 130, "left at once, nothing saved"
    assert last()["global_step"] == 9
    result = litlab("resume", "mlp_digits")
    assert result.code == 0, result.err
    assert "model.optimizer.lr 0.003 -> 1e-05" in result.out
    (optimizer,) = last()["optimizer_states"]  # type: ignore[misc]
    assert optimizer["param_groups"][0]["lr"] == 1e-5
    assert "is finished" in litlab("resume", "mlp_digits").out


def test_a_longer_schedule_that_reached_no_checkpoint_is_asked_for_again(litlab: Command, stopper: Path) -> None:
    words = (*SMALL, "--trainer.max_epochs=2", "--model.scheduler=cosine")
    assert litlab("fit", "mlp_digits", *words, *stopping(20, times=2)).code == 0
    longer = ("--trainer.max_epochs=4", "--extend_schedule=stretch")
    assert litlab("resume", "mlp_digits", *longer).code == 130
    result = litlab("resume", "mlp_digits")
    assert result.code == 2
    assert "needs one more option" in result.sentence
    assert litlab("resume", "mlp_digits", longer[1]).code == 0
    assert last()["epoch"] == 3


def test_a_rate_that_is_held_stays_held(litlab: Command, stopper: Path) -> None:
    words = (*SMALL, "--trainer.max_epochs=2", "--model.scheduler=cosine", "--model.scheduler.eta_min=0.0001")
    assert litlab("fit", "mlp_digits", *words, *stopping(22)).code == 0
    assert litlab("resume", "mlp_digits", "--trainer.max_epochs=4", "--extend_schedule=hold").code == 130
    assert litlab("resume", "mlp_digits").code == 0
    rates = [float(row["lr-Adam"]) for row in rows(RUN) if row.get("lr-Adam") and int(row["step"]) >= 18]
    assert rates == [pytest.approx(0.0001)] * len(rates)
    (optimizer,) = last()["optimizer_states"]  # type: ignore[misc]
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.0001)


def test_last_is_the_end_of_a_run_that_max_steps_did_not_end(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, NO_SCHEDULE, "--trainer.max_steps=1000").code == 0
    assert last()["global_step"] == 27
    assert "is finished" in litlab("resume", "mlp_digits").out


def test_runs_of_single_batches_stop_too(litlab: Command, stopper: Path) -> None:
    words = (*SMALL[1:], NO_SCHEDULE, "--trainer.limit_train_batches=1", "--trainer.max_steps=12")
    assert litlab("fit", "mlp_digits", *words, "--trainer.max_epochs=-1", *stopping(5)).code == 130
    assert last()["global_step"] == 5
    assert litlab("resume", "mlp_digits").code == 0
    assert litlab("fit", "mlp_digits", *words, "--trainer.max_epochs=-1").code == 0
    assert equal(RUN, Path("runs/mlp_digits/1"))


def test_the_row_of_the_step_that_stops_is_whole(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(14)).code == 130
    assert litlab("resume", "mlp_digits").code == 0
    assert litlab("fit", "mlp_digits", *SMALL).code == 0
    assert rows(RUN) == rows(Path("runs/mlp_digits/1"))


def test_without_checkpoints_nothing_is_promised(litlab: Command, stopper: Path) -> None:
    result = litlab("fit", "mlp_digits", *SMALL, "--trainer.enable_checkpointing=false", *stopping(5))
    assert result.code == 130
    assert "at optimizer step 5 (epoch 1). Its state was not saved." in result.sentence
    assert "litlab resume" not in result.err


def test_without_checkpoints_the_best_epoch_is_recorded(litlab: Command, stopper: Path) -> None:
    result = litlab("fit", "mlp_digits", *SMALL, "--trainer.enable_checkpointing=false")
    assert result.code == 0, result.err
    assert litlab("fit", "mlp_digits", *SMALL).code == 0
    without, saved = (load_run(f"runs/mlp_digits/{number}").results[0] for number in (0, 1))
    assert without["checkpoint"] is None
    assert {name: without[name] for name in ("epoch", "step", "split", "n", "metrics")} == {
        name: saved[name] for name in ("epoch", "step", "split", "n", "metrics")
    }
    assert f"Best: epoch {saved['epoch'] + 1} (val/acc {saved['metrics']['val/acc']:.6g}). No checkpoint" in result.out


def test_a_disk_that_refuses_is_told(litlab: Command, stopper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("experiments.runs.checkpoint_io.atomic_write", full)
    result = litlab("fit", "mlp_digits", *SMALL, *stopping(5))
    assert result.code == 130
    assert (
        "last.ckpt could not be written (No space left on device); there is none yet. Training continues." in result.err
    )
    assert "Its state was not saved." in result.err
    assert not list(RUN.glob("checkpoints/*"))


def test_a_signal_in_the_last_validation_ends_a_finished_run(litlab: Command, stopper: Path) -> None:
    words = (*stopping(27, signal.SIGTERM, batch=False), "--test_after_fit=true")
    result = litlab("fit", "mlp_digits", *SMALL, *words)
    assert result.code == 143
    assert "test/acc" not in result.out
    assert "is finished" in litlab("resume", "mlp_digits").out


def test_callbacks_that_change_the_training_are_refused(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(13)).code == 130
    result = litlab("resume", "mlp_digits", "--trainer.callbacks+=AveragedWeights")
    assert result.code == 2
    assert "trainer.callbacks was" in result.sentence
    assert "changes_training" not in result.sentence
    assert litlab("resume", "mlp_digits", "--trainer.callbacks+=Gradients").code == 0


def test_resume_accepts_own_callbacks_that_declare_to_observe_only(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(13)).code == 130
    own = "from lightning.pytorch import Callback\n\nclass Watch(Callback):\n    "
    (stopper / "watch.py").write_text(f"{own}pass\n\nclass Observe(Watch):\n    changes_training = False\n")
    result = litlab("resume", "mlp_digits", "--trainer.callbacks+=watch.Watch")
    assert result.code == 2
    assert "If Watch only observes training, add `changes_training = False` to the class." in result.sentence
    assert litlab("resume", "mlp_digits", "--trainer.callbacks+=watch.Observe").code == 0


def test_a_damaged_environment_and_other_words(litlab: Command, stopper: Path) -> None:
    assert litlab("fit", "mlp_digits", *SMALL, *stopping(13)).code == 130
    file = RUN / "environment.json"
    text = file.read_text()
    file.write_text(text[:100])
    assert "environment.json is missing or corrupted" in litlab("resume", "mlp_digits").sentence
    file.write_text(text)
    assert "not an option" in litlab("resume", "mlp_digits", "--untrained").sentence
    assert "needs a run" in litlab("resume", f"{RUN}/checkpoints/last.ckpt").sentence
    (RUN / "checkpoints/last.ckpt.123.part").write_bytes(b"half")
    assert litlab("resume", "mlp_digits").code == 0
    assert not list(RUN.rglob("*.part"))


def test_a_run_made_in_python_goes_on(litlab: Command, stopper: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(stopper))
    from stop import Stop  # type: ignore[import-not-found]

    from callbacks import Stopped
    from datamodules import DigitsDataModule
    from experiments import fit
    from lit_models import LitMLP

    def made(**more: object) -> None:
        torch.manual_seed(3)
        data = DigitsDataModule(batch_size=128)
        model = LitMLP(input_shape=(1, 8, 8), num_classes=10, hidden=[16], dropout=0.2)
        fit(model, data, experiment="made", max_epochs=3, **more)  # type: ignore[arg-type]

    with pytest.raises(Stopped, match="at optimizer step 13"):
        made(callbacks=[Stop(13)])
    result = litlab("resume", "made")
    assert result.code == 0, result.err
    made()
    assert equal(Path("runs/made/0"), Path("runs/made/1"))
    assert json.loads(Path("runs/made/0/environment.json").read_text())["resumed"][0]["from_step"] == 13
