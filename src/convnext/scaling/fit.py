"""Power laws y = coef * x^exponent + floor: fitted on logarithms, with intervals, and compared where ranges meet.

n points; x: cost, y: error or loss, both above 0. Nothing is extrapolated: a law answers within its points' range.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from convnext.core.errors import UserError
from convnext.core.logs import track

Loss = Literal["squares", "huber"]
Array = NDArray[np.float64]
HUBER = 1e-3
"""Residuals of log y beyond which the robust loss grows linearly (arXiv 2203.15556, section D.2)."""
FEWEST_TO_RESAMPLE = 5  # points: of fewer, resampling says nothing
NARROWEST = 1.2  # how many times the cheapest the dearest point costs at least
ALIKE = 1.02  # costs that differ by less are one cost of an envelope
LEVEL = 0.95


@dataclass(frozen=True)
class PowerLaw:
    """y = coef * x^exponent + floor."""

    coef: float
    exponent: float
    floor: float = 0.0

    def __call__(self, x: float | Array) -> float | Array:
        return self.coef * np.asarray(x, dtype=float) ** self.exponent + self.floor

    def cost_of(self, y: float) -> float | None:
        """The x at which the law gives y; None where it gives it nowhere."""
        share = (y - self.floor) / self.coef
        return share ** (1 / self.exponent) if share > 0 and self.exponent else None


@dataclass(frozen=True)
class Fit:
    """A law through points, and how far to trust it."""

    law: PowerLaw
    n: int
    low: float
    """The least x of its points; below, and above `high`, it says nothing."""
    high: float
    r2: float | None
    """Share of the variance of log y that the law explains; None where all y are alike."""
    interval: tuple[float, float] | None
    """95 % of the exponents of resampled points (`basis`); None where there is too little to resample."""
    basis: str
    """points: these are drawn with replacement, of 5 at least. repeats: those of each cost are, where points repeat."""
    noise: float | None
    """Standard deviation of the exponent if each y carries the noise it was said to, and nothing else is wrong."""

    def covers(self, x: float) -> bool:
        """Whether x lies within the points that the law was fitted to."""
        return self.low <= x <= self.high


@dataclass(frozen=True)
class Settings:
    """How a law is fitted."""

    floor: bool = False
    """Whether there is an error that no cost removes, from 0 to the least y."""
    loss: Loss = "squares"
    """Least squares of log y, or a Huber loss."""
    pareto: bool = False
    """Whether only the points that no cheaper one beats count, after repeats are averaged."""
    noise: float = 0.0
    """Standard deviation of each y by itself, such as 0.001 where top-1 varies by 0.1 points between seeds; 0: none is
    propagated."""
    draws: int = 2000
    """Resamples for intervals."""
    seed: int = 0

    @property
    def numbers(self) -> int:
        """Numbers that a law has."""
        return 3 if self.floor else 2


def fit(x: Sequence[float], y: Sequence[float], settings: Settings | None = None, *, labels: Sequence[str] = ()) -> Fit:
    """The law of points. labels: of each point; those of one label are repeats, as of several seeds, and are averaged;
    (): there are none.

    Raises UserError for fewer different x than the law has numbers, and for x that lie within a factor of 1.2.
    """
    settings = settings or Settings()
    points, groups = _arrays(x, y), _groups(labels)
    xs, ys = _counted(*points, settings, groups)
    different = len(np.unique(xs))
    if different < settings.numbers:
        raise UserError(
            f"A power law {'with a floor ' if settings.floor else ''}has {settings.numbers} numbers, so it needs as "
            f"many different points; there {'is' if different == 1 else 'are'} {different}."
        )
    if xs.max() < NARROWEST * xs.min():
        raise UserError(
            f"All points cost nearly the same, {xs.min():.3g} to {xs.max():.3g}: an exponent needs costs that differ."
        )
    law = _law(xs, ys, settings)
    logs = np.log(ys)
    spread = float(((logs - logs.mean()) ** 2).sum())
    rest = float(((logs - np.log(law(xs))) ** 2).sum())
    drawn = _resampled(*points, settings, groups)
    exponents = [law.exponent for law in drawn]
    return Fit(
        law,
        len(xs),
        float(xs.min()),
        float(xs.max()),
        r2=1 - rest / spread if spread > 0 else None,
        interval=_middle(exponents) if drawn else None,
        basis="repeats" if groups else "points",
        noise=_of_noise(xs, ys, settings.noise) if settings.noise and not settings.floor else None,
    )


def counted(
    x: Sequence[float], y: Sequence[float], settings: Settings, *, labels: Sequence[str] = ()
) -> tuple[list[float], list[float]]:
    """The points that a law goes through: repeats averaged, and of those the frontier where it is asked for."""
    xs, ys = _counted(*_arrays(x, y), settings, _groups(labels))
    return xs.tolist(), ys.tolist()


def laws(x: Sequence[float], y: Sequence[float], settings: Settings, *, labels: Sequence[str] = ()) -> list[PowerLaw]:
    """Laws of points drawn with replacement: among the repeats of each label where there are any, else among all.

    Empty where that says nothing: of fewer than 5 points without repeats.
    """
    return _resampled(*_arrays(x, y), settings, _groups(labels))


def _arrays(x: Sequence[float], y: Sequence[float]) -> tuple[Array, Array]:
    return np.asarray(x, dtype=float), np.asarray(y, dtype=float)


def _groups(labels: Sequence[str]) -> list[NDArray[np.int64]]:
    """Places of the points of each label; none where no label comes twice."""
    places: dict[str, list[int]] = {}
    for place, label in enumerate(labels):
        places.setdefault(label, []).append(place)
    return [np.asarray(same) for same in places.values()] if len(places) < len(labels) else []


def _counted(x: Array, y: Array, settings: Settings, groups: Sequence[NDArray[np.int64]]) -> tuple[Array, Array]:
    if groups:
        x, y = (np.asarray([values[group].mean() for group in groups]) for values in (x, y))
    if settings.pareto:
        kept = frontier(x.tolist(), y.tolist())
        x, y = x[kept], y[kept]
    return x, y


def _resampled(x: Array, y: Array, settings: Settings, groups: Sequence[NDArray[np.int64]]) -> list[PowerLaw]:
    if not groups and len(_counted(x, y, settings, groups)[0]) < FEWEST_TO_RESAMPLE:
        return []
    chance, found = np.random.default_rng(settings.seed), []
    quick = not settings.floor and settings.loss == "squares"
    near = None if quick else _law(*_counted(x, y, settings, groups), settings)
    rounds = range(settings.draws)
    for _ in rounds if quick else track(rounds, "resampling", settings.draws, unit="draw"):
        drawn = [group[chance.integers(len(group), size=len(group))] for group in groups or [np.arange(len(x))]]
        if groups:
            a, b = _counted(x, y, settings, drawn)
        else:
            a, b = _counted(x[drawn[0]], y[drawn[0]], settings, ())
        if len(np.unique(a)) >= settings.numbers and a.max() >= NARROWEST * a.min():
            found.append(_law(a, b, settings, near))
    return found


def _middle(values: Sequence[float]) -> tuple[float, float]:
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def band(drawn: Sequence[PowerLaw], at: Array) -> tuple[Array, Array]:
    """Between which values 95 % of the laws lie, at each x of `at`."""
    values = np.stack([np.asarray(law(at)) for law in drawn])
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return low, high


def _law(x: Array, y: Array, settings: Settings, near: PowerLaw | None = None) -> PowerLaw:
    """near: a law like the one that is looked for, from which alone the search starts; None: from several places."""
    floor = settings.floor
    slope, offset = np.polyfit(np.log(x), np.log(y), 1)
    if not floor and settings.loss == "squares":
        return PowerLaw(float(np.exp(offset)), float(slope))
    least, middle = float(y.min()), float(np.exp(np.log(x).mean()))  # x is centred, so that the numbers part ways
    logs = np.log(x / middle)

    def below(share: float) -> float:
        """The floor, between 0 and the least y, as a number without bounds says it."""
        return least / (1 + math.exp(-share)) if floor else 0.0

    def residual(numbers: Array) -> Array:
        return np.log(np.exp(numbers[0] + numbers[1] * logs) + below(numbers[2])) - np.log(y)

    if near is None:
        starts = _starts(logs, y, (-4.0, -1.0, 0.0, 1.0, 3.0) if floor else (0.0,), below)
    else:
        part = min(max(near.floor / least, 1e-4), 1 - 1e-4)
        height = math.log(near.coef) + near.exponent * math.log(middle)
        starts = [(height, near.exponent, math.log(part / (1 - part)))]
    kind = {"loss": "huber", "f_scale": HUBER} if settings.loss == "huber" else {}
    found = min((optimize.least_squares(residual, start, max_nfev=400, **kind) for start in starts), key=_cost)
    exponent = float(found.x[1])
    return PowerLaw(float(np.exp(found.x[0])) * middle**-exponent, exponent, below(float(found.x[2])))


def _starts(
    logs: Array, y: Array, shares: Sequence[float], below: Callable[[float], float]
) -> list[tuple[float, float, float]]:
    """Where the search for a law begins: a line by least squares, one by median slopes, one above each floor."""
    slope, _ = np.polyfit(logs, np.log(y), 1)
    robust: Any = stats.theilslopes(np.log(y), logs)
    found = []
    for share in shares:
        above = np.log(np.maximum(y - below(share), 1e-3 * y.min()))
        steep, _ = np.polyfit(logs, above, 1)
        lines = ((np.log(y).mean(), slope), (robust[1], robust[0]), (above.mean(), steep))
        found += [(float(height), float(one), share) for height, one in lines]
    return found


def _cost(found: Any) -> float:
    return float(found.cost)


def _of_noise(x: Array, y: Array, noise: float) -> float:
    """The exponent's standard deviation where each y has that of `noise`, by itself."""
    logs = np.log(x)
    weights = (logs - logs.mean()) / ((logs - logs.mean()) ** 2).sum()
    return float(np.sqrt(((weights * noise / y) ** 2).sum()))


