"""usage: litlab data CONFIG [options]

Prints sizes, statistics per channel, samples per class and duplicates of the data that CONFIG trains on, and draws
samples before and after augmentation into runs/data/NAME/ (PNG and TensorBoard). The test files are read for counts and
duplicates only. Takes the options of `litlab fit`, such as --data.augment '[flip]'.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.figures.plotting import figure, pixels, readable, shortened
from callbacks.figures.sample_images import plot_sample
from datamodules import LitDataModule
from datamodules.serving.batches import Batches
from experiments.commands.trainer_command import Built, TrainerCommand
from experiments.messages.errors import DONE
from experiments.messages.formatting import count, shown, sizes_text
from experiments.runs.find import runs_dir

SAMPLES, DRAWS = 10, 3  # columns of the grid, and rows of augmented versions
MANY = 20  # classes, of more the most and the least frequent are listed
MOST = 200_000  # samples of a part that are compared
SEVERAL = 10_000  # training samples that the statistics are of


@dataclass(frozen=True)
class PartOfData:
    """Inputs `(N, ...)` and targets as they are stored, and the rows of one split."""

    name: str
    inputs: Tensor
    targets: Tensor
    rows: Tensor

    def labels(self) -> Tensor:
        """Targets `(n,)` or `(n, ...)`."""
        return self.targets[self.rows]


class Data(TrainerCommand):
    """Inspect the data of a config; builds no model and no Trainer."""

    needs_trainer = False

    def run(self, built: Built, trainer: Trainer | None) -> int:
        """Print the report and write the figure into runs/data/NAME/."""
        report(built.data, runs_dir() / "data" / built.options.experiment, built.seed)
        return DONE


COMMAND = Data


def report(data: LightningDataModule, folder: Path, seed: int) -> None:
    """Print the report and write the figure and the TensorBoard events into `folder`."""
    if not isinstance(data, LitDataModule):
        raise MisconfigurationException(
            f"data: {type(data).__name__} is not one of litlab's data modules; derive it from LitDataModule "
            "(docs/extending.md) to have it inspected."
        )
    data.setup("fit")
    data.setup("test")
    parts = _parts(data)
    print(f"data    {type(data).__name__}{sizes_text(data)}")
    _print_statistics(data, parts[0])
    if data.num_classes is not None and data.target_kind == "classes":
        _print_balance(data, parts)
    _print_duplicates(parts)
    if len(data.input_shape) == 3:
        image = draw_samples(data, seed)
        path = folder / "samples.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(image, path, folder)
        except OSError as error:
            raise MisconfigurationException(
                f"data: {path} cannot be written ({error.strerror}). Set LITLAB_RUNS_DIR to a folder that you may "
                "write to."
            ) from error
        print(f"figure  {shown(path)}")
    else:
        print("figure  none: samples are not images")


def _parts(data: LitDataModule) -> list[PartOfData]:
    train = data.train_dataloader().batches
    parts = [PartOfData("train", train.inputs, train.targets, train.order(0).sort().values)]
    if data.has_validation:
        val: Any = data.val_dataloader()
        parts.append(PartOfData("validation", val.batches.inputs, val.batches.targets, val.batches.order(0)))
    test = data.test_dataloader().batches
    parts.append(PartOfData("test", test.inputs, test.targets, test.order(0)))
    return parts


def _print_statistics(data: LitDataModule, train: PartOfData) -> None:
    """Print shape and range of the network's inputs, and mean and standard deviation per channel or feature."""
    if train.inputs.is_floating_point() or train.inputs.dtype == torch.uint8:
        inputs = data.sample_inputs(SEVERAL)
        shape = "x".join(str(size) for size in data.input_shape)
        some = f", first {count(len(inputs))} samples" if len(inputs) < len(train.rows) else ""
        what = f"shape {shape}, {inputs.min():.4g} to {inputs.max():.4g}"
        print(f"sample  {what} as the network gets it{some}")
        channels = inputs.movedim(1, 0).flatten(1) if inputs.dim() > 1 else inputs[None]
        if len(channels) <= 12:
            what = "channel" if inputs.dim() == 4 else "input"
            for index, values in enumerate(channels):
                print(f"        {what} {index}: mean {values.mean():.4f}, standard deviation {values.std():.4f}")
    else:
        shape = "x".join(str(size) for size in train.inputs.shape[1:])
        print(f"sample  shape {shape}, whole numbers from {train.inputs.min()} to {train.inputs.max()}")
    targets = train.labels()
    if targets.is_floating_point():
        for index, values in enumerate(targets.reshape(len(targets), -1).T[:12]):
            print(f"        target {index}: mean {values.mean():.4f}, standard deviation {values.std():.4f}")


