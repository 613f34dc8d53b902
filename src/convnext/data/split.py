"""Which images are held out: drawn from a seed, written down by name, held out again. N images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.core.seeding import mix_seed


class Named(Protocol):
    """Images with names that are unique among them."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...


def stratified_split(targets: Tensor, *, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Holds out `fraction` of each class: sorted indices (train, val), int64, together every index once.

    targets: int64 (N,). Of a class with n images, round(fraction * n) are held out, but at least one and never all; a
    class with a single image stays in training. fraction 0 holds out none. The same arguments give the same split.
    Raises UserError for a fraction outside [0, 1).
    """
    _check(fraction)
    held = torch.zeros(len(targets), dtype=torch.bool)
    order = torch.argsort(targets, stable=True)  # the images of each class side by side, in their order
    start = 0
    for label, count in enumerate(torch.bincount(targets).tolist()):
        members = order[start : start + count]
        start += count
        if count < 2 or fraction == 0:
            continue
        # a generator for each class: adding images to one class does not change what is held out of another
        generator = torch.Generator().manual_seed(mix_seed(seed, label))
        amount = min(max(round(fraction * count), 1), count - 1)
        held[members[torch.randperm(count, generator=generator)[:amount]]] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def random_split(n: int, *, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Holds out round(fraction * n) of n images at random, but at least one and never all: sorted indices (train, val),
    int64. fraction 0, or a single image, holds out none. Raises UserError for a fraction outside [0, 1)."""
    _check(fraction)
    amount = min(max(round(fraction * n), 1), n - 1) if fraction > 0 else 0
    order = torch.randperm(n, generator=torch.Generator().manual_seed(mix_seed(seed, n)))
    return order[amount:].sort().values, order[:amount].sort().values


def restored(source: Named, split: dict[str, Any], where: str | Path) -> tuple[Tensor, Tensor]:
    """Indices of the images that a saved split does not hold out, and of those that it does."""
    names = split.get("val")
    if not isinstance(names, list) or "seed" not in split or "fraction" not in split:
        raise UserError("The saved split is not one: it needs 'seed', 'fraction' and the held-out names in 'val'.")
    index = {source.name(i): i for i in range(len(source))}
    missing = [name for name in names if name not in index]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} held-out images are no longer in {where} (as {missing[0]!r}). Put them "
            "back, give the folder where the data is now, or start a new run."
        )
    held = torch.zeros(len(source), dtype=torch.bool)
    held[torch.tensor([index[name] for name in names], dtype=torch.int64)] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def same_parts(split: dict[str, Any], name: str) -> None:
    """Raises UserError where the data has the validation part `name` now, but had none when `split` was saved."""
    if split.get("kind") != "given":
        raise UserError(
            f"The data now has a part '{name}', which it did not have when the run was started. Move that part away to "
            "evaluate on the same images as before, or name the data to evaluate on."
        )


def _check(fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise UserError(f"The share to hold out (--loader.val-fraction) lies in 0..1, as 0.1; it was {fraction}.")
