"""Tests of the metrics in a classifier's figures, and of unusual data."""

from __future__ import annotations

import warnings

import matplotlib.pyplot
import pytest
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from sklearn import metrics as sk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from callbacks import ClassificationEvidence, Embeddings
from callbacks.figures.plotting import figure, pixels
from callbacks.network.embeddings import thumbnails
from callbacks.predictions import evidence_figures as figures
from callbacks.predictions.classification_evidence import FIGURES
from callbacks.predictions.evidence import Evidence, merge
from lit_models import LitLogisticRegression

NAMES = ["red", "green", "blue"]


def seen(probabilities: list[list[float]], targets: list[int], images: int = 12) -> Evidence:
    found = Evidence.empty(images)
    for start in range(0, len(targets), 3):  # in batches
        rows = slice(start, start + 3)
        inputs = torch.arange(len(targets))[rows, None].float()
        found.add(inputs, torch.tensor(probabilities[rows]), torch.tensor(targets[rows]))
    return found


@pytest.fixture
def some() -> Evidence:
    rows = [[0.9, 0.05, 0.05], [0.2, 0.7, 0.1], [0.6, 0.4, 0.0], [0.1, 0.1, 0.8], [0.45, 0.1, 0.45], [0.0, 1.0, 0.0]]
    return seen(rows, [0, 1, 1, 2, 2, 0])


def test_metrics_of_a_known_example(some) -> None:
    assert figures.counts(some, NAMES).tolist() == [[1, 1, 0], [1, 1, 0], [1, 0, 1]]
    red = figures.report(some, NAMES)[0]
    assert red == ("red", pytest.approx(1 / 3), pytest.approx(1 / 2), pytest.approx(0.4), 2)
    assert figures.confused_pairs(some, NAMES)[0][2] == 1
    assert {pair[:2] for pair in figures.confused_pairs(some, NAMES)} == {
        ("red", "green"),
        ("green", "red"),
        ("blue", "red"),
    }
    confidence, accuracy, share, error = figures.reliability(some)
    assert share.sum() == pytest.approx(1.0)
    # bins: 0.45 wrong, 0.6 wrong, 0.7 right, 0.8 right, 0.9 right with 1.0 wrong
    assert error == pytest.approx((0.45 + 0.6 + 0.3 + 0.2 + abs(1.9 - 1.0)) / 6)
    assert len(confidence) == len(accuracy) == 5


def test_worst_samples_are_sorted_by_the_predicted_probability() -> None:
    found = seen([[0.34, 0.33, 0.31, 0.02], [0.97, 0.0, 0.0, 0.03]], [3, 3], images=1)
    assert found.worst.inputs is not None
    assert found.worst.inputs[:, 0].tolist() == [1]


def test_the_worst_samples_are_misclassified_with_highest_confidence(some) -> None:
    assert some.worst.inputs is not None
    assert some.worst.inputs[:, 0].tolist() == [5, 2, 4]  # confidence 1.0, 0.6, 0.45
    assert some.uncertain.inputs is not None
    assert some.uncertain.inputs[0, 0] == 4
    few = seen(some.probabilities.tolist(), some.targets.tolist(), images=2)
    assert few.worst.inputs is not None
    assert few.worst.inputs[:, 0].tolist() == [5, 2]


def test_merging_two_halves_equals_the_whole(some) -> None:
    rows, targets = some.probabilities.tolist(), some.targets.tolist()
    both = merge([seen(rows[:3], targets[:3]), seen(rows[3:], targets[3:])])
    assert torch.equal(both.probabilities, some.probabilities)
    assert torch.equal(both.worst.scores, some.worst.scores)


def test_samples_that_are_not_finite_are_counted_and_omitted() -> None:
    found = seen([[0.5, 0.5], [float("nan"), 0.5], [float("inf"), 0.0], [1.0, 0.0]], [0, 1, 0, 1])
    assert found.not_finite == 2
    assert found.targets.tolist() == [0, 1]


def plot_all(found: Evidence, names: list[str]) -> None:
    for plot in (
        figures.plot_confusion, figures.plot_report, figures.plot_precision_recall, figures.plot_roc,
        figures.plot_reliability, figures.plot_confused_pairs,
    ):  # fmt: skip
        with figure(names=names) as made:
            plot(made, found, names)
            assert pixels(made).std() > 1, plot.__name__
    with figure() as made:
        figures.plot_samples(made, found.worst, names, "misclassified")
        pixels(made)


@pytest.mark.parametrize(
    ("number", "targets"),
    [(3, [0, 0, 0, 0]), (3, [0, 1, 0, 1]), (2, [1, 1, 1, 1]), (1000, [1, 500, 999, 3])],
    ids=["one class", "a class without samples", "two classes, one without samples", "1000 classes"],
)
def test_unusual_data_is_plotted_without_a_warning(number, targets) -> None:
    torch.manual_seed(0)
    probabilities = torch.rand(len(targets), number).softmax(1)
    found = Evidence.empty(4)
    found.add(torch.rand(len(targets), 1, 8, 8), probabilities, torch.tensor(targets))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_all(found, [f"class number {i}" for i in range(number)])


