"""Boxes by hand: offsets between them, which of them stand for which object, which of those are drawn."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convnext.ops.boxes import BACKGROUND, NEITHER, assign, clip, decode, encode, sample

UNITS = (1.0, 1.0, 1.0, 1.0)
STDS = (0.1, 0.1, 0.2, 0.2)

corners = st.floats(-1000, 1000)
sides = st.floats(4, 200)  # so that no box is 62.5 times as large as another
boxes = st.builds(lambda x, y, w, h: [x, y, x + w, y + h], corners, corners, sides, sides)


def double(*rows: list[float]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64).view(-1, 4)


# Offsets


def test_encode_by_hand():
    """The centre moves from (20, 40) to (25, 30), sides of (20, 40) become (20, 20)."""
    box, target = double([10, 20, 30, 60]), double([15, 20, 35, 40])
    assert encode(box, target, UNITS)[0].tolist() == pytest.approx([5 / 20, -10 / 40, 0, math.log(0.5)])
    assert encode(box, target, STDS)[0].tolist() == pytest.approx([2.5, -2.5, 0, math.log(0.5) / 0.2])


def test_decode_by_hand():
    """A centre of (20, 40) moves by a quarter and by minus a half of (20, 40); the width doubles."""
    box, offsets = double([10, 20, 30, 60]), double([0.25, -0.5, math.log(2), 0])
    assert decode(box, offsets, UNITS)[0].tolist() == pytest.approx([5, 0, 45, 40])
    assert decode(box, offsets / double([*STDS]), STDS)[0].tolist() == pytest.approx([5, 0, 45, 40])
    assert decode(box, offsets, UNITS, size=(30, 40))[0].tolist() == pytest.approx([5, 0, 40, 30])  # height 30


def test_growth_is_limited():
    """To a factor of 1000 / 16 either way: the box is 16 wide and high, and cannot become larger than 1000."""
    box = double([0, 0, 16, 16])
    assert decode(box, double([0, 0, 100, 4.1]), UNITS)[0].tolist() == pytest.approx(
        [8 - 500, 8 - 8 * math.exp(4.1), 8 + 500, 8 + 8 * math.exp(4.1)]  # log 62.5 is 4.135
    )
    assert decode(box, double([0, 0, -100, -20]), STDS)[0].tolist() == pytest.approx(
        [8 - 8 / 62.5, 8 - 8 * math.exp(-4), 8 + 8 / 62.5, 8 + 8 * math.exp(-4)]  # in units, -20 is -4
    )


@settings(deadline=None)
@given(boxes, boxes)
def test_decode_undoes_encode(box, target):
    given, expected = double(box), double(target)
    for stds in (UNITS, STDS):
        assert torch.allclose(decode(given, encode(given, expected, stds), stds), expected, rtol=0, atol=1e-8)


@settings(deadline=None)
@given(boxes, st.lists(st.floats(-3, 3), min_size=4, max_size=4))
def test_encode_undoes_decode(box, offsets):
    given, expected = double(box), double(offsets)
    assert torch.allclose(encode(given, decode(given, expected, UNITS), UNITS), expected, rtol=0, atol=1e-8)


def test_decode_of_many_images():
    """Leading dimensions are kept; each box for itself."""
    torch.manual_seed(0)
    places, offsets = torch.rand(2, 3, 4).cumsum(-1), torch.randn(2, 3, 4)
    together = decode(places, offsets, STDS)
    assert together.shape == (2, 3, 4)
    for i in range(2):
        for j in range(3):
            assert torch.equal(together[i, j], decode(places[i, j : j + 1], offsets[i, j : j + 1], STDS)[0])


def test_none():
    none = torch.zeros(0, 4)
    assert encode(none, none, STDS).shape == decode(none, none, STDS, size=(5, 5)).shape == (0, 4)


def test_clip():
    given = double([-5, -6, 7, 8], [1, 2, 99, 98], [-9, 3, -2, 5], [30, 40, 31, 41])
    assert clip(given, (20, 10)).tolist() == [[0, 0, 7, 8], [1, 2, 10, 20], [0, 3, 0, 5], [10, 20, 10, 20]]
    assert given[0].tolist() == [-5, -6, 7, 8]  # untouched


# Which box stands for which object


def assigned(*rows: list[float], best_from: float | None = 0.3) -> list[int]:
    """rows: of each object, its overlap with every box."""
    return assign(torch.tensor(rows), positive=0.7, negative=0.3, best_from=best_from).tolist()


def test_by_overlap():
    """From 0.7 on positive, from 0.3 on neither, below background: borders belong to the upper side."""
    assert assigned([0.95, 0.7, 0.69, 0.3, 0.29, 0.0]) == [0, 0, NEITHER, NEITHER, BACKGROUND, BACKGROUND]


def test_the_object_that_it_overlaps_most():
    assert assigned([0.7, 0.9, 0.1], [0.8, 0.75, 0.95]) == [1, 0, 1]


def test_best_from_its_threshold_on():
    """An object's best box stands for it even though it overlaps too little, but not below 0.3."""
    assert assigned([0.5, 0.4]) == [0, NEITHER]
    assert assigned([0.3, 0.1]) == [0, BACKGROUND]
    assert assigned([0.29, 0.1]) == [BACKGROUND, BACKGROUND]
    assert assigned([0.5, 0.4], best_from=None) == [NEITHER, NEITHER]


