"""Charts as inline SVG, coloured by the page's style sheet so that they follow light, dark and print."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from convnext.report.html import count, decimal, percent, text

Point = tuple[float, float]

_WIDTH, _HEIGHT = 480, 270  # units of the view box; the page scales the drawing
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 18, 12, 40
_MOST_POINTS = 400  # more than that many points on a line nobody can see


@dataclass(frozen=True)
class Curve:
    """A line of a chart. `kind` is its look: main, second, third (on a detector's page also fourth and fifth), or
    faint (which does not widen the axis)."""

    name: str
    points: Sequence[Point]
    kind: str = "main"


@dataclass(frozen=True)
class _Axes:
    """The range of both axes, and where a point of it stands in the drawing."""

    x: Point
    y: Point

    def at(self, x: float, y: float) -> Point:
        across = (x - self.x[0]) / (self.x[1] - self.x[0])
        up = (y - self.y[0]) / (self.y[1] - self.y[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _TOP - _BOTTOM)


def line_chart(
    title: str,
    curves: Sequence[Curve],
    *,
    x_label: str,
    figure: Callable[[float], str] = decimal,
    floor: float | None = None,
    ceiling: float | None = None,
) -> str:
    """A figure with the lines of `curves` and a legend; nothing if no curve has a point.

    `figure` writes a value as text; `floor` and `ceiling` bound the values there can be, such as 0 and 1 for shares:
    what lies beyond them is left out.
    """
    curves = [Curve(curve.name, thinned(_within(curve.points, floor, ceiling)), curve.kind) for curve in curves]
    curves = [curve for curve in curves if curve.points]
    if not curves:
        return ""
    axes = _axes(curves, floor, ceiling)
    lines = "".join(_line(curve, axes) for curve in curves)
    inner = f'x="{_LEFT}" y="{_TOP}" width="{_WIDTH - _LEFT - _RIGHT}" height="{_HEIGHT - _TOP - _BOTTOM}"'
    frame = f'viewBox="{_LEFT} {_TOP} {_WIDTH - _LEFT - _RIGHT} {_HEIGHT - _TOP - _BOTTOM}"'
    # an inner <svg> cuts off what leaves the plot; the marks of single values stay whole on top of it
    body = f"{_grid(axes, x_label, figure)}<svg {inner} {frame}>{lines}</svg>{''.join(_marks(curves, axes))}"
    ends = ", ".join(f"{curve.name} ends at {figure(curve.points[-1][1])}" for curve in curves)
    named = [curve for curve in curves if curve.kind != "faint"]
    legend = "".join(
        f'<span class="key {curve.kind}">{text(curve.name)} <b>{figure(curve.points[-1][1])}</b></span>'
        for curve in (named if len(named) > 1 else [])  # a single line is what the title says
    )
    return (
        f'<figure class="chart"><figcaption><strong>{text(title)}</strong>{legend}</figcaption>'
        f"{_svg(f'{title}: {ends}.', body)}</figure>"
    )


def reliability_chart(bins: Sequence[tuple[float, float, int, float]]) -> str:
    """The reliability diagram of (confidence, accuracy, count, high edge) bins; nothing without a bin.

    A column reaches up to the accuracy of its bin; the mark on it stands at the bin's mean confidence, where a
    calibrated model's column would end. The faint columns behind show how many images a bin has.
    """
    if not bins:
        return ""
    axes = _Axes((0.0, 1.0), (0.0, 1.0))
    most = max(entry[2] for entry in bins)
    body = _grid(axes, "confidence", percent_short)
    (left, bottom), (right, top) = axes.at(0, 0), axes.at(1, 1)
    width = (right - left) / 15 - 3
    for confidence, accuracy, images, high in bins:
        x = axes.at(high, 0)[0] - width - 1.5
        tip = f"{count(images)} images, {percent(confidence)} sure on average: {percent(accuracy)} right"
        share, right_share = (bottom - top) * images / most, (bottom - top) * accuracy
        y = axes.at(0, confidence)[1]
        body += (
            f'<g><title>{tip}</title><rect class="mass" x="{x:.1f}" y="{bottom - share:.1f}" width="{width:.1f}" '
            f'height="{share:.1f}"/><rect class="right" x="{x + 4:.1f}" y="{bottom - right_share:.1f}" '
            f'width="{width - 8:.1f}" height="{right_share:.1f}"/>'
            f'<path class="sure" d="M{x:.1f} {y:.1f}h{width:.1f}"/></g>'
        )
    body += f'<path class="ideal" d="M{left} {bottom}L{right} {top}"/>'
    said = ", ".join(f"{percent(entry[0])} sure: {percent(entry[1])} right" for entry in bins)
    return (
        '<figure class="chart"><figcaption><strong>Reliability</strong><span class="key right">how often right</span>'
        '<span class="key sure">how sure</span><span class="key mass">how many images</span></figcaption>'
        f"{_svg(f'Reliability diagram. {said}.', body)}</figure>"
    )


def percent_short(value: float) -> str:
    """A share for an axis: whole percents where it is one."""
    return percent(value, 0 if math.isclose(100 * value, round(100 * value), abs_tol=1e-6) else 1)


def smoothed(points: Sequence[Point]) -> list[Point]:
    """The mean over a window of about a thirtieth of the points, centred so that it does not lag behind.

    It narrows towards the first point, where losses fall steeply, but not towards the last, which people read as the
    result: that one is the mean of the half window before it.
    """
    radius = len(points) // 60 if len(points) >= 120 else min(len(points) // 20, 1)
    sums = [0.0]
    for _, value in points:
        sums.append(sums[-1] + value)
    result = []
    for i, (x, _) in enumerate(points):
        low, high = max(0, i - radius), min(i + min(radius, i), len(points) - 1)
        result.append((x, (sums[high + 1] - sums[low]) / (high + 1 - low)))
    return result


def thinned(points: Sequence[Point]) -> list[Point]:
    """At most 400 points: means of neighbours, but for the first and the last one, which stay."""
    size = math.ceil((len(points) - 2) / (_MOST_POINTS - 2))
    if size <= 1:
        return list(points)
    groups = (points[i : min(i + size, len(points) - 1)] for i in range(1, len(points) - 1, size))
    means = [(sum(x for x, _ in group) / len(group), sum(y for _, y in group) / len(group)) for group in groups]
    return [points[0], *means, points[-1]]


def ticks(low: float, high: float, most: int = 7) -> list[float]:
    """Round values (1, 2 or 5 times a power of ten apart) within low..high, at most `most` of them."""
    span = high - low
    rough = span / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10, 20) if span / (power * factor) <= most - 1 + 1e-9)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [i * step for i in range(first, last + 1)]


def _within(points: Sequence[Point], floor: float | None, ceiling: float | None) -> list[Point]:
    low, high = -math.inf if floor is None else floor, math.inf if ceiling is None else ceiling
    return [point for point in points if low <= point[1] <= high]


def _axes(curves: Sequence[Curve], floor: float | None, ceiling: float | None) -> _Axes:
    """Ranges that hold every curve but the faint ones (all if there are no others), and a little more."""
    framing = [curve for curve in curves if curve.kind != "faint"] or curves
    xs = [x for curve in curves for x, _ in curve.points]
    ys = [y for curve in framing for _, y in curve.points]
    low, high = min(ys), max(ys)
    room = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    low, high = low - room, high + room  # never alike, so that a flat curve has a range too
    if floor is not None and low < floor + 0.4 * (high - floor):
        low = floor  # the floor shows how small a value is, unless it would press the line flat
    if ceiling is not None and high > ceiling - 0.2 * (ceiling - low):
        high = ceiling
    first, last = min(xs), max(xs)
    return _Axes((first, last if last > first else first + 1.0), (low, high))


def _grid(axes: _Axes, x_label: str, figure: Callable[[float], str]) -> str:
    parts = []
    for value in ticks(*axes.y):
        y = axes.at(axes.x[0], value)[1]
        parts.append(f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{_LEFT - 8}" y="{y + 4.5:.1f}" text-anchor="end">{figure(value)}</text>')
    for value in ticks(*axes.x):
        x = axes.at(value, axes.y[0])[0]
        label = f"{value:g}" if x_label != "confidence" else figure(value)
        parts.append(f'<text x="{x:.1f}" y="{_HEIGHT - 20}" text-anchor="middle">{label}</text>')
    parts.append(f'<path class="axis" d="M{_LEFT} {_HEIGHT - _BOTTOM}H{_WIDTH - _RIGHT}"/>')
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(f'<text class="label" x="{middle}" y="{_HEIGHT - 3}" text-anchor="middle">{text(x_label)}</text>')
    return "".join(parts)


def _line(curve: Curve, axes: _Axes) -> str:
    path = "L".join(f"{x:.1f} {y:.1f}" for x, y in (axes.at(*point) for point in curve.points))
    return f'<path class="line {curve.kind}" d="M{path}"/>'


def _marks(curves: Sequence[Curve], axes: _Axes) -> Iterable[str]:
    """Dots on curves of few points, so that a single validation is seen too, with their values as tips."""
    for curve in curves:
        if curve.kind == "faint" or len(curve.points) > 40:
            continue
        for point in curve.points:
            x, y = axes.at(*point)
            tip = f"{text(curve.name)} {decimal(point[1])} at {point[0]:g}"
            yield f'<circle class="{curve.kind}" cx="{x:.1f}" cy="{y:.1f}" r="3"><title>{tip}</title></circle>'


def _svg(description: str, body: str) -> str:
    return f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{text(description)}">{body}</svg>'
