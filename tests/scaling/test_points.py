"""Points: the shipped ones equal the facts and have sources; files of one's own, and what is wrong with some."""

from __future__ import annotations

from pathlib import Path

import pytest

from convnext.core.errors import UserError
from convnext.scaling.points import FILES, SERIES, by_family, published, published_series, read_points, sources

FACTS = Path(__file__).parents[3] / "shared" / "facts" / "scaling.yaml"


def test_every_point_has_a_source():
    known = sources()
    points = [point for file in FILES for point in published(file)]
    assert len(points) == 159 + 43
    assert {point.source for point in points} == set(known)
    assert all(where and read for where, read in known.values())
    assert all(point.error is not None and 0.09 < point.error < 0.6 for point in points)


def test_the_points_are_those_of_the_facts():
    yaml = pytest.importorskip("yaml")
    if not FACTS.is_file():
        pytest.skip("the facts (../shared/facts) are not here")
    rows = yaml.safe_load(FACTS.read_text())["points"]
    for (source, _, model, data, _, resolution, params, gmacs, top1), point in zip(
        rows, published("imagenet"), strict=True
    ):
        assert (source, model, data, resolution) == (point.source, point.model, point.data, point.resolution)
        assert (params, gmacs) == (point.parameters_m, point.gmacs)
        assert 100 * (1 - (point.error or 0)) == pytest.approx(top1)


@pytest.mark.parametrize("name", SERIES)
def test_every_series_has_points(name):
    series = published_series(name)
    assert len(series.xy(series.axis, "error")) >= 3
    assert len({point.family for point in series.points}) == 1
    costs = [x for _, x, _ in series.xy(series.axis, "error")]
    assert len(set(costs)) >= 3


def test_units():
    """ConvNeXt-T: 4.5 G multiply-accumulates, 300 epochs of 1.281167 M images, 6 FLOPs for each."""
    tiny = published_series("convnext_v1_in1k_224").points[0]
    assert (tiny.model, tiny.gmacs, tiny.parameters_m) == ("ConvNeXt-T", 4.5, 28.6)
    assert tiny.train_flops == pytest.approx(6 * 4.5e9 * 300 * 1.281167e6, rel=1e-3)
    # a model that sees a quarter of each image in pre-training has no compute by that rule, nor one at another size
    assert all(point.train_flops is None for point in published_series("mae_vit_in1k_B_L_H").points)
    huge = published_series("deit3_in22k_224").points[-1]
    assert (huge.model, huge.train_flops) == ("DeiT3-H/14", None)


def test_an_unknown_series():
    with pytest.raises(UserError, match=r"no published series 'swin_in1k'\. Did you mean"):
        published_series("swin_in1k")


def write(path: Path, text: str) -> Path:
    file = path / "mine.csv"
    file.write_text(text)
    return file


def test_a_table_of_ones_own(tmp_path):
    file = write(tmp_path, "family,model,gmacs,top1,note\ncnn,a,1.5,70,x\ncnn,b,3,75,\nvit,c,2,,\n")
    cnn, vit = by_family(read_points(file))
    assert [(x, round(y, 6)) for _, x, y in cnn.xy("gmacs", "error")] == [(1.5, 0.3), (3.0, 0.25)]
    assert vit.xy("gmacs", "error") == []
    assert cnn.xy("compute", "error") == cnn.xy("gmacs", "loss") == []


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model,gmacs,top1\na,1,70\n", "lacks the column family"),
        ("family,gmacs\na,1\n", "lacks the column one of top1, error, loss"),
        ("family,top1\na,70\n", "lacks the column one of gmacs, parameters_m, train_flops"),
        ("family,gmacs,top1\n", "no lines below its header"),
        ("family,gmacs,top1\na,1,70\na,fast,71\n", "line 3: gmacs is a number, not 'fast'"),
        ("family,gmacs,top1\na,nan,70\n", "gmacs is a number, not 'nan'"),
        ("family,gmacs,error\na,1,30\n", "error is a share, 0 to 1, not 30; per cents go into top1"),
        ("family,gmacs,top1\na,1,170\n", "in per cent, 0 to 100, not 170"),
        ("", "lacks the column family"),
        ("fam\x1b[31mily,gmacs,top1\na,1,70\n", "it has fam"),
    ],
)
def test_what_is_wrong_is_told(tmp_path, text, words):
    with pytest.raises(UserError, match=words) as told:
        read_points(write(tmp_path, text))
    assert "\x1b" not in str(told.value)


def test_what_is_no_text(tmp_path):
    (tmp_path / "mine.csv").write_bytes(b"\xff\xfe\x00family")
    with pytest.raises(UserError, match="cannot be read as csv"):
        read_points(tmp_path / "mine.csv")
    with pytest.raises(UserError, match="cannot be read"):
        read_points(tmp_path / "none.csv")


def test_values_that_no_law_can_have(tmp_path):
    file = write(tmp_path, "family,model,gmacs,top1\na,m,0,70\na,n,2,80\n")
    with pytest.raises(UserError, match=r"a, m: 0 and 0\.3 are not both above 0"):
        by_family(read_points(file))[0].xy("gmacs", "error")
