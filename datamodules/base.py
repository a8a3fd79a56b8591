"""What every datamodule shares: arguments, split, loaders, hashes. A child states facts and loads tensors."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.nn.functional import one_hot

from datamodules.checks import check_samples, check_target_arguments, two_tensors
from datamodules.serving.batches import Batch, Batches, Chosen, PickedRows, Preparation
from datamodules.serving.loader import InMemoryLoader
from datamodules.serving.placement import Holding, Placement, check_holding, choose
from datamodules.serving.splits import check_split_arguments, hash_tensors, shrink, split_indices
from datamodules.serving.workers import WorkerFrontEnd, default_workers

Part = Literal["train", "test"]
TargetForm = Literal["index", "one_hot"]


class LitDataModule(LightningDataModule, ABC):
    """Data held in memory, split once, served by index as `(x, y)`.

    A child sets the facts below and implements `load_part`; `prepare_batch` turns picked rows into a batch, or
    `preparation` picks and turns in one.
    The official test set is loaded only by `test` and `predict`, and never split.
    """

    input_shape: tuple[int, ...]  # of one sample
    num_classes: int | None = None
    num_targets: int | None = None
    class_names: tuple[str, ...] | None = None
    target_kind: ClassVar[Literal["classes", "numbers", "tokens"]] = "classes"
    mapped: bool = False  # whether `load_part` maps a file, so that the data takes no memory that it has to give back
    batches_per_call: int = 1  # above 1, training batches come so many at a time; set before fit

    def __init__(
        self,
        batch_size: int = 128,
        val_split: int | float = 0.2,
        split_seed: int = 42,
        stratify: bool = False,
        train_fraction: float = 1.0,
        target_form: TargetForm = "index",
        holding: Holding = "auto",
        num_workers: int | None = None,
    ) -> None:
        """Arguments of every datamodule.

        Args:
            batch_size: samples per optimizer step, over all devices and accumulation steps together.
            val_split: samples held out for validation: a whole number counts, a fraction is a part, 0 is none.
            split_seed: seed of the split, apart from the run's seed.
            stratify: keep the shares of the classes equal in both parts.
            train_fraction: part of the training samples to use; the validation part stays the same.
            target_form: classes as integers, or as one-hot rows of floats.
            holding: where the data is: on the training device, in main memory with each batch moved, or read by
                worker processes; auto takes the first that needs no more than half of the free memory.
            num_workers: worker processes, where they are used; default one for each processor but one, at most 8.
        """
        super().__init__()
        if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
            raise MisconfigurationException(f"batch_size: {batch_size!r} is not possible. Give a whole number above 0.")
        check_split_arguments(val_split, split_seed, train_fraction)
        check_target_arguments(type(self).__name__, self.target_kind, stratify, target_form)
        check_holding(holding, num_workers)
        self.batch_size = batch_size
        self.val_split = val_split
        self.split_seed = split_seed
        self.stratify = stratify
        self.train_fraction = train_fraction
        self.target_form = target_form
        self.holding = holding
        self.num_workers = num_workers
        self.save_hyperparameters()
        self._parts: dict[Part, Batch] = {}
        self._split: tuple[Tensor, Tensor] | None = None
        self._hashes: dict[str, str] = {}
        self._placements: dict[tuple[Part, torch.device], Placement] = {}
        self._loaders: list[InMemoryLoader] = []
        self._train_loader: InMemoryLoader | None = None
        self._place: dict[str, Any] | None = None  # in the training data, where a resumed run goes on

    @abstractmethod
    def load_part(self, part: Part) -> Batch:
        """All inputs and targets of one part, in file order, as they are to be held in memory."""

    def prepare_batch(self, inputs: Tensor, targets: Tensor) -> Batch:
        """Make the model's batch of picked rows; here only the form of the targets changes."""
        return inputs, self.prepare_targets(targets)

    def preparation(self, train: bool) -> Preparation:
        """What makes the batches of one loader of the whole store; augmentation is for `train` only."""
        return PickedRows(self.prepare_batch)

    def sample_inputs(self, n: int) -> Tensor:
        """Training inputs without augmentation, evenly spaced as files may go class by class: (n, *input_shape)."""
        train, _ = self._indices()
        inputs, targets = self._load("train")
        train = train[torch.linspace(0, len(train) - 1, min(n, len(train))).long()]
        return self.preparation(False)(inputs, targets, Chosen(train.to(inputs.device)))[0].float()

    def prepare_targets(self, targets: Tensor) -> Tensor:
        """The targets in the form that was asked for."""
        if self.target_form == "index" or self.num_classes is None:
            return targets
        return one_hot(targets, self.num_classes).float()

    def split(self, num_samples: int, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Indices of the training and the validation part."""
        return split_indices(num_samples, self.val_split, self.split_seed, targets if self.stratify else None)

    @property
    def has_validation(self) -> bool:
        """Whether there is a validation part; one that was asked for is never empty."""
        return bool(self.val_split)

    def setup(self, stage: str) -> None:
        """Load what the stage needs, once: fit and validate the training files, test and predict the test files."""
        if stage in ("test", "predict"):
            self._load("test")
            return
        if not self.has_validation:
            if stage == "validate":
                raise MisconfigurationException(
                    f"val_split: {self.val_split} makes no validation part. Give a larger one, or use test."
                )
            if self.trainer:
                self.trainer.limit_val_batches = 0  # else Lightning warns about a loader of no length
        if self._split is None:
            inputs, targets = self._load("train")
            train, val = self.split(len(inputs), targets)
            train = shrink(train, self.train_fraction, self.split_seed, targets if self.stratify else None)
            self._split = train, val

    def split_sizes(self) -> dict[str, int]:
        """Samples in each part loaded so far."""
        sizes = {}
        if self._split is not None:
            sizes["train"], sizes["val"] = (len(indices) for indices in self._split)
        if "test" in self._parts:
            sizes["test"] = len(self._parts["test"][0])
        return sizes

    def hashes(self) -> dict[str, str]:
        """SHA-256 of what is loaded so far: `train_data`, `split`, `test_data`."""
        for part, tensors in self._parts.items():
            if f"{part}_data" not in self._hashes:
                self._hashes[f"{part}_data"] = hash_tensors(*tensors)
        if self._split is not None and "split" not in self._hashes:
            self._hashes["split"] = hash_tensors(*self._split)
        return dict(self._hashes)

    def train_dataloader(self) -> InMemoryLoader:
        """Shuffled by the run's seed, anew each epoch."""
        train, _ = self._indices()
        steps = self.trainer.accumulate_grad_batches if self.trainer else 1
        if steps < 1:
            raise MisconfigurationException(
                f"trainer.accumulate_grad_batches: {steps} is not possible. Give a whole number above 0; 1 is none."
            )
        world_size = self.trainer.world_size if self.trainer else 1
        if self.batch_size % steps or self.batch_size // steps < world_size:
            raise MisconfigurationException(
                f"batch_size: {self.batch_size} samples per optimizer step cannot be divided into {steps} accumulation "
                f"steps on {world_size} devices. Give a multiple of {steps * world_size}."
            )
        if self.batch_size > len(train):
            rank_zero_info(f"batch_size {self.batch_size} is more than the {len(train)} training samples: all in one.")
        # BatchNorm cannot train on one sample: a tail of one joins the batch before it, unless one was asked for.
        min_share = min(2, self.batch_size // steps // world_size)
        # Overfitting on a few batches needs the same ones in every epoch.
        shuffle = not getattr(self.trainer, "overfit_batches", 0)
        batches, placement = self._batches("train", train, self.batch_size // steps, True, shuffle, min_share)
        limit = self.trainer.limit_train_batches if self.trainer else None
        self._train_loader = self._loader(
            batches,
            placement,
            batches_per_call=self.batches_per_call,
            accumulate=steps,
            steps=int(len(batches) * limit) if isinstance(limit, float) else limit,
            data_hash=self._training_hash,
        )
        if self._place is not None:
            self._train_loader.load_state_dict(self._place)
            self._place = None
        return self._train_loader

    def state_dict(self) -> dict[str, Any]:
        """The place in the training data.

        Lightning keeps a loader's own place too, but forgets to restore it where a schedule asked for the run's length.
        """
        return {} if self._train_loader is None else {"place": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on there when the run trains on; a test of the same checkpoint has no use for it."""
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self._place = state_dict.get("place")

    def val_dataloader(self) -> InMemoryLoader | list[InMemoryLoader]:
        """The validation part in file order; an empty list where there is none."""
        _, val = self._indices()
        return self._loader(*self._batches("train", val, self.batch_size)) if len(val) else []

    def test_dataloader(self) -> InMemoryLoader:
        """The official test set in file order."""
        self.setup("test")
        return self._loader(*self._batches("test", None, self.batch_size))

    def predict_dataloader(self) -> InMemoryLoader:
        """The same as for test."""
        return self.test_dataloader()

    def teardown(self, stage: str) -> None:
        """End worker processes."""
        while self._loaders:
            self._loaders.pop().close()

    def _load(self, part: Part) -> Batch:
        if part not in self._parts:
            inputs, targets = two_tensors(f"{type(self).__name__}'s load_part({part!r})", self.load_part(part))
            what = f"{type(self).__name__}'s {part} tensors"
            check_samples(what, inputs, targets, self.num_classes, f"Look at its load_part({part!r}).")
            self._parts[part] = inputs, targets
        return self._parts[part]

    def _indices(self) -> tuple[Tensor, Tensor]:
        self.setup("fit")
        assert self._split is not None
        return self._split

    def _training_hash(self) -> str:
        hashes = self.hashes()
        return f"{hashes['train_data']} {hashes['split']}"

    def _batches(
        self,
        part: Part,
        indices: Tensor | None,
        batch_size: int,
        train: bool = False,
        shuffle: bool = False,
        min_share: int = 1,
    ) -> tuple[Batches, Placement]:
        inputs, targets = self._load(part)
        device = self._device
        if (part, device) not in self._placements:
            self._placements[part, device] = choose(
                self.holding,
                (inputs, targets),
                self.preparation(part == "train").extra_bytes(inputs),
                device,
                mapped=self.mapped,
                part="training" if part == "train" else part,
                workers=self._num_workers,
                processes=self.trainer.num_devices if self.trainer else 1,
            )
        placement = self._placements[part, device]
        # Loaders of one part share one store.
        store = device if placement.holding == "device" else torch.device("cpu")
        inputs, targets = self._parts[part] = inputs.to(store), targets.to(store)
        preparation = self.preparation(train)
        preparation.allow_copies(placement.copies and train == (part == "train"))
        world_size = self.trainer.world_size if self.trainer else 1
        batches = Batches(
            inputs,
            targets,
            # In evaluation too every rank gets a share of every batch.
            max(batch_size, world_size),
            indices=indices,
            preparation=preparation,
            shuffle=shuffle,
            seed=torch.initial_seed(),
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=world_size,
            min_share=min_share,
            device=device if placement.holding == "memory" else None,
        )
        return batches, placement

    @property
    def _num_workers(self) -> int:
        return default_workers() if self.num_workers is None else self.num_workers

    @property
    def _device(self) -> torch.device:
        return self.trainer.strategy.root_device if self.trainer else torch.device("cpu")

    def _loader(self, batches: Batches, placement: Placement, **options: Any) -> InMemoryLoader:
        if placement.holding != "workers":
            return InMemoryLoader(batches, **options)
        workers = WorkerFrontEnd(batches, self._num_workers, pin_memory=self._device.type == "cuda")
        self._loaders.append(InMemoryLoader(batches, front_end=workers, **options))
        return self._loaders[-1]
