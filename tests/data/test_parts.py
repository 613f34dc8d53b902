"""Names of parts: which words mean which part."""

from __future__ import annotations

import pytest

from convnext.data.parts import part_of, parts_among


@pytest.mark.parametrize(
    ("name", "part"),
    [
        *((name, "train") for name in ("train", "Training", "TRAIN", "train_set", "trainset", "train2017")),
        *((name, "val") for name in ("val", "valid", "Validation", "dev", "val_set", "val2017", "validation data")),
        *((name, "test") for name in ("test", "Testing", "test_set", "test-0")),
        *((name, "") for name in ("trains", "trainer", "cat", "tester", "vallhund", "train station", "", "developer")),
    ],
)
def test_part_of(name, part):
    assert part_of(name) == part


def test_parts_among():
    assert parts_among(["val", "cat", "Train", "training"]) == {"train": ["Train", "training"], "val": ["val"]}
