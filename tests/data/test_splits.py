"""Subsets, and which images of a class are held out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convnext.core.errors import UserError
from convnext.core.strict_json import to_json
from convnext.core.text import printable
from convnext.data.classification.dataset import Subset
from convnext.data.splits import (
    covering_split,
    drawn_splits,
    given_splits,
    random_split,
    restored,
    stratified_split,
)
from convnext.data.strings import Strings, as_text, read_text


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

    def selected(self, indices: Any) -> Subset:
        return Subset(self, indices)


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


def test_what_is_held_out_holds_every_class_that_two_images_have():
    for seed in range(20):
        present = torch.zeros(10, 3, dtype=torch.bool)
        present[:, 0] = True
        present[[2, 7], 1] = True  # in two images
        present[4, 2] = True  # in one: it stays in training
        train, val = covering_split(present, fraction=0.1, seed=seed)
        assert sorted([*train.tolist(), *val.tolist()]) == list(range(10))
        assert len(val) == 1
        assert present[val].any(0).tolist() == [True, True, False]
        assert present[train].all(1).any() or present[train].any(0).all()


def test_an_image_without_anything_is_not_the_only_one_held_out():
    present = torch.ones(6, 2, dtype=torch.bool)
    for nothing in range(6):
        those = present.clone()
        those[nothing] = False
        _, val = covering_split(those, fraction=0.1, seed=0)
        assert those[val].all()


@given(st.integers(1, 30), st.integers(1, 5), st.integers(0, 5))
def test_a_covering_split_is_the_random_one_where_that_covers(n: int, classes: int, seed: int):
    present = torch.ones(n, classes, dtype=torch.bool)
    one, other = covering_split(present, fraction=0.2, seed=seed), random_split(n, fraction=0.2, seed=seed)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_text_of_people(tmp_path: Path):
    path = tmp_path / "names.txt"
    path.write_bytes("\ufeffa\r\nä\r".encode())
    assert read_text(path) == "a\nä\n"
    with pytest.raises(UserError, match="is UTF-16 text"):
        as_text("a".encode("utf-16"), path)
    with pytest.raises(UserError, match=r"no UTF-8 text \(byte 2\)"):
        as_text(b"a\xff", path)
    with pytest.raises(UserError, match="more than 3 bytes"):
        read_text(path, most=3)
    with pytest.raises(UserError, match="cannot be read"):
        read_text(tmp_path)


class Alike:
    """Images whose names differ in a control character alone."""

    classes = ("a",)
    targets = torch.zeros(6, dtype=torch.int64)
    raw = ("a\x01", "a\x02", "a?", "b", "\udcff", "c")

    def __len__(self) -> int:
        return len(self.raw)

    def read(self, index: int) -> torch.Tensor:
        return torch.zeros(3, 1, 1, dtype=torch.uint8)

    def name(self, index: int) -> str:
        return printable(self.raw[index])

    def key(self, index: int) -> str:
        return self.raw[index]

    def selected(self, indices: Any) -> Subset:
        return Subset(self, indices)


@pytest.mark.parametrize("seed", range(8))
def test_names_that_print_alike_are_held_out_one_by_one(seed: int) -> None:
    drawn = drawn_splits(Alike(), None, "here", found="6", seed=seed, fraction=0.5)
    record = json.loads(to_json(drawn.record))
    again = drawn_splits(Alike(), record, "here", found="6", seed=seed, fraction=0.5)
    assert again.val.indices.tolist() == drawn.val.indices.tolist()
    assert again.train.indices.tolist() == drawn.train.indices.tolist()
    part = Subset(Alike(), [0, 4])
    given = given_splits(lambda: part, lambda: part, "val", None, found=lambda _: "", seed=0, fraction=0.1)
    assert given.record["val"] == ["a\x01", "\udcff"]


def test_a_record_of_an_earlier_version_never_trains_on_what_was_held_out() -> None:
    """It has printed names: all that are printed so stay held out."""
    old = {"seed": 0, "fraction": 0.1, "kind": "random", "val": ["a?", "b"]}
    kept, held = restored(Alike(), old, "here")
    assert (kept.tolist(), held.tolist()) == ([4, 5], [0, 1, 2, 3])
    plain = drawn_splits(Numbers(), None, "here", found="", seed=0, fraction=0.3)
    assert "exact" not in plain.record
    with pytest.raises(UserError, match="no longer in here"):
        restored(Alike(), {**old, "val": ["z"]}, "here")
