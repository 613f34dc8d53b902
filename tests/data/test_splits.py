"""Subsets, and which images of a class are held out."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.classification.dataset import Subset
from convnext.data.splits import stratified_split
from convnext.data.strings import Strings


class Numbers:
    """Image i is a single pixel of value i; its class is i % 3."""

    classes = ("a", "b", "c")
    targets = torch.arange(10) % 3

    def __len__(self) -> int:
        return 10

    def read(self, index: int) -> torch.Tensor:
        return torch.full((3, 1, 1), index, dtype=torch.uint8)

    def name(self, index: int) -> str:
        return f"number {index}"


def test_a_subset_reads_names_and_labels_its_own_images():
    subset = Subset(Numbers(), [7, 2, 9])
    assert (len(subset), subset.classes, subset.targets.tolist()) == (3, ("a", "b", "c"), [1, 2, 0])
    assert [int(subset.read(i)[0, 0, 0]) for i in range(3)] == [7, 2, 9]
    inner = Subset(subset, torch.tensor([2, 0]))
    assert [inner.name(i) for i in range(2)] == ["number 9", "number 7"]
    assert inner.targets.tolist() == [0, 1]


def test_split_counts_by_hand():
    targets = torch.tensor([0] * 10 + [1] * 1 + [2] * 2 + [3] * 26)
    train, val = stratified_split(targets, fraction=0.1, seed=0)
    assert torch.bincount(targets[val], minlength=4).tolist() == [1, 0, 1, 3]  # 1; a single stays; at least 1; 2.6
    assert torch.bincount(targets[train], minlength=4).tolist() == [9, 1, 1, 23]
    _, most = stratified_split(targets, fraction=0.99, seed=0)
    assert torch.bincount(targets[most], minlength=4).tolist() == [9, 0, 1, 25]  # never all


@given(st.lists(st.integers(0, 5), max_size=60), st.floats(0, 0.99), st.integers(0, 1000))
def test_split_holds_every_image_once(labels, fraction, seed):
    targets = torch.tensor(labels, dtype=torch.int64)
    train, val = stratified_split(targets, fraction=fraction, seed=seed)
    assert sorted(train.tolist() + val.tolist()) == list(range(len(labels)))
    assert train.tolist() == sorted(train.tolist())
    assert val.tolist() == sorted(val.tolist())
    assert set(targets[train].tolist()) == set(labels)  # no class vanishes from training
    again = stratified_split(targets, fraction=fraction, seed=seed)
    assert torch.equal(again[1], val)


def test_split_depends_on_the_seed_and_on_nothing_else():
    targets = torch.arange(300) % 3
    state = torch.get_rng_state()
    _, val = stratified_split(targets, fraction=0.2, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.equal(stratified_split(targets, fraction=0.2, seed=2)[1], val)
    more = torch.cat([targets, torch.full((40,), 2)])  # a class grows: the others keep their held-out images
    _, grown = stratified_split(more, fraction=0.2, seed=1)
    assert torch.equal(grown[more[grown] < 2], val[targets[val] < 2])


def test_nothing_held_out():
    assert len(stratified_split(torch.arange(5), fraction=0.5, seed=0)[1]) == 0
    assert len(stratified_split(torch.zeros(9, dtype=torch.int64), fraction=0, seed=0)[1]) == 0


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 10])
def test_a_fraction_that_is_none(fraction):
    with pytest.raises(UserError, match="val-fraction"):
        stratified_split(torch.arange(3), fraction=fraction, seed=0)


def test_strings_come_back():
    texts = ["", "a/b.png", "Müller/猫.jpg", "", "\udcff not UTF-8"]
    strings = Strings(texts)
    assert [strings[i] for i in range(len(strings))] == texts


def test_printable():
    assert printable("Müller/猫.jpg") == "Müller/猫.jpg"
    assert printable("a\x1b[31m\udcff\n") == "a?[31m??"
