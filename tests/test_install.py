"""As a user has it: the console script, one test a verb; and the wheel, outside the checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPT = Path(sys.executable).with_name("litlab")


def run(*words: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("LITLAB_RUN", "PYTHONPATH"))}
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env={**clean, "OMP_NUM_THREADS": "1", **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with one run of the demo, made by the console script."""
    folder = tmp_path_factory.mktemp("console")
    done = run(SCRIPT, "fit", "--trainer.max_epochs=3", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "litlab test runs/mlp_digits/0" in done.stdout
    return folder


def test_the_console_script_tests(trained: Path) -> None:
    done = run(SCRIPT, "test", "mlp_digits", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "test/acc    0.9" in done.stdout


@pytest.mark.slow
def test_the_console_script_validates(trained: Path) -> None:
    done = run(SCRIPT, "validate", "runs/mlp_digits/0", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert "scored: validation, 287 samples" in done.stdout


@pytest.mark.slow
def test_the_console_script_predicts(trained: Path) -> None:
    done = run(SCRIPT, "predict", "mlp_digits", cwd=trained)
    assert done.returncode == 0, done.stderr
    assert len((trained / "runs/mlp_digits/0/predictions.csv").read_text().splitlines()) == 361


def test_python_m_is_the_same_program(trained: Path) -> None:
    script, module = run(SCRIPT, "list", cwd=trained), run(sys.executable, "-m", "experiments", "list", cwd=trained)
    assert script.stdout == module.stdout
    assert script.returncode == module.returncode == 0
    assert run(sys.executable, "-m", "experiments", "fitt", cwd=trained).returncode == 2


def test_a_mistake_ends_with_code_2_and_one_line(trained: Path) -> None:
    done = run(SCRIPT, "fit", "--model.hiden=[3]", cwd=trained)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_ctrl_c_ends_with_code_130(tmp_path: Path) -> None:
    import signal
    import time

    words = [str(SCRIPT), "fit", "--trainer.max_epochs=100000", "--trainer.enable_model_summary=false"]
    process = subprocess.Popen(
        words,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A shell that runs the tests in the background has Ctrl-C ignored, in its children too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    deadline = time.monotonic() + 120
    while not process.stdout.readline().startswith("epoch 2/"):
        assert time.monotonic() < deadline
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped by Ctrl-C" in err
    assert "Traceback" not in err
    assert (tmp_path / "runs/mlp_digits/0/checkpoints/last.ckpt").is_file()


@pytest.mark.slow
def test_the_wheel_works_outside_the_checkout(tmp_path: Path) -> None:
    """Built and installed without dependencies into an environment that sees the others' packages."""
    source = tmp_path / "source"  # building leaves files behind
    top = shutil.ignore_patterns(".git", ".venv*", "runs", "data", "build", "dist", "*.egg-info", ".*_cache")
    below = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT, source, ignore=lambda folder, names: (top if Path(folder) == ROOT else below)(folder, names))
    built = run(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path / "dist", source, cwd=tmp_path
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (wheel,) = (tmp_path / "dist").glob("litlab-*.whl")
    target = tmp_path / "site"
    pip = run(
        sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", target, wheel, cwd=tmp_path
    )
    assert pip.returncode == 0, pip.stderr
    work = tmp_path / "work"
    work.mkdir()
    # The wheel's packages come first on the path, so the editable install of the checkout is not what runs.
    program = "import experiments, sys; from experiments.cli import main; print(experiments.__file__); sys.exit(main())"
    done = run(sys.executable, "-c", program, "fit", "mlp_digits", "debug", cwd=work, PYTHONPATH=str(target))
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout
    assert (work / "runs/mlp_digits/0/checkpoints/best.ckpt").is_file()
    assert (target / "configs" / "cnn_fashion_mnist.yaml").is_file()
    assert not (target / "tests").exists()
    assert (target / "litlab" / "py.typed").is_file()
    (work / "callbacks").mkdir()
    (work / "callbacks" / "mine.py").write_text("NUMBER = 3\n")
    program = "from callbacks.mine import NUMBER; from litlab import fit; import callbacks; print(callbacks.__file__)"
    done = run(sys.executable, "-c", program, cwd=work, PYTHONPATH=str(target))
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout
