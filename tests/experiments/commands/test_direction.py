"""Whatever monitors a metric knows whether more is better, from the metric or from `mode`, or is rejected."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from torchmetrics import MetricCollection
from torchmetrics.classification import BinaryAccuracy, BinaryJaccardIndex

from callbacks import AveragedViews, BestCheckpoint, HyperParameters
from experiments import fit, load_run
from experiments.commands.monitored_metric import check_callbacks, direction, with_monitor
from experiments.messages.errors import UserError
from experiments.options.run_options import RunOptions
from lit_models import LitMLP
from tests.edited_checkpoints import save_edited
from tests.experiments.conftest import Command

QUIET = ["--trainer.enable_model_summary=false", "--trainer.max_epochs=3"]

PARTS = """
import torch
from lightning.pytorch import LightningDataModule, LightningModule
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics import Metric
from torchmetrics.classification import MulticlassAccuracy
from lit_models import LitMLP


class Net(LightningModule):
    \"\"\"Logs a val_iou that rises with each epoch.\"\"\"

    def __init__(self):
        super().__init__()
        self.net = torch.nn.Linear(4, 2)

    def training_step(self, batch, batch_idx):
        return torch.nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def validation_step(self, batch, batch_idx):
        self.log("val_iou", 0.1 + 0.1 * self.current_epoch)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


class NetWithMetric(Net):
    \"\"\"The same with the torchmetrics object that knows its direction.\"\"\"

    def __init__(self):
        super().__init__()
        self.val_iou = MulticlassAccuracy(2)


class Data(LightningDataModule):
    def __init__(self):
        super().__init__()
        x = torch.randn(64, 4, generator=torch.Generator().manual_seed(0))
        self.set = TensorDataset(x, (x[:, 0] > 0).long())

    def train_dataloader(self):
        return DataLoader(self.set, batch_size=16)

    val_dataloader = train_dataloader


