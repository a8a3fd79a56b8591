"""Random split into training and validation samples, independent of the run's seed."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

from datamodules.checks import check_integer

_HASH_CHUNK_BYTES = 2**24


def check_split_arguments(val_split: int | float, split_seed: int, train_fraction: float) -> None:
    """Raise an error if an argument is invalid for any data."""
    valid = not isinstance(val_split, bool) and isinstance(val_split, int | float)
    if not valid or val_split < 0 or (isinstance(val_split, float) and val_split >= 1):
        raise MisconfigurationException(
            "val_split must be a fraction from 0.0 to below 1.0 or a count of samples from 0 on, got "
            f"{val_split!r}. Set --data.val_split 0.2 or --data.val_split 5000."
        )
    check_integer("split_seed", split_seed, 0)
    if isinstance(train_fraction, bool) or not 0.0 < train_fraction <= 1.0:
        raise MisconfigurationException(
            f"train_fraction must be above 0 and at most 1, got {train_fraction!r}. Set --data.train_fraction 1.0."
        )


def validation_count(num_samples: int, val_split: int | float) -> int:
    """Return the number of validation samples; raise an error if either split would be empty."""
    count = val_split if isinstance(val_split, int) else round(num_samples * val_split)
    if val_split and not count:
        raise MisconfigurationException(
            f"val_split: {val_split} of {num_samples} samples leaves no validation samples. "
            "Set a larger --data.val_split, or 0 to train without validation."
        )
    if count >= num_samples:
        raise MisconfigurationException(
            f"val_split: {val_split} of {num_samples} samples leaves no training samples. "
            "Set a smaller --data.val_split."
        )
    return count


def split_indices(
    num_samples: int, val_split: int | float, seed: int, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return sorted random indices of the training and validation split, stratified if `labels` `(N,)` are given."""
    count = validation_count(num_samples, val_split)
    val = _sample(torch.arange(num_samples), count, seed, labels, "val_split")
    mask = torch.ones(num_samples, dtype=torch.bool)
    mask[val] = False
    return mask.nonzero().squeeze(1), val


def shrink(indices: Tensor, fraction: float, seed: int, labels: Tensor | None = None) -> Tensor:
    """Return a random fraction of the indices, sorted; stratified if the `labels` of all samples are given."""
    if fraction == 1.0:
        return indices
    count = round(len(indices) * fraction)
    if not count:
        raise MisconfigurationException(
            f"train_fraction: {fraction} of {len(indices)} training samples leaves none. "
            "Set a larger --data.train_fraction."
        )
    return _sample(indices, count, seed, None if labels is None else labels[indices], "train_fraction")


def quotas(class_sizes: Tensor, total: int) -> Tensor:
    """Divide `total` among classes in proportion to their sizes, by largest remainder; the first class wins ties."""
    exact = class_sizes.double() * total / int(class_sizes.sum())
    quota = exact.floor().long()
    missing = total - int(quota.sum())
    quota[(quota - exact).argsort(stable=True)[:missing]] += 1
    return quota


def hash_tensors(*tensors: Tensor) -> str:
    """Return the SHA-256 of dtype, shape and content of tensors with at least one dimension, read in chunks."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(hash_header(tensor.dtype, tensor.shape))
        rows = max(1, _HASH_CHUNK_BYTES * len(tensor) // max(1, tensor.nbytes))
        for start in range(0, len(tensor) if tensor.numel() else 0, rows):
            part = tensor[start : start + rows].detach().cpu().contiguous()
            digest.update(part.view(torch.uint8).numpy().data)  # NumPy has no bfloat16
    return digest.hexdigest()


def hash_header(dtype: torch.dtype, shape: Sequence[int]) -> bytes:
    """Return the bytes that `hash_tensors` hashes before the content of a tensor."""
    return f"{dtype}{tuple(shape)}".encode()


def _sample(indices: Tensor, count: int, seed: int, labels: Tensor | None, argument: str) -> Tensor:
    """Return `count` random indices, sorted; `labels[i]` is the label of `indices[i]`."""
    generator = torch.Generator().manual_seed(seed)
    if labels is None or count == 0:
        return indices[torch.randperm(len(indices), generator=generator)[:count]].sort().values
    sizes = labels.bincount()
    samples = []
    for label, (size, quota) in enumerate(zip(sizes.tolist(), quotas(sizes, count).tolist(), strict=True)):
        if not size:
            continue
        if not 0 < quota <= size or (argument == "val_split" and quota == size):
            raise MisconfigurationException(
                f"stratify: class {label} has {size} samples, too few for one in each split with this {argument}. "
                f"Set another --data.{argument}, or --data.stratify false."
            )
        members = indices[labels == label]
        samples.append(members[torch.randperm(size, generator=generator)[:quota]])
    return torch.cat(samples).sort().values
