"""Each image is decoded once, within the memory that is allowed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from convnext.data.classification.cached import CachedDataset
from convnext.data.decode import BadImage


class Counting:
    classes = ("a", "b")
    targets = torch.tensor([0, 1, 0, 1])

    def __init__(self) -> None:
        self.reads: list[int] = []

    def __len__(self) -> int:
        return 4

    def read(self, index: int) -> Tensor:
        self.reads.append(index)
        if index == 3:
            raise BadImage("3", "broken on purpose")
        return torch.full((3, 400, 400), index, dtype=torch.uint8)  # 0.48 megabytes

    def name(self, index: int) -> str:
        return str(index)


def test_it_reads_once_and_gives_the_same_pixels() -> None:
    source = Counting()
    cached = CachedDataset(source, megabytes=10)
    for _ in range(2):
        assert [int(cached.read(i)[0, 0, 0]) for i in range(3)] == [0, 1, 2]
    assert source.reads == [0, 1, 2]
    assert (len(cached), cached.classes, cached.name(2)) == (4, ("a", "b"), "2")
    assert torch.equal(cached.targets, source.targets)


def test_it_keeps_no_more_than_allowed() -> None:
    source = Counting()
    cached = CachedDataset(source, megabytes=1)
    for _ in range(2):
        for index in range(3):
            cached.read(index)
    assert source.reads == [0, 1, 2, 2]  # two of them fit


def test_an_unreadable_image_stays_one() -> None:
    cached = CachedDataset(Counting(), megabytes=10)
    for _ in range(2):
        with pytest.raises(BadImage):
            cached.read(3)
