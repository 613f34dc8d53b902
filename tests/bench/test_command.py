"""`convnext bench` as people run it: a real run of the smallest kind, and what is said when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from convnext.cli.main import main

TINY = (
    *(
        "bench",
        "--models",
        "convnext_atto",
        "--libraries",
        "convnext",
        "timm",
        "--modes",
        "eager",
        "--dtypes",
        "float32",
    ),
    *("--batches", "1", "--works", "forward", "--size", "32", "--seconds", "0.02", "--starts", "1", "--rounds", "3"),
    *("--threads", "1"),
)


@pytest.mark.slow
def test_a_real_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--out", str(tmp_path)]) == 0
    out, err = capsys.readouterr()
    assert "1 cell to measure, about " in err
    assert "convnext_atto  forward  float32  batch 1  (limit " in out
    assert "Like for like, in 1 pair" in out
    assert {path.name for path in tmp_path.iterdir()} == {"cells.jsonl", "bench.json", "bench.md", "bench.png"}
    found = json.loads((tmp_path / "bench.json").read_text())
    (cell,) = found["cells"]
    assert [(e["library"], e["status"]) for e in cell["entries"]] == [("convnext", "measured"), ("timm", "measured")]
    for entry in cell["entries"]:
        assert {tried["name"] for tried in entry["tried"]} == {"NCHW", "NHWC"}
        assert [len(rounds) for rounds in entry["seconds"]] == [3]
        assert entry["images_per_second"] > 0
        assert entry["memory"] is None or 10 * 2**20 < entry["memory"] < 400 * 2**20  # 3.7 million weights are 15 MB
    assert cell["limit_median"] > 0
    assert "# ConvNeXt in four libraries" in (tmp_path / "bench.md").read_text()
    with Image.open(tmp_path / "bench.png") as image:
        assert image.width > 500
    # Again: everything is there already.
    assert main([*TINY, "--out", str(tmp_path), "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["cells"] == found["cells"]
    assert "to measure" not in err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--models", "convnext_tinny"), "There is no model 'convnext_tinny'. Did you mean 'convnext_tiny'"),
        (("--rounds", "0"), "--rounds takes numbers above 0, not 0"),
        (("--batches", "1", "-3"), "--batches takes numbers above 0, not -3"),
        (("--seconds", "nan"), "--seconds takes numbers above 0, not nan"),
        (("--size", "16"), "--size is at least 32 pixels"),
        (("--threads", "-1"), "--threads takes 0"),
        (("--give-up", "1"), "--give-up takes 0 (none is given up) or at least 2"),
        (("--give-up", "nan"), "--give-up takes 0"),
        (("--modes",), "--modes needs at least one value"),
        (("--works", "train", "--modes", "aoti"), "nothing to measure"),
        (("--device", "cuda:99"), "not on this machine"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", *words, "--out", str(tmp_path / "none")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--help"]) == 0
    text = capsys.readouterr().out
    for option in ("--models", "--libraries", "--modes", "--dtypes", "--batches", "--works", "--size", "--give-up"):
        assert option in text
