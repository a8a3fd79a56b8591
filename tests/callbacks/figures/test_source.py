"""Figures after a fit show the best weights, and each figure names run, data, split and epoch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.metrics import confusion_matrix

from callbacks import (
    AveragedWeights,
    BestCheckpoint,
    ClassificationEvidence,
    DecisionRegions,
    FeatureMaps,
    LastCheckpoint,
)
from callbacks.figures import plotting
from callbacks.predictions import classification_evidence as evidence_module
from callbacks.predictions.evidence_figures import counts

SCORES = [3.0, 1.0, 2.0]  # the second epoch is the best


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[str]]:
    """The texts of each figure as it is saved, by tag."""
    found: dict[str, list[str]] = {}

    def record(trainer: Any, tag: str, fig: Any, step: int, epoch: int | None = None, source: str = "") -> None:
        plotting.show(trainer, tag, fig, step, epoch, source)
        found[tag] = [fig.get_supxlabel()] if fig.get_supxlabel() else []

    monkeypatch.setattr(evidence_module, "show", record)
    monkeypatch.setattr("callbacks.predictions.decision_regions.show", record)
    return found


class _Counted(ClassificationEvidence):
    """Keeps the confusion matrices that are plotted."""

    def plot(self, trainer: Any, module: Any, stage: str, gathered: list[Any]) -> None:
        super().plot(trainer, module, stage, gathered)
        self.matrix = counts(gathered[0], ["a", "b", "c"])


def _reference(model: Any, data: Any, path: Any) -> np.ndarray:
    net = model.net
    net.load_state_dict(
        {k[4:]: v for k, v in torch.load(path, weights_only=True)["state_dict"].items() if k[:4] == "net."}
    )
    x, y = data.rest[:]
    with torch.no_grad():
        return confusion_matrix(y, net.eval()(x).argmax(1))


@pytest.mark.parametrize("average", [[], [AveragedWeights(decay=0.5)]])
def test_figures_after_a_fit_are_of_the_best_weights(make_trainer, small, blobs, tmp_path, shown, average) -> None:
    figures = _Counted(figures=["confusion_matrix"])
    model = small(lr=0.2, scores=list(SCORES))
    trainer = make_trainer([*average, figures, BestCheckpoint("val/loss"), LastCheckpoint()], max_epochs=3)
    trainer.fit(model, datamodule=blobs())
    trained = {name: value.clone() for name, value in model.state_dict().items()}
    last = torch.load(tmp_path / "run/checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert all(torch.equal(trained[name], last[name]) for name in last), "the trained weights are back"
    best = tmp_path / "run/checkpoints/best.ckpt"
    assert torch.load(best, weights_only=True)["epoch"] == 1
    assert (figures.matrix == _reference(small(), blobs(), best)).all()
    (line,) = shown["val/confusion_matrix"]
    assert line == f"{tmp_path.name}/run  |  Blobs, validation split  |  epoch 2 (best)"


def test_figures_without_a_best_checkpoint_say_that_they_are_of_the_last_weights(
    make_trainer, small, blobs, shown
) -> None:
    trainer = make_trainer([ClassificationEvidence(figures=["roc"])], max_epochs=3)
    trainer.fit(small(scores=list(SCORES)), datamodule=blobs())
    assert shown["val/roc"][0].endswith("Blobs, validation split  |  epoch 3 (last)")


def test_figures_of_validate_and_test_name_split_and_epoch(make_trainer, small, blobs, tmp_path, shown) -> None:
    trainer = make_trainer([BestCheckpoint("val/loss"), LastCheckpoint()], max_epochs=3)
    trainer.fit(small(scores=list(SCORES)), datamodule=blobs())
    best = tmp_path / "run/checkpoints/best.ckpt"
    figures = ClassificationEvidence(figures=["roc"])
    alone = make_trainer([figures, BestCheckpoint("val/loss"), LastCheckpoint()])
    alone.test(small(), datamodule=blobs(), ckpt_path=best, weights_only=True, verbose=False)
    assert shown["test/roc"][0].endswith("Blobs, test split  |  epoch 2")
    alone.validate(small(), datamodule=blobs(), ckpt_path=best, weights_only=True, verbose=False)
    assert shown["validate/roc"][0].endswith("Blobs, validation split  |  epoch 2")
    alone.test(small(), datamodule=blobs(), verbose=False)
    assert shown["test/roc"][0].endswith("weights without a checkpoint")


def test_figures_of_the_train_split_say_so(make_trainer, small, blobs, shown) -> None:
    make_trainer([DecisionRegions()], max_epochs=1).fit(small(), datamodule=blobs(validation=False))
    assert shown["val/decisions"][0].endswith("Blobs, train split  |  epoch 1 (last)")


def test_the_line_is_below_the_figure_and_overlaps_nothing(tmp_path) -> None:
    text = "a_long_experiment_name_$x_一/12  |  ImageFolderDataModule, validation split  |  epoch 1200 (best)"
    with plotting.figure(4.0, 3.0) as fig:
        axes = fig.subplots()
        axes.set(xlabel="an axis label", ylabel="another", title="a title")
        trainer = type("T", (), {"fast_dev_run": True, "is_global_zero": True})()
        plotting.show(trainer, "x", fig, 0, source=text)
        fig.canvas.draw()
        line = next(found for found in fig.texts if found.get_text() == fig.get_supxlabel()).get_window_extent()
        above = [axes.xaxis.label.get_window_extent(), axes.get_window_extent()]
        assert all(box.y0 >= line.y1 for box in above)
        assert line.x0 >= 0
        assert line.x1 <= fig.bbox.width
        assert line.y0 >= 0


def test_feature_maps_have_the_line_below_the_images(make_trainer, small, blobs, tmp_path) -> None:
    trainer = make_trainer([FeatureMaps(every_n_epochs=1)], max_epochs=2)
    trainer.fit(small(), datamodule=blobs())
    first, second = (
        np.asarray(Image.open(path)) for path in sorted((tmp_path / "run/figures").rglob("epoch_000[12].png"))[:2]
    )
    assert (first[-20:] < 128).any(), "text"
    assert (first[-20:] != second[-20:]).any(), "epoch 1 and epoch 2"
