"""Kills, refusals and edits around a run's end and its best epoch: the figures stay those of the files."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments import load_run
from experiments.commands import fit_training
from experiments.commands.resume_changes import ResumedRun
from experiments.runs.checkpoint import CheckpointFile
from experiments.runs.checkpoint_io import AtomicCheckpointIO
from experiments.runs.folder import RunBusy, RunFolder
from tests.experiments.conftest import Command

DIGITS = ("mlp_digits", "--data.train_fraction=0.2", "--threads=1", "--trainer.enable_progress_bar=false",
          "--model.scheduler=null")  # fmt: skip
RUN = Path("runs/mlp_digits/0")


def last(run: Path = RUN) -> dict[str, Any]:
    found: dict[str, Any] = torch.load(run / "checkpoints/last.ckpt", weights_only=True)
    return found


def said_equals_scored(litlab: Command, run: Path) -> None:
    """What the run's record says of best.ckpt is what validating that file gives."""
    said = [record for record in load_run(str(run)).results if record["verb"] == "fit"][-1]
    assert litlab("validate", str(run)).code == 0
    scored = load_run(str(run)).results[-1]
    assert scored["epoch"] == said["epoch"]
    assert said["metrics"]["val/acc"] == pytest.approx(scored["metrics"]["val/acc"])