def events(folder) -> EventAccumulator:
    found = EventAccumulator(str(folder), size_guidance={"images": 0, "tensors": 0})
    found.Reload()
    return found


def test_every_figure_is_saved_once_at_the_end_of_fit(make_trainer, small, blobs, tmp_path) -> None:
    make_trainer([ClassificationEvidence()], tensorboard=True, max_epochs=3).fit(small(), blobs())
    found = events(tmp_path / "run")
    assert set(found.Tags()["images"]) == {f"val/{name}" for name in FIGURES}
    assert all([event.step for event in found.Images(tag)] == [17] for tag in found.Tags()["images"])
    table = found.Tensors("val/class_report/text_summary")[0].tensor_proto.string_val[0].decode()
    assert table.count("\n") == 4
    assert "| green |" in table
    assert {path.stem for path in (tmp_path / "run/figures/val").glob("*.png")} == set(FIGURES)
    assert not matplotlib.pyplot.get_fignums(), "no figure is left open"


def test_test_and_validate_save_separate_figures(make_trainer, small, blobs, tmp_path) -> None:
    trainer = make_trainer([ClassificationEvidence(figures=["confusion_matrix"])])
    trainer.test(small(), blobs(), verbose=False)
    trainer.validate(small(), blobs(), verbose=False)
    found = {str(path.relative_to(tmp_path / "run/figures")) for path in (tmp_path / "run/figures").rglob("*.png")}
    assert found == {"test/confusion_matrix.png", "validate/confusion_matrix.png"}


def test_nan_predictions_and_missing_classes_give_messages(make_trainer, small, blobs, tmp_path, capsys) -> None:
    class Nan(type(small())):
        def predict_step(self, batch, batch_idx):
            found = super().predict_step(batch, batch_idx)
            found["probabilities"][found["target"] == 1] = float("nan")
            return found

    with pytest.warns(UserWarning, match="8 samples have probabilities that are not finite"):
        make_trainer([ClassificationEvidence()]).fit(Nan(), blobs())
    assert capsys.readouterr().out.strip() == "val: no sample of 1 of the 3 classes: green."
    assert (tmp_path / "run/figures/val/confusion_matrix.png").is_file()


def test_a_model_without_probabilities_gives_a_warning(make_trainer, small, blobs) -> None:
    class Numbers(type(small())):
        def predict_step(self, batch, batch_idx):
            return self(batch[0])

    trainer = make_trainer([ClassificationEvidence()])
    with pytest.warns(UserWarning, match="predict_step of Numbers must return `probabilities`"):
        trainer.fit(Numbers(), blobs())
    assert trainer.current_epoch == 2


def test_without_a_validation_split_nothing_is_plotted(make_trainer, small, blobs, tmp_path) -> None:
    make_trainer([ClassificationEvidence(), Embeddings()]).fit(small(), blobs(validation=False))
    assert not (tmp_path / "run/figures").exists()


def test_unknown_figures_raise_an_error() -> None:
    with pytest.raises(MisconfigurationException, match=r"must be some of confusion_matrix, .*, got \['rock'\]"):
        ClassificationEvidence(figures=["rock"])


def test_embeddings_are_the_inputs_of_the_last_layer(make_trainer, small, blobs, tmp_path) -> None:
    model = small()
    make_trainer([Embeddings(samples=20)], tensorboard=True).fit(model, blobs())
    (vectors,) = (tmp_path / "run").rglob("tensors.tsv")
    rows = [[float(number) for number in line.split("\t")] for line in vectors.read_text().splitlines()]
    x, y = blobs().rest.tensors
    expected = model.eval().net[:3](x[:20])
    assert torch.allclose(torch.tensor(rows), expected, atol=1e-5)
    labels = vectors.with_name("metadata.tsv").read_text().splitlines()
    assert labels == [blobs.class_names[int(k)] for k in y[:20]]
    assert (tmp_path / "run/projector_config.pbtxt").is_file()


def test_thumbnails_fit_the_sheet() -> None:
    small_ones = thumbnails(torch.randn(10, 3, 500, 300))
    assert small_ones.shape == (10, 3, 64, 64)
    assert float(small_ones.min()) >= 0.0
    assert float(small_ones.max()) <= 1.0
    assert thumbnails(torch.randn(40_000, 2, 64, 64))[0].shape == (1, 40, 40)


def test_curves_rank_saturated_samples_by_their_log_odds() -> None:
    logits = torch.tensor([30.0, 40.0, 50.0, 60.0, -50.0, 45.0])
    targets = torch.tensor([0, 0, 1, 1, 0, 1])
    model = LitLogisticRegression((1,), 2, two_classes="sigmoid")
    predicted = model.predicted(logits[:, None], targets)
    found = Evidence.empty(4)
    found.add(logits[:, None], predicted["probabilities"], targets, predicted["log_odds"])
    with figure(8.0, 4.8, NAMES[:2]) as made:
        figures.plot_roc(made, found, NAMES[:2])
        labels = [text.get_text() for text in made.axes[0].get_legend().get_texts()]
    assert sk.roc_auc_score(targets, logits) == 1.0
    assert labels == ["red 1.000", "green 1.000"]  # of the probabilities, which are 1.0 for five samples: 0.667
