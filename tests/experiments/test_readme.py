"""Code copied from the README works, and the links of all pages exist."""

from __future__ import annotations

import re
from pathlib import Path

from experiments import load_run
from tests.experiments.conftest import ROOT, Command


def blocks(language: str) -> list[str]:
    """Return the code blocks of one language in the README, in order."""
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)


def test_custom_model_data_and_config(litlab: Command, workshop: Path) -> None:
    model, data, script = blocks("python")
    (config,) = blocks("yaml")
    (workshop / "my_models.py").write_text(model)
    (workshop / "my_data.py").write_text(data)
    (workshop / "mine.yaml").write_text(config)
    result = litlab("fit", "mine.yaml")
    assert result.code == 0, result.err
    tested = litlab("test", "mine")
    assert tested.code == 0, tested.err
    assert load_run("mine").results[-1]["metrics"]["test/acc"] > 0.9
    exec(compile(script, "README", "exec"), {})
    assert (workshop / "runs" / "mlp_digits" / "0" / "checkpoints" / "best.ckpt").is_file()


def test_the_table_lists_every_shipped_config() -> None:
    from experiments.options import catalog

    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for entry in catalog.configs():
        if not entry.summary.startswith("Fragment"):
            assert f"| `{entry.name}` |" in text


def test_the_readme_links_every_page() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f"](docs/{page.name})" not in text] == []


def test_links_and_images_exist() -> None:
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
