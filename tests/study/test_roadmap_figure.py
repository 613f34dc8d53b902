"""The picture of the roadmap is drawn with whatever steps there are."""

from __future__ import annotations

import pytest
from PIL import Image

from convnext.models.roadmap import STEPS
from convnext.study.roadmap import PUBLISHED, SWIN
from convnext.study.roadmap_figure import Series, draw


def paper(regime: str) -> Series:
    rows = PUBLISHED[regime]
    return Series(
        "paper",
        "ImageNet-1K",
        {step: (row.accuracy, row.deviation) for step, row in rows.items()},
        {step: row.gmacs for step, row in rows.items()},
        reference=SWIN[regime],
        is_paper=True,
    )


@pytest.mark.parametrize("regime", PUBLISHED)
def test_both_formats(tmp_path, regime):
    some = {"baseline": (70.0, 0.2), "k9": (71.5, None), "sep_ds": (73.0, 0.1)}
    ours = Series("here", "small", some, dict.fromkeys((step.name for step in STEPS), 0.0021))
    paths = [tmp_path / "figure.png", tmp_path / "figure.svg"]
    draw([paper(regime), ours], paths, heading="A heading")
    with Image.open(paths[0]) as picture:
        assert picture.width > 1200
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 50  # not an empty sheet
    text = paths[1].read_text()
    assert text.count("<svg") == 1
    draw([paper(regime)], paths[:1], heading="A heading")
    with Image.open(paths[0]) as alone:
        assert alone.width < picture.width


def test_one_value_alone(tmp_path):
    """A sweep whose first run has just ended."""
    draw([Series("here", "", {"k7": (12.5, None)}, {"k7": 4.1})], [tmp_path / "x.png"], heading="")
    assert (tmp_path / "x.png").stat().st_size > 5000
