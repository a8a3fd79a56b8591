"""Typical tutorial code: a torchvision dataset with transforms per sample, a DataLoader and a default Trainer."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch
import torchmetrics
from lightning.pytorch import LightningModule, Trainer
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, Dataset, Subset
from torchvision import datasets, transforms

from benchmarks.arms import data
from benchmarks.arms.bare import EndToEnd
from benchmarks.arms.work import Work


class Photos(Dataset[Any]):
    """Images in memory that are returned as PIL images, like torchvision's CIFAR10."""

    def __init__(self, count: int, transform: Any) -> None:
        images, labels = data.synthetic(count, (3, 32, 32))
        self.images, self.labels, self.transform = images.permute(0, 2, 3, 1).numpy(), labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Any:
        return self.transform(Image.fromarray(self.images[index])), self.labels[index]


def dataset(name: str, count: int, augment: bool = False, images: Path | None = None) -> Dataset[Any]:
    """Return the training images; `images`, a folder with one folder per class, replaces the synthetic 32x32 ones."""
    mean, std = data.STATISTICS[name]
    size = 32 if name == "MadeUp32" else 28
    first = [transforms.RandomCrop(size, padding=4), transforms.RandomHorizontalFlip()] if augment else []
    transform = transforms.Compose([*first, transforms.ToTensor(), transforms.Normalize(mean, std)])
    if images is not None:
        folder: Dataset[Any] = datasets.ImageFolder(images / "train", transform)
        return folder
    if name == "MadeUp32":
        return Photos(count, transform)
    found: Dataset[Any] = getattr(datasets, name)(data.folder(), train=True, transform=transform)
    return found


def seconds_of_epoch(source: Dataset[Any], batch_size: int, workers: int) -> float:
    """Return the seconds of one epoch over the data, without using it."""
    loader = DataLoader(source, batch_size, shuffle=True, num_workers=workers)
    start = time.perf_counter()
    for _ in loader:
        pass
    return time.perf_counter() - start


def best_workers(source: Dataset[Any], batch_size: int, choices: tuple[int, ...]) -> int:
    """Return the number of workers that is fastest on a subset of the data."""
    subset = Subset(source, range(min(10_000, len(source))))  # type: ignore[arg-type]
    return min(choices, key=lambda workers: seconds_of_epoch(subset, batch_size, workers))


class TutorialModel(LightningModule):
    """Module that logs loss and accuracy at every step."""

    def __init__(self, work: Work, steps: int) -> None:
        super().__init__()
        self.net: nn.Module = work.net()
        self.work, self.steps = work, steps
        self.train_acc = torchmetrics.Accuracy(task="multiclass", num_classes=10)
        self.val_acc = torchmetrics.Accuracy(task="multiclass", num_classes=10)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, y = batch
        logits = self.net(x)
        loss = cross_entropy(logits, y)
        self.train_acc(logits, y)
        self.log("train/loss", loss, prog_bar=True)
        self.log("train/acc", self.train_acc, on_step=True, on_epoch=True, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self.net(x)
        self.val_acc(logits, y)
        self.log("val/loss", cross_entropy(logits, y), prog_bar=True)
        self.log("val/acc", self.val_acc, prog_bar=True)

    def configure_optimizers(self) -> Any:
        optimizer = self.work.optimizer(self.parameters())
        schedule = self.work.schedule(optimizer, self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def fit(
    work: Work, epochs: int, workers: int, folder: Path, device: str = "cpu", images: Path | None = None
) -> tuple[float, float]:
    """Train with the default Trainer; return the seconds of the complete fit and the validation accuracy."""
    source = dataset(work.dataset, work.count, images=images)
    order = torch.randperm(len(source), generator=torch.Generator().manual_seed(work.seed)).tolist()  # type: ignore[arg-type]
    held_out, rest = order[: work.held_out], order[work.held_out :]
    train = rest[: round(work.fraction * len(rest))]
    options: dict[str, Any] = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = DataLoader(Subset(source, train), work.batch_size, shuffle=True, **options)
    val_loader = DataLoader(Subset(source, held_out), work.batch_size, **options)
    timer = EndToEnd()
    trainer = Trainer(
        accelerator="gpu" if device == "cuda" else "cpu",
        devices=1,
        max_epochs=epochs,
        gradient_clip_val=work.clip,
        default_root_dir=folder,
        callbacks=[timer],
    )
    trainer.fit(TutorialModel(work, epochs * len(loader)), loader, val_loader)
    return timer.seconds, float(trainer.callback_metrics["val/acc"])
