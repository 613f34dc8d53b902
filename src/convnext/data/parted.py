"""Training and validation parts of a data set: as it has them, or drawn from it and written down. N images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from torch import Tensor

from convnext.data.split import Named, random_split, restored, same_parts


class Selectable(Named, Protocol):
    """Images of which some can be taken."""

    def selected(self: S, indices: Sequence[int] | Tensor) -> S:
        """Some of these images, in the given order."""
        ...


S = TypeVar("S", bound=Selectable)


@dataclass(frozen=True)
class Parted(Generic[S]):
    """Annotated images, ready for training."""

    train: S
    val: S
    held_out: bool
    """False where no image could be held out: `val` is `train` then, and figures say how well it was memorised."""
    note: str
    """What was found, how it was split, what was left out, for people."""
    split: dict[str, Any]
    """{"seed", "fraction", "kind": "given" | "random" | "none", "val": [names]}, to be saved as JSON."""


def given_parts(
    train: S, val: S, name: str, split: dict[str, Any] | None, *, found: str, seed: int, fraction: float
) -> Parted[S]:
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
    return Parted(train, val, True, note, {"seed": seed, "fraction": fraction, "kind": "given", "val": names})


def drawn_parts(
    source: S, split: dict[str, Any] | None, where: str | Path, *, found: str, seed: int, fraction: float
) -> Parted[S]:
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
        return Parted(source, source, False, note, record)
    record |= {"kind": "random", "val": [source.name(i) for i in held.tolist()]}
    note = f"Found {found}; {len(held):,} of them are held out to validate on (seed {seed})."
    return Parted(source.selected(kept), source.selected(held), True, note, record)
