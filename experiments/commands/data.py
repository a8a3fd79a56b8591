"""usage: litlab data CONFIG [options]

Prints sizes, statistics per channel, samples per class and duplicates of the data that CONFIG trains on, and plots
samples before and after augmentation in runs/data/NAME/ (PNG and TensorBoard). The test split is used for counts and
duplicates only. All options of `litlab fit` apply, such as --data.augment '[flip]'.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningDataModule, Trainer
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from callbacks.figures.plotting import figure, pixels, readable, shortened
from callbacks.figures.sample_images import plot_sample
from callbacks.trainer_state import format_number
from datamodules import LitDataModule
from datamodules.serving.batches import Batches
from experiments.commands.trainer_command import Built, TrainerCommand
from experiments.messages.errors import DONE
from experiments.messages.formatting import count, shown, sizes_text
from experiments.runs.find import runs_dir

_COLUMNS, _EPOCHS = 10, 3  # samples in the figure, and augmented versions of each
_CLASSES_SHOWN = 20  # of more classes, only the most and the least frequent are printed
_COMPARED = 200_000  # samples per split that are searched for duplicates
_STATISTICS_SAMPLES = 10_000


@dataclass(frozen=True)
class Split:
    """A split: stored inputs `(N, ...)` and targets, of which `rows` `(n,)` belong to it."""

    name: str
    inputs: Tensor
    targets: Tensor
    rows: Tensor

    def labels(self) -> Tensor:
        """Return the targets of the split, `(n,)` or `(n, ...)`."""
        return self.targets[self.rows]


class Data(TrainerCommand):
    """Inspect the data of a config; builds no model and no Trainer."""

    needs_trainer = False

    def run(self, built: Built, trainer: Trainer | None) -> int:
        """Print the report and write the figure to runs/data/NAME/."""
        report(built.data, runs_dir() / "data" / built.options.experiment, built.seed)
        return DONE


COMMAND = Data


def report(data: LightningDataModule, folder: Path, seed: int) -> None:
    """Print the report, and write the figure and TensorBoard events to `folder`."""
    if not isinstance(data, LitDataModule):
        raise MisconfigurationException(
            f"data: {type(data).__name__} must be a LitDataModule to be inspected. Derive it from that class "
            "(docs/extending.md)."
        )
    data.setup("fit")
    data.setup("test")
    splits = _splits(data)
    print(f"data    {type(data).__name__}{sizes_text(data)}")
    _print_statistics(data, splits[0])
    if data.num_classes is not None and data.target_kind == "classes":
        _print_balance(data, splits)
    _print_duplicates(splits)
    if len(data.input_shape) == 3:
        image = _plot_samples(data, seed)
        path = folder / "samples.png"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            _write(image, path, folder)
        except OSError as error:
            raise MisconfigurationException(
                f"data: {path} cannot be written ({error.strerror}). Set LITLAB_RUNS_DIR to a folder with "
                "write permission."
            ) from error
        print(f"figure  {shown(path)}")
    else:
        print("figure  none: samples are not images")


def _splits(data: LitDataModule) -> list[Split]:
    """Return the splits, each with its rows in file order."""
    loaders: dict[str, Any] = {"train": data.train_dataloader()}
    if data.has_validation:
        loaders["validation"] = data.val_dataloader()
    loaders["test"] = data.test_dataloader()
    batches = {name: loader.batches for name, loader in loaders.items()}
    return [Split(name, made.inputs, made.targets, made.order(0).sort().values) for name, made in batches.items()]


def _print_statistics(data: LitDataModule, train: Split) -> None:
    """Print shape and range of the network's inputs, and the statistics of channels or features and of targets."""
    if train.inputs.is_floating_point() or train.inputs.dtype == torch.uint8:
        inputs = data.sample_inputs(_STATISTICS_SAMPLES)
        shape = "x".join(str(size) for size in data.input_shape)
        some = f", first {count(len(inputs))} samples" if len(inputs) < len(train.rows) else ""
        print(f"sample  shape {shape}, {inputs.min():.4g} to {inputs.max():.4g} at the network's input{some}")
        channels = inputs.movedim(1, 0).flatten(1) if inputs.dim() > 1 else inputs[None]
        if len(channels) <= 12:
            _print_moments("channel" if inputs.dim() == 4 else "input", channels)
    else:
        shape = "x".join(str(size) for size in train.inputs.shape[1:])
        print(f"sample  shape {shape}, integers from {train.inputs.min()} to {train.inputs.max()}")
    targets = train.labels()
    if targets.is_floating_point():
        _print_moments("target", targets.reshape(len(targets), -1).T[:12])


def _print_moments(name: str, rows: Tensor) -> None:
    for index, values in enumerate(rows.double()):
        mean, deviation = (format_number(float(value)) for value in (values.mean(), values.std()))
        print(f"        {name} {index}: mean {mean}, standard deviation {deviation}")


