"""Tests of the printed lines and of the choice of the progress bar."""

import re
import sys

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import RichProgressBar

from callbacks import PlainProgress, TerminalProgress, progress_bar

_SECONDS = r"  \d+\.\d s"


class _Record(Callback):
    """Recorder of the epoch metrics at the start of the next epoch."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_epoch_start(self, trainer, pl_module) -> None:
        if trainer.current_epoch:
            self.losses.append(float(trainer.callback_metrics["train/loss"]))


def _fit_lines(make_trainer, model, data, capsys, **arguments) -> list[str]:
    make_trainer([PlainProgress()], **arguments).fit(model, data)
    return capsys.readouterr().out.splitlines()


def test_one_line_per_epoch_with_its_own_metrics(make_trainer, small, blobs, capsys) -> None:
    record = _Record()
    make_trainer([PlainProgress(), record], max_epochs=3).fit(small(scores=[0.5, 0.25, 0.00012]), blobs())
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    for epoch, loss in enumerate(("0.5000", "0.2500", "0.0001200")):
        pattern = rf"epoch {epoch + 1}/3  train/loss \d\.\d{{4}}  val/acc \d\.\d{{4}}  val/loss {loss}{_SECONDS}"
        reordered = rf"epoch {epoch + 1}/3  train/loss \d\.\d{{4}}  val/loss {loss}  val/acc \d\.\d{{4}}{_SECONDS}"
        assert re.fullmatch(f"{pattern}|{reordered}", lines[epoch])
    assert [f"{loss:.4f}" for loss in record.losses] == [line.split()[3] for line in lines[:2]]


def test_validation_metrics_appear_only_in_validated_epochs(make_trainer, small, blobs, capsys) -> None:
    lines = _fit_lines(make_trainer, small(), blobs(), capsys, max_epochs=4, check_val_every_n_epoch=2)
    assert ["val/loss" in line for line in lines] == [False, True, False, True]


def test_lines_without_validation_and_with_max_steps(make_trainer, small, blobs, capsys) -> None:
    lines = _fit_lines(make_trainer, small(), blobs(validation=False), capsys, max_steps=8, max_epochs=-1)
    assert re.fullmatch(rf"epoch 1  step 6/8  train/loss [\d.]+{_SECONDS}", lines[0])
    assert lines[1].startswith("epoch 2  step 8/8  train/loss ")
    assert not any("val/" in line for line in lines)


def test_validate_test_and_predict_print_one_line_each(make_trainer, small, blobs, capsys) -> None:
    trainer, model, data = make_trainer([PlainProgress()]), small(), blobs()
    trainer.validate(model, data, verbose=False)
    trainer.test(model, data, verbose=False)
    trainer.predict(model, data)
    validate, test, predict = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"validate  3 batches{_SECONDS}", validate)
    assert re.fullmatch(rf"test  3 batches{_SECONDS}", test)
    assert re.fullmatch(rf"predict  3 batches{_SECONDS}", predict)


def test_a_disabled_bar_prints_nothing(make_trainer, small, blobs, capsys) -> None:
    bar = PlainProgress()
    bar.disable()
    make_trainer([bar]).fit(small(), blobs())
    assert capsys.readouterr().out == ""
    bar.enable()
    make_trainer([bar]).fit(small(), blobs())
    assert capsys.readouterr().out


@pytest.mark.parametrize(
    ("terminal", "term", "kind"),
    [(True, "xterm", TerminalProgress), (True, "dumb", PlainProgress), (False, "xterm", PlainProgress)],
)
def test_progress_bar_depends_on_the_terminal(monkeypatch, terminal, term, kind) -> None:
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal, raising=False)
    monkeypatch.setenv("TERM", term)
    assert type(progress_bar()) is kind


@pytest.mark.parametrize(("seconds", "drawn"), [(0.01, [1, 6]), (0.1, [1, 3, 5, 6]), (1.0, [1, 2, 3, 4, 5, 6])])
def test_the_terminal_bar_refreshes_by_time(make_trainer, small, blobs, monkeypatch, seconds, drawn) -> None:
    """The bar refreshes at most five times per second, and at the last batch."""
    moved: list[int] = []
    now = 0.0

    class Batch(Callback):
        def on_train_batch_start(self, *_) -> None:
            nonlocal now
            now += seconds

    def draw(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        moved.append(batch_idx + 1)

    monkeypatch.setattr(RichProgressBar, "on_train_batch_end", draw)
    make_trainer([TerminalProgress(lambda: now), Batch()], max_epochs=1, limit_val_batches=0).fit(small(), blobs())
    assert moved == drawn


def test_the_terminal_bar_prints_epoch_lines(make_trainer, small, blobs, capsys) -> None:
    make_trainer([TerminalProgress()]).fit(small(), blobs())
    assert "epoch 1/2  train/loss" in capsys.readouterr().out


def test_the_terminal_bar_counts_epochs_from_1(make_trainer, small, blobs) -> None:
    bar, seen = TerminalProgress(), []

    class Watch(Callback):
        def on_train_batch_start(self, *_) -> None:
            seen.append(bar.progress.tasks[bar.train_progress_bar_id].description.strip())

    make_trainer([Watch(), bar], max_epochs=3).fit(small(), blobs())
    assert list(dict.fromkeys(seen)) == ["epoch 1/3", "epoch 2/3", "epoch 3/3"]
