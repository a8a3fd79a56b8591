"""LightningCLI for one command: parses the merged request and builds data, model and Trainer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Literal

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from experiments.command_line.parser import LitlabParser, trainer_error
from experiments.command_line.trainer import LitlabTrainer
from experiments.commands.trainer_command import Built, TrainerCommand, make_command
from experiments.machine.hardware import processes
from experiments.machine.launchers import launch_options
from experiments.machine.performance_options import PerformanceOptions
from experiments.machine.processes import leave_group, serve_store
from experiments.messages.errors import user_error_within
from experiments.options.class_check import find_class
from experiments.options.config_diff import with_public_paths
from experiments.options.config_files import dump_yaml
from experiments.options.data_properties import DATA_PROPERTIES, DataPropertyLinks
from experiments.options.import_paths import working_folder_importable
from experiments.options.merge import callbacks_without_mode, merge
from experiments.options.request import Request
from experiments.options.run_options import DEFAULT_SEED, RunOptions, check_seed
from experiments.options.trainer_checks import check_trainer


class LitlabCLI(LightningCLI):
    """LightningCLI that builds data, model and Trainer for a command; `run` runs the command."""

    def __init__(self, command: TrainerCommand) -> None:
        self.command = command
        self.request = command.request
        self.links = DataPropertyLinks(command.saved_data_properties)
        merged = merge(self.request, LitlabTrainer)
        command.without_mode = callbacks_without_mode(merged)
        super().__init__(
            LightningModule,
            LightningDataModule,
            save_config_callback=None,
            trainer_class=LitlabTrainer,
            seed_everything_default=DEFAULT_SEED,
            parser_class=LitlabParser,
            parser_kwargs={"allow_abbrev": False, "prog": f"litlab {self.request.command.name}"},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            run=False,
            args=merged,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add the run options and the command's own options, and link the data properties to the model."""
        parser.add_class_arguments(RunOptions, None)
        parser.set_defaults({"experiment": self.request.configs[0].stem if self.request.configs else "run"})
        for option in self.request.command.options:
            if option.switch:
                parser.add_argument(f"--{option.name}", action="store_true", help=option.help)
            else:
                kind: Any = Literal[option.choices] | None if option.choices else str | None
                parser.add_argument(f"--{option.name}", type=kind, default=None, help=option.help)
        for name in DATA_PROPERTIES:
            target, read = f"model.init_args.{name}", self.links.reader(name)
            parser.link_arguments("data", target, compute_fn=read, apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the merged request; print help or `--print_config` and exit if the request has such an action."""
        if isinstance(parser, LitlabParser):
            parser.outermost = True
        printed = [action for action in self.request.actions if action.startswith("--print_config")]
        if printed:
            self.config = parser.parse_object(args)
            print(self.config_text(printed[-1].partition("=")[2].split(",")), end="")
            raise SystemExit(0)
        if self.request.actions:
            merged = [f"--config={dump_yaml(args)}"] if args else []
            parser.parse_args([*merged, *self.request.actions])
        self.config = parser.parse_object(args)
        check_seed(self.config.seed_everything)

    def before_instantiate_classes(self) -> None:
        """Store the data properties that the user set, because jsonargparse replaces them without a message."""
        self.links.model = find_class(self.config.model.class_path, "model")
        init_args = self.config.model.get("init_args")
        self.links.given = {name: init_args.get(name) for name in DATA_PROPERTIES} if init_args is not None else {}

    def instantiate_classes(self) -> None:
        """Build data, then model, then Trainer; raise the original user error if jsonargparse wrapped it."""
        try:
            if self.command.needs_trainer:
                super().instantiate_classes()
            else:
                self.config_init = self.parser.instantiate_classes(self.config)
                self.datamodule = self.config_init.data
        except Exception as error:  # jsonargparse wraps the errors of constructors in several types
            found = self.links.problem or user_error_within(error)
            if found is None or found is error:
                raise
            raise found from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Build the Trainer with the command's own arguments; `fit` creates its run folder here."""
        if self.links.problem is not None:
            raise self.links.problem
        self.links.prepare(self.datamodule)  # in case that the model has no argument from the data
        options = {**dict(self.config_init.trainer.items()), **self.request.objects}
        check_trainer(options)
        launch = launch_options(options)
        options |= launch
        serve_store(processes(options))
        self.command.data = self.datamodule
        own = self.command.trainer_arguments(self._built(), options)
        try:
            return super().instantiate_trainer(**{**self.request.objects, **kwargs, **launch, **own})
        except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
            raise MisconfigurationException(trainer_error(str(error), self._given_to_trainer())) from error

    def run(self) -> int:
        """Run the command and return its exit code."""
        if not self.command.needs_trainer:
            return self.command.run(self._built(), None)
        self.command.trainer = self.trainer
        code = self.command.run(self._built(), self.trainer)
        leave_group(self.trainer)
        return code

    def _built(self) -> Built:
        options = RunOptions(**{field.name: self.config[field.name] for field in fields(RunOptions)})
        model: Any = getattr(self, "model", None)  # the command `data` has no model
        return Built(options, self.config.seed_everything, self.config_text(), model, self.datamodule)

    def _given_to_trainer(self) -> dict[str, Any]:
        """Return the Trainer options that differ from their default."""
        options, default = self.config.trainer.items(), self.parser.get_default
        return {name: value for name, value in options if value != default(f"trainer.{name}")}

    def config_text(self, flags: Sequence[str] = ()) -> str:
        """Return the resolved config as YAML, run options first; `flags` are skip_default and skip_null.

        The data properties are not in it, because litlab takes them from the data again.
        """
        skip = {"skip_default": "skip_default" in flags, "skip_none": "skip_null" in flags}
        content = with_public_paths(_without_unwritable(yaml.safe_load(self.parser.dump(self.config, **skip))))
        for option in self.request.command.options:
            content.pop(option.name, None)
        last = [*(field.name for field in fields(PerformanceOptions)), "data", "model", "trainer"]
        ordered = {name: content[name] for name in content if name not in last}
        ordered |= {name: content[name] for name in last if name in content}
        text: str = dump_yaml(ordered)
        return text


def build(request: Request) -> LitlabCLI:
    """Return the built CLI for a request from Python; call `run` on it."""
    with working_folder_importable():
        return LitlabCLI(make_command(request))


def _without_unwritable(content: Any) -> Any:
    """Remove defaults that YAML cannot represent, such as a device; jsonargparse writes a sentence instead."""
    if isinstance(content, dict):
        return {
            name: _without_unwritable(value)
            for name, value in content.items()
            if not (isinstance(value, str) and value.startswith("Unable to serialize instance"))
        }
    return [_without_unwritable(value) for value in content] if isinstance(content, list) else content