def frontier(x: Sequence[float], y: Sequence[float]) -> list[int]:
    """The points that no other beats: each has the least y of all that cost no more. Indices, cheapest first.

    Costs within 2 % of each other are one cost: runs of one budget differ by the rounding to whole steps.
    """
    best, found = math.inf, []
    for index in sorted(range(len(x)), key=lambda i: (x[i], y[i])):
        if y[index] < best:
            best = y[index]
            if found and x[index] <= ALIKE * x[found[-1]]:
                found.pop()
            found.append(index)
    return found


def overlap(a: Sequence[float], b: Sequence[float], *, slack: float = 1.0) -> tuple[float, float] | None:
    """The range of cost that both have, widened by the factor `slack` at both ends; None where there is none."""
    low, high = max(min(a), min(b)), min(max(a), max(b))
    return (low / slack, high * slack) if low <= high else None


@dataclass(frozen=True)
class Comparison:
    """Whether two exponents differ, within the range that both families have."""

    low: float
    high: float
    """The range of cost that is compared."""
    n: tuple[int, int]
    """Points of each within it."""
    exponents: tuple[float, float]
    difference: float
    """The first's exponent minus the second's: below 0 the first falls faster."""
    interval: tuple[float, float]
    """95 %."""
    p: float
    """Of a difference as great if there were none."""
    basis: str
    """residuals: from how the points scatter around their lines (t-test of the interaction). noise: too few points for
    that; from the noise of each point alone, so that it takes both lines for exact."""


