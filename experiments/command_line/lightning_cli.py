"""LightningCLI as litlab runs it: one parser per verb, facts linked from the data, a run folder for every fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities.exceptions import MisconfigurationException

import callbacks as _callbacks  # noqa: F401 - importing the rooms makes their classes known by short name
import datamodules as _datamodules  # noqa: F401
import lit_models as _lit_models  # noqa: F401
from callbacks.records.scored_samples import ScoredSamples
from experiments.cli import main
from experiments.command_line.parser import LitlabParser
from experiments.command_line.parser_errors import trainer_refusal
from experiments.command_line.trainer import LitlabTrainer
from experiments.command_line.weights_argument import find_weights, take
from experiments.command_line.word_order import arrange, class_path, model_class
from experiments.commands import data as data_report
from experiments.commands import fit, fit_plan, rerun, score
from experiments.commands.resume import Resumed, take_extension
from experiments.machine import choice as machine
from experiments.machine.hardware import processes
from experiments.machine.processes import (
    check_launch,
    check_program,
    hand_on,
    launch_options,
    leave_group,
    open_exchange,
)
from experiments.messages.errors import mistake_within
from experiments.options.config_diff import as_typed
from experiments.options.config_files import read_config
from experiments.options.fact_links import FACTS, FactLinks
from experiments.options.run_options import DEFAULT_SEED, add_run_options, check_seed, read_settings, read_wishes
from experiments.options.trainer_checks import check_plain, check_trainer
from experiments.options.verbs import TRAINING_VERBS
from experiments.runs.compare import Comparison
from experiments.runs.find import runs_dir
from experiments.runs.folder import RunFolder

__all__ = ["LitlabCLI", "main"]


class LitlabCLI(LightningCLI):
    """Parses the words of one verb and builds data, model and Trainer; `run` then does the verb.

    `source` is the run folder whose weights `validate`, `test` and `predict` use, `objects` are Trainer arguments that
    only Python can give, such as callbacks.
    """

    def __init__(
        self, verb: str, words: list[str], source: Path | None = None, objects: dict[str, Any] | None = None
    ) -> None:
        check_launch(verb)
        if source is not None:
            found = source.resolve()
            source = Path(hand_on("source", lambda: str(found)))  # a name means its newest run, and more may begin
        self.verb = verb
        self.objects = objects or {}  # Trainer arguments from Python that no words can stand for
        self.scored = ScoredSamples()
        self.facts = FactLinks()
        self.claimed: RunFolder | None = None
        words = ["--help" if word == "--help-all" else word for word in words]
        self.comparison: Comparison | None = None  # of a rerun that was checked
        words, self.repeated = rerun.find(words, source) if verb == "rerun" else (words, None)
        words, self.weights = find_weights(verb, words, source)
        words, self.output = take(words, "--output") if verb == "predict" else (words, None)
        words, extension = take(words, "--extend_schedule") if verb == "resume" else (words, None)
        self.extension = take_extension(extension)
        words, self.config_files = arrange(words)
        self.given = tuple(as_typed(word.partition("=")[0].removeprefix("--").removesuffix("+")) for word in words)
        super().__init__(
            LightningModule,
            LightningDataModule,
            save_config_callback=None,
            trainer_class=LitlabTrainer,
            seed_everything_default=DEFAULT_SEED,
            parser_class=LitlabParser,
            parser_kwargs={"allow_abbrev": False, "prog": f"litlab {verb}"},
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            run=False,
            args=words,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Add litlab's own options and link the facts of the data to the model."""
        add_run_options(parser, self.config_files[0].stem if self.config_files else "run")
        for fact in FACTS:
            parser.link_arguments(
                "data", f"model.init_args.{fact}", compute_fn=self.facts.reader(fact), apply_on="instantiate"
            )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parse the words given to us, whatever `sys.argv` says."""
        if isinstance(parser, LitlabParser):
            documents = [read_config(path) for path in self.config_files]
            parser.named = {part: class_path(documents, args, part) or "" for part in ("model", "data")}
        self.config = parser.parse_args(args)
        check_seed(self.config.seed_everything)

    def before_instantiate_classes(self) -> None:
        """Note which facts the user wrote down: jsonargparse would replace them without a word."""
        chosen = self.config.model.class_path
        self.facts.model = model_class([{"model": {"class_path": chosen}}], [])
        init_args = self.config.model.get("init_args")
        self.facts.given = {fact: init_args.get(fact) for fact in FACTS} if init_args is not None else {}

    def instantiate_classes(self) -> None:
        """Build data, then model, then Trainer; a mistake found on the way is told as it is, not as it was wrapped."""
        try:
            if self.verb == "data":
                self.config_init = self.parser.instantiate_classes(self.config)
                self.datamodule = self.config_init.data
            else:
                super().instantiate_classes()
        except Exception as error:  # jsonargparse wraps what a constructor raises in errors of several kinds
            mistake = self.facts.problem or mistake_within(error)
            if mistake is None or mistake is error:
                raise
            raise mistake from error

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Check data and model together, claim the run folder (fit), and build the Trainer in it."""
        if self.facts.problem is not None:
            raise self.facts.problem
        options = {**dict(self.config_init.trainer.items()), **self.objects}
        check_trainer(options)
        self.weights.check(self.model)
        follows = launch_options(options)
        options |= follows
        open_exchange(processes(options))
        kwargs = {**self.objects, **kwargs, **follows}
        if self.verb in TRAINING_VERBS:
            self.weights.check_trainable(self.model)
            check_plain(self.model)
            check_plain(self.datamodule)
            has_validation = fit_plan.prepare_data(self.datamodule)
            settings = read_settings(self.config, self.model, has_validation)
            resumed = Resumed(self.weights, self.extension, self.given) if self.verb == "resume" else None
            seed = self.config.seed_everything
            origin = rerun.Origin(self.weights, tuple(f"trainer.{name}" for name in self.objects), self.repeated)
            self.plan = fit_plan.prepare(
                settings, self.model, self.datamodule, self.config_text(), seed, options, resumed, origin
            )
            self.claimed = self.plan.folder if resumed is None else None  # a folder that was there stays
            kwargs.update(self.plan.trainer)
        else:
            if self.verb != "predict":
                check_program(processes(options), options.get("strategy"))
            folder = self.weights.folder
            self.choice = machine.of_run(folder.environment if folder else None, options, read_wishes(self.config))
            machine.apply(self.choice, self.model)
            kwargs.update(score.trainer_options(self.verb, options, folder, self.choice))
            kwargs["callbacks"].append(self.scored)
            if self.verb == "predict":
                self.writer = score.prediction_writer(self.weights, self.output)
                kwargs["callbacks"].append(self.writer)
        try:
            return super().instantiate_trainer(**kwargs)
        except (ValueError, TypeError, RuntimeError, ImportError, MisconfigurationException) as error:
            if self.claimed is not None:
                self.claimed.discard_if_untrained()
            raise MisconfigurationException(trainer_refusal(str(error), self._given_to_trainer())) from error

    def _given_to_trainer(self) -> dict[str, Any]:
        """The Trainer's options that are not at their default."""
        options = dict(self.config.trainer.items())
        return {name: value for name, value in options.items() if value != self.parser.get_default(f"trainer.{name}")}

    def config_text(self) -> str:
        """The resolved config as YAML, what matters first, without what is linked from the data."""
        content = _plain(yaml.safe_load(self.parser.dump(self.config, skip_none=False)))
        last = ("data", "model", "trainer")
        ordered = {name: content[name] for name in content if name not in last} | {name: content[name] for name in last}
        text: str = yaml.safe_dump(ordered, sort_keys=False, allow_unicode=True)
        return text

    def run(self) -> None:
        """Do the verb."""
        if self.verb == "data":
            folder = runs_dir() / "data" / self.config.experiment
            data_report.run(self.datamodule, folder, self.config.seed_everything)
            return
        self._run_with_trainer()
        leave_group(self.trainer)

    def _run_with_trainer(self) -> None:
        parts = (self.trainer, self.model, self.datamodule)
        if self.verb in TRAINING_VERBS:
            fit.train(*parts, self.plan, self.weights)
            if self.repeated is not None and self.repeated.check and self.trainer.is_global_zero:
                assert self.plan.folder is not None
                self.comparison = self.repeated.compare(self.plan.folder)
            return
        with machine.settings(self.choice, self.trainer.num_devices):
            if self.verb == "predict":
                score.predict(*parts, self.weights, self.writer)
            else:
                score.score(self.verb, *parts, self.weights, self.scored)


def _plain(content: Any) -> Any:
    """Without the defaults that YAML cannot hold, such as a device: jsonargparse puts a sentence in their place."""
    if isinstance(content, dict):
        return {name: _plain(value) for name, value in content.items() if not _unwritten(value)}
    return [_plain(value) for value in content] if isinstance(content, list) else content


def _unwritten(value: Any) -> bool:
    return isinstance(value, str) and value.startswith("Unable to serialize instance")
