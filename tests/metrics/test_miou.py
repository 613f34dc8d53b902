"""Counts of pixels and what follows from them."""

from __future__ import annotations

import pytest
import torch

from convnext.metrics.miou import confusion, segmentation_figures
from convnext.ops.losses import IGNORE_INDEX


def test_counts_by_hand() -> None:
    truth = torch.tensor([[0, 0, 1], [1, 2, IGNORE_INDEX]], dtype=torch.uint8)
    found = torch.tensor([[0, 1, 1], [1, 0, 2]], dtype=torch.uint8)
    assert confusion(found, truth, 3).tolist() == [[1, 1, 0], [0, 2, 0], [1, 0, 0]]


def test_figures_by_hand() -> None:
    figures = segmentation_figures(torch.tensor([[1, 1, 0], [0, 2, 0], [1, 0, 0]]), ("a", "b", "c"))
    assert [c["IoU"] for c in figures.per_class] == pytest.approx([1 / 3, 2 / 3, 0])
    assert [c["Acc"] for c in figures.per_class] == pytest.approx([1 / 2, 1, 0])
    assert [(c["name"], c["pixels"]) for c in figures.per_class] == [("a", 2), ("b", 2), ("c", 1)]
    assert (figures.mIoU, figures.mAcc, figures.aAcc) == pytest.approx((1 / 3, 1 / 2, 3 / 5))


def test_classes_that_are_nowhere_are_left_out() -> None:
    """b is found but is not there: an IoU of 0, and no accuracy. c is neither."""
    figures = segmentation_figures(torch.tensor([[3, 1, 0], [0, 0, 0], [0, 0, 0]]), ("a", "b", "c"))
    assert [c["IoU"] for c in figures.per_class] == [0.75, 0.0, None]
    assert [c["Acc"] for c in figures.per_class] == [0.75, None, None]
    assert (figures.mIoU, figures.mAcc, figures.aAcc) == (0.375, 0.75, 0.75)


def test_nothing_counted_has_no_figures() -> None:
    figures = segmentation_figures(torch.zeros(2, 2, dtype=torch.int64), ("a", "b"))
    assert (figures.mIoU, figures.mAcc, figures.aAcc) == (None, None, None)


def test_counts_add_up_over_images() -> None:
    chance = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 9, (2, 50, 60), generator=chance).byte()
    truth[0, :3] = IGNORE_INDEX
    found = torch.randint(0, 9, (2, 50, 60), generator=chance).byte()
    parts = confusion(found[0], truth[0], 9) + confusion(found[1], truth[1], 9)
    assert torch.equal(parts, confusion(found.view(100, 60), truth.view(100, 60), 9))
    assert int(parts.sum()) == int((truth != IGNORE_INDEX).sum())
