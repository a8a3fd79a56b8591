"""What a fit leaves behind, and what repeating, testing and flags do with it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import yaml

from experiments import load_run
from tests.experiments.conftest import Command

QUICK = ["--trainer.enable_model_summary=false", "--trainer.max_epochs=2"]


def last_losses(run: str) -> list[float]:
    return [row["train/loss"] for row in load_run(run).metrics if "train/loss" in row]


def test_the_run_folder_holds_everything(litlab: Command, workshop: Path) -> None:
    assert litlab("fit", *QUICK).code == 0
    run = load_run("mlp_digits")
    names = sorted(path.name for path in run.path.iterdir())
    assert [name for name in names if not name.startswith("events")] == [
        ".lock", "checkpoints", "config.yaml", "environment.json", "metrics.csv", "results.json",
    ]  # fmt: skip
    assert any(name.startswith("events.out.tfevents") for name in names)
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == ["best.ckpt", "last.ckpt"]
    environment = run.environment
    assert environment["seed"] == 42
    assert environment["versions"]["torch"] == torch.__version__
    assert set(environment["data"]["sha256"]) == {"train_data", "split"}, "fit must not read the test set"
    assert environment["data"]["sizes"] == {"train": 1150, "val": 287}
    assert environment["chosen"]["precision"] == "32-true"
    assert (workshop / "runs" / "mlp_digits" / "0") == run.path


def test_the_same_command_twice_gives_two_folders_and_the_same_numbers(litlab: Command) -> None:
    assert litlab("fit", *QUICK).code == 0
    assert litlab("fit", *QUICK).code == 0
    assert last_losses("runs/mlp_digits/0") == last_losses("runs/mlp_digits/1")
    assert litlab("fit", *QUICK, "--seed_everything=0").code == 0
    assert last_losses("runs/mlp_digits/2") != last_losses("runs/mlp_digits/0")
    assert load_run("mlp_digits").environment["seed"] == 0, "0 is a seed"


def test_a_run_repeats_from_its_own_config(litlab: Command) -> None:
    assert litlab("fit", *QUICK, "--model.optimizer", "sgd", "--model.optimizer.lr", "0.05").code == 0
    again = litlab("fit", "--config", "runs/mlp_digits/0/config.yaml")
    assert again.code == 0, again.err
    assert last_losses("runs/mlp_digits/1") == last_losses("runs/mlp_digits/0")
    configs = [(Path("runs/mlp_digits") / number / "config.yaml").read_text() for number in ("0", "1")]
    assert configs[0] == configs[1]


def test_print_config_makes_a_file_that_repeats_the_run(litlab: Command, workshop: Path) -> None:
    printed = litlab("fit", "mlp_digits", *QUICK, "--print_config")
    assert printed.code == 0
    (workshop / "c.yaml").write_text(printed.out)
    assert not (workshop / "runs").exists()
    assert litlab("fit", "mlp_digits", *QUICK).code == 0
    assert litlab("fit", "-c", "c.yaml").code == 0
    assert last_losses("runs/mlp_digits/1") == last_losses("runs/mlp_digits/0")


@pytest.mark.parametrize(
    ("written", "words", "expected"),
    [
        ("sgd", ["--model.optimizer.lr", "0.1"], {"name": "sgd", "lr": 0.1}),
        ("{name: sgd, momentum: 0.9}", ["--model.optimizer.lr=0.1"], {"name": "sgd", "momentum": 0.9, "lr": 0.1}),
        (None, ["--model.optimizer.lr", "0.1"], {"name": "adam", "lr": 0.1}),
        ("sgd", ["--model.optimizer", "Adam", "--model.optimizer.lr", "0.1"], {"name": "Adam", "lr": 0.1}),
        ("{name: adam, lr: 1}", ["--model.optimizer=sgd", "--model.optimizer.lr=0.1"], {"name": "sgd", "lr": 0.1}),
    ],
)
def test_an_optimizers_name_and_settings_may_come_from_different_places(
    written: str | None, words: list[str], expected: dict[str, object], litlab: Command, workshop: Path
) -> None:
    (workshop / "mine.yaml").write_text(
        "data: {class_path: DigitsDataModule}\nmodel:\n  class_path: LitMLP\n  init_args:\n    hidden: [8]\n"
        + (f"    optimizer: {written}\n" if written else "")
    )
    printed = litlab("fit", "mine.yaml", *words, "--print_config")
    assert printed.code == 0, printed.err
    assert yaml.safe_load(printed.out)["model"]["init_args"]["optimizer"] == expected
    assert litlab("fit", "mine.yaml", *words, "--trainer.fast_dev_run=1").code == 0


def test_schedules_by_short_name_take_their_totals_from_the_run(litlab: Command) -> None:
    words = ["--model.optimizer", "SGD", "--model.optimizer.lr", "0.1", "--trainer.enable_model_summary=false"]
    assert litlab("fit", *words, "--model.scheduler", "cosine", "--trainer.max_epochs=3").code == 0
    rates = [row["lr-SGD"] for row in load_run("mlp_digits").metrics if "lr-SGD" in row]
    assert rates[-1] < 0.005 < rates[0]
    assert litlab("fit", *words, "--model.scheduler", "plateau", "--trainer.max_epochs=1").code == 0


def test_a_flag_beats_every_file_wherever_it_stands(litlab: Command, workshop: Path) -> None:
    (workshop / "late.yaml").write_text("trainer: {max_epochs: 4}\ndata:\n  init_args: {batch_size: 64}\n")
    printed = litlab(
        "fit",
        "--trainer.max_epochs=1",
        "mlp_digits"[:0] or "--config=mlp_digits",
        "--config",
        "late.yaml",
        "--print_config",
    )
    config = yaml.safe_load(printed.out)
    assert config["trainer"]["max_epochs"] == 1, "a flag before the files"
    assert config["data"]["init_args"]["batch_size"] == 64, "a later file beats an earlier one"
    assert config["data"]["init_args"]["stratify"] is True, "what the later file leaves out stays"
    assert config["experiment"] == "mlp_digits", "the first config names the experiment"


def test_a_fragment_adds_callbacks_and_a_plain_list_that_drops_some_is_announced(
    litlab: Command, workshop: Path
) -> None:
    (workshop / "base.yaml").write_text("trainer: {callbacks: [{class_path: RichModelSummary}]}\n")
    (workshop / "more.yaml").write_text("trainer: {callbacks+: [{class_path: DeviceStatsMonitor}]}\n")
    (workshop / "other.yaml").write_text("trainer: {callbacks: [{class_path: DeviceStatsMonitor}]}\n")

    def callbacks(*words: str) -> tuple[list[str], str]:
        result = litlab("fit", "mlp_digits", "base.yaml", *words, "--print_config")
        assert result.code == 0, result.err
        listed = yaml.safe_load(result.out)["trainer"]["callbacks"]
        return [entry["class_path"].rpartition(".")[2] for entry in listed], result.err

    assert callbacks("--config=more.yaml") == (["RichModelSummary", "DeviceStatsMonitor"], "")
    assert callbacks("--trainer.callbacks+=DeviceStatsMonitor")[0] == ["RichModelSummary", "DeviceStatsMonitor"]
    names, said = callbacks("--config=other.yaml")
    assert names == ["DeviceStatsMonitor"]
    assert "replaces the list and drops RichModelSummary" in said
    assert "callbacks+:" in said


def test_default_callbacks_survive_a_list_of_the_users_own(litlab: Command) -> None:
    result = litlab("fit", *QUICK, '--trainer.callbacks=[{"class_path": "RichModelSummary"}]')
    assert result.code == 0, result.err
    run = load_run("mlp_digits")
    assert (run.path / "checkpoints" / "best.ckpt").is_file()
    assert any("lr-Adam" in row for row in run.metrics), "learning-rate monitor"
    assert "epoch 2/2" in result.out, "progress lines"


def test_options_may_be_added_to_a_callback_on_the_command_line(litlab: Command) -> None:
    added = [
        "--trainer.callbacks+=EarlyStopping",
        "--trainer.callbacks.monitor=val/loss",
        "--trainer.callbacks.patience=7",
    ]
    printed = litlab("fit", "mlp_digits", *added, "--print_config")
    (entry,) = yaml.safe_load(printed.out)["trainer"]["callbacks"]
    assert entry["init_args"]["patience"] == 7


def test_early_stopping_stops_a_model_that_cannot_learn(litlab: Command) -> None:
    stuck = ["--model.init=zeros", "--patience=2", "--trainer.max_epochs=30", "--trainer.enable_model_summary=false"]
    assert litlab("fit", *stuck).code == 0
    assert len(last_losses("mlp_digits")) < 10


def test_last_is_the_last_epoch_and_best_the_best(litlab: Command) -> None:
    # A learning rate that rises makes a later epoch worse than an earlier one.
    words = [
        "--model.optimizer=sgd",
        "--model.optimizer.lr=0.02",
        "--model.scheduler=exponential",
        "--model.scheduler.gamma=4",
    ]
    assert litlab("fit", *words, "--trainer.max_epochs=5", "--trainer.enable_model_summary=false").code == 0
    run = load_run("mlp_digits")
    epochs = {
        name: torch.load(run.path / "checkpoints" / f"{name}.ckpt", weights_only=True)["epoch"]
        for name in ("best", "last")
    }
    scores = [row["val/acc"] for row in run.metrics if "val/acc" in row]
    assert epochs["last"] == 4
    assert epochs["best"] == scores.index(max(scores)) < 4
    assert run.results[0]["epoch"] == epochs["best"]


def test_test_after_fit_and_test_print_the_same_number(litlab: Command) -> None:
    fitted = litlab("fit", *QUICK, "--test_after_fit=true")
    tested = litlab("test", "mlp_digits")

    def figure(text: str) -> str:
        return next(line for line in text.splitlines() if line.startswith("test/acc"))

    assert figure(fitted.out) == figure(tested.out)
    assert len(figure(tested.out).rpartition(".")[2]) == 6
    assert "1,150 train, 287 validation, 360 test; scored: test, 360 samples" in tested.out


def test_limit_train_batches_1_trains_one_batch(litlab: Command) -> None:
    assert litlab("fit", "--trainer.limit_train_batches", "1", "--trainer.max_epochs", "1").code == 0
    assert torch.load(load_run("mlp_digits").path / "checkpoints/last.ckpt", weights_only=True)["global_step"] == 1


@pytest.mark.parametrize("value", ["1", "true"])
def test_fast_dev_run_leaves_no_files(litlab: Command, workshop: Path, value: str) -> None:
    result = litlab("fit", "--trainer.fast_dev_run", value)
    assert result.code == 0, result.err
    assert list(workshop.iterdir()) == []


def test_no_adverts_and_no_noise(litlab: Command) -> None:
    result = litlab("fit", *QUICK)
    for word in ("Tip", "litlogger", "LeafSpec", "Warning", "💡", "Seed set"):
        assert word not in result.out + result.err
    assert result.err == ""


def test_without_validation_best_is_last(litlab: Command) -> None:
    assert litlab("fit", *QUICK, "--data.val_split=0").code == 0
    run = load_run("mlp_digits")
    best, last = (torch.load(run.path / "checkpoints" / f"{n}.ckpt", weights_only=True) for n in ("best", "last"))
    assert best["epoch"] == last["epoch"] == 1
    result = litlab("validate", "mlp_digits")
    assert result.code == 2
    assert "leaves no validation samples" in result.sentence


def test_a_checkpoint_names_its_own_run(litlab: Command) -> None:
    assert litlab("fit", *QUICK, "--model.hidden=[16]").code == 0
    best, last = "runs/mlp_digits/0/checkpoints/best.ckpt", "runs/mlp_digits/0/checkpoints/last.ckpt"
    assert litlab("test", "--ckpt_path", best).code == 0
    assert "best.ckpt" in litlab("test", f"--ckpt_path={best}").out
    assert "last.ckpt" in litlab("test", "mlp_digits", "--ckpt_path", "last").out
    assert "last.ckpt" in litlab("validate", "mlp_digits", "--ckpt_path", last).out
    assert len(load_run("mlp_digits").results) == 5


def test_a_run_folder_copied_elsewhere_still_tests(litlab: Command, workshop: Path) -> None:
    import shutil

    assert litlab("fit", *QUICK).code == 0
    shutil.copytree("runs/mlp_digits/0", "elsewhere")
    shutil.rmtree("runs")
    result = litlab("test", "elsewhere")
    assert result.code == 0, result.err
    assert len(load_run("elsewhere").results) == 2
    assert not (workshop / "runs").exists()


def test_predict_never_writes_over_an_earlier_file(litlab: Command) -> None:
    assert litlab("fit", *QUICK).code == 0
    run = load_run("mlp_digits").path
    assert litlab("predict", "mlp_digits").code == 0
    first = (run / "predictions.csv").read_bytes()
    assert litlab("predict", "mlp_digits", "--ckpt_path=last").code == 0
    assert (run / "predictions-2.csv").is_file()
    assert (run / "predictions.csv").read_bytes() == first
    assert litlab("predict", "mlp_digits", "--output", "mine.csv").code == 0
    assert Path("mine.csv").is_file()