def test_best_overrides_a_better_overlap():
    """Box 0 overlaps object 0 more, yet it is the best that object 1 has."""
    rows = ([0.9, 0.8], [0.4, 0.1])
    assert assigned(*rows) == [1, 0]
    assert assigned(*rows, best_from=None) == [0, 0]
    assert assigned(*rows, best_from=0.5) == [0, 0]


def test_ties():
    """All of an object's best boxes stand for it; a box that is best for several objects stands for the last."""
    assert assigned([0.5, 0.4, 0.5]) == [0, NEITHER, 0]
    assert assigned([0.6, 0.0], [0.6, 0.0], [0.2, 0.1]) == [1, BACKGROUND]
    assert assigned([0.6, 0.0], [0.6, 0.0], [0.5, 0.1]) == [2, BACKGROUND]


def test_no_objects_and_no_boxes():
    given = assign(torch.zeros(0, 3), positive=0.7, negative=0.3, best_from=0.3)
    assert given.tolist() == [BACKGROUND] * 3
    none = assign(torch.zeros(2, 0), positive=0.7, negative=0.3, best_from=0.3)
    assert none.shape == (0,)
    assert given.dtype == none.dtype == assign(torch.ones(1, 1), positive=1, negative=1, best_from=None).dtype
    assert given.dtype == torch.int64


# Drawing

MANY = torch.tensor([2, BACKGROUND, NEITHER, 0, BACKGROUND] * 20)  # 40 stand for objects, 40 for background


def test_counts_and_shares():
    for count, share, expected in [
        (16, 0.25, (4, 12)),
        (16, 0.5, (8, 8)),
        (15, 0.5, (7, 8)),
        (200, 0.25, (40, 40)),
        (16, 0.0, (0, 16)),
        (60, 1.0, (40, 20)),
    ]:
        positives, negatives = sample(MANY, count=count, positive_share=share)
        assert (len(positives), len(negatives)) == expected
        assert (MANY[positives] >= 0).all()
        assert (MANY[negatives] == BACKGROUND).all()
        for indices in (positives, negatives):
            assert indices.dtype == torch.int64
            assert indices.tolist() == sorted(set(indices.tolist()))


def test_background_fills_what_objects_leave():
    few = torch.tensor([BACKGROUND] * 30 + [1, NEITHER, 0])
    positives, negatives = sample(few, count=16, positive_share=0.5)
    assert (positives.tolist(), len(negatives)) == ([30, 32], 14)
    positives, negatives = sample(torch.tensor([NEITHER] * 5), count=16, positive_share=0.5)
    assert len(positives) == len(negatives) == 0


def test_every_box_has_its_turn():
    """Of 1000 draws of 4 from 40, each is in 100 or so (a binomial deviation is 9.5)."""
    torch.manual_seed(0)
    drawn = torch.zeros(len(MANY))
    for _ in range(1000):
        positives, negatives = sample(MANY, count=8, positive_share=0.5)
        drawn[positives] += 1
        drawn[negatives] += 1
    assert (drawn[MANY == NEITHER] == 0).all()
    assert drawn[MANY != NEITHER].min() > 60
    assert drawn[MANY != NEITHER].max() < 140


def test_chance_is_the_generator_s():
    """The same seed draws the same; from a state in between, the draws that follow are the same."""

    def draw() -> list[list[int]]:
        return [each.tolist() for each in sample(MANY, count=10, positive_share=0.5)]

    torch.manual_seed(7)
    first = draw()
    state = torch.get_rng_state()
    later = [draw() for _ in range(3)]
    assert len({str(each) for each in [first, *later]}) == 4
    torch.set_rng_state(state)
    assert [draw() for _ in range(3)] == later
    torch.manual_seed(7)
    assert draw() == first
