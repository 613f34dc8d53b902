"""Which images are held out: drawn from a seed, written down by name, held out again. N images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

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


class SelectableDataset(Named, Protocol):
    """Images of which some can be taken."""

    def selected(self: S, indices: Sequence[int] | Tensor) -> S:
        """Some of these images, in the given order."""
        ...


S = TypeVar("S", bound=SelectableDataset)


@dataclass(frozen=True)
class Splits(Generic[S]):
    """Annotated images, ready for training."""

    train: S
    val: S
    held_out: bool
    """False where no image could be held out: `val` is `train` then, and figures say how well it was memorised."""
    note: str
    """What was found, how it was split, what was left out, for people."""
    split: dict[str, Any]
    """{"seed", "fraction", "kind": "given" | "random" | "none", "val": [names]}, to be saved as JSON."""


def given_splits(
    train: S, val: S, name: str, split: dict[str, Any] | None, *, found: str, seed: int, fraction: float
) -> Splits[S]:
    """The parts that the data has. name: of the validation part. split: a saved record, whose images are taken again.
    found: the training part in words."""
    if split is not None:
        same_parts(split, name)
        _, held = restored(val, split, name)
        val = val if len(held) == len(val) else val.selected(held)
    note = f"Found {found} to train on, {len(val):,} images in '{name}' to validate on."
    if name.startswith("test"):
        note += " There is no 'valid', so the test images choose the best model: its figures on them flatter a little."
    names = [val.name(i) for i in range(len(val))]
    return Splits(train, val, True, note, {"seed": seed, "fraction": fraction, "kind": "given", "val": names})


def drawn_splits(
    source: S, split: dict[str, Any] | None, where: str | Path, *, found: str, seed: int, fraction: float
) -> Splits[S]:
    """A share of the images held out at random, or those that a saved record held out. found: the source in words."""
    if split is not None:
        kept, held = restored(source, split, where)
        seed, fraction = split["seed"], split["fraction"]
    else:
        kept, held = random_split(len(source), fraction=fraction, seed=seed)
    record: dict[str, Any] = {"seed": seed, "fraction": fraction, "kind": "none", "val": []}
    if not len(held):
        why = "none was to be held out" if fraction == 0 else "a single image cannot be held out"
        note = f"Found {found}; {why}. All figures are on the training images themselves."
        return Splits(source, source, False, note, record)
    record |= {"kind": "random", "val": [source.name(i) for i in held.tolist()]}
    note = f"Found {found}; {len(held):,} of them are held out to validate on (seed {seed})."
    return Splits(source.selected(kept), source.selected(held), True, note, record)
