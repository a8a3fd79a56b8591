"""The good things that the twins run with, each in a folder of its own below the shelf."""

from __future__ import annotations

from pathlib import Path

import torch

from tests.data import makers

CONFIG = """\
data: DigitsDataModule
model: {class_path: LitMLP, init_args: {hidden: [8]}}
trainer: {max_epochs: 1}
"""
NET = """\
import torch
from lit_models import LitClassifier


class Net(LitClassifier):
    def __init__(self, input_shape: tuple[int, ...], num_classes: int, width: int = 4, **kwargs):
        super().__init__(input_shape=input_shape, num_classes=num_classes, **kwargs)
        # more
        self.net = torch.nn.Sequential(torch.nn.Linear(2, width), torch.nn.ReLU(), torch.nn.Linear(width, num_classes))
"""
DATA = """\
import torch
from datamodules import LitDataModule


class Clouds(LitDataModule):
    input_shape, num_classes = (2,), 2

    def load_part(self, part):
        y = torch.arange(100) % 2
        x = torch.randn(100, 2, generator=torch.Generator().manual_seed(0)) + 3.0 * y[:, None]
        return x, y
"""
THEIRS = {
    "epoch": 0, "global_step": 1, "pytorch-lightning_version": "2.6.6",
    "state_dict": {"layer.weight": torch.zeros(2, 2)},
    "loops": {}, "callbacks": {}, "optimizer_states": [], "lr_schedulers": [],
}  # fmt: skip
RUN_WORDS = ["fit", "--model.scheduler=null", "--trainer.max_epochs=1", "--trainer.limit_train_batches=2"]


def fill(shelf: Path) -> None:
    """Everything but `run`, which is what `RUN_WORDS` leave behind."""
    makers.make_mnist(shelf / "mnist/mine", train=60, test=20)
    makers.make_cifar10(shelf / "cifar/mine")
    makers.make_image_folder(shelf / "pictures/pictures", train=100, test=20, size=8)
    texts = {
        "config/mine.yaml": CONFIG,
        "hidden/.hidden.yaml": CONFIG,
        "more/more.yaml": "trainer: {max_epochs: 2}\n",
        "story/story.txt": "one two three four five six seven " * 20,
        "own/my_net.py": NET,
        "own/my_data.py": DATA,
    }
    for name, text in texts.items():
        (shelf / name).parent.mkdir(parents=True, exist_ok=True)
        (shelf / name).write_text(text)
    (shelf / "theirs").mkdir()
    torch.save(THEIRS, shelf / "theirs/theirs.ckpt")
