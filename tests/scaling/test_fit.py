"""Power laws: by hand, on points without noise, and every fit that the facts compute from published points."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from convnext.core.errors import UserError
from convnext.scaling.fit import PowerLaw, Settings, compare, counted, equal_error, fit, frontier, overlap
from convnext.scaling.points import published_series

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "scaling.yaml"
FEW = Settings(draws=10)
X = [1.0, 2.0, 5.0, 10.0, 30.0, 80.0]


def law(coef: float, exponent: float, floor: float = 0.0) -> list[float]:
    return [coef * x**exponent + floor for x in X]


def test_by_hand():
    """Two points: ln 2 lower over ln 4 of cost is an exponent of -1/2; through the first, 0.4 at 1."""
    found = fit([1, 4], [0.4, 0.2])
    assert found.law.exponent == pytest.approx(-0.5)
    assert found.law.coef == pytest.approx(0.4)
    assert found.r2 == pytest.approx(1.0)
    assert (found.n, found.low, found.high, found.interval) == (2, 1, 4, None)
    # three points with the middle one high by d in logarithms: the slope stays, the line rises by d / 3
    found = fit([1, 2, 4], [0.4, 0.4 / math.sqrt(2) * math.exp(0.3), 0.2])
    assert found.law.exponent == pytest.approx(-0.5)
    assert found.law.coef == pytest.approx(0.4 * math.exp(0.1))
    spread = math.log(2) ** 2 / 2 + 2 / 3 * 0.3**2  # of ln 2 / 2 up and down, and of 0.3, around their means
    assert found.r2 == pytest.approx(1 - (2 / 3 * 0.3**2) / spread)


@pytest.mark.parametrize("loss", ["squares", "huber"])
@pytest.mark.parametrize("exact", [(0.3, -0.1, 0.0), (0.5, -0.35, 0.12), (2.0, -0.8, 0.03)])
@pytest.mark.parametrize("unit", [1.0, 1e-21, 1e9])
def test_a_law_without_noise_is_found(loss, exact, unit):
    """With a floor and without, by both losses, whatever the unit of x."""
    coef, exponent, floor = exact
    found = fit([x / unit for x in X], law(*exact), Settings(floor=floor > 0, loss=loss, draws=20))
    assert found.law.exponent == pytest.approx(exponent, rel=1e-3)
    assert found.law.floor == pytest.approx(floor, rel=1e-3, abs=1e-9)
    assert found.law.coef * unit**-exponent == pytest.approx(coef, rel=2e-3)
    assert found.r2 == pytest.approx(1.0, abs=1e-6)


def test_a_floor_of_nothing_is_none():
    found = fit(X, law(0.4, -0.2), Settings(floor=True, draws=20))
    assert found.law.floor < 0.02
    assert found.law.exponent == pytest.approx(-0.2, rel=0.1)


def test_the_robust_loss_passes_by_an_outlier():
    y = law(0.3, -0.1)
    y[-1] *= 1.5
    assert fit(X, y, Settings(loss="huber", draws=20)).law.exponent == pytest.approx(-0.1, abs=2e-3)
    assert abs(fit(X, y).law.exponent + 0.1) > 0.01


def test_noise_of_each_point_by_hand():
    """Of two points: each log y varies by noise / y, over the distance of their log x."""
    found = fit([1, math.e], [0.2, 0.1], Settings(noise=0.001))
    assert found.noise == pytest.approx(math.hypot(0.005, 0.01))
    x, y = [1.0, 3.0, 10.0], [0.3, 0.25, 0.2]
    chance = np.random.default_rng(0)
    drawn = [fit(x, y + chance.normal(0, 0.001, 3)).law.exponent for _ in range(3000)]
    assert fit(x, y, Settings(noise=0.001)).noise == pytest.approx(np.std(drawn), rel=0.05)
    assert fit(x, y).noise is None


def test_the_bootstrap_covers():
    """Of laws with noise, about 95 of 100 intervals hold the exponent (of 12 points: some fewer)."""
    chance = np.random.default_rng(1)
    x = np.geomspace(1, 100, 12)
    held = 0
    for _ in range(100):
        found = fit(x, 0.3 * x**-0.2 * np.exp(chance.normal(0, 0.05, 12)), Settings(draws=300)).interval
        assert found is not None
        held += found[0] <= -0.2 <= found[1]
    assert 82 <= held <= 99
    assert fit(X[:4], law(0.3, -0.1)[:4]).interval is None  # too few to resample
    again = [fit(X, law(0.3, -0.1), Settings(draws=50, seed=3)).interval for _ in range(2)]
    assert again[0] == again[1]


@pytest.mark.parametrize(
    ("x", "floor", "words"),
    [([2.0], False, "there is 1"), ([2.0, 2.0], False, "there is 1"), ([1.0, 2.0], True, "with a floor has 3 numbers")],
)
def test_too_few_points(x, floor, words):
    with pytest.raises(UserError, match=words):
        fit(x, [0.3] * len(x), Settings(floor=floor))


def test_costs_that_are_alike_have_no_exponent():
    with pytest.raises(UserError, match=r"cost nearly the same, 1 to 1\.1"):
        fit([1.0, 1.05, 1.1], [0.3, 0.2, 0.25])
    assert "different costs" in str(compare(([1, 1.1], [0.3, 0.2]), ([1, 1.1], [0.4, 0.3]), noise=0.001))


def test_repeats_are_averaged_and_resampled_among_themselves():
    """Two runs of each of three costs: the law goes through their means, the interval is that of their exchanges."""
    x, y, labels = [1, 1, 10, 10, 100, 100], [0.5, 0.3, 0.2, 0.2, 0.1, 0.1], list("aabbcc")
    found = fit(x, y, Settings(draws=500), labels=labels)
    assert counted(x, y, Settings(), labels=labels) == ([1, 10, 100], [0.4, 0.2, 0.1])
    assert counted(x, y, Settings()) == (x, y)  # of one cost, but each stands for itself
    assert counted(x, y, Settings(), labels=list("abcdef")) == (x, y)
    assert (found.n, found.basis) == (3, "repeats")
    assert found.law.exponent == pytest.approx(fit([1, 10, 100], [0.4, 0.2, 0.1]).law.exponent)
    ends = [fit([1, 10, 100], [first, 0.2, 0.1]).law.exponent for first in (0.5, 0.3)]
    assert found.interval == pytest.approx(ends)


def test_the_envelope_goes_through_what_nothing_cheaper_beats():
    """Repeats are averaged first: a lucky run is not on it."""
    x, y = [1, 1, 2, 2, 4, 4, 8, 8], [0.4, 0.4, 0.30, 0.60, 0.2, 0.2, 0.1, 0.1]
    labels = list("aabbccdd")
    assert counted(x, y, Settings(pareto=True), labels=labels) == ([1, 4, 8], [0.4, 0.2, 0.1])
    assert fit(x, y, Settings(pareto=True), labels=labels).n == 3
    x, y = [1, 2, 3, 4, 5, 6], [0.6, 0.5, 0.55, 0.4, 0.45, 0.3]
    assert fit(x, y, Settings(pareto=True)).interval is None  # four points are left


def test_alike_errors_have_no_share_explained():
    assert fit(X, [0.2] * len(X), Settings(draws=10)).r2 is None


def test_frontier():
    """Dearer and no better is not on it, nor is the worse of two of one cost."""
    assert frontier([1, 2, 2, 3, 5, 4], [0.5, 0.4, 0.45, 0.42, 0.3, 0.3]) == [0, 1, 5]
    assert frontier([1, 1.01, 1.05], [0.5, 0.4, 0.3]) == [1, 2]  # within 2 % there is one best


def test_overlap():
    assert overlap([1, 10], [5, 50]) == (5, 10)
    assert overlap([1, 10], [5, 50], slack=2) == (2.5, 20)
    assert overlap([1, 4], [5, 50], slack=100) is None
    assert overlap([1, 5], [5, 50]) == (5, 5)


def test_two_families_of_one_law_do_not_differ_and_others_do():
    chance = np.random.default_rng(0)
    x = np.geomspace(1, 100, 10)
    noisy = [0.3 * x**e * np.exp(chance.normal(0, 0.02, 10)) for e in (-0.10, -0.10, -0.20)]
    alike, other = compare((x, noisy[0]), (x, noisy[1])), compare((x, noisy[0]), (x, noisy[2]))
    assert not isinstance(alike, str)
    assert not isinstance(other, str)
    assert alike.p > 0.05
    assert alike.interval[0] < 0 < alike.interval[1]
    assert other.p < 1e-3
    assert other.interval[0] < 0.1 < other.interval[1]
    assert other.basis == "residuals"


def test_the_test_is_the_interaction_of_a_regression():
    """Against the regression written out: log y on (1, family, log x, family * log x)."""
    chance = np.random.default_rng(2)
    xa, xb = np.geomspace(1, 30, 6), np.geomspace(1, 30, 5)
    ya, yb = 0.3 * xa**-0.1 * np.exp(chance.normal(0, 0.1, 6)), 0.25 * xb**-0.15 * np.exp(chance.normal(0, 0.1, 5))
    found = compare((xa, ya), (xb, yb))
    assert not isinstance(found, str)
    lx, first = np.log([*xa, *xb]), np.array([1.0] * 6 + [0.0] * 5)
    design, target = np.stack([np.ones(11), first, lx, first * lx], axis=1), np.log([*ya, *yb])
    numbers, rest, *_ = np.linalg.lstsq(design, target, rcond=None)
    deviation = math.sqrt(float(rest[0]) / 7 * np.linalg.inv(design.T @ design)[3, 3])
    assert found.difference == pytest.approx(numbers[3])
    assert (found.interval[1] - found.difference) / deviation == pytest.approx(2.364624, abs=1e-5)  # t of 7, 97.5 %


def test_nothing_is_compared_outside_of_the_common_range():
    """The second family goes on falling where the first has no points: that does not count."""
    xa, xb = [1, 2, 4, 8], [1, 2, 4, 8, 1000]
    ya, yb = [0.4 * x**-0.1 for x in xa], [*[0.4 * x**-0.1 for x in xb[:4]], 0.001]
    found = compare((xa, ya), (xb, yb))
    assert not isinstance(found, str)
    assert (found.low, found.high, found.n) == (1, 8, (4, 4))
    assert found.difference == pytest.approx(0.0, abs=1e-12)
    assert "no range in common: 1 to 8 and 10 to 20" in str(compare((xa, ya), ([10, 20], [0.3, 0.2])))
    assert "fewer than two different costs" in str(compare((xa, ya), ([7, 20, 30], [0.3, 0.2, 0.1])))


def test_two_points_of_each_need_to_know_their_noise():
    a, b = ([1, 10], [0.4, 0.3]), ([1, 10], [0.4, 0.2])
    assert "how much each point varies" in str(compare(a, b))
    found = compare(a, b, noise=0.001)
    assert not isinstance(found, str)
    assert found.basis == "noise"
    assert found.p < 1e-6


def test_equal_error_stays_within_the_points():
    law_of_b = fit([1, 4], [0.4, 0.2])
    assert equal_error(law_of_b, 1.0, 0.4 / math.sqrt(2)) == pytest.approx(2.0)
    assert equal_error(law_of_b, 1.0, 0.1) is None  # it would take 16, beyond its points
    assert PowerLaw(0.4, -0.5, floor=0.1).cost_of(0.05) is None


@pytest.fixture(scope="module")
def facts():
    yaml = pytest.importorskip("yaml")
    if not FACTS.is_file():
        pytest.skip("the facts (../shared/facts) are not here")
    return yaml.safe_load(FACTS.read_text())


def values(name: str, axis: str = "gmacs", unit: float = 1.0) -> tuple[list[float], list[float]]:
    points = published_series(name).xy(axis, "error")  # type: ignore[arg-type]
    return [x / unit for _, x, _ in points], [y for _, _, y in points]


def test_every_computed_fit_of_the_facts(facts):
    """Coefficient, exponent and propagated noise of the twelve fits on ImageNet."""
    targets = {name: row for name, row in facts["computed_fits"].items() if isinstance(row, dict)}
    assert len(targets) == 12
    for name, row in targets.items():
        found = fit(*values(name), Settings(noise=0.001, draws=10))
        assert found.n == row["n"], name
        assert found.law.coef == pytest.approx(row["coef"], abs=6e-5), name
        assert found.law.exponent == pytest.approx(row["exponent"], abs=6e-5), name
        assert found.noise == pytest.approx(row["se_from_0p1pt_noise"], abs=1.5e-4), name


def test_the_fits_of_clip(facts):
    clip = facts["clip_laion2b"]
    for name, key in (("clip_convnext_laion2b", "convnext"), ("clip_vit_laion2b", "vit")):
        found, row = fit(*values(name, "compute", 1e21), FEW), clip["fits"][key]
        assert (found.n, row["coef"], row["exponent"]) == (
            row["n"],
            pytest.approx(found.law.coef, abs=2e-4),
            pytest.approx(found.law.exponent, abs=3e-4),
        )
    rows = clip["vit_grid"]["fits_err_vs_train_flops_1e21"]
    for name, key, pareto in (
        ("clip_vit_grid", "laion_all_29", False),
        ("clip_vit_grid", "laion_pareto_10", True),
        ("clip_vit_grid_laion2b", "laion2b_all_11", False),
        ("clip_vit_grid_laion2b", "laion2b_pareto_9", True),
        ("clip_vit_openai", "openai_wit_3", False),
    ):
        x, y = values(name, "compute", 1e21)
        kept = frontier(x, y) if pareto else list(range(len(x)))
        found = fit([x[i] for i in kept], [y[i] for i in kept], FEW)
        assert found.n == int(key.split("_")[-1]), key
        assert found.law.coef == pytest.approx(rows[key]["coef"], abs=6e-5), key
        assert found.law.exponent == pytest.approx(rows[key]["exponent"], abs=6e-5), key
        assert found.r2 == pytest.approx(rows[key]["r2"], abs=6e-4), key


def test_compute_for_equal_accuracy(facts):
    """How much more compute a ViT needs; XXL's match lies beyond the grid's last point, so there is none."""
    clip = facts["clip_laion2b"]
    x, y = values("clip_vit_grid_laion2b", "compute", 1e21)
    kept = frontier(x, y)
    grid = fit([x[i] for i in kept], [y[i] for i in kept], FEW)
    against = clip["vit_grid"]["convnext_against_laion2b_pareto"]
    for name, (flops, top1, predicted, ratio) in against.items():
        assert 100 * (1 - grid.law(flops / 1e21)) == pytest.approx(predicted, abs=0.02)
        found = equal_error(grid, flops / 1e21, 1 - top1 / 100)
        assert found is None if name == "xxlarge" else found == pytest.approx(ratio, abs=0.01)
    convnext, vit = (fit(*values(name, "compute", 1e21), FEW) for name in ("clip_convnext_laion2b", "clip_vit_laion2b"))
    for key, ratio in clip["compute_ratio_vit_over_convnext"].items():
        error = 1 - float(key.removeprefix("at_")) / 100
        mine, theirs = convnext.law.cost_of(error), vit.law.cost_of(error)
        assert mine is not None
        assert theirs is not None
        assert theirs / mine == pytest.approx(ratio, abs=0.02)