def _print_balance(data: LitDataModule, parts: list[PartOfData]) -> None:
    classes = data.num_classes or 0
    names = list(data.class_names or [str(i) for i in range(classes)])
    table = {part.name: torch.bincount(part.labels().long().flatten(), minlength=classes) for part in parts}
    order = list(range(classes))
    if classes > MANY:
        by_size = table["train"].argsort(descending=True).tolist()
        order = by_size[: MANY // 2] + by_size[-(MANY // 2) :]
        print(f"classes {classes:,}; the {MANY // 2} most and least frequent:")
    width = max(len("class"), *(len(shortened(names[i], 24)) for i in order))
    print(f"        {'class':<{width}}" + "".join(f"{name:>12}" for name in table))
    for i in order:
        print(f"        {shortened(names[i], 24):<{width}}" + "".join(f"{int(n[i]):>12,}" for n in table.values()))
    largest, least = int(table["train"].max()), int(table["train"].min())
    if least == 0:
        print(f"        {count(int((table['train'] == 0).sum()), 'class')} without a training sample")
    elif largest > 2 * least:
        print(f"        unbalanced: the largest class has {largest / least:.1f} times the samples of the smallest")


def _print_duplicates(parts: list[PartOfData]) -> None:
    """Print equal samples within a split and between splits; those between splits make metrics too good."""
    prints = {part.name: fingerprints(part.inputs, part.rows) for part in parts}
    lines = [
        f"only the first {count(MOST)} of {part.name}'s {count(len(part.rows))} samples are compared"
        for part in parts
        if len(part.rows) > MOST
    ]
    for name, own in prints.items():
        if repeated := len(own) - len(set(own)):
            lines.append(f"{count(repeated, 'sample')} of {name}: another one there is equal")
    names = list(prints)
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            held = set(prints[first])
            if shared := sum(one in held for one in prints[second]):
                lines.append(f"{count(shared, 'sample')} of {second}: in {first} too")
    print(f"equal   {'; '.join(lines) if lines else 'no sample is there twice'}")
    contradicting = _contradictions(parts[0], prints["train"])
    if contradicting:
        print(f"        {count(contradicting)} equal training samples have different labels")


def fingerprints(inputs: Tensor, rows: Tensor) -> list[bytes]:
    """Return a hash per sample, of the first `MOST` samples only."""
    picked = inputs[rows[:MOST]]
    flat = np.ascontiguousarray(picked.reshape(len(picked), -1).cpu().numpy())
    return [hashlib.blake2b(row.tobytes(), digest_size=12).digest() for row in flat]


def _contradictions(part: PartOfData, prints: list[bytes]) -> int:
    """Return the number of samples that equal another sample with a different label."""
    labels = [tuple(row) for row in part.labels()[: len(prints)].reshape(len(prints), -1).tolist()]
    kinds = Counter(one for one, _ in set(zip(prints, labels, strict=True)))
    return sum(kinds[one] > 1 for one in prints)


def draw_samples(data: LitDataModule, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Plot train samples, one per class if possible, above their augmented versions of three epochs."""
    train = data.train_dataloader().batches
    rows = _one_a_class(train.order(0), train.targets, data.num_classes)
    augmented = data.preparation(True)
    changed = augmented.num_uniforms > 0 or augmented.full_batch
    plain = Batches(train.inputs, train.targets, len(rows), indices=rows, preparation=data.preparation(False))
    draws = Batches(train.inputs, train.targets, len(rows), indices=rows, preparation=augmented, seed=seed)
    pictures = [plain.make(0, 0)[0], *(draws.make(epoch, 0)[0] for epoch in range(DRAWS if changed else 0))]
    names = data.class_names or [str(i) for i in range(data.num_classes or 0)]
    labels = [names[int(k)] if names and k.dim() == 0 else f"{float(k.flatten()[0]):.3g}" for k in train.targets[rows]]
    labels = readable(labels)
    with figure(1.15 * len(rows) + 0.6, 1.25 * len(pictures) + 0.5, labels) as made:
        grid = made.subplots(len(pictures), len(rows), squeeze=False)
        for line, batch in enumerate(pictures):
            for column, sample in enumerate(batch):
                plot_sample(grid[line, column], sample.float())
                if line == 0:
                    grid[line, column].set_title(shortened(labels[column], 12), fontsize=9)
        words = "first row as it is, then as augmentation changes it, epoch by epoch" if changed else "no augmentation"
        made.suptitle(f"{type(data).__name__}, training part: {words}", fontsize=10)
        return pixels(made)


def _one_a_class(order: Tensor, targets: Tensor, classes: int | None) -> Tensor:
    """Return the rows of the first train sample of each class, up to ten; without classes the first ten."""
    if classes is None or targets.dim() > 1:
        return order[:SAMPLES]
    labels = targets[order]
    firsts = [order[labels == k][:1] for k in range(min(classes, SAMPLES))]
    rows = torch.cat([one for one in firsts if len(one)])
    others = order[~torch.isin(order, rows)]
    return torch.cat((rows, others[: SAMPLES - len(rows)]))


def _write(image: np.ndarray[Any, np.dtype[np.uint8]], path: Path, folder: Path) -> None:
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    Image.fromarray(image).save(path)
    for old in folder.glob("events.out.tfevents.*"):  # of an earlier report, with the same tag
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        writer.add_image("data/samples", image, 0, dataformats="HWC")
