"""Base of all datamodules: arguments, splits, dataloaders and hashes."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.nn.functional import one_hot

from datamodules.checks import check_integer, check_samples, check_target_arguments, check_two_tensors
from datamodules.model_properties import ModelProperties
from datamodules.serving.batches import Batch, Batches, Preparation, Selection
from datamodules.serving.loader import InMemoryLoader
from datamodules.serving.splits import check_split_arguments, hash_tensors, shrink, split_indices
from datamodules.serving.storage import Storage, StorageOption, check_storage_arguments, choose_storage
from datamodules.serving.workers import WorkerBatches, default_workers

Split = Literal["train", "test"]
TargetForm = Literal["index", "one_hot"]
TargetKind = Literal["classes", "numbers", "tokens"]


class LitDataModule(ModelProperties, LightningDataModule, ABC):
    """Base of all datamodules: tensors in memory, split once, and batches `(x, y)`.

    A subclass sets the data properties below and implements `load_part`. It may override `prepare_batch` to process
    batches, or `preparation` to select and process rows in one operation.
    Only `test` and `predict` load the official test set, which is never split.
    """

    input_shape: tuple[int, ...]  # of one sample
    num_classes: int | None = None
    num_targets: int | None = None
    class_names: tuple[str, ...] | None = None
    target_kind: ClassVar[TargetKind] = "classes"
    mapped: bool = False  # True if `load_part` memory-maps a file, whose memory the system can free
    batches_per_call: int = 1  # training batches per item of the dataloader; set before fit

    def __init__(
        self,
        batch_size: int = 128,
        val_split: int | float = 0.2,
        split_seed: int = 42,
        stratify: bool = False,
        train_fraction: float = 1.0,
        target_form: TargetForm = "index",
        holding: StorageOption = "auto",
        num_workers: int | None = None,
    ) -> None:
        """Store the arguments of every datamodule.

        Args:
            batch_size: samples per optimizer step, over all devices and accumulated batches.
            val_split: number (integer) or fraction (float) of validation samples; 0 for none.
            split_seed: seed of the split, independent of the run's seed.
            stratify: give the training and validation split the same class proportions.
            train_fraction: fraction of the training samples to use; the validation split does not depend on it.
            target_form: targets are class indices (index), or float rows (one_hot).
            holding: data storage: device (the training device), memory (main memory; each batch is moved) or workers
                (worker processes); auto takes the first that needs at most half of the free memory.
            num_workers: number of worker processes; by default one per processor core except one, at most 8.
        """
        super().__init__()
        check_integer("batch_size", batch_size)
        check_split_arguments(val_split, split_seed, train_fraction)
        check_target_arguments(type(self).__name__, self.target_kind, stratify, target_form)
        check_storage_arguments(holding, num_workers)
        self.batch_size = batch_size
        self.val_split = val_split
        self.split_seed = split_seed
        self.stratify = stratify
        self.train_fraction = train_fraction
        self.target_form = target_form
        self.holding = holding
        self.num_workers = num_workers
        self.save_hyperparameters()
        self._tensors: dict[Split, Batch] = {}
        self._split_indices: tuple[Tensor, Tensor] | None = None
        self._hashes: dict[str, str] = {}
        self._storages: dict[tuple[Split, torch.device], Storage] = {}
        self._worker_loaders: list[InMemoryLoader] = []
        self._train_loader: InMemoryLoader | None = None
        self._resume_position: dict[str, Any] | None = None  # of the training loader

    @abstractmethod
    def load_part(self, split: Split) -> Batch:
        """Return all inputs and targets of the train or test split, in file order and with the dtype to store."""

    def prepare_batch(self, inputs: Tensor, targets: Tensor) -> Batch:
        """Return the model's batch for selected rows; by default, convert only the targets."""
        return inputs, self.prepare_targets(targets)

    def preparation(self, train: bool) -> Preparation:
        """Return the callable that makes the batches of one dataloader; augment only if `train`."""
        return Preparation(self.prepare_batch)

    def sample_inputs(self, n: int) -> Tensor:
        """Return evenly spaced training inputs without augmentation: `(n, *input_shape)`."""
        train, _ = self._indices()
        inputs, targets = self._load("train")
        train = train[torch.linspace(0, len(train) - 1, min(n, len(train))).long()]
        return self.preparation(False)(inputs, targets, Selection(train.to(inputs.device)))[0].float()

    def prepare_targets(self, targets: Tensor) -> Tensor:
        """Return the targets as class indices or one-hot rows, according to `target_form`."""
        if self.target_form == "index" or self.num_classes is None:
            return targets
        return one_hot(targets, self.num_classes).float()

    def split(self, num_samples: int, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return the indices of the training and the validation split."""
        return split_indices(num_samples, self.val_split, self.split_seed, targets if self.stratify else None)

    @property
    def has_validation(self) -> bool:
        """True if there is a validation split, which then is not empty."""
        return bool(self.val_split)

    def setup(self, stage: str) -> None:
        """Load the data of a stage once: the train split for fit and validate, the test split for test and predict."""
        if stage in ("test", "predict"):
            self._load("test")
            return
        if not self.has_validation:
            if stage == "validate":
                raise MisconfigurationException(
                    f"val_split: {self.val_split} leaves no validation samples. "
                    "Set --data.val_split 0.2, or run `litlab test`."
                )
            if self.trainer:
                self.trainer.limit_val_batches = 0  # otherwise Lightning warns about an empty loader
        if self._split_indices is None:
            inputs, targets = self._load("train")
            self._split_indices = self._shrunk_split(len(inputs), targets)

    def split_sizes(self) -> dict[str, int]:
        """Return the number of samples in each loaded split."""
        sizes = {}
        if self._split_indices is not None:
            sizes["train"], sizes["val"] = (len(indices) for indices in self._split_indices)
        if "test" in self._tensors:
            sizes["test"] = len(self._tensors["test"][0])
        return sizes

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 hashes of the loaded data: `train_data`, `split` and `test_data`."""
        for split, tensors in self._tensors.items():
            if f"{split}_data" not in self._hashes:
                self._hashes[f"{split}_data"] = hash_tensors(*tensors)
        if self._split_indices is not None and "split" not in self._hashes:
            self._hashes["split"] = hash_tensors(*self._split_indices)
        return dict(self._hashes)

    def train_dataloader(self) -> InMemoryLoader:
        """Return the train dataloader, reshuffled every epoch with the run's seed."""
        train, _ = self._indices()
        steps, world_size = (self.trainer.accumulate_grad_batches, self.trainer.world_size) if self.trainer else (1, 1)
        check_integer("trainer.accumulate_grad_batches", steps, fix="Set --trainer.accumulate_grad_batches 1.")
        if self.batch_size % steps or self.batch_size // steps < world_size:
            raise MisconfigurationException(
                f"batch_size: {self.batch_size} samples per optimizer step cannot be divided into {steps} accumulation "
                f"steps on {world_size} devices. Use a multiple of {steps * world_size}."
            )
        if self.batch_size > len(train):
            rank_zero_info(f"batch_size {self.batch_size} exceeds the {len(train)} training samples: using one batch.")
        self._train_loader = self._loader(
            "train",
            train,
            self.batch_size // steps,
            train=True,
            # BatchNorm cannot train on one sample, so a last batch of one sample joins the previous batch.
            min_share=min(2, self.batch_size // steps // world_size),
            batches_per_call=self.batches_per_call,
            accumulate=steps,
            limit=self.trainer.limit_train_batches if self.trainer else None,
            data_hash=self._training_hash,
        )
        if self._resume_position is not None:
            self._train_loader.load_state_dict(self._resume_position)
            self._resume_position = None
        return self._train_loader

    def state_dict(self) -> dict[str, Any]:
        """Return the position in the training data.

        Lightning also saves the dataloader's position, but does not restore it if a learning rate schedule has
        requested the number of steps.
        """
        return {} if self._train_loader is None else {"place": self._train_loader.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Store the position for the train dataloader; do nothing unless the run trains."""
        if self.trainer is not None and self.trainer.state.fn == TrainerFn.FITTING:
            self._resume_position = state_dict.get("place")

    def val_dataloader(self) -> InMemoryLoader | list[InMemoryLoader]:
        """Return the validation dataloader, in file order, or an empty list without a validation split."""
        _, val = self._indices()
        return self._loader("train", val, self.batch_size) if len(val) else []

    def test_dataloader(self) -> InMemoryLoader:
        """Return the dataloader of the official test set, in file order."""
        return self._loader("test", None, self.batch_size)

    def predict_dataloader(self) -> InMemoryLoader:
        """Return the test dataloader."""
        return self.test_dataloader()

    def teardown(self, stage: str) -> None:
        """Stop worker processes."""
        while self._worker_loaders:
            self._worker_loaders.pop().close()

    def _load(self, split: Split) -> Batch:
        if split not in self._tensors:
            inputs, targets = check_two_tensors(f"{type(self).__name__}.load_part({split!r})", self.load_part(split))
            targets = targets if self.num_classes is None or targets.is_floating_point() else targets.long()
            name, fix = f"{type(self).__name__}'s {split} tensors", f"Check its load_part({split!r})."
            check_samples(name, inputs, targets, self.num_classes, fix)
            self._tensors[split] = inputs, self.in_class_order(targets)
        return self._tensors[split]

    def _without_float64(self, split: Split) -> Batch:
        """Convert float64 data to float32, unless the Trainer computes in float64, and return the data."""
        inputs, targets = self._load(split)
        if self.trainer and self.trainer.precision != "64-true" and torch.float64 in (inputs.dtype, targets.dtype):
            self.hashes()  # of the data as it was loaded
            inputs, targets = (t.float() if t.dtype == torch.float64 else t for t in (inputs, targets))
        return inputs, targets

    def _shrunk_split(self, num_samples: int, targets: Tensor) -> tuple[Tensor, Tensor]:
        train, val = self.split(num_samples, targets)
        return shrink(train, self.train_fraction, self.split_seed, targets if self.stratify else None), val

    def _indices(self) -> tuple[Tensor, Tensor]:
        self.setup("fit")
        assert self._split_indices is not None
        return self._split_indices

    def _training_hash(self) -> str:
        return "{train_data} {split}".format(**self.hashes())

    def _loader(
        self,
        split: Split,
        indices: Tensor | None,
        batch_size: int,
        train: bool = False,
        min_share: int = 1,
        **options: Any,
    ) -> InMemoryLoader:
        """Return a dataloader for samples of one split; `options` are arguments of `InMemoryLoader`."""
        device = self.trainer.strategy.root_device if self.trainer else torch.device("cpu")
        workers = default_workers() if self.num_workers is None else self.num_workers
        inputs, targets = self._without_float64(split)
        storage = self._storage(split, device, workers)
        place = device if storage.kind == "device" else torch.device("cpu")
        inputs, targets = self._tensors[split] = inputs.to(place), targets.to(place)  # shared by all its dataloaders
        preparation = self.preparation(train)
        preparation.use_copies = storage.copies and train
        world_size = self.trainer.world_size if self.trainer else 1
        batches = Batches(
            inputs,
            targets,
            max(batch_size, world_size),  # also in evaluation, every rank gets a share of every batch
            indices=indices,
            preparation=preparation,
            # With `overfit_batches`, every epoch must have the same batches.
            shuffle=train and not getattr(self.trainer, "overfit_batches", 0),
            seed=torch.initial_seed(),
            rank=self.trainer.global_rank if self.trainer else 0,
            world_size=world_size,
            min_share=min_share,
            device=device if storage.kind == "memory" else None,
        )
        if storage.kind != "workers":
            return InMemoryLoader(batches, **options)
        source = WorkerBatches(batches, workers, pin_memory=device.type == "cuda")
        self._worker_loaders.append(InMemoryLoader(batches, source=source, **options))
        return self._worker_loaders[-1]

    def _storage(self, split: Split, device: torch.device, workers: int) -> Storage:
        """Return the storage of a split, chosen once."""
        if (split, device) not in self._storages:
            inputs, targets = self._load(split)
            self._storages[split, device] = choose_storage(
                self.holding,
                (inputs, targets),
                self.preparation(train=True).copy_bytes(inputs) if split == "train" else 0,
                device,
                mapped=self.mapped,
                split="training" if split == "train" else split,
                workers=workers,
                processes=self.trainer.num_devices if self.trainer else 1,
            )
        return self._storages[split, device]
