"""Figures look alike, close themselves, and say what they cannot show."""

from __future__ import annotations

import subprocess
import sys
import warnings
from types import SimpleNamespace

import pytest

from callbacks.figures.drawing import PALETTE, class_line, figure, pixels, readable, shortened, show


def trainer(folder, **facts):
    return SimpleNamespace(default_root_dir=str(folder), is_global_zero=True, loggers=[], fast_dev_run=False, **facts)


def test_a_figure_goes_to_its_place_and_leaves_nothing_open(tmp_path) -> None:
    with figure() as made:
        made.subplots().plot([0, 1], [0, 1])
        show(trainer(tmp_path), "val/some curve", made, 3)
        show(trainer(tmp_path), "maps/conv", made, 3, epoch=3)
    assert (tmp_path / "figures/val/some_curve.png").is_file()
    assert (tmp_path / "figures/maps/conv/epoch_0003.png").is_file()


def test_a_place_that_cannot_be_written_costs_a_sentence(tmp_path) -> None:
    (tmp_path / "figures").write_text("in the way")
    with figure() as made, pytest.warns(UserWarning, match="was not written .*training goes on"):
        show(trainer(tmp_path), "val/curve", made, 0)


def test_other_processes_draw_nothing(tmp_path) -> None:
    other = trainer(tmp_path)
    other.is_global_zero = False
    with figure() as made:
        show(other, "val/curve", made, 0)
    assert not (tmp_path / "figures").exists()


def test_no_display_and_no_settings_of_others_are_touched() -> None:
    code = (
        "import matplotlib; before = dict(matplotlib.rcParams); from callbacks.figures.drawing import figure, pixels\n"
        "with figure() as made: made.subplots().plot([1, 2]); print(pixels(made).shape)\n"
        "import matplotlib.pyplot as plt; assert dict(matplotlib.rcParams) == before; assert not plt.get_fignums()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={"PATH": "/usr/bin"})
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("3)")


def test_classes_keep_their_look() -> None:
    looks = [tuple(map(str, class_line(i).values())) for i in range(4 * len(PALETTE))]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("names", [["Zürich", "naïve"], ["кошка", "собака"], ["γάτα", "σκύλος"]])
def test_names_that_the_font_has_stay(names) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert readable(names) == names
        with figure(names=names) as made:
            made.subplots().set_title(" ".join(names))
            pixels(made)


def test_names_that_no_font_has_are_replaced_with_a_word() -> None:
    names = ["dog", "\U0001f9a4\ue123"]
    with pytest.warns(UserWarning, match="No font here has the letters"):
        shown = readable(names)
    assert shown == ["dog", "class 1"]


def test_long_names_are_cut() -> None:
    assert shortened("golden retriever of the first kind", 10) == "gold… kind"
    assert shortened("short") == "short"


def test_signs_that_mean_something_to_matplotlib_are_drawn_as_they_are() -> None:
    names = readable(["cost $a_{b$", "US$ and AU$", "_hidden", "\n", ""])
    with figure(names=names) as made:
        axes = made.subplots()
        for index, name in enumerate(names):
            axes.plot([0, 1], [index, index], label=name)
        legend = axes.legend()
        pixels(made)
    assert len(legend.get_texts()) == len(names)
    assert names[3] == "\\n"