def compare(
    a: tuple[Sequence[float], Sequence[float]],
    b: tuple[Sequence[float], Sequence[float]],
    *,
    slack: float = 1.0,
    noise: float = 0.0,
) -> Comparison | str:
    """Two families, each (x, y): whether their exponents differ within the overlap of their x; or why that cannot be
    said.

    Straight lines through logarithms, one residual variance for both. slack: factor by which the overlap is widened, so
    that models of nearly the same cost are not cut off. noise: as for `fit`; used where fewer than 5 points are left.
    """
    shared = overlap(a[0], b[0], slack=slack)
    if shared is None:
        return f"no range in common: {_range(a[0])} and {_range(b[0])}"
    (xa, ya), (xb, yb) = (_within(*points, *shared) for points in (a, b))
    if min(len(np.unique(xa)), len(np.unique(xb))) < 2 or any(x.max() < NARROWEST * x.min() for x in (xa, xb)):
        return (
            f"fewer than two different costs of one of them lie in the common range, {shared[0]:.3g} to {shared[1]:.3g}"
        )
    (slope_a, rest_a, width_a), (slope_b, rest_b, width_b) = _line(xa, ya), _line(xb, yb)
    free, difference = len(xa) + len(xb) - 4, slope_a - slope_b
    if free >= 1:
        deviation = math.sqrt((rest_a + rest_b) / free * (1 / width_a + 1 / width_b))
        law, basis = stats.t(free), "residuals"
    elif noise:
        deviation = math.hypot(_of_noise(xa, ya, noise), _of_noise(xb, yb, noise))
        law, basis = stats.norm(), "noise"
    else:
        return "two points of each make two lines without an error: say how much each point varies (--noise)"
    reach = float(law.ppf((1 + LEVEL) / 2)) * deviation
    p = float(2 * law.sf(abs(difference) / deviation)) if deviation > 0 else float(difference == 0)
    return Comparison(
        *shared,
        n=(len(xa), len(xb)),
        exponents=(slope_a, slope_b),
        difference=difference,
        interval=(difference - reach, difference + reach),
        p=p,
        basis=basis,
    )


def _within(x: Sequence[float], y: Sequence[float], low: float, high: float) -> tuple[Array, Array]:
    xs, ys = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    inside = (xs >= low) & (xs <= high)
    return xs[inside], ys[inside]


def _line(x: Array, y: Array) -> tuple[float, float, float]:
    """Slope, sum of squared residuals and sum of squares of x of the line through logarithms."""
    lx, ly = np.log(x), np.log(y)
    width = float(((lx - lx.mean()) ** 2).sum())
    slope = float(((lx - lx.mean()) * (ly - ly.mean())).sum()) / width
    rest = float(((ly - ly.mean() - slope * (lx - lx.mean())) ** 2).sum())
    return slope, rest, width


def _range(x: Sequence[float]) -> str:
    return f"{min(x):.3g} to {max(x):.3g}"


def equal_error(law: Fit, x: float, y: float) -> float | None:
    """How many times the cost x the family of `law` needs for the same y; None where that lies beyond its points."""
    cost = law.law.cost_of(y)
    return cost / x if cost is not None and law.covers(cost) else None
