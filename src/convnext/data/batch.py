"""The order in which a batch is filled, for every task: images that cannot be read are counted and replaced."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, NamedTuple, TypeVar

from torch import Tensor

B = TypeVar("B")
V = TypeVar("V")
_SUBSTITUTES = 100  # images that are tried where none of a batch can be read


class Work(NamedTuple):
    """What a worker is asked for: some images (int64) in some epoch."""

    epoch: int
    indices: Tensor


class Loaded(NamedTuple, Generic[B]):
    """What comes back: the batch, how many images it has, and (name, reason) of each that could not be read."""

    batch: B
    num_images: int
    failures: list[tuple[str, str]]


def filled(indices: Sequence[int], num_images: int, view: Callable[[int], V | None]) -> tuple[list[int], list[V]]:
    """The images that a batch is made of, and the view of each: of `indices`, as many as there are.

    view: an image's index, in 0..num_images-1, to what training sees of it; None where it cannot be read. Images that
    can be read take the places of those that cannot. Where none can, the next ones of the data set are tried; both
    lists are empty where none of those can be read either.
    """
    views = {index: seen for index in indices if (seen := view(index)) is not None}
    for step in range(1, 1 + _SUBSTITUTES):
        if views:
            break
        index = (indices[0] + step) % num_images
        seen = view(index)
        if seen is not None:
            views[index] = seen
    readable = list(views)
    used = [
        index if index in views else readable[place % len(readable)] for place, index in enumerate(indices) if readable
    ]
    return used, [views[index] for index in used]
