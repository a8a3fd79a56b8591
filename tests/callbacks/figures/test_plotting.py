"""Tests of the style and the output of figures."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

from callbacks.figures.plotting import PALETTE, class_line, figure, pixels, readable, shortened, show


def trainer(folder, **facts):
    return SimpleNamespace(default_root_dir=str(folder), is_global_zero=True, loggers=[], fast_dev_run=False, **facts)


def test_a_figure_is_saved_and_closed(tmp_path) -> None:
    with figure() as made:
        made.subplots().plot([0, 1], [0, 1])
        show(trainer(tmp_path), "val/some curve", made, 3)
        show(trainer(tmp_path), "maps/conv", made, 3, epoch=3)
    assert (tmp_path / "figures/val/some_curve.png").is_file()
    assert (tmp_path / "figures/maps/conv/epoch_0003.png").is_file()


def test_a_figure_that_cannot_be_saved_gives_a_warning(tmp_path) -> None:
    (tmp_path / "figures").write_text("in the way")
    with figure() as made, pytest.warns(UserWarning, match="Could not write the figure .*training continues"):
        show(trainer(tmp_path), "val/curve", made, 0)


def test_other_ranks_save_no_figure(tmp_path) -> None:
    other = trainer(tmp_path)
    other.is_global_zero = False
    with figure() as made:
        show(other, "val/curve", made, 0)
    assert not (tmp_path / "figures").exists()


def test_figures_need_no_display_and_keep_rcparams() -> None:
    code = (
        "import matplotlib; before = dict(matplotlib.rcParams); from callbacks.figures.plotting import figure, pixels\n"
        "with figure() as made: made.subplots().plot([1, 2]); print(pixels(made).shape)\n"
        "import matplotlib.pyplot as plt; assert dict(matplotlib.rcParams) == before; assert not plt.get_fignums()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": "/usr/bin"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("3)")


def test_classes_have_fixed_colors_and_dashes() -> None:
    looks = [tuple(map(str, class_line(i).values())) for i in range(4 * len(PALETTE))]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("names", [["Zürich", "naïve"], ["кошка", "собака"], ["γάτα", "σκύλος"]])
def test_names_that_the_font_supports_do_not_change(names) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert readable(names) == names
        with figure(names=names) as made:
            made.subplots().set_title(" ".join(names))
            pixels(made)


def test_names_without_a_font_are_replaced_by_their_class_number() -> None:
    names = ["dog", "\U0001f9a4\ue123"]
    with pytest.warns(UserWarning, match="No installed font has the letters"):
        shown = readable(names)
    assert shown == ["dog", "class 1"]


def test_long_names_are_shortened() -> None:
    assert shortened("golden retriever of the first kind", 10) == "gold… kind"
    assert shortened("short") == "short"


def test_special_characters_of_matplotlib_are_escaped() -> None:
    names = readable(["cost $a_{b$", "US$ and AU$", "_hidden", "\n", ""])
    with figure(names=names) as made:
        axes = made.subplots()
        for index, name in enumerate(names):
            axes.plot([0, 1], [index, index], label=name)
        legend = axes.legend()
        pixels(made)
    assert len(legend.get_texts()) == len(names)
    assert names[3] == "\\n"
