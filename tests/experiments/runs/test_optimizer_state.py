"""The state of an optimizer is compared with the parameters before torch loads it, and every state can be loaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.edited_checkpoints import save_edited
from tests.experiments.conftest import Command

SMALL = ("--data=DigitsDataModule", "--data.train_fraction=0.1", "--trainer.enable_model_summary=false")
LITLABS = ("fit", "mlp_digits", "--model.scheduler=null", "--model.hidden=[8]", *SMALL[1:], "--trainer.max_epochs=1")
OWN = (
    "fit",
    "--model=net.Net",
    *SMALL,
    "--experiment=own",
    "--monitor=val/loss",
    "--mode=min",
    "--trainer.max_epochs=1",
)
LAST = "0/checkpoints/last.ckpt"

NET = """
from collections import defaultdict
import numpy as np, torch
from torch import nn
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.callbacks import BaseFinetuning
from torch.optim.lr_scheduler import LRScheduler

class Net(LightningModule):
    def __init__(self, kind: str = "adam"):
        super().__init__()
        self.save_hyperparameters()
        self.first = nn.Linear(64, 16)
        self.left = nn.Linear(16, 16)
        self.right = nn.Linear(16, 16)
        self.last = nn.Linear(16, 10)
        self.automatic_optimization = kind != "two"
    def forward(self, x):
        return self.last(self.right(self.left(self.first(x.flatten(1)).relu()).relu()).relu())
    def loss(self, batch):
        return nn.functional.cross_entropy(self(batch[0]), batch[1])
    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        if not self.automatic_optimization:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
        return loss
    def validation_step(self, batch, batch_idx):
        self.log("val/loss", self.loss(batch))
    def configure_optimizers(self):
        kind = self.hparams.kind
        if kind == "two":
            adam = torch.optim.Adam([*self.first.parameters(), *self.left.parameters()], fused=True)
            return [adam, torch.optim.SGD([*self.right.parameters(), *self.last.parameters()], lr=0.01, momentum=0.9)]
        if kind == "groups":
            groups = [{"params": self.first.parameters(), "lr": 0.01}, {"params": self.last.parameters()}]
            return torch.optim.AdamW(groups, lr=0.001)
        if kind == "frozen":
            self.left.requires_grad_(False)
            return torch.optim.Adam([p for p in self.parameters() if p.requires_grad], fused=True)
        if kind == "lbfgs":
            return torch.optim.LBFGS(self.parameters(), lr=0.1, max_iter=2)
        if kind == "adafactor":
            return torch.optim.Adafactor(self.parameters())
        trained = [p for p in self.parameters() if p.requires_grad]  # Thaw freezes the first layer
        adam = torch.optim.Adam(trained, lr=0.001, fused=True)
        if kind in SCHEDULES:
            return [adam], [SCHEDULES[kind](adam)]
        return adam

class Constant(LRScheduler):
    def get_lr(self):
        return [group["lr"] for group in self.optimizer.param_groups]

class NumPy(Constant):
    factor = np.float64(0.5)
    def __init__(self, optimizer):
        self.history = [np.float32(0.25)]
        self.by_epoch = {np.int64(0): np.bool_(True)}
        super().__init__(optimizer)
    def step(self, epoch=None):
        super().step(epoch)
        self.history.append(np.mean(self.history))

class Array(Constant):
    def __init__(self, optimizer):
        self.history = {"rates": [np.zeros(3)]}
        super().__init__(optimizer)

class Later(Constant):
    def step(self, epoch=None):
        super().step(epoch)
        if self.last_epoch:
            self.seen = defaultdict(list, {1: [np.zeros(2)]})

SCHEDULES = {"numpy": NumPy, "array": Array, "later": Later}

class Counter(Callback):
    def __init__(self):
        self.count = np.int64(0)
    def on_train_epoch_start(self, trainer, pl_module):
        self.count += 1
    def state_dict(self):
        return {"count": self.count}
    def load_state_dict(self, state):
        self.count = np.int64(state["count"])

class Thaw(BaseFinetuning):
    def freeze_before_training(self, pl_module):
        self.freeze(pl_module.first)
    def finetune_function(self, pl_module, epoch, optimizer):
        if epoch >= 1:
            self.unfreeze_and_add_param_group(pl_module.first, optimizer, 1e-3)
"""


@pytest.fixture
def net(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user in the working folder."""
    path = workshop / "net.py"
    path.write_text(NET)
    monkeypatch.syspath_prepend(str(workshop))
    return path


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    content = torch.load(path, weights_only=True)
    change(content)
    save_edited(content, path)


def first_state(content: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = content["optimizer_states"][0]["state"][0]
    return found


UNFIT: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "shape": (
        lambda c: first_state(c).update(exp_avg=torch.zeros(3)),
        "`exp_avg` of net.layers.0.weight 8x64 is [3] there, and the parameter is [8, 64]",
    ),
    "scalar": (lambda c: first_state(c).update(exp_avg=torch.zeros(())), "`exp_avg` of net.layers.0.weight 8x64 is []"),
    "type": (lambda c: first_state(c).update(exp_avg=torch.zeros(8, 64).long()), "is torch.int64 there"),
    "no tensor": (lambda c: first_state(c).update(exp_avg=3), "is 3 there"),
    "step": (lambda c: first_state(c).update(step=torch.tensor(float("nan"))), "`step` of net.layers.0.weight 8x64"),
    "negative step": (lambda c: first_state(c).update(step=torch.tensor(-1.0)), "`step` of net.layers.0.weight 8x64"),
    "key": (lambda c: first_state(c).pop("exp_avg"), "is incomplete: that of net.layers.0.weight 8x64"),
    "group": (lambda c: c["optimizer_states"][0]["param_groups"].clear(), "has parameter groups of []"),
    "parameter": (lambda c: c["optimizer_states"][0]["param_groups"][0]["params"].pop(), "groups of [3] parameters"),
    "state": (lambda c: c["optimizer_states"][0].pop("state"), "has no `state` and `param_groups`"),
    "optimizer": (lambda c: c["optimizer_states"].append({}), "its `optimizer_states` are 2"),
    "names": (lambda c: c["optimizer_parameters"][0][0].reverse(), "number 0 is net.layers.2.bias 10 there"),
}


