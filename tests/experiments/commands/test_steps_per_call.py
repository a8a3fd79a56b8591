"""Modes that are asked for: channels-last, threads, a compiled network, several optimizer steps in one call."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringDataModule
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from callbacks.training.compiled_network import check_compiler
from datamodules import DigitsDataModule
from experiments import fit, load_run
from lit_models import LitMLP, set_steps_per_call
from tests.experiments.commands.test_fit import QUICK, last_losses
from tests.experiments.conftest import Command

CNN = ["--model=LitCNN", "--model.widths=[4,8]"]


def test_channels_last_is_a_layout_and_changes_no_shape_or_name(litlab: Command) -> None:
    for wish in ("true", "false"):
        assert litlab("fit", *QUICK, *CNN, f"--channels_last={wish}", "--trainer.precision=32-true").code == 0
    laid, plain = load_run("runs/mlp_digits/0"), load_run("runs/mlp_digits/1")
    assert laid.environment["chosen"]["channels_last"] is True
    assert plain.environment["chosen"]["channels_last"] is False
    assert last_losses("runs/mlp_digits/0") == pytest.approx(last_losses("runs/mlp_digits/1"), rel=1e-3)
    assert laid.model.state_dict().keys() == plain.model.state_dict().keys()
    assert litlab("test", "runs/mlp_digits/0", "--channels_last=false").code == 0


def test_threads_are_as_asked_and_recorded(litlab: Command) -> None:
    result = litlab("fit", *QUICK, "--threads=2")
    assert "device  CPU, 2 threads, precision 32-true (small network)\n" in result.out
    assert load_run("mlp_digits").environment["chosen"]["threads"] == 2


@pytest.mark.slow
def test_a_compiled_runs_checkpoint_is_tested_uncompiled(litlab: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(Path.cwd() / "inductor"))
    result = litlab("fit", *QUICK, "--model.hidden=[8]", "--compile=true", "--test_after_fit=true")
    assert result.code == 0, result.err
    torch.compiler.reset()
    assert litlab("fit", *QUICK, "--model.hidden=[8]").code == 0
    compiled, plain = (load_run(f"runs/mlp_digits/{number}") for number in "01")
    assert list(compiled.load("last").state_dict()) == list(plain.load("last").state_dict())
    keys = torch.load(compiled.folder.last, weights_only=True)["state_dict"].keys()
    assert keys == torch.load(plain.folder.last, weights_only=True)["state_dict"].keys()
    assert last_losses("runs/mlp_digits/0") == pytest.approx(last_losses("runs/mlp_digits/1"), rel=1e-3)
    assert litlab("test", "runs/mlp_digits/0", "--compile=false").code == 0
    after, alone = load_run("runs/mlp_digits/0").results[-2:]
    assert after["metrics"] == alone["metrics"]


def test_without_a_compiler_compile_says_so(litlab: Command, workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_compiler()
    monkeypatch.setenv("CXX", "no-such-compiler")
    result = litlab("fit", *QUICK, "--compile=true")
    assert result.code == 2
    for part in ("no C++ compiler", "no-such-compiler", "--compile"):
        assert part in result.sentence
    assert not list(workshop.glob("runs/*"))


REFUSED = {
    "clipping": (["--trainer.gradient_clip_val=1.0"], "gradient clipping"),
    "accumulation": (["--trainer.accumulate_grad_batches=2"], "accumulation"),
    "several devices": (["--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.strategy=ddp"], "devices"),
    "LBFGS": (["--model.optimizer=lbfgs"], "LBFGS"),
    "a part of the batches": (["--trainer.limit_train_batches=3"], "trainer.limit_train_batches"),
    "one batch": (["--trainer.limit_train_batches=1"], "trainer.limit_train_batches"),
    "a model of another kind": (["--model=lightning.pytorch.demos.boring_classes.BoringModel"], "BoringModel"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_single_steps_raises_an_error_and_claims_no_folder(
    name: str, litlab: Command, workshop: Path
) -> None:
    words, part = REFUSED[name]
    result = litlab("fit", "mlp_digits", "--steps_per_call=4", *words)
    assert result.code == 2, result.out + result.err
    assert "steps_per_call must be 1" in result.sentence
    assert "got 4. Remove --steps_per_call" in result.sentence
    assert part in result.sentence
    assert not list(workshop.glob("runs/*"))


def test_data_that_gives_single_batches_raises_an_error() -> None:
    model = LitMLP(input_shape=(32,), num_classes=2)
    with pytest.raises(MisconfigurationException, match=r"steps_per_call must be 1 with BoringDataModule, .*, got 4"):
        set_steps_per_call(4, model, BoringDataModule(), {})


@pytest.mark.parametrize(("option", "value"), [("--steps_per_call", "0"), ("--threads", "0"), ("--threads", "-1")])
def test_numbers_that_are_not_possible(option: str, value: str, litlab: Command) -> None:
    result = litlab("fit", f"{option}={value}")
    assert result.code == 2
    assert f"{option.strip('-')} must be a positive integer, got {value}." in result.sentence


@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true", "bf16-mixed"])
def test_several_steps_in_a_call_give_the_same_run(litlab: Command, precision: str) -> None:
    words = (*QUICK, f"--trainer.precision={precision}")
    assert litlab("fit", *words).code == 0
    result = litlab("fit", *words, "--steps_per_call=8")
    assert result.code == 0, result.err
    assert last_losses("runs/mlp_digits/1") == last_losses("runs/mlp_digits/0")


def test_python_has_the_same_options(workshop: Path) -> None:
    run = fit("mlp_digits", threads=1, channels_last=False, max_epochs=1, enable_model_summary=False)
    assert run.config["threads"] == 1
    assert run.config["channels_last"] is False
    model = LitMLP(input_shape=(1, 8, 8), num_classes=10, hidden=(8,))
    run = fit(model, DigitsDataModule(), precision="bf16-mixed", threads=1, max_epochs=1, enable_model_summary=False)
    assert run.environment["chosen"]["precision"] == "bf16-mixed"
    assert run.config["threads"] == 1
    run.test()
    assert run.results[-1]["precision"] == "bf16-mixed"


def test_bf16_asked_for_is_used_whatever_the_processor(litlab: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.machine.hardware.fast_bfloat16", lambda _: ())
    result = litlab("fit", *QUICK, "--trainer.precision=bf16-mixed")
    assert result.code == 0, result.err
    assert "precision bf16-mixed\n" in result.out
