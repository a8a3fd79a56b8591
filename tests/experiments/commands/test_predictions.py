"""predictions.csv is data, not a program for a spreadsheet."""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image

from tests.experiments.conftest import Command

CLASSES = ("=1+1", "-2+3", "@cmd", "+x", "plain")


def test_class_names_are_no_formulas_of_a_spreadsheet(litlab: Command, tmp_path: Path) -> None:
    for part in ("train", "test"):
        for index, name in enumerate(CLASSES):
            folder = tmp_path / "pictures" / part / name
            folder.mkdir(parents=True)
            for number in range(4):
                Image.new("RGB", (8, 8), (40 * index, 10 * number, 0)).save(folder / f"{number}.png")
    options = ("--data=ImageFolderDataModule", "--data.data_dir=pictures", "--data.image_size=8", "--data.val_split=0")
    quiet = ("--trainer.max_epochs=1", "--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false")
    assert litlab("fit", "--model=LitMLP", *options, *quiet, "--experiment=pictures").code == 0
    assert litlab("predict", "runs/pictures/0").code == 0
    with open("runs/pictures/0/predictions.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["target_name"] for row in rows} == {"'=1+1", "'-2+3", "'@cmd", "'+x", "plain"}
    assert not any(cell.startswith(("=", "+", "@")) for row in rows for cell in row.values())
    assert all(0 <= float(row["p_plain"]) <= 1 for row in rows)  # numbers stay numbers
