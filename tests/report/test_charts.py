"""The charts' arithmetic: ticks, smoothing, thinning, and drawings that stay finite."""

import math
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from convnext.report.charts import Curve, line_chart, reliability_chart, smoothed, thinned, ticks


def test_ticks_by_hand():
    assert ticks(0, 1) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert ticks(0, 30) == [0, 5, 10, 15, 20, 25, 30]
    assert ticks(0.31, 0.34) == pytest.approx([0.31, 0.315, 0.32, 0.325, 0.33, 0.335, 0.34])


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6))
def test_ticks_are_few_and_inside(low, span):
    values = ticks(low, low + span)
    assert 2 <= len(values) <= 7
    assert all(low - 1e-6 * span <= value <= low + span * (1 + 1e-6) for value in values)


def test_smoothing_keeps_a_straight_line_where_the_window_is_whole():
    points = [(float(i), 2.0 * i) for i in range(300)]
    result = smoothed(points)
    assert [y for _, y in result[:290]] == pytest.approx([y for _, y in points[:290]])
    assert result[-1] == (299.0, pytest.approx(2 * (299 - 2.5)))  # the mean of the last 5 + 1 points
    assert smoothed(points[:10]) == points[:10]
    assert smoothed([]) == []


def test_thinning_keeps_ends_and_mean():
    points = [(float(i), float(i % 2)) for i in range(10001)]
    result = thinned(points)
    assert len(result) <= 400
    assert (result[0], result[-1]) == (points[0], points[-1])
    assert result[1:-2] == [(pytest.approx(x), pytest.approx(0.5, abs=0.02)) for x, _ in result[1:-2]]
    assert thinned(points[:400]) == points[:400]


@pytest.mark.parametrize(
    "points",
    [[(0, 0)], [(1, 1), (2, 1)], [(0, 1e29), (1, -1e29), (2, 0.5)], [(0, 1e-30), (1, 2e-30)], [(5, 0.0), (5, 1.0)]],
)
@pytest.mark.parametrize("bounds", [{}, {"floor": 0.0}, {"floor": 0.0, "ceiling": 1.0}])
def test_every_curve_can_be_drawn(points, bounds):
    drawn = line_chart("Loss", [Curve("a", [(float(x), float(y)) for x, y in points])], x_label="epoch", **bounds)
    numbers = [float(number) for number in re.findall(r'd="M([-\d.]+) ', drawn)]
    assert numbers
    assert 'class="line main"' in drawn
    assert all(math.isfinite(number) for number in numbers)
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_what_cannot_be_is_left_out():
    points = [(0.0, 0.5), (1.0, -1.0), (2.0, 1.5), (3.0, 0.6)]
    drawn = line_chart("Accuracy", [Curve("a", points)], x_label="epoch", floor=0.0, ceiling=1.0)
    assert drawn.count("<circle") == 2
    assert line_chart("Accuracy", [Curve("a", points[1:3])], x_label="epoch", floor=0.0, ceiling=1.0) == ""


def test_a_better_value_stands_higher():
    drawn = line_chart("Accuracy", [Curve("a", [(0.0, 0.2), (1.0, 0.9)])], x_label="epoch", floor=0.0, ceiling=1.0)
    (x0, y0), (x1, y1) = (map(float, pair) for pair in re.findall(r'cx="([\d.]+)" cy="([\d.]+)"', drawn))
    assert x0 < x1
    assert y1 < y0  # SVG counts downwards


def test_nothing_to_draw():
    assert line_chart("Loss", [Curve("a", [])], x_label="epoch") == ""
    assert reliability_chart([]) == ""


def test_names_are_escaped():
    drawn = line_chart("<b>", [Curve("<i>", [(0.0, 1.0)]), Curve("x", [(0.0, 1.0)])], x_label="<u>")
    assert not re.search("<[iu]>|<b>&lt;|<strong><b>", drawn)
