"""A run keeps the classes, the normalization and the shape of its data: other data is rejected by name, or right.

The references are NumPy on the image files and plain torch on the weights of the checkpoint.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from experiments import load_run
from experiments.cli import main
from tests.experiments.conftest import HANDED_ON, Command

CLASSES = ("cat", "dog", "owl")
SIZE = 6
RUN = Path("runs/pets/0")
CONFIG = """
experiment: pets
test_after_fit: true
data: {class_path: ImageFolderDataModule, init_args: {data_dir: pictures, batch_size: 16}}
model: {class_path: LitLogisticRegression, init_args: {optimizer: {name: sgd, lr: 0.5}}}
trainer:
  max_epochs: 2
  enable_progress_bar: false
  enable_model_summary: false
  callbacks: {class_path: ClassificationEvidence, init_args: {figures: [confusion_matrix]}}
"""
VERBS = ("validate", "test", "predict", "resume")


def write_pictures(root: Path, seed: int = 0, classes: tuple[str, ...] = CLASSES) -> None:
    """Write 12 train, 6 val and 6 test images per class: noise with one brighter channel."""
    rng = np.random.default_rng(seed)
    for split, number in (("train", 12), ("val", 6), ("test", 6)):
        for label, name in enumerate(classes):
            (root / split / name).mkdir(parents=True, exist_ok=True)
            for index in range(number):
                pixels = rng.integers(0, 200, (SIZE, SIZE, 3), np.uint8)
                pixels[..., label % 3] += 40
                Image.fromarray(pixels).save(root / split / name / f"{index:02d}.png")


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, session_cache: Path) -> Path:
    """A working folder with pictures and a run that was tested, with a figure."""
    folder = tmp_path_factory.mktemp("trained")
    write_pictures(folder / "pictures")
    (folder / "pets.yaml").write_text(CONFIG)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("LITLAB_CACHE_DIR", str(session_cache))
        for name in ("LITLAB_RUNS_DIR", *HANDED_ON):
            patch.delenv(name, raising=False)
        assert main(["fit", "pets.yaml"]) == 0
    return folder


@pytest.fixture
def pets(trained: Path, workshop: Path) -> Path:
    """A copy of the working folder, as the current one."""
    shutil.copytree(trained, workshop, dirs_exist_ok=True)
    return workshop


def pixels_of(folder: Path) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the images `(N, C, H, W)`, from 0 to 1, and the labels of one split."""
    files = [(label, path) for label, name in enumerate(CLASSES) for path in sorted((folder / name).glob("*.png"))]
    images = [np.asarray(Image.open(path).convert("RGB")).transpose(2, 0, 1) / 255.0 for _, path in files]
    return np.stack(images), np.array([label for label, _ in files])


