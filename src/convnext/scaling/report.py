"""What `convnext scaling fit` says: a law for each series, and every two series compared. Plain values, for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.scaling.fit import Comparison, Fit, PowerLaw, Settings, compare, counted, equal_error, fit
from convnext.scaling.points import (
    SERIES,
    Axis,
    Figure,
    Point,
    Series,
    by_family,
    of_study,
    published_series,
    read_points,
)
from convnext.scaling.study import plan_of, rows
from convnext.sweep.runs import PLAN


@dataclass(frozen=True)
class How:
    """How laws are fitted and compared."""

    axis: Axis | None = None
    """None: each series' own."""
    figure: Figure = "error"
    slack: float = 1.25
    """Factor by which the common range of two series is widened."""
    settings: Settings = field(default_factory=lambda: Settings(noise=0.001))

    @property
    def noise(self) -> float:
        """Of each point by itself; that of a loss is not known."""
        return self.settings.noise if self.figure == "error" else 0.0


@dataclass(frozen=True)
class Fitted:
    """A series and its law. x is in units of `unit`."""

    series: Series
    axis: Axis
    figure: Figure
    unit: float
    points: tuple[tuple[Point, float, float], ...]
    """All that have both, x in the axis's own unit."""
    fit: Fit | None
    why_not: str = ""
    """Why there is no law."""

    def xy(self, unit: float = 1.0) -> tuple[list[float], list[float]]:
        """All points, x in a unit."""
        return [x / unit for _, x, _ in self.points], [y for _, _, y in self.points]

    def labels(self) -> list[str]:
        """What points repeat, for `fit`: empty where none does."""
        return [point.repeats for point, _, _ in self.points if point.repeats]

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        fit = self.fit and asdict(self.fit)
        law = fit.pop("law") if fit else None
        return {
            "series": self.series.name,
            "title": self.series.title,
            "axis": self.axis,
            "unit": self.unit,
            "figure": self.figure,
            "law": law,
            "fit": fit,
            "why_not": self.why_not or None,
            "points": [{"model": point.model, "source": point.source, "x": x, "y": y} for point, x, y in self.points],
        }


def read_series(what: Sequence[str]) -> list[Series]:
    """The series that are named: published ones by name, csv files and studies by path; none: all published ones.

    Raises UserError for a name that is none of these, and for a study of which no run has ended.
    """
    found: list[Series] = []
    for name in what or SERIES:
        path = Path(name)
        if name in SERIES:
            found.append(published_series(name))
        elif (path / PLAN).is_file():
            ended = rows(plan_of(path), path)
            if not ended:
                raise UserError(f"No run of {path} has ended yet; `convnext scaling run` goes on with it.")
            found += by_family(of_study(ended), path.name)
        elif path.is_dir():
            plan_of(path)  # says that it is no study
        elif path.is_file():
            found += by_family(read_points(path), path.stem)
        elif path.exists():
            raise UserError(f"{name} is a pipe, a socket or a device: give a csv file, a study's folder or a name.")
        else:
            published_series(name)  # says that there is none
    return found


def fitted(series: Series, how: How) -> Fitted:
    """The law of one series; one that has too few points says so in place of a law."""
    axis = how.axis or series.axis
    points = series.xy(axis, how.figure)
    unit = _unit([x for _, x, _ in points]) if axis == "compute" else 1.0
    empty = Fitted(series, axis, how.figure, unit, tuple(points), None)
    if not points:
        return replace(empty, why_not=f"no point has both {axis} and {how.figure}")
    try:
        law = fit(*empty.xy(unit), replace(how.settings, noise=how.noise), labels=empty.labels())
    except UserError as error:
        return replace(empty, why_not=str(error))
    return replace(empty, fit=law)


def _unit(values: Sequence[float]) -> float:
    """A power of 1000 near the values, so that coefficients are numbers that people can read."""
    if not values:
        return 1.0
    return 10.0 ** (3 * round(sum(math.log10(value) for value in values) / len(values) / 3))


@dataclass(frozen=True)
class Pair:
    """Two series compared where their ranges meet."""

    first: Fitted
    second: Fitted
    result: Comparison | str
    """Or why they cannot be compared."""
    dearer: tuple[tuple[str, float], ...]
    """Points of the first, and how many times its cost the second needs for the same figure; only within its points."""
    beyond: int
    """How many points of the first lie beyond those of the second."""

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        compared = asdict(self.result) if isinstance(self.result, Comparison) else None
        return {
            "series": [self.first.series.name, self.second.series.name],
            "comparison": compared,
            "why_not": self.result if isinstance(self.result, str) else None,
            "equal_figure_cost_ratios": [{"model": name, "ratio": ratio} for name, ratio in self.dearer],
        }


def pairs(found: Sequence[Fitted], how: How) -> list[Pair]:
    """Every two series that have a law on the same axis."""
    able = [one for one in found if one.fit]
    return [_pair(a, b, how) for a, b in combinations(able, 2) if a.axis == b.axis]


def _pair(a: Fitted, b: Fitted, how: How) -> Pair:
    sides = [counted(*one.xy(), how.settings, labels=one.labels()) for one in (a, b)]
    result = compare(*sides, slack=how.slack, noise=how.noise)
    assert b.fit is not None  # `pairs` chose it
    ratios = ((_name_at(a, x), equal_error(b.fit, x / b.unit, y)) for x, y in zip(*sides[0], strict=True))
    dearer = tuple((name, ratio) for name, ratio in ratios if ratio is not None)
    return Pair(a, b, result, dearer, len(sides[0][0]) - len(dearer))


def _name_at(one: Fitted, x: float) -> str:
    """What the points of that cost are called; the nearest, for a mean of equal costs may differ in its last digit."""
    point = min(one.points, key=lambda entry: abs(entry[1] - x))[0]
    return point.repeats or point.model


def law_in_words(one: Fitted) -> str:
    """A law as a formula: error = 0.196 (x / 1)^-0.065."""
    assert one.fit is not None
    law: PowerLaw = one.fit.law
    x = "x" if one.unit == 1 else f"(x / {one.unit:.0e})".replace("e+", "e")
    floor = f" + {law.floor:.3f}" if law.floor else ""
    return f"{law.coef:.4f} {x}^{law.exponent:.4f}{floor}"
