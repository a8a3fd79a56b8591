"""Tests of what a run logs to TensorBoard, read with TensorBoard's reader."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from tensorboard.backend.event_processing.data_provider import MultiplexerDataProvider
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins.hparams import metadata
from tensorboard.plugins.hparams.backend_context import Context

from callbacks import BestCheckpoint, FiniteLoss, HyperParameters, ModelGraph, RunSettings, TrainingFailed
from callbacks.records.best_epoch import BestEpoch


def _events(folder) -> EventAccumulator:
    events = EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0})
    events.Reload()
    return events


def _scalars(folder) -> dict[str, float]:
    events = _events(folder)
    found = {tag: events.Scalars(tag) for tag in events.Tags()["scalars"] if tag.startswith("hp/")}
    assert all(len(values) == 1 for values in found.values())  # logged exactly once
    return {tag: round(values[0].value, 4) for tag, values in found.items()}


def _hparams(folder) -> dict[str, object]:
    content = _events(folder).PluginTagToContent("hparams")[metadata.SESSION_START_INFO_TAG]
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    return {key: getattr(value, value.WhichOneof("kind")) for key, value in values.items()}


def test_config_and_graph_are_logged(make_trainer, small, blobs, tmp_path) -> None:
    config = "model: Small\ntext: |\n  ```\n  a: b\n"
    make_trainer([RunSettings(config), ModelGraph()], tensorboard=True).fit(small(), blobs())
    events = _events(tmp_path / "run")
    text = events.Tensors("run/settings/text_summary")[0].tensor_proto.string_val[0].decode()
    assert text == "".join(f"    {line}\n" for line in config.splitlines()).rstrip("\n")
    operations = {node.op for node in _graph(events).node}
    assert any("linear" in operation for operation in operations)


def _graph(events):
    assert events.Tags()["graph"]
    return events.Graph()


def test_a_model_that_cannot_be_traced_prints_a_line(make_trainer, small, blobs, tmp_path, capsys) -> None:
    model = small()
    inner = model.net[0].forward

    def forward(x):
        if x.shape[0] == 1 and not model.training:
            raise ValueError("not for one sample")
        return inner(x)

    model.net[0].forward = forward
    trainer = make_trainer([ModelGraph()], tensorboard=True)
    trainer.fit(model, blobs())
    assert capsys.readouterr().out.strip() == "No model graph: tracing failed (ValueError: not for one sample)."
    assert trainer.current_epoch == 2
    assert not _events(tmp_path / "run").Tags()["graph"]


def test_hparams_contain_the_best_epoch(make_trainer, small, blobs, tmp_path) -> None:
    callbacks = [HyperParameters(), BestCheckpoint("val/loss", "min")]
    make_trainer(callbacks, tensorboard=True, max_epochs=4).fit(small(scores=[0.5, 0.2, 0.2, 0.4]), blobs())
    assert _scalars(tmp_path / "run")["hp/val/loss"] == 0.2
    assert set(_scalars(tmp_path / "run")) == {"hp/val/loss", "hp/val/acc"}
    settings = _hparams(tmp_path / "run")
    expected = {"model": "Small", "data": "Blobs", "batch_size": 8, "optimizer": "SGD", "scheduler": "none", "seed": 0}
    assert settings | expected == settings
    assert settings["lr"] == pytest.approx(0.1)
    assert settings["hidden"] == "(8,)"
    assert settings["data/validation"] == "true"
    assert "data/data_dir" not in settings


def test_two_runs_share_the_hparams_tab(make_trainer, small, blobs, tmp_path) -> None:
    for number, rate in enumerate((0.1, 0.01)):
        optimizer = {"class_path": "torch.optim.SGD", "init_args": {"momentum": 0.9}, "lr": rate}
        trainer = make_trainer([HyperParameters("val/acc", "max")], folder=str(number), tensorboard=True)
        trainer.fit(small(lr=rate, optimizer=optimizer), blobs())
    multiplexer = EventMultiplexer().AddRunsFromDirectory(str(tmp_path))
    multiplexer.Reload()
    flags = SimpleNamespace(generic_data="true")
    provider = MultiplexerDataProvider(multiplexer, str(tmp_path))
    context = Context(SimpleNamespace(data_provider=provider, flags=flags, multiplexer=None))
    found = context.hparams_metadata(RequestContext(), "")
    assert set(found) == {"0", "1"}
    experiment = context.experiment_from_metadata(RequestContext(), "", True, found, [])
    columns = {info.name for info in experiment.hparam_infos}
    assert {"model", "data", "batch_size", "optimizer", "optimizer.momentum", "lr", "seed"} <= columns
    assert {metric.name.tag for metric in experiment.metric_infos} == {"hp/val/loss", "hp/val/acc"}
    assert [_hparams(tmp_path / run)["lr"] for run in "01"] == pytest.approx([0.1, 0.01])


def test_without_validation_the_newest_epoch_is_logged(make_trainer, small, blobs, tmp_path) -> None:
    trainer = make_trainer([HyperParameters(), BestCheckpoint("val/loss")], tensorboard=True)
    trainer.fit(small(), blobs(validation=False))
    assert _scalars(tmp_path / "run") == {"hp/train/loss": round(float(trainer.callback_metrics["train/loss"]), 4)}


def test_a_failed_run_is_logged_if_it_has_metrics(make_trainer, small, blobs, tmp_path) -> None:
    for folder, poison in (("late", 9), ("early", 1)):
        trainer = make_trainer([FiniteLoss(), HyperParameters("val/loss")], folder=folder, tensorboard=True)
        with pytest.raises(TrainingFailed):
            trainer.fit(small(poison=poison, scores=[0.3]), blobs())
    assert _scalars(tmp_path / "late")["hp/val/loss"] == 0.3
    assert _scalars(tmp_path / "early") == {}


def test_a_resumed_run_keeps_the_earlier_best(make_trainer, small, blobs, tmp_path) -> None:
    callbacks = [HyperParameters("val/loss")]
    trainer = make_trainer(callbacks, tensorboard=True)
    trainer.fit(small(scores=[0.2, 0.4]), blobs())
    trainer.save_checkpoint(tmp_path / "at_2.ckpt")
    again = make_trainer([HyperParameters("val/loss")], folder="again", tensorboard=True, max_epochs=4)
    again.fit(small(scores=[0.3, 0.5]), blobs(), ckpt_path=tmp_path / "at_2.ckpt", weights_only=True)
    assert _scalars(tmp_path / "again")["hp/val/loss"] == 0.2


class _FailsAtTheEnd(Callback):
    def on_train_end(self, trainer, pl_module) -> None:
        raise KeyError("late")


def test_an_error_after_hparams_does_not_log_them_again(make_trainer, small, blobs, tmp_path) -> None:
    trainer = make_trainer([HyperParameters("val/loss"), _FailsAtTheEnd()], tensorboard=True)
    with pytest.raises(KeyError, match="late"):
        trainer.fit(small(scores=[0.3, 0.4]), blobs())
    assert _scalars(tmp_path / "run")["hp/val/loss"] == 0.3


def _judge(best: BestEpoch, metrics: dict[str, float], epoch: int = 0) -> None:
    best.update({name: torch.tensor(value) for name, value in metrics.items()}, epoch, epoch)


@pytest.mark.parametrize("mode", ["min", "max"])
def test_nan_is_never_the_best(mode) -> None:
    best = BestEpoch("val/loss", mode)
    for epoch, loss in enumerate((float("nan"), 0.5, float("nan"))):
        _judge(best, {"val/loss": loss}, epoch)
    assert (best.epoch, best.metrics) == (1, {"val/loss": 0.5})


@pytest.mark.parametrize("mode", ["min", "max"])
def test_ties_keep_the_metrics_of_the_earlier_epoch(mode) -> None:
    best = BestEpoch("val/loss", mode)
    for epoch, accuracy in enumerate((0.1, 0.9)):
        _judge(best, {"val/loss": 0.5, "val/acc": accuracy}, epoch)
    assert best.epoch == 0
    assert best.metrics == pytest.approx({"val/loss": 0.5, "val/acc": 0.1})


class _Never(Callback):
    def on_fit_start(self, trainer, pl_module) -> None:
        raise MisconfigurationException("stopped before training")


def test_without_tensorboard_nothing_is_logged(make_trainer, small, blobs, tmp_path) -> None:
    everything = [RunSettings("a: 1"), ModelGraph(), HyperParameters()]
    make_trainer(everything).fit(small(), blobs())
    make_trainer(everything, fast_dev_run=True).fit(small(), blobs())
    make_trainer(everything, tensorboard=True, fast_dev_run=True).fit(small(), blobs())
    assert not list(tmp_path.rglob("*.*"))
    with pytest.raises(MisconfigurationException, match="stopped before"):
        make_trainer([*everything, _Never()]).fit(small(), blobs())


def test_the_best_epoch_includes_its_monitor() -> None:
    best = BestEpoch("train/loss", "min")
    _judge(best, {"train/loss": 0.5, "train/acc": 0.5, "val/loss": 0.5})
    assert best.metrics == {"train/loss": 0.5, "val/loss": 0.5}
    best = BestEpoch("gap/loss", "min")
    _judge(best, {"gap/loss": 1.5, "train/loss": 0.5})
    assert best.metrics == {"train/loss": 0.5, "gap/loss": 1.5}


def test_a_cached_graph_belongs_to_an_equal_model(make_trainer, small, blobs, tmp_path) -> None:
    graphs = []
    for width in (8, 8, 9):
        trainer = make_trainer([ModelGraph()], tensorboard=True)
        trainer.fit(small(hidden=(width,)), blobs())
        graphs.append(str(_graph(_events(tmp_path / "run"))))
        shutil.rmtree(tmp_path / "run")
    assert graphs[0] == graphs[1] != graphs[2]
