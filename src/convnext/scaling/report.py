"""What `convnext scaling fit` says: a law for each series, and every two series compared. Plain values, for JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.scaling.fit import Comparison, Fit, Loss, PowerLaw, compare, equal_error, fit, frontier
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
    floor: bool = False
    loss: Loss = "squares"
    pareto: bool = False
    """Only the points that no cheaper one beats."""
    slack: float = 1.25
    noise: float = 0.001
    draws: int = 2000


@dataclass(frozen=True)
class Fitted:
    """A series and its law. x is in units of `unit`."""

    series: Series
    axis: Axis
    figure: Figure
    unit: float
    points: tuple[tuple[Point, float, float], ...]
    """Those that the law goes through, x in the axis's own unit."""
    fit: Fit | None
    why_not: str = ""
    """Why there is no law."""

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
        elif path.exists():
            found += by_family(read_points(path), path.stem)
        else:
            published_series(name)  # says that there is none
    return found


def fitted(series: Series, how: How) -> Fitted:
    """The law of one series; one that has too few points says so in place of a law."""
    axis = how.axis or series.axis
    points = series.xy(axis, how.figure)
    if how.pareto:
        kept = frontier([x for _, x, _ in points], [y for _, _, y in points])
        points = [points[i] for i in kept]
    unit = _unit([x for _, x, _ in points]) if axis == "compute" else 1.0
    empty = Fitted(series, axis, how.figure, unit, tuple(points), None)
    if not points:
        return replace(empty, why_not=f"no point has both {axis} and {how.figure}")
    try:
        law = fit(
            [x / unit for _, x, _ in points],
            [y for _, _, y in points],
            floor=how.floor,
            loss=how.loss,
            noise=how.noise if how.figure == "error" else 0.0,
            draws=how.draws,
        )
    except UserError as error:
        return replace(empty, why_not=str(error))
    return replace(empty, fit=law)


def _unit(values: Sequence[float]) -> float:
    """A power of 1000 near the values, so that coefficients are numbers that people can read."""
    return 10.0 ** (3 * math.floor(math.log10(math.exp(sum(map(math.log, values)) / len(values))) / 3)) if values else 1


@dataclass(frozen=True)
class Pair:
    """Two series compared where their ranges meet."""

    first: Fitted
    second: Fitted
    result: Comparison | str
    """Or why they cannot be compared."""
    dearer: tuple[tuple[Point, float], ...]
    """Points of the first, and how many times its cost the second needs for the same figure; only within its points."""

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        compared = asdict(self.result) if isinstance(self.result, Comparison) else None
        return {
            "series": [self.first.series.name, self.second.series.name],
            "comparison": compared,
            "why_not": self.result if isinstance(self.result, str) else None,
            "equal_figure_cost_ratio": {point.model: ratio for point, ratio in self.dearer},
        }


def pairs(found: Sequence[Fitted], how: How) -> list[Pair]:
    """Every two series that have a law on the same axis."""
    able = [one for one in found if one.fit]
    return [_pair(a, b, how) for a, b in combinations(able, 2) if a.axis == b.axis]


def _pair(a: Fitted, b: Fitted, how: How) -> Pair:
    (xa, ya), (xb, yb) = (([x for _, x, _ in one.points], [y for _, _, y in one.points]) for one in (a, b))
    noise = how.noise if how.figure == "error" else 0.0
    result = compare((xa, ya), (xb, yb), slack=how.slack, noise=noise)
    assert b.fit is not None  # `pairs` chose it
    dearer = []
    for point, x, y in a.points:
        ratio = equal_error(b.fit, x / b.unit, y)
        if ratio is not None:
            dearer.append((point, ratio))
    return Pair(a, b, result, tuple(dearer))


def law_in_words(one: Fitted) -> str:
    """A law as a formula: error = 0.196 (x / 1)^-0.065."""
    assert one.fit is not None
    law: PowerLaw = one.fit.law
    x = "x" if one.unit == 1 else f"(x / {one.unit:.0e})".replace("e+", "e")
    floor = f" + {law.floor:.3f}" if law.floor else ""
    return f"{law.coef:.4f} {x}^{law.exponent:.4f}{floor}"
