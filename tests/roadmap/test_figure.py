"""The picture of the roadmap is drawn with whatever steps there are."""

from __future__ import annotations

import pytest
from PIL import Image

from convnext.models.roadmap import STEPS
from convnext.roadmap.costs import PUBLISHED, rows
from convnext.roadmap.figure import Series, draw, of_paper, of_sweep
from convnext.roadmap.sweep import Plan, Result


@pytest.mark.parametrize("regime", PUBLISHED)
def test_both_formats(tmp_path, regime):
    some = {"baseline": (70.0, 0.2), "k9": (71.5, None), "sep_ds": (73.0, 0.1)}
    ours = Series("here", "small", some, dict.fromkeys((step.name for step in STEPS), 0.0021))
    paths = [tmp_path / "figure.png", tmp_path / "figure.svg"]
    draw([of_paper(regime), ours], paths, heading="A heading")
    with Image.open(paths[0]) as picture:
        assert picture.width > 1200
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50  # not an empty sheet
    text = paths[1].read_text()
    assert text.count("<svg") == 1
    draw([of_paper(regime)], paths[:1], heading="A heading")
    with Image.open(paths[0]) as alone:
        assert alone.width < picture.width


def test_one_value_alone(tmp_path):
    """A sweep whose first run has just ended."""
    draw([Series("here", "", {"k7": (12.5, None)}, {"k7": 4.1})], [tmp_path / "x.png"], heading="")
    assert (tmp_path / "x.png").stat().st_size > 5000


@pytest.mark.slow
def test_a_sweep_of_reduced_networks():
    """Costs are those of the networks that ran: their classes, image size and stem stride."""
    plan = Plan("small", "/somewhere/photos/train.tar", 2.0, seeds=1, steps=("k7",))
    series = of_sweep(plan, [Result("k7", 0, 0.5, 120, 10, 3.0)])
    assert series.values == {"k7": (50.0, None)}
    assert series.subtitle == "photos, 32 pixels, 2 epochs, 1 seed, 120 held-out images"
    cost = next(row for row in rows("small", pixels=32, num_classes=10, stem_stride=2) if row["step"] == "k7")
    assert series.gmacs["k7"] == cost["gmacs"]
    assert 0.006 < cost["gmacs"] < 0.008
