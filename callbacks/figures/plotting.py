"""Style of all figures, and their output to TensorBoard and to `figures/` in the run folder."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from textwrap import fill
from typing import TYPE_CHECKING, Any

import numpy as np
from lightning.pytorch import Trainer
from lightning.pytorch.utilities import rank_zero_warn

from callbacks.trainer_state import is_dry_run, tensorboard_writer

if TYPE_CHECKING:  # matplotlib takes a second to import, so it is imported only to plot
    from matplotlib.figure import Figure

# Ten colors that color-blind readers can distinguish (Paul Tol, technical note SRON/EPS/TN/09-002, scheme "muted").
PALETTE = (
    "#332288", "#CC6677", "#117733", "#DDCC77", "#88CCEE", "#882255", "#44AA99", "#999933", "#AA4499", "#777777",
)  # fmt: skip
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1, 1.5)), (0, (5, 1.5, 1, 1.5)))
SEQUENTIAL, DIVERGING, IMAGE = "cividis", "RdBu_r", "gray"
_DPI = 110
_LETTERS_PER_INCH = 15  # of 7 points
_STYLE: dict[Any, Any] = {
    "figure.dpi": _DPI,
    "font.size": 10.0,
    "axes.titlesize": 11.0,
    "axes.labelsize": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "legend.fontsize": 9.0,
    "lines.linewidth": 1.8,
    "image.interpolation": "nearest",
    "axes.unicode_minus": False,
}


def class_line(index: int) -> dict[str, Any]:
    """Return color and dashes of a class, equal in all figures and distinct for the first 40 classes."""
    return {"color": PALETTE[index % len(PALETTE)], "linestyle": DASHES[index // len(PALETTE) % len(DASHES)]}


@contextmanager
def figure(width: float = 6.4, height: float = 4.4, names: Sequence[str] = ()) -> Iterator[Figure]:
    """Yield an empty figure in litlab's style, with a size in inches; plot and show it within the block.

    The figure is not registered with pyplot, so it needs no display and is freed with its last reference. `names` are
    texts in the figure; system fonts are chosen that have their letters.
    """
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context({**_STYLE, "font.family": fonts_for(names)[0]}):
        fig = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasAgg(fig)
        yield fig


def pixels(fig: Figure) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the figure as an image `(H, W, 3)`."""
    canvas: Any = fig.canvas
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def source_line(trainer: Trainer, split: str, weights: str) -> str:
    """Return run, data, split and epoch of the weights as one line, to be shown in a figure."""
    run = "/".join(Path(trainer.default_root_dir).parts[-2:])
    data = getattr(trainer, "datamodule", None)
    split = f"{split} split" if data is None else f"{type(data).__name__}, {split} split"
    return "  |  ".join([run, split, weights or "weights without a checkpoint"])


def show(trainer: Trainer, tag: str, fig: Figure, step: int, epoch: int | None = None, source: str = "") -> None:
    """Write a figure to TensorBoard under `tag`, and to figures/<tag>.png or figures/<tag>/epoch_0003.png.

    `source` is a `source_line`, written below the figure. Call it within the `figure` block.
    """
    if source:
        fonts, missing = fonts_for([source])
        text = fill(
            "".join("?" if letter in missing else letter for letter in source),
            int(_LETTERS_PER_INCH * fig.get_figwidth()),
        )
        fig.supxlabel(text, x=0.01, ha="left", fontsize=7, color="#777777", family=fonts, parse_math=False)
    show_image(trainer, tag, pixels(fig), step, epoch)


def show_image(
    trainer: Trainer, tag: str, image: np.ndarray[Any, np.dtype[np.uint8]], step: int, epoch: int | None = None
) -> None:
    """Write an image `(H, W, 3)` as `show` writes a figure; do nothing under `fast_dev_run` and on ranks above 0."""
    if is_dry_run(trainer) or not trainer.is_global_zero:
        return
    from PIL import Image

    if (writer := tensorboard_writer(trainer)) is not None:
        writer.add_image(tag, image, step, dataformats="HWC")
    name = re.sub(r"[^\w./-]+", "_", tag) + (".png" if epoch is None else f"/epoch_{epoch:04d}.png")
    path = Path(trainer.default_root_dir) / "figures" / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    except OSError as error:  # a full disk must not end training
        reason = error.strerror or error
        rank_zero_warn(f"Could not write the figure {path} ({reason}); training continues. Check the disk.")


def readable(names: Sequence[str]) -> list[str]:
    """Return the names as figures can show them; a name without a font becomes `class 3`, with a warning.

    Line breaks, tabs and the characters that matplotlib interprets (`$`, a leading `_`) are escaped.
    """
    plain = [name if name.isprintable() and name.strip() else repr(name)[1:-1] or "''" for name in names]
    _, missing = fonts_for(plain)
    if missing:
        rank_zero_warn(
            f"No installed font has the letters {''.join(sorted(missing))[:20]!r} of the class names; figures show "
            "`class 0` and so on. Install a font that has them, such as Noto Sans CJK."
        )
    shown = [f"class {i}" if missing & set(name) else name for i, name in enumerate(plain)]
    return [f" {name}" if name.startswith("_") else name for name in (name.replace("$", r"\$") for name in shown)]


def fonts_for(texts: Sequence[str]) -> tuple[list[str], set[str]]:
    """Return fonts for the letters of texts, and the letters that no font has.

    The first font is that of matplotlib, with Latin, Greek and Cyrillic letters. The others are system fonts.
    """
    from matplotlib.font_manager import fontManager

    chosen: list[str] = []
    missing = set("".join(texts))
    for font in dict.fromkeys(["DejaVu Sans", *(entry.name for entry in fontManager.ttflist)]):
        if not chosen or missing & _letters_of(font):
            chosen.append(font)
            missing = missing - _letters_of(font)
        if not missing:
            break
    return chosen, missing


@cache
def _letters_of(font: str) -> frozenset[str]:
    from matplotlib.font_manager import findfont, get_font

    log = logging.getLogger("matplotlib.font_manager")
    level = log.level
    log.setLevel(logging.ERROR)  # it logs every missing font weight
    try:
        return frozenset(map(chr, get_font(findfont(font, fallback_to_default=False)).get_charmap()))
    except (ValueError, OSError, RuntimeError):
        return frozenset()
    finally:
        log.setLevel(level)


def shortened(name: str, length: int = 16) -> str:
    """Return a name that fits next to an axis. Its middle is omitted, since names often differ at the end."""
    if len(name) <= length:
        return name
    head = (length - 1) // 2
    return f"{name[:head]}…{name[head + 1 - length :]}"
