"""Config files: YAML that is none, settings that are none, files that are something else."""

from __future__ import annotations

from pathlib import Path

from tests.experiments.bad_inputs.bad import Arrange, Bad, edited, folder_instead, gone, write

MINE = Path("mine.yaml")  # data: DigitsDataModule, model: LitMLP with hidden [8], trainer: max_epochs 1


def mine(offender: str | tuple[str, ...], remedy: str | tuple[str, ...], offence: Arrange) -> Bad:
    """`litlab fit mine.yaml` with that file spoilt."""
    return Bad("fit mine.yaml", offender, remedy, given="config", offence=offence)


def holding(content: str | bytes) -> Arrange:
    """The file holds this instead."""
    return write("mine.yaml", content)


def added(text: str) -> Arrange:
    """The file with more lines at its end."""
    return lambda: MINE.write_text(MINE.read_text() + text)


def link_to_nowhere() -> None:
    """A link whose file is gone."""
    MINE.unlink()
    MINE.symlink_to("nowhere.yaml")


CONFIGS: dict[str, Bad] = {
    "config that is not there": Bad(
        "fit mime.yaml",
        "'mime.yaml' is neither a file nor a shipped config",
        "litlab list configs",
        "fit mine.yaml",
        given="config",
    ),
    "misspelt shipped config": Bad("fit mlp_digit", "'mlp_digit'", "Did you mean mlp_digits?", "fit mlp_digits"),
    "config option without a file": Bad("fit --config", "--config", "needs a file", "fit --config mlp_digits"),
    "config that is a folder": mine("mine.yaml", "neither a file", folder_instead(MINE)),
    "config that is a link to nowhere": mine("mine.yaml", "litlab list configs", link_to_nowhere),
    "bracket left open": mine(("mine.yaml is not valid YAML", "line 4"), "Fix", added("model2: [")),
    "tab in front of a key": mine(("mine.yaml is not valid YAML", "line 5"), "Fix", added("patience:\n\t- 1\n")),
    "alias that is not defined": mine(
        ("mine.yaml is not valid YAML", "anything"), "Fix", added("monitor: *anything\n")
    ),
    "tag that runs Python": mine(
        ("mine.yaml is not valid YAML", "python/object"),
        "Fix",
        added('monitor: !!python/object/apply:os.mkdir ["ran"]\n'),
    ),
    "two documents": mine(("mine.yaml is not valid YAML", "single document"), "Fix", added("---\nmonitor: val/acc\n")),
    "empty config": mine("mine.yaml is not a mapping", "such as `model:`", holding("")),
    "config of comments alone": mine("mine.yaml is not a mapping", "keys such as", holding("# model: LitMLP\n")),
    "config with a list at the top": mine("mine.yaml is not a mapping", "keys such as", holding("- a\n- b\n")),
    "config that is plain text": mine("mine.yaml is not a mapping", "keys such as", holding("train my network\n")),
    "config in Latin-1": mine("mine.yaml is not UTF-8 text", "Save it", holding(b"# caf\xe9\n")),
    "config in UTF-16": mine("mine.yaml is not UTF-8 text", "Save it", holding("model: LitMLP\n".encode("utf-16"))),
    "config that is a picture": mine("mine.yaml", "Save it", holding(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff")),
    "config with a NUL": mine(("mine.yaml is not valid YAML", "#x0000"), "Fix", holding(b"model: LitMLP\n\0\n")),
    "unknown section": mine("mine.yaml: 'modl' is not a key", "Did you mean model", edited(MINE, "model:", "modl:")),
    "config of another program": mine(
        "mine.yaml: 'services' is not a key", "--help-all", holding("services:\n  web: {image: nginx}\nversion: 3\n")
    ),
    "key that is a number": mine("key 1 in mine.yaml must be text", "rename it", added("1: 2\n")),
    "unknown setting of the trainer": mine(
        "'trainer.max_epoch' is not a key", "Did you mean trainer.max_epochs?", edited(MINE, "max_epochs", "max_epoch")
    ),
    "unknown setting of the model": mine(
        "LitMLP has no argument 'hiden'", "Did you mean hidden?", edited(MINE, "hidden", "hiden")
    ),
    "settings beside class_path": mine(
        "model: 'hidden' must be under `init_args:`",
        "not next to `class_path:`",
        edited(MINE, "init_args: {hidden: [8]}", "hidden: [8]"),
    ),
    "unknown class": mine("unknown class 'LitMPL'", "Did you mean LitMLP?", edited(MINE, "LitMLP", "LitMPL")),
    "no model": mine("model is missing", "litlab list", holding("data: DigitsDataModule\n")),
    "no data": mine("data is missing", "litlab list", holding("model: LitMLP\n")),
    "empty section": mine(
        "`trainer:` in mine.yaml is empty",
        "Fill it in or remove it",
        edited(MINE, "trainer: {max_epochs: 1}", "trainer:"),
    ),
    "model that is a number": mine(
        ("`model:` in mine.yaml must be a class", "got 3"),
        "class_path",
        edited(MINE, "{class_path: LitMLP, init_args: {hidden: [8]}}", "3"),
    ),
    "trainer that is a list": mine("trainer", "max_epochs", edited(MINE, "{max_epochs: 1}", "[max_epochs, 1]")),
    "no blank after the colon": mine("trainer", "max_epochs", edited(MINE, "{max_epochs: 1}", "max_epochs:1")),
    "text for a number in a config": mine(
        ("trainer.max_epochs must be", "got 'x'"), "an integer", edited(MINE, "max_epochs: 1", "max_epochs: x")
    ),
    "section given twice": mine(
        ("line 4: 'trainer' is a duplicate key", "mine.yaml"), "keep one", added("trainer: {max_steps: 3}\n")
    ),
    "setting given twice": mine(
        ("'max_epochs' is a duplicate key", "mine.yaml"),
        "keep one",
        edited(MINE, "max_epochs: 1", "max_epochs: 1, max_epochs: 9"),
    ),
    "included file that is not there": mine(
        "`model: net.yaml` in mine.yaml",
        "relative to mine.yaml",
        edited(MINE, "{class_path: LitMLP, init_args: {hidden: [8]}}", "net.yaml"),
    ),
    "config that includes itself": mine(
        "mine.yaml includes itself",
        "only the model",
        edited(MINE, "{class_path: LitMLP, init_args: {hidden: [8]}}", "mine.yaml"),
    ),
    "callback without a class": mine(
        "trainer.callbacks",
        "class_path",
        edited(MINE, "max_epochs: 1", "max_epochs: 1, callbacks: [{every_n_steps: 3}]"),
    ),
    "unknown callback in a config": mine(
        "callback: unknown class 'Gradient'",
        "Did you mean Gradients?",
        edited(MINE, "max_epochs: 1", "max_epochs: 1, callbacks: [Gradient]"),
    ),
    "fact of the data in a config": mine(
        ("num_classes must be 10", "got 7"), "Remove", edited(MINE, "hidden: [8]", "hidden: [8], num_classes: 7")
    ),
    "second config spoilt": Bad(
        "fit mine.yaml more.yaml",
        "more.yaml is not valid YAML",
        "Fix",
        given=("config", "more"),
        offence=write("more.yaml", "trainer: {"),
    ),
    "second config gone": Bad(
        "fit mine.yaml more.yaml",
        "'more.yaml' is neither a file",
        "litlab list configs",
        given=("config", "more"),
        offence=gone(Path("more.yaml")),
    ),
}
