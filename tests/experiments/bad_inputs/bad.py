"""What a row of the table of bad inputs is, and the good things that an offence is done to."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

RUN = Path("runs/mlp_digits/0")
BEST, LAST = RUN / "checkpoints/best.ckpt", RUN / "checkpoints/last.ckpt"
IDX = Path("mine/MNIST/raw")
MNIST = "--data=MNISTDataModule --data.download=false --data.data_dir=mine"
IMAGES = "--model=LitLogisticRegression --data=ImageFolderDataModule --data.data_dir=pictures"

Arrange = Callable[[], object]  # done in the working folder


@dataclass(frozen=True)
class Bad:
    """One bad input; its twin is the same without the offence.

    `words` is the command as typed after `litlab`, and `mended` what is typed instead (the same, where the offence lies
    in a file or a variable). `given` are the names of good things on the shelf that both need, `offence` spoils
    them for the bad one alone.
    """

    words: str
    offender: str | tuple[str, ...]
    remedy: str | tuple[str, ...]
    mended: str | None = None
    given: str | tuple[str, ...] = ()
    offence: Arrange | None = None
    variables: Mapping[str, str] = field(default_factory=dict)
    code: int = 2

    @property
    def twin(self) -> str:
        """The mended words; a fit makes no more than a step of everything."""
        words = self.words if self.mended is None else self.mended
        return f"{words} --trainer.fast_dev_run=1" if words.split()[0] == "fit" and "ckpt" not in words else words


def parts(text: str | tuple[str, ...]) -> tuple[str, ...]:
    """One or several parts of a sentence."""
    return (text,) if isinstance(text, str) else text


def take(shelf: Path, names: str | tuple[str, ...]) -> None:
    """Put good things from the shelf into the working folder."""
    for name in parts(names):
        shutil.copytree(shelf / name, ".", dirs_exist_ok=True)


def write(name: str, content: str | bytes) -> Arrange:
    """Write a file, over what was there."""

    def action() -> None:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)

    return action


def cut(path: Path, size: int) -> Arrange:
    """Keep only the first bytes of a file."""
    return lambda: path.write_bytes(path.read_bytes()[:size])


def gone(path: Path) -> Arrange:
    """Remove a file or a folder."""
    return lambda: shutil.rmtree(path) if path.is_dir() else path.unlink()


def edited(path: Path, old: str, new: str) -> Arrange:
    """Replace a text in a file."""

    def action() -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    return action


def folder_instead(path: Path) -> Arrange:
    """A folder where a file should be."""

    def action() -> None:
        path.unlink(missing_ok=True)
        path.mkdir(parents=True)

    return action


def checkpoint(change: Callable[[dict[str, Any]], Any], path: Path = BEST) -> Arrange:
    """Save what `change` makes of a checkpoint's content, under its name."""

    def action() -> None:
        import torch

        from tests.edited_checkpoints import save_edited

        content = torch.load(path, weights_only=True)
        changed = change(content)
        save_edited(content if changed is None else changed, path)

    return action


def without(*names: str) -> Callable[[dict[str, Any]], Any]:
    """A checkpoint's content without these keys."""
    return lambda content: {key: value for key, value in content.items() if key not in names}
