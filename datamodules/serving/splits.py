"""Which samples train and which validate: drawn from a generator of their own, never from the run's seed."""

from __future__ import annotations

import hashlib

import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import Tensor

_HASHED_AT_ONCE = 2**24  # bytes


def check_split_arguments(val_split: int | float, split_seed: int, train_fraction: float) -> None:
    """Refuse values that no data could make sense of."""
    if isinstance(val_split, bool) or not isinstance(val_split, int | float):
        raise MisconfigurationException(f"val_split: {val_split!r} is no number. Give a count or a fraction below 1.")
    if isinstance(val_split, int) and val_split < 0:
        raise MisconfigurationException(f"val_split: {val_split} is negative. Give a count of samples, or 0 for none.")
    if isinstance(val_split, float) and not 0.0 <= val_split < 1.0:
        raise MisconfigurationException(
            f"val_split: {val_split} is neither a fraction (0.0 to below 1.0) nor a count (a whole number, 5000)."
        )
    if isinstance(split_seed, bool) or not isinstance(split_seed, int) or split_seed < 0:
        raise MisconfigurationException(f"split_seed: {split_seed!r} is no seed. Give a whole number, 0 or larger.")
    if isinstance(train_fraction, bool) or not 0.0 < train_fraction <= 1.0:
        raise MisconfigurationException(
            f"train_fraction: {train_fraction} is not a part of the training data. Give a number above 0, at most 1."
        )


def validation_count(num_samples: int, val_split: int | float) -> int:
    """Number of validation samples that a count or a fraction asks for; 0 only where 0 was asked for."""
    count = val_split if isinstance(val_split, int) else round(num_samples * val_split)
    if val_split and not count:
        raise MisconfigurationException(
            f"val_split: {val_split} of {num_samples} samples is an empty validation part. "
            "Give a larger fraction or a count, or 0 to train without validation."
        )
    if count >= num_samples:
        raise MisconfigurationException(
            f"val_split: {val_split} leaves nothing to train on, there are {num_samples} samples. Give a smaller value."
        )
    return count


def split_indices(
    num_samples: int, val_split: int | float, seed: int, labels: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Sorted indices of the training and the validation part, at random or, with `labels` (N,), stratified by them."""
    count = validation_count(num_samples, val_split)
    chosen = _draw(torch.arange(num_samples), count, seed, labels, "val_split")
    mask = torch.ones(num_samples, dtype=torch.bool)
    mask[chosen] = False
    return mask.nonzero().squeeze(1), chosen


def shrink(indices: Tensor, fraction: float, seed: int, labels: Tensor | None = None) -> Tensor:
    """A random part of the given indices, sorted; stratified with `labels` (those of all samples)."""
    if fraction == 1.0:
        return indices
    count = round(len(indices) * fraction)
    if not count:
        raise MisconfigurationException(
            f"train_fraction: {fraction} of {len(indices)} training samples is none. Give a larger fraction."
        )
    return _draw(indices, count, seed, None if labels is None else labels[indices], "train_fraction")


def quotas(class_sizes: Tensor, total: int) -> Tensor:
    """How many of each class make `total` in proportion: whole numbers by the largest remainders, ties to the first."""
    exact = class_sizes.double() * total / int(class_sizes.sum())
    quota = exact.floor().long()
    missing = total - int(quota.sum())
    quota[(quota - exact).argsort(stable=True)[:missing]] += 1
    return quota


def hash_tensors(*tensors: Tensor) -> str:
    """SHA-256 over type, shape and content, in order. Tensors have a dimension at least; they are read in pieces."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(f"{tensor.dtype}{tuple(tensor.shape)}".encode())
        rows = max(1, _HASHED_AT_ONCE * len(tensor) // max(1, tensor.nbytes))
        for start in range(0, len(tensor) if tensor.numel() else 0, rows):
            digest.update(tensor[start : start + rows].detach().cpu().contiguous().numpy().data)
    return digest.hexdigest()


def _draw(indices: Tensor, count: int, seed: int, labels: Tensor | None, argument: str) -> Tensor:
    """`count` of the indices, sorted; `labels` belong to the indices one by one."""
    generator = torch.Generator().manual_seed(seed)
    if labels is None or count == 0:
        return indices[torch.randperm(len(indices), generator=generator)[:count]].sort().values
    sizes = labels.bincount()
    parts = []
    for label, (size, quota) in enumerate(zip(sizes.tolist(), quotas(sizes, count).tolist(), strict=True)):
        if not size:
            continue
        if not 0 < quota <= size or (argument == "val_split" and quota == size):
            raise MisconfigurationException(
                f"stratify: class {label} has {size} samples, too few for {argument} to give it one in each part. "
                f"Give another {argument}, or stratify: false."
            )
        members = indices[labels == label]
        parts.append(members[torch.randperm(size, generator=generator)[:quota]])
    return torch.cat(parts).sort().values
