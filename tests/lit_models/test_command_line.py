"""Arguments of the models as options of LightningCLI, and the forms of specs."""

from pathlib import Path
from typing import Any

import pytest
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningCLI

import lit_models
from lit_models import LitTask
from lit_models.parts.specs import as_spec

QUIET = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False, "accelerator": "cpu"}


def _parse(*args: str, model: str | None = "LitMLP") -> Any:
    named = [] if model is None else ["--model", model, "--model.num_classes=3", "--model.input_shape=[4]"]
    cli = LightningCLI(
        LitTask,
        LightningDataModule,
        subclass_mode_model=True,
        run=False,
        seed_everything_default=1,
        save_config_callback=None,
        auto_configure_optimizers=False,
        trainer_defaults=QUIET,
        args=[*named, *args],
    )
    return cli.model


def _optimizer(model: Any) -> dict[str, Any]:
    return as_spec(model.optimizer_spec)


def test_arguments_of_all_bases_are_options_of_a_child() -> None:
    model = _parse(
        "--model.l1=0.01", "--model.l2=0.1", "--model.metrics=[acc,f1]", "--model.loss=nll", "--model.scheduler=cosine"
    )
    assert (model.l1, model.l2, model.scheduler_spec) == (0.01, 0.1, "cosine")
    assert model.metric_names == ("val/loss", "val/acc", "val/f1")
    assert model.hparams["num_classes"] == 3
    assert model.hparams["optimizer"] == {"name": "adam", "lr": 0.001}


@pytest.mark.parametrize("name", [name for name in lit_models.__all__ if name.startswith("Lit")])
def test_help_of_every_model_has_the_shared_options(name: str, capsys: Any) -> None:
    if name in ("LitTask", "LitClassifier", "LitRegressor"):
        return
    with pytest.raises(SystemExit):
        _parse(f"--model.help={name}", model=None)
    shown = capsys.readouterr().out
    for option in ("optimizer", "scheduler", "loss", "init", "l1", "l2", "metrics", "input_shape"):
        assert f"--model.{option}" in shown, option


@pytest.mark.parametrize(
    ("args", "class_path", "init_args"),
    [
        ((), "adam", {"lr": 0.001}),
        (("--model.optimizer=sgd",), "sgd", {}),
        (
            ("--model.optimizer={name: sgd, lr: 0.1}", "--model.optimizer.momentum=0.5"),
            "sgd",
            {"lr": 0.1, "momentum": 0.5},
        ),
        (("--model.optimizer.name=sgd", "--model.optimizer.lr=0.1"), "sgd", {"lr": 0.1}),
        (("--model.optimizer.class_path=torch.optim.SGD", "--model.optimizer.lr=0.1"), "torch.optim.SGD", {"lr": 0.1}),
    ],
)
def test_forms_of_an_optimizer_on_the_command_line(
    args: tuple[str, ...], class_path: str, init_args: dict[str, Any]
) -> None:
    assert _optimizer(_parse(*args)) == {"class_path": class_path, "init_args": init_args}


def _config(folder: Path, name: str, optimizer: str) -> str:
    path = folder / f"{name}.yaml"
    path.write_text(
        "model:\n  class_path: LitMLP\n  init_args:\n    num_classes: 3\n    input_shape: [4]\n"
        f"    optimizer: {optimizer}\n"
    )
    return f"--config={path}"


@pytest.mark.parametrize(
    "form", ["{name: sgd, lr: 0.5, momentum: 0.9}", "{class_path: sgd, init_args: {lr: 0.5, momentum: 0.9}}"]
)
def test_an_option_overrides_one_argument_of_a_config(tmp_path: Path, form: str) -> None:
    model = _parse(_config(tmp_path, "a", form), "--model.optimizer.lr=0.1", model=None)
    assert _optimizer(model) == {"class_path": "sgd", "init_args": {"lr": 0.1, "momentum": 0.9}}


def test_a_later_config_replaces_the_entire_optimizer(tmp_path: Path) -> None:
    first = _config(tmp_path, "a", "{class_path: torch.optim.SGD, init_args: {lr: 0.5, momentum: 0.9}}")
    for form in ("{name: adamw, lr: 0.2}", "{class_path: adamw, lr: 0.2}"):
        model = _parse(first, _config(tmp_path, "b", form), model=None)
        assert _optimizer(model) == {"class_path": "adamw", "init_args": {"lr": 0.2}}