def _print_balance(data: LitDataModule, splits: list[Split]) -> None:
    """Print the number of samples per class and split, and warn if the train split is unbalanced."""
    classes = data.num_classes or 0
    names = list(data.class_names or [str(i) for i in range(classes)])
    table = {split.name: torch.bincount(split.labels().long().flatten(), minlength=classes) for split in splits}
    order = list(range(classes))
    if classes > _CLASSES_SHOWN:
        half, by_size = _CLASSES_SHOWN // 2, table["train"].argsort(descending=True).tolist()
        order = by_size[:half] + by_size[-half:]
        print(f"classes {classes:,}; the {half} most and the {half} least frequent:")
    width = max(len("class"), *(len(shortened(names[i], 24)) for i in order))
    print(f"        {'class':<{width}}" + "".join(f"{name:>12}" for name in table))
    for i in order:
        print(f"        {shortened(names[i], 24):<{width}}" + "".join(f"{int(n[i]):>12,}" for n in table.values()))
    largest, least = int(table["train"].max()), int(table["train"].min())
    if least == 0:
        print(f"        classes without a training sample: {int((table['train'] == 0).sum()):,}")
    elif largest > 2 * least:
        print(f"        unbalanced: the largest class has {largest / least:.1f} times the samples of the smallest")


def _print_duplicates(splits: list[Split]) -> None:
    """Print the number of equal samples within and between splits; those between splits make metrics too good."""
    prints = {split.name: fingerprints(split.inputs, split.rows) for split in splits}
    lines = [
        f"only the first {count(_COMPARED)} of {count(len(split.rows))} {split.name} samples are compared"
        for split in splits
        if len(split.rows) > _COMPARED
    ]
    for name, own in prints.items():
        if repeated := len(own) - len(set(own)):
            lines.append(f"{count(repeated, f'{name} sample')} repeated within the split")
    for first, second in combinations(prints, 2):
        known = set(prints[first])
        if shared := sum(one in known for one in prints[second]):
            lines.append(f"{count(shared, f'{second} sample')} also in the {first} split")
    print(f"equal   {'; '.join(lines) if lines else 'no duplicate samples'}")
    if contradicting := _contradictions(splits[0], prints["train"]):
        print(f"        {count(contradicting)} equal training samples have different labels")


def fingerprints(inputs: Tensor, rows: Tensor) -> list[bytes]:
    """Return one hash per sample, of the first 200,000 samples only."""
    picked = inputs[rows[:_COMPARED]]
    flat = np.ascontiguousarray(picked.reshape(len(picked), -1).cpu().numpy())
    return [hashlib.blake2b(row.tobytes(), digest_size=12).digest() for row in flat]


def _contradictions(split: Split, prints: list[bytes]) -> int:
    """Return the number of different samples that occur with more than one label."""
    labels = [tuple(row) for row in split.labels()[: len(prints)].reshape(len(prints), -1).tolist()]
    kinds = Counter(one for one, _ in set(zip(prints, labels, strict=True)))
    return sum(kinds[one] > 1 for one in prints)


def _plot_samples(data: LitDataModule, seed: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return a figure `(H, W, 3)` of train samples, one per class if possible, above their augmented versions."""
    train = data.train_dataloader().batches
    rows = _one_per_class(train.order(0), train.targets, data.num_classes)
    augmented = data.preparation(True)
    is_random = augmented.num_uniforms > 0 or augmented.full_batch
    plain = Batches(train.inputs, train.targets, len(rows), indices=rows, preparation=data.preparation(False))
    random = Batches(train.inputs, train.targets, len(rows), indices=rows, preparation=augmented, seed=seed)
    images = [plain.make(0, 0)[0], *(random.make(epoch, 0)[0] for epoch in range(_EPOCHS if is_random else 0))]
    names = data.class_names or [str(i) for i in range(data.num_classes or 0)]
    targets = train.targets[rows]
    labels = readable([names[int(k)] if names and k.dim() == 0 else f"{float(k.flatten()[0]):.3g}" for k in targets])
    with figure(1.15 * len(rows) + 0.6, 1.25 * len(images) + 0.5, labels) as made:
        grid = made.subplots(len(images), len(rows), squeeze=False)
        for line, batch in enumerate(images):
            for column, sample in enumerate(batch):
                plot_sample(grid[line, column], sample.float())
                if line == 0:
                    grid[line, column].set_title(shortened(labels[column], 12), fontsize=9)
        text = "first row original, below augmented, one row per epoch" if is_random else "no augmentation"
        made.suptitle(f"{type(data).__name__}, train split: {text}", fontsize=10)
        return pixels(made)


def _one_per_class(order: Tensor, targets: Tensor, classes: int | None) -> Tensor:
    """Return the row of the first train sample of each class, up to 10; without classes the first 10 rows."""
    if classes is None or targets.dim() > 1:
        return order[:_COLUMNS]
    labels = targets[order]
    firsts = [order[labels == k][:1] for k in range(min(classes, _COLUMNS))]
    rows = torch.cat(firsts)
    others = order[~torch.isin(order, rows)]
    return torch.cat((rows, others[: _COLUMNS - len(rows)]))


def _write(image: np.ndarray[Any, np.dtype[np.uint8]], path: Path, folder: Path) -> None:
    from PIL import Image
    from torch.utils.tensorboard import SummaryWriter

    Image.fromarray(image).save(path)
    for old in folder.glob("events.out.tfevents.*"):  # of an earlier report
        old.unlink()
    with SummaryWriter(str(folder)) as writer:
        writer.add_image("data/samples", image, 0, dataformats="HWC")
