"""docs/scaling.md tells the fits that the program finds: every row of its tables is computed again."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from convnext.scaling.fit import Settings, counted
from convnext.scaling.points import SERIES, published_series
from convnext.scaling.report import How, fitted, read_series

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "scaling.md").read_text()
HOW = How(settings=Settings(noise=0.001, draws=100))
ROWS = dict(re.findall(r"^\| `(\w+)` \| (.*) \|$", TEXT, re.MULTILINE))


def test_every_published_series_stands_there():
    assert set(ROWS) == set(SERIES)


@pytest.mark.parametrize("name", SERIES)
def test_a_row_is_what_fit_finds(name):
    found = fitted(published_series(name), HOW)
    fit = found.fit
    assert fit is not None
    span = f"{fit.low * found.unit:.3g} to {fit.high * found.unit:.3g}"
    numbers = (f"{fit.law.coef:.4f}", f"{fit.law.exponent:.4f}", f"{fit.noise:.4f}", f"{fit.r2:.3f}")
    assert ROWS[name].split(" | ") == [str(fit.n), span, *numbers]


def test_the_study_is_what_its_points_give():
    study = str(ROOT / "docs" / "results" / "scaling_study.csv")
    for series in read_series([study]):
        envelope = replace(HOW, settings=Settings(pareto=True, noise=0.001))
        error, loss = fitted(series, envelope), fitted(series, replace(envelope, figure="loss"))
        assert error.fit is not None
        assert loss.fit is not None
        _, best = counted(*error.xy(), envelope.settings, labels=error.labels())
        low, high = error.fit.interval or (0, 0)
        row = (
            f"| {series.title} | {error.fit.law.coef:.3f} (C / 1e12)^{error.fit.law.exponent:.3f} | "
            f"{low:.3f} to {high:.3f} | {loss.fit.law.coef:.3f} (C / 1e12)^{loss.fit.law.exponent:.3f} | "
            f"{100 * (1 - best[-1]):.1f} % |"
        )
        assert row in TEXT, row
    assert len([point for series in read_series([study]) for point in series.points]) == 64


def test_the_figure_is_there():
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", TEXT)
    assert (ROOT / "docs" / picture).is_file()
