"""The shipped dashboards through the command line: every key, each callback alone, odd surroundings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from callbacks.predictions.classification_evidence import FIGURES
from experiments import load_run
from tests.experiments.conftest import ROOT, Command

ALONE = {
    "FeatureMaps": "figures/feature_maps",
    "Gradients": "grad_norm/total",
    "Weights": "update_ratio/",
    "Activations": "dead_units/",
    "ClassificationEvidence": "figures/val/confusion_matrix.png",
    "Embeddings": "",
}
SMALL = ("--trainer.max_epochs=2", "--data.val_split=40", "--data.batch_size=32")


def events(run: Path) -> EventAccumulator:
    found = EventAccumulator(str(run), size_guidance=dict.fromkeys(("scalars", "images", "histograms", "tensors"), 0))
    found.Reload()
    return found


def test_cnn_fashion_mnist_shows_everything(litlab: Command, workshop: Path) -> None:
    """Every key of the tables in the callbacks' documentation, with its steps; names come from the network itself."""
    result = litlab("fit", "cnn_fashion_mnist", *SMALL)
    assert result.code == 0, result.err
    run = workshop / "runs/cnn_fashion_mnist/0"
    net = load_run(run).model.net
    found = events(run)
    tags = found.Tags()
    assert isinstance(net, torch.nn.Module)
    steps = int(found.Scalars("train/loss")[-1].step) + 1
    ends, each_50 = [steps // 2 - 1, steps - 1], list(range(0, steps, 50))
    convolutions = [name for name, layer in net.named_modules() if isinstance(layer, torch.nn.Conv2d)]
    bends = [name for name, layer in net.named_modules() if isinstance(layer, torch.nn.ReLU)]
    parameters = [name for name, _ in net.named_parameters()]
    matrices = [name for name, parameter in net.named_parameters() if parameter.dim() >= 2]
    expected: dict[str, dict[str, list[int]]] = {
        "scalars": {
            **dict.fromkeys(("train/loss", "train/acc", "val/loss", "val/acc", "gap/loss"), ends),
            **dict.fromkeys(("grad_norm/total", *(f"grad_norm/{name}" for name in parameters)), each_50),
            **{f"update_ratio/{name}": each_50 for name in matrices},
            **{f"dead_units/{name}": ends for name in bends},
        },
        "histograms": {
            **{f"gradients/{name}": each_50 for name in parameters},
            **{f"weights/{name}": ends for name in parameters},
            **{f"activations/{name}": ends for name in bends},
        },
        "images": {
            **{f"feature_maps/{name}{kind}": [1, 2] for name in convolutions for kind in ("", "/gradient")},
            **{f"val/{name}": [steps - 1] for name in FIGURES},
        },
    }
    assert len(convolutions) == len(bends) - 1 == 3
    readers = {"scalars": found.Scalars, "histograms": found.Histograms, "images": found.Images}
    for kind, wanted in expected.items():
        assert set(wanted) <= set(tags[kind])
        for tag, at in wanted.items():
            assert [event.step for event in readers[kind](tag)] == at, tag
    ours = {tag for tag in tags["scalars"] if tag.startswith(("grad_norm", "update_ratio", "dead_units"))}
    assert ours <= set(expected["scalars"]), "nothing else, such as a clipped norm without clipping"
    assert set(tags["histograms"]) == set(expected["histograms"])
    assert set(tags["images"]) == set(expected["images"])
    assert {"run/settings/text_summary", "val/class_report/text_summary"} <= set(tags["tensors"])
    assert tags["graph"]
    assert found.Tensors("custom_scalars__config__")
    assert list(run.rglob("tensors.tsv"))
    for name in FIGURES:
        assert (run / f"figures/val/{name}.png").is_file()
    assert f"figures {Path('runs/cnn_fashion_mnist/0/figures')}" in result.out


@pytest.mark.parametrize("name", ALONE)
def test_each_works_alone_with_the_csv_logger_only(litlab: Command, workshop: Path, name: str) -> None:
    words = ("--trainer.callbacks=[]", f"--trainer.callbacks+={name}", "--trainer.logger=false")
    alone = litlab("fit", "cnn_fashion_mnist", *SMALL, *words)
    assert alone.code == 0, alone.err
    csv = litlab(
        "fit", "cnn_fashion_mnist", *SMALL, *words[:2], "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=csv"
    )
    assert csv.code == 0, csv.err
    run = workshop / "runs/cnn_fashion_mnist/1"
    wanted = ALONE[name]
    if wanted.startswith("figures/"):
        assert (run / wanted).exists()
    elif wanted:
        assert wanted in (run / "metrics.csv").read_text()


def test_options_are_set_from_the_command_line(litlab: Command, workshop: Path) -> None:
    words = ("--trainer.callbacks=[]", "--trainer.callbacks+=FeatureMaps", "--trainer.callbacks.layers=[features.3]")
    result = litlab("fit", "cnn_fashion_mnist", *SMALL, *words)
    assert result.code == 0, result.err
    drawn = workshop / "runs/cnn_fashion_mnist/0/figures/feature_maps"
    assert {path.name for path in drawn.iterdir()} == {"features.3"}


def test_a_wrong_layer_is_told_with_layers_only(litlab: Command, workshop: Path) -> None:
    for name in ("FeatureMaps.layers=[features.33]", "Embeddings.layer=features.33"):
        callback, _, setting = name.partition(".")
        words = ("--trainer.callbacks=[]", f"--trainer.callbacks+={callback}", f"--trainer.callbacks.{setting}")
        with pytest.warns(UserWarning, match=r"no layer 'features\.33'; skipping it\. Did you mean features\.3\?"):
            assert litlab("fit", "cnn_fashion_mnist", *SMALL, *words).code == 0


def test_of_a_config_and_a_fragment_that_ask_for_the_same_one_counts(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", "cnn_fashion_mnist", "dashboards", *SMALL).code == 0
    run = workshop / "runs/cnn_fashion_mnist/0"
    found = events(run)
    assert [event.step for event in found.Scalars("grad_norm/total")] == [0]
    assert len(found.Images("val/roc")) == 1
    assert (run / "projector_config.pbtxt").read_text().count("tensor_path") == 1


def test_a_trial_writes_nothing(litlab: Command, workshop: Path) -> None:
    result = litlab("fit", "cnn_fashion_mnist", "--trainer.fast_dev_run=1", "--data.val_split=40")
    assert result.code == 0, result.err
    assert not list(workshop.rglob("*.png"))


def test_weights_are_bit_equal_with_and_without(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", "cnn_fashion_mnist", "dashboards", *SMALL).code == 0
    assert litlab("fit", "cnn_fashion_mnist", "--trainer.callbacks=[]", *SMALL).code == 0
    states = [
        torch.load(workshop / f"runs/cnn_fashion_mnist/{i}/checkpoints/last.ckpt", weights_only=True)["state_dict"]
        for i in (0, 1)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[1])


@pytest.mark.slow
def test_two_processes_draw_once_and_see_all(workshop: Path) -> None:
    words = [sys.executable, "-m", "experiments", "fit", "cnn_fashion_mnist", "cpu_two_processes", *SMALL]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, cwd=workshop, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    run = workshop / "runs/cnn_fashion_mnist/0"
    assert len(list(run.glob("events.*"))) == 1
    text = events(run).Tensors("val/class_report/text_summary")[0].tensor_proto.string_val[0].decode()
    assert sum(int(line.split("|")[5]) for line in text.splitlines()[2:]) == 40, "every validation sample, once"


def test_test_draws_the_best_weights(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", "cnn_fashion_mnist", *SMALL).code == 0
    run = workshop / "runs/cnn_fashion_mnist/0"
    before = (run / "metrics.csv").read_text()
    for verb in ("test", "validate"):
        result = litlab(verb, "cnn_fashion_mnist")
        assert result.code == 0, result.err
        assert (run / f"figures/{verb}/confusion_matrix.png").is_file()
        assert f"figures     {Path('runs/cnn_fashion_mnist/0/figures') / verb}" in result.out
        assert {f"{verb}/{name}" for name in FIGURES} <= set(events(run).Tags()["images"])
    assert (run / "metrics.csv").read_text() == before


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_the_curves_of_a_run_that_goes_on_have_neither_fold_nor_gap(litlab: Command, workshop: Path) -> None:
    plain = ("fit", "cnn_fashion_mnist", *SMALL[1:], "--model.scheduler=null")
    assert litlab(*plain, "--trainer.max_epochs=2").code == 0
    result = litlab(*plain, "--trainer.max_epochs=4", "--ckpt_path=runs/cnn_fashion_mnist/0")
    assert result.code == 0, result.err
    first, second = (events(workshop / f"runs/cnn_fashion_mnist/{i}") for i in (0, 1))
    for tag in ("train/loss", "val/loss", "dead_units/features.1"):
        steps = [[event.step for event in found.Scalars(tag)] for found in (first, second)]
        assert len(steps[0]) == len(steps[1]) == 2
        assert steps[1][0] - steps[0][1] == steps[0][1] - steps[0][0], tag
    maps = [[event.step for event in found.Images("feature_maps/features.0")] for found in (first, second)]
    assert maps == [[1, 2], [3, 4]]


def test_hparams_have_a_line_for_each_of_three_runs(litlab: Command, workshop: Path) -> None:
    for rate in (0.001, 0.002, 0.004):
        words = ("--trainer.callbacks=[]", "--model.scheduler=null", f"--model.optimizer.lr={rate}")
        assert litlab("fit", "cnn_fashion_mnist", *SMALL, *words).code == 0
    rates = []
    for run in sorted((workshop / "runs/cnn_fashion_mnist").iterdir()):
        found = events(run)
        content = found.PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
        rates.append(metadata.parse_session_start_info_plugin_data(content).hparams["lr"].number_value)
        assert len(found.Scalars("hp/val/acc")) == 1
    assert rates == pytest.approx([0.001, 0.002, 0.004])