def test_a_new_run_judges_its_own_epochs_alone(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=3", "--patience=2").code == 0
    worse = ("--model.optimizer.lr=1.0", "--experiment=worse", "--patience=2", "--trainer.max_epochs=6")
    result = litlab("fit", *DIGITS, f"--ckpt_path={RUN}", *worse)
    assert result.code == 0, result.err
    said_equals_scored(litlab, Path("runs/worse/0"))
    assert last(Path("runs/worse/0"))["epoch"] >= 4, "its patience begins anew"


def test_a_best_that_the_disk_refused_is_no_best(
    litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, refused = AtomicCheckpointIO.save_checkpoint, []

    def save(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if Path(path).name == "best.ckpt" and checkpoint["epoch"] == 1:
            refused.append(path)
            self.failed[Path(path)] = "No space left on device"
        else:
            real(self, checkpoint, path, storage_options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
    # The rate makes the epochs after the second one worse than it, but better than the first.
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=2").code == 0
    assert refused
    said_equals_scored(litlab, RUN)
    assert litlab("resume", str(RUN), "--trainer.max_epochs=3").code == 0
    said_equals_scored(litlab, RUN)
    assert load_run(str(RUN)).results[-1]["epoch"] == 2, "what the disk takes again"


def test_a_best_that_was_removed_is_chosen_anew(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=2").code == 0
    (RUN / "checkpoints/best.ckpt").unlink()
    assert "`litlab test runs/mlp_digits/0 --ckpt_path last`" in litlab("test", str(RUN)).sentence
    assert litlab("test", str(RUN), "--ckpt_path", "last").code == 0
    with pytest.warns(UserWarning, match="best.ckpt was removed"):
        result = litlab("resume", str(RUN), "--trainer.max_epochs=3", "--model.optimizer.lr=1.0")
    assert result.code == 0, result.err
    said_equals_scored(litlab, RUN)


def test_an_end_by_patience_stays_the_end(litlab: Command, workshop: Path) -> None:
    words = ("--patience=1", "--trainer.max_epochs=20", "--model.optimizer.lr=1.0")
    assert litlab("fit", *DIGITS, *words).code == 0
    before = last()
    assert before["epoch"] < 15
    (RUN / "results.json").unlink()  # killed when the last epoch was saved, and nothing said yet
    result = litlab("resume", str(RUN))
    assert result.code == 0, result.err
    assert "The patience of 1 validation is used up. Set a larger --patience to train longer." in result.out
    assert last()["global_step"] == before["global_step"]
    assert all(torch.equal(weight, last()["state_dict"][name]) for name, weight in before["state_dict"].items())
    assert load_run(str(RUN)).results[-1]["verb"] == "fit"
    assert litlab("resume", str(RUN), "--patience=3").code == 0
    assert last()["global_step"] > before["global_step"], "more patience goes on"


def test_a_test_that_a_kill_prevented_is_made_up_for(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=1", "--test_after_fit=true").code == 0
    records = json.loads((RUN / "results.json").read_text())
    (RUN / "results.json").write_text(json.dumps(records[:1]))
    result = litlab("resume", str(RUN))
    assert result.code == 0, result.err
    assert "Now its test" in result.out
    assert load_run(str(RUN)).results[-1]["metrics"] == records[-1]["metrics"]
    assert "Nothing to do" in litlab("resume", str(RUN)).out


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--trainer.enable_checkpointing=false"], "trainer.enable_checkpointing was"),
        (["--config=clip.yaml"], "trainer.gradient_clip_val was null and is now 0.01"),
        (["--model.init_args.scheduler=plateau"], "model.scheduler was null and is now"),
        (["--extend_schedule=stretch"], "--extend_schedule stretch needs a learning rate schedule"),
    ],
)
def test_what_was_left_open_counts_too(litlab: Command, workshop: Path, words: list[str], named: str) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=1").code == 0
    Path("clip.yaml").write_text("trainer: {gradient_clip_val: 0.01}\n")
    before = (RUN / "environment.json").read_bytes()
    result = litlab("resume", str(RUN), "--trainer.max_epochs=2", *words)
    assert result.code == 2
    assert named in result.sentence
    assert (RUN / "environment.json").read_bytes() == before


def test_steps_with_accumulation_are_saved_from_the_second_epoch_on(
    litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved: list[tuple[int, int]] = []
    real = AtomicCheckpointIO.save_checkpoint

    def save(self: AtomicCheckpointIO, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        if Path(path).name == "last.ckpt":
            saved.append((checkpoint["epoch"], checkpoint["global_step"]))
        real(self, checkpoint, path, storage_options)

    monkeypatch.setattr(AtomicCheckpointIO, "save_checkpoint", save)
    words = ("--trainer.max_epochs=null", "--trainer.max_steps=20", "--trainer.accumulate_grad_batches=4")
    assert litlab("fit", *DIGITS, *words).code == 0
    assert saved == [(1, 9), (2, 17), (2, 20)]


def test_a_run_from_a_later_epoch_that_was_killed_in_its_first_starts_again(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=2").code == 0
    words = (*DIGITS, f"--ckpt_path={RUN}", "--experiment=next", "--trainer.val_check_interval=0.5")
    assert litlab("fit", *words, "--trainer.max_epochs=3").code == 0
    began = Path("runs/next/0")
    assert CheckpointFile(began / "checkpoints/best.ckpt").epoch == 2
    whole = last(began)["state_dict"]
    (began / "checkpoints/last.ckpt").unlink()
    (began / "results.json").unlink()
    result = litlab("resume", "next")
    assert result.code == 0, result.err
    assert all(torch.equal(weight, last(began)["state_dict"][name]) for name, weight in whole.items())
    assert "has completed 2 epochs already" in litlab("fit", *words, "--trainer.max_epochs=2").sentence
    assert "is a folder, but not a run folder" in litlab("fit", *DIGITS, "--ckpt_path=runs").sentence


def test_a_run_that_another_process_has_is_left_alone(
    litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=1").code == 0
    run = RunFolder(RUN)
    weights = CheckpointFile(run.last, run)
    assert weights.content
    assert not weights.replaced()
    shutil.copy(run.last, "copy")
    os.replace("copy", run.last)
    assert weights.replaced()
    with pytest.raises(Exception, match="was trained by another process in the meantime"):
        ResumedRun(weights).check_newest()

    @contextmanager
    def held(self: RunFolder) -> Iterator[None]:
        raise RunBusy("run: it is being trained by another process.")
        yield

    monkeypatch.setattr(RunFolder, "locked", held)
    result = litlab("fit", *DIGITS)
    assert (result.code, "being trained by another process" in result.sentence) == (2, True)
    assert Path("runs/mlp_digits/1/config.yaml").is_file(), "the other one's"


def test_a_folder_that_takes_no_files_costs_the_record_alone(
    litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=1").code == 0

    def refuse(*_: Any, **__: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(RunFolder, "add_result", refuse)
    result = litlab("test", str(RUN))
    assert (result.code, "test/acc" in result.out) == (0, True)
    assert "results.json could not be written (Permission denied); the metrics above are not stored" in result.sentence


def test_output_that_nobody_reads_ends_the_run(
    litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr(fit_training, "report_end", broken)
    with open(os.devnull, "w") as null, monkeypatch.context() as patch:
        patch.setattr("sys.stdout", null)
        result = litlab("fit", *DIGITS, "--trainer.max_epochs=1")
    assert (result.code, result.sentence) == (1, "litlab: stopped, because nothing reads its output.")
    assert "litlab resume runs/mlp_digits/0" in result.err


def test_metrics_of_no_text_are_gone_on_with(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=1").code == 0
    path = RUN / "metrics.csv"
    path.write_bytes(b"\xff\xfe" + path.read_bytes())
    result = litlab("resume", str(RUN), "--trainer.max_epochs=2")
    assert (result.code, "Traceback" in result.err) == (0, False), result.err


def test_an_edited_config_is_named_and_nothing_is_no_agreement(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *DIGITS, "--trainer.max_epochs=1").code == 0
    config = RUN / "config.yaml"
    config.write_text(config.read_text().replace("batch_size: 32", "batch_size: 16"))
    result = litlab("rerun", str(RUN), "--check")
    assert result.code == 1
    assert "differs settings: data.batch_size 32 -> 16" in result.out
    bare = ("--trainer.max_epochs=1", "--trainer.logger=false", "--trainer.enable_checkpointing=false")
    runs = [Path(f"runs/bare/{number}") for number in (0, 1)]
    for run in runs:
        run.mkdir(parents=True)
        for name in ("config.yaml", "environment.json"):
            shutil.copy(RUN / name, run)
    comparison = load_run(str(runs[0])).compare(str(runs[1]))
    assert not comparison.agrees
    assert "no results of both runs could be compared" in "\n".join(comparison.lines())
    assert litlab("fit", *DIGITS, *bare).code == 0