@pytest.mark.parametrize("name", UNFIT)
@pytest.mark.parametrize("has_names", [True, False])
def test_a_state_that_does_not_fit_is_named(litlab: Command, name: str, has_names: bool) -> None:
    assert litlab(*LITLABS).code == 0
    last = Path("runs/mlp_digits", LAST)
    state = torch.load(last, weights_only=True)["optimizer_states"][0]
    assert state["param_groups"][0]["fused"], "the implementation that does not check shapes"
    change, words = UNFIT[name]
    edit(last, change)
    if not has_names:  # as in checkpoints of earlier versions
        edit(last, lambda content: content.pop("optimizer_parameters"))
    result = litlab("resume", "mlp_digits", "--trainer.max_epochs=2")
    if name == "names" and not has_names:
        assert result.code == 0
    else:
        assert result.code == 2
        assert words in result.sentence


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("left = nn.Linear(16, 16)\n        self.right =", "right = nn.Linear(16, 16)\n        self.left =",
         "number 2 is left.weight 16x16 there and right.weight 16x16 here"),
        ("first = nn.Linear(64, 16)\n        self.left = nn.Linear(16, 16)",
         "left = nn.Linear(16, 16)\n        self.first = nn.Linear(64, 16)",
         "number 0 is first.weight 16x64 there and left.weight 16x16 here"),
    ],
)  # fmt: skip
def test_layers_that_were_swapped_in_the_source_are_named(
    litlab: Command, net: Path, old: str, new: str, words: str
) -> None:
    import sys

    assert litlab(*OWN).code == 0
    assert old in NET
    net.write_text(NET.replace(old, new))
    del sys.modules["net"]
    result = litlab("resume", "own", "--trainer.max_epochs=2")
    assert result.code == 2
    assert words in result.sentence
    assert "other code: net.py changed" in result.out


def test_a_changed_source_is_reported_and_recorded(litlab: Command, net: Path) -> None:
    import json
    import sys

    assert litlab(*OWN).code == 0
    assert "other code" not in litlab("resume", "own", "--trainer.max_epochs=2").out
    net.write_text(NET + "\n# a comment\n")
    del sys.modules["net"]
    result = litlab("resume", "own", "--trainer.max_epochs=3")
    assert result.code == 0
    assert "note    started with other code: net.py changed since then" in result.out
    record = json.loads(Path("runs/own/0/environment.json").read_text())
    assert record["resumed"][-1]["sources"]["net.py"] != record["sources"]["net.py"]


@pytest.mark.parametrize(
    "options",
    [
        *(f"--model.kind={kind}" for kind in ("adam", "two", "groups", "frozen", "lbfgs", "adafactor", "numpy")),
        "--trainer.callbacks+=net.Thaw",
        "--trainer.callbacks+=net.Counter",
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_runs_of_any_optimizer_continue_to_the_same_weights(litlab: Command, net: Path, options: str) -> None:
    long = [*OWN[:-1], "--trainer.max_epochs=3", options]
    assert litlab(*long).code == 0
    shutil.move("runs/own/0", "runs/whole")
    assert litlab(*OWN[:-1], "--trainer.max_epochs=2", options).code == 0
    result = litlab("resume", "own", "--trainer.max_epochs=3")
    assert result.code == 0, result.err
    paths = ("runs/whole/checkpoints/last.ckpt", Path("runs/own", LAST))
    weights = [torch.load(path, weights_only=True)["state_dict"] for path in paths]
    for name, value in weights[0].items():
        assert torch.equal(weights[1][name], value), name


@pytest.mark.parametrize("optimizer", ["muon", "momentum", "adagrad", "rmsprop", "adadelta", "torch.optim.ASGD"])
def test_runs_of_litlabs_optimizers_continue(litlab: Command, optimizer: str) -> None:
    assert litlab(*LITLABS, f"--model.optimizer={optimizer}", "--model.optimizer.lr=0.01").code == 0
    result = litlab("resume", "mlp_digits", "--trainer.max_epochs=2")
    assert result.code == 0, result.err


def test_numbers_of_numpy_are_saved_as_plain_numbers(litlab: Command, net: Path) -> None:
    words = ("--model.kind=numpy", "--trainer.callbacks+=net.Counter")
    assert litlab(*OWN, *words).code == 0
    content = torch.load(Path("runs/own", LAST), weights_only=True)
    assert content["lr_schedulers"][0]["history"] == [0.25] * 3
    assert content["lr_schedulers"][0]["by_epoch"] == {0: True}
    assert content["callbacks"]["Counter"] == {"count": 1}
    assert litlab("test", "own", "--trainer.limit_test_batches=0").code in (0, 2)


@pytest.mark.parametrize(
    ("kind", "name", "epochs"),
    [("array", "lr_schedulers[0].history.rates[0]", 0), ("later", "lr_schedulers[0].seen", 1)],
)
def test_a_state_that_no_checkpoint_can_load_ends_the_run_at_once(
    litlab: Command, net: Path, kind: str, name: str, epochs: int
) -> None:
    result = litlab(*OWN[:-1], "--trainer.max_epochs=3", f"--model.kind={kind}")
    assert result.code == 2
    assert f"{name} must be plain data or tensors, got " in result.sentence
    assert ("epoch 1/3" in result.out) == bool(epochs)