class Top1Error(Metric):
    \"\"\"A metric whose name begins like an accuracy, and that does not tell its direction.\"\"\"

    def __init__(self):
        super().__init__()
        self.add_state("wrong", torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("number", torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, output, target):
        self.wrong += (output != target).sum()
        self.number += len(target)

    def compute(self):
        return self.wrong / self.number


class Erring(LitMLP):
    known_metrics = {**LitMLP.known_metrics, "top1_error": lambda size: Top1Error()}
"""

pytestmark = pytest.mark.filterwarnings("ignore:.*does not have many workers")


@pytest.fixture
def parts(workshop: Path) -> Path:
    (workshop / "directed.py").write_text(PARTS)
    return workshop


NET = ["fit", "--model=directed.Net", "--data=directed.Data", "--trainer.max_epochs=3"]


def test_an_unknown_direction_is_rejected_before_training(litlab: Command, parts: Path) -> None:
    result = litlab(*NET, "--monitor=val_iou")
    assert result.code == 2
    assert "Net does not tell whether a lower or a higher val_iou is better" in result.sentence
    assert "--mode max" in result.sentence
    assert not list(parts.glob("runs/*/*"))
    result = litlab(*NET, "--monitor=val_iou", "--mode=max")
    assert result.code == 0, result.err
    assert "Best: epoch 3" in result.out


def test_a_torchmetrics_object_tells_the_direction(litlab: Command, parts: Path) -> None:
    words = [*NET, "--model=directed.NetWithMetric", "--monitor=val_iou"]
    result = litlab(*words)
    assert result.code == 0, result.err
    assert "Best: epoch 3" in result.out
    assert "mode: max" in load_run("mlp_digits").folder.config.read_text()
    result = litlab(*words, "--mode=min")
    assert result.code == 2
    assert "mode must be max, because a higher val_iou is better, got min. Remove --mode" in result.sentence


class _Collected(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.scores = MetricCollection({"iou": BinaryJaccardIndex(), "acc": BinaryAccuracy()}, prefix="val/")
        self.val_loss = torch.nn.MSELoss()


def test_a_collection_tells_the_directions_of_its_metrics() -> None:
    model = _Collected()
    assert [direction(model, name) for name in ("val/iou", "val/acc", "val_loss", "iou")] == ["max", "max", None, None]


def test_an_explicit_mode_of_a_metric_without_direction_counts(litlab: Command, parts: Path) -> None:
    words = [*QUIET, "--model=directed.Erring", "--model.metrics=[top1_error]", "--monitor=val/top1_error"]
    result = litlab("fit", *words, "--mode=min")
    assert result.code == 0, result.err
    run = load_run("mlp_digits")
    errors = [row["val/top1_error"] for row in run.metrics if "val/top1_error" in row]
    assert run.results[0]["epoch"] == errors.index(min(errors)) > 0
    assert litlab("fit", *words).code == 2


def test_a_mode_that_contradicts_the_metric_is_rejected(litlab: Command) -> None:
    result = litlab("fit", *QUIET, "--mode=min")
    assert result.code == 2
    assert "mode must be max, because a higher val/acc is better, got min" in result.sentence
    assert litlab("fit", *QUIET, "--monitor=val/loss", "--mode=max").code == 2


@pytest.mark.parametrize("callback", ["EarlyStopping", "ModelCheckpoint", "BestCheckpoint", "HyperParameters"])
def test_a_callback_of_the_config_must_fit_its_metric(litlab: Command, callback: str) -> None:
    words = ["fit", *QUIET, f"--trainer.callbacks+={callback}", "--trainer.callbacks.monitor=val/acc"]
    result = litlab(*words)
    assert result.code == 2
    expected = f"{callback}: mode must be max, because a higher val/acc is better, got min. Set mode: max."
    assert expected in result.sentence
    assert litlab(*words, "--trainer.callbacks.mode=max").code == 0


def test_early_stopping_that_maximizes_does_not_end_a_run_that_improves(litlab: Command) -> None:
    words = ["--trainer.callbacks.monitor=val/acc", "--trainer.callbacks.patience=2", "--trainer.callbacks.mode=max"]
    result = litlab("fit", *QUIET, "--trainer.max_epochs=6", "--trainer.callbacks+=EarlyStopping", *words)
    assert result.code == 0, result.err
    assert "Trained 6 epochs" in result.out


def test_a_callback_of_the_config_needs_a_metric_that_is_logged(litlab: Command) -> None:
    words = ["--trainer.callbacks+=ModelCheckpoint", "--trainer.callbacks.monitor=val/acuracy"]
    result = litlab("fit", *QUIET, *words, "--trainer.callbacks.mode=max")
    assert result.code == 2
    assert "ModelCheckpoint: LitMLP does not log 'val/acuracy'. Did you mean val/acc?" in result.sentence


def test_a_callback_of_a_foreign_model_needs_a_mode(litlab: Command, parts: Path) -> None:
    words = [*NET, "--monitor=null", "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val_iou"]
    result = litlab(*words)
    assert result.code == 2
    assert "EarlyStopping: Net does not tell" in result.sentence
    assert "Set mode: min or mode: max next to monitor." in result.sentence
    assert litlab(*words, "--trainer.callbacks.mode=max").code == 0


def test_python_objects_are_checked(workshop: Path) -> None:
    model = LitMLP((1, 8, 8), 10, hidden=[8])
    options = with_monitor(RunOptions(), model, has_validation=True)
    assert (options.monitor, options.mode) == ("val/acc", "max")
    wrong = [EarlyStopping("val/acc"), ModelCheckpoint(monitor="train/acc"), EarlyStopping("val/loss", mode="max")]
    for callback in [*wrong, BestCheckpoint("val/acc"), HyperParameters("val/acc")]:
        with pytest.raises(UserError, match=rf"^{type(callback).__name__}: mode must be (max|min), because a"):
            check_callbacks([callback], options, model)
    check_callbacks(
        [EarlyStopping("val/acc", mode="max"), EarlyStopping("val/loss"), ModelCheckpoint()], options, model
    )
    with pytest.raises(Exception, match="mode must be max"):
        fit("mlp_digits", callbacks=[EarlyStopping("val/acc")], max_epochs=1)
    assert not list(workshop.glob("runs/*/*"))


def test_a_callback_may_take_the_direction_from_the_option(capsys: pytest.CaptureFixture[str]) -> None:
    model = _Collected()
    options = with_monitor(RunOptions(monitor="val_dice", mode="max"), model, has_validation=True)
    check_callbacks([EarlyStopping("val_dice", mode="max")], options, model)
    assert not capsys.readouterr().err
    with pytest.raises(UserError, match="a higher val_dice is better, got min"):
        check_callbacks([EarlyStopping("val_dice")], options, model)
    check_callbacks([EarlyStopping("val_other")], options, model)
    assert "EarlyStopping: a lower val_other is better (mode: min)." in capsys.readouterr().err


def test_a_run_of_before_without_a_mode_resumes_with_one(litlab: Command, parts: Path) -> None:
    assert litlab(*NET, "--monitor=val_iou", "--mode=max", "--experiment=old", "--trainer.max_epochs=2").code == 0
    run = load_run("old").folder
    for path in (run.best, run.last):
        content = torch.load(path, weights_only=True)
        content["config"] = _without_mode(content["config"])
        save_edited(content, path)
    run.config.write_text(_without_mode(run.config.read_text()))
    result = litlab("resume", "old", "--trainer.max_epochs=3")
    assert result.code == 2
    assert "--mode max" in result.sentence
    result = litlab("resume", "old", "--trainer.max_epochs=3", "--mode=max")
    assert result.code == 0, result.err
    assert "Best: epoch 3" in result.out
    assert litlab("resume", "old", "--trainer.max_epochs=4").code == 0


def test_a_resumed_run_keeps_a_callback_of_the_wrong_direction_and_says_so(litlab: Command) -> None:
    words = ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=val/acc"]
    fitted = litlab("fit", *QUIET, "--model.scheduler=null", *words, "--trainer.callbacks.mode=max")
    assert fitted.code == 0, fitted.err
    run = load_run("mlp_digits").folder
    document = yaml.safe_load(run.config.read_text())
    document["trainer"]["callbacks"][-1]["init_args"]["mode"] = "min"
    run.config.write_text(yaml.safe_dump(document))
    content = torch.load(run.last, weights_only=True)
    content["config"] = run.config.read_text()
    kept = content["callbacks"].pop("EarlyStopping{'monitor': 'val/acc', 'mode': 'max'}")
    content["callbacks"]["EarlyStopping{'monitor': 'val/acc', 'mode': 'min'}"] = kept
    save_edited(content, run.last)
    result = litlab("resume", "mlp_digits", "--trainer.max_epochs=4")
    assert result.code == 0, result.err
    assert "EarlyStopping: mode must be max, because a higher val/acc is better, got min." in result.err
    assert "The run continues with min." in result.err


def _without_mode(text: str) -> str:
    return yaml.safe_dump({**yaml.safe_load(text), "mode": None}, sort_keys=False)


def test_a_metric_of_another_callback_can_be_monitored(capsys: pytest.CaptureFixture[str]) -> None:
    model = LitMLP((1, 8, 8), 10, hidden=[8])
    options = with_monitor(RunOptions(), model, has_validation=True)
    check_callbacks([AveragedViews(), EarlyStopping("val/acc_mirror", mode="max")], options, model)
    assert "EarlyStopping: a higher val/acc_mirror is better (mode: max)." in capsys.readouterr().err
    with pytest.raises(UserError, match="does not tell whether a lower or a higher val/acc_mirror is better"):
        check_callbacks([AveragedViews(), EarlyStopping("val/acc_mirror")], options, model, ["val/acc_mirror"])