def reference(trained: Path, split: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Return probabilities and labels of a split by the best weights, normalized as the training images were."""
    training, _ = pixels_of(trained / "pictures/train")
    mean, std = (values.reshape(3, 1, 1) for values in (training.mean((0, 2, 3)), training.std((0, 2, 3))))
    images, labels = pixels_of(split)
    weights = torch.load(trained / RUN / "checkpoints/best.ckpt", weights_only=True)["state_dict"]
    weight, bias = (weights[f"net.linear.{name}"].double() for name in ("weight", "bias"))
    x = torch.from_numpy((images - mean) / std).flatten(1)
    return (x @ weight.T + bias).softmax(1), torch.from_numpy(labels)


def check_metrics(metrics: dict[str, float], expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Compare accuracy and loss of a test with the reference."""
    probabilities, labels = expected
    assert metrics["test/acc"] == pytest.approx(float((probabilities.argmax(1) == labels).double().mean()), abs=1e-6)
    loss = -probabilities[range(len(labels)), labels].log().mean()
    assert metrics["test/loss"] == pytest.approx(float(loss), rel=1e-5)


def check_predictions(path: Path, expected: tuple[torch.Tensor, torch.Tensor]) -> None:
    """Compare a file of predictions with the reference."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["target_name"] for row in rows] == [CLASSES[label] for label in expected[1]]
    assert [row["prediction_name"] for row in rows] == [CLASSES[label] for label in expected[0].argmax(1)]
    written = torch.tensor([[float(row[f"p_{name}"]) for name in CLASSES] for row in rows], dtype=torch.float64)
    torch.testing.assert_close(written, expected[0], rtol=1e-4, atol=1e-6)


def fingerprint(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of all files in a folder."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def renamed(pictures: Path) -> None:
    for split in pictures.iterdir():
        (split / "cat").rename(split / "yak")


def added(pictures: Path) -> None:
    for split in pictures.iterdir():
        shutil.copytree(split / "cat", split / "ape")


def missing(pictures: Path) -> None:
    for split in pictures.iterdir():
        shutil.rmtree(split / "owl")


def resized(pictures: Path) -> None:
    for path in pictures.rglob("*.png"):
        Image.open(path).resize((9, 7)).save(path)


def gray(pictures: Path) -> None:
    for path in pictures.rglob("*.png"):
        Image.open(path).convert("L").save(path)


def darkened(pictures: Path) -> None:
    for name in CLASSES:
        for index in range(40):
            Image.new("RGB", (SIZE, SIZE), (index // 8,) * 3).save(pictures / "train" / name / f"dark{index}.png")


def unchanged(pictures: Path) -> None:
    pass


Change = Callable[[Path], None]
MEAN = ("--data.mean=[0.5,0.5,0.5]", "--data.std=[0.5,0.5,0.5]")
REJECTED: list[tuple[str, Change, tuple[str, ...], tuple[str, ...], tuple[str, ...]]] = [
    ("renamed", renamed, (), VERBS, ("yak", "cat is missing")),
    ("added", added, (), VERBS, ("does not know ape",)),
    ("missing", missing, (), VERBS, ("owl is missing",)),
    ("other size", resized, (), VERBS, ("input_shape", "[3, 7, 9]", "[3, 6, 6]")),
    ("gray for color", unchanged, ("--data.channels=1",), VERBS, ("input_shape", "[1, 6, 6]", "[3, 6, 6]")),
    ("other normalization", unchanged, MEAN, VERBS, ("mean", "0.5")),
    ("another dataset", unchanged, ("--data=DigitsDataModule",), VERBS, ("DigitsDataModule", "cat, dog, owl")),
    ("gray pictures", gray, (), ("validate", "resume"), ("changed since the run",)),
    ("gray test pictures", gray, (), ("test", "predict"), ("the test data changed since the run was tested",)),
    ("dark pictures", darkened, (), ("validate", "resume"), ("changed since the run",)),
]


@pytest.mark.parametrize(
    ("change", "options", "verb", "names"),
    [
        pytest.param(change, options, verb, names, id=f"{title}-{verb}")
        for title, change, options, verbs, names in REJECTED
        for verb in verbs
    ],
)
def test_data_that_does_not_fit_is_rejected_by_name(
    litlab: Command, pets: Path, change: Change, options: tuple[str, ...], verb: str, names: tuple[str, ...]
) -> None:
    change(pets / "pictures")
    before = fingerprint(pets / RUN)
    more = ("--trainer.max_epochs=3",) if verb == "resume" else ()
    result = litlab(verb, "pets", *options, *more)
    assert result.code == 2, result.out + result.err
    assert all(name in result.sentence for name in names), result.sentence
    assert fingerprint(pets / RUN) == before


@pytest.mark.parametrize("verb", ["test", "predict"])
def test_more_training_pictures_do_not_change_the_normalization(
    litlab: Command, pets: Path, trained: Path, verb: str
) -> None:
    darkened(pets / "pictures")
    before = fingerprint(pets / RUN)
    result = litlab(verb, "pets")
    assert result.code == 0, result.err
    expected, after = reference(trained, trained / "pictures/test"), fingerprint(pets / RUN)
    if verb == "test":
        check_metrics(load_run("pets").results[-1]["metrics"], expected)
        assert load_run("pets").results[:-1] == json.loads((trained / RUN / "results.json").read_text())
    else:
        check_predictions(pets / RUN / "predictions.csv", expected)
    changed = {name for name in after if before.get(name) != after[name] and not name.startswith("events.")}
    assert changed == {"results.json" if verb == "test" else "predictions.csv"}


def test_other_data_on_request_has_its_own_folder(litlab: Command, pets: Path, trained: Path) -> None:
    write_pictures(pets / "others", seed=1)
    shutil.rmtree(pets / "others/test/owl/", ignore_errors=True)
    shutil.copytree(pets / "others/val/owl", pets / "others/test/owl")
    (pets / "others/test/owl/00.png").unlink()
    before = fingerprint(pets / RUN)
    expected = reference(trained, pets / "others/test")
    tested = litlab("test", "pets", "--data.data_dir=others")
    assert tested.code == 0, tested.err
    assert "ImageFolderDataModule: 17 test; scored: test, 17 samples" in tested.out
    predicted = litlab("predict", "pets", "--data.data_dir=others")
    assert predicted.code == 0, predicted.err
    (folder,) = (pets / RUN / "other_data").iterdir()
    assert folder.name.startswith("ImageFolderDataModule-")
    assert f"{RUN / 'other_data' / folder.name}, because this is not the data of the run" in tested.out
    (record,) = json.loads((folder / "results.json").read_text())
    assert (record["verb"], record["n"], record["data"]) == ("test", 17, "ImageFolderDataModule")
    check_metrics(record["metrics"], expected)
    check_predictions(folder / "predictions.csv", expected)
    assert list((folder / "figures").rglob("*.png"))
    after = fingerprint(pets / RUN)
    assert {name: after[name] for name in before} == before
    assert all(name.startswith("other_data/") for name in after.keys() - before.keys())
    check_metrics(load_run("pets").test(**{"data.data_dir": "others"}), expected)
    rejected = litlab("validate", "pets", "--data.data_dir=others")
    assert (rejected.code, "data or split changed" in rejected.sentence) == (2, True)


def test_moved_data_is_still_the_data_of_the_run(litlab: Command, pets: Path, trained: Path) -> None:
    (pets / "pictures").rename(pets / "elsewhere")
    assert litlab("test", "pets", "--data.data_dir=elsewhere").code == 0
    assert not (pets / RUN / "other_data").exists()
    check_metrics(load_run("pets").results[-1]["metrics"], reference(trained, trained / "pictures/test"))
    (pets / RUN / "results.json").unlink()  # as if the run had not been tested yet
    assert litlab("test", "pets", "--data.data_dir=elsewhere").code == 0
    assert not (pets / RUN / "other_data").exists()


def test_properties_are_in_the_run_and_in_both_checkpoints(pets: Path, trained: Path) -> None:
    training, _ = pixels_of(pets / "pictures/train")
    stored = [load_run("pets").environment["data"]["properties"]]
    for name in ("best", "last"):
        stored.append(torch.load(pets / RUN / f"checkpoints/{name}.ckpt", weights_only=True)["data_properties"])
    for properties in stored:
        assert properties["class_names"] == list(CLASSES)
        assert properties["input_shape"] == [3, SIZE, SIZE]
        assert properties["mean"] == pytest.approx(training.mean((0, 2, 3)).tolist(), abs=1e-12)
        assert properties["std"] == pytest.approx(training.std((0, 2, 3)).tolist(), abs=1e-12)
