"""`convnext roadmap` as people use it, and what it says to mistakes."""

from __future__ import annotations

import json

import pytest

from convnext.cli.main import main
from convnext.core.errors import UserError
from convnext.core.logs import seconds_in

pytestmark = pytest.mark.slow


def test_show(capsys):
    assert main(["roadmap", "show", "resnet50", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 16
    assert rows[0]["parameters"] == 25_557_032
    assert rows[-1]["accuracy_published"] == 81.97
    assert main(["roadmap", "show"]) == 0
    text = capsys.readouterr().out
    assert "4.0892" in text
    assert "81.97 ± 0.06" in text
    assert "* in print" in text
    assert main(["roadmap", "show", "small"]) == 0
    assert "*" not in capsys.readouterr().out


def test_help(capsys):
    assert main(["roadmap"]) == 0
    assert "Figure 2 with your runs" in capsys.readouterr().out
    assert main(["roadmap", "fly"]) == 1
    assert "no part 'fly'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--steps", "k8"], "no step 'k8'. Did you mean"),
        ([], "Which images? Give --data DIR"),
        (["--data", "digits", "--seeds", "0"], "--seeds is at least 1"),
        (["--data", "digits", "--budget", "soon"], "not 'soon'"),
        (["--data", "digits", "--budget", "1h", "--epochs", "3"], "not both"),
        (["--data", "nowhere"], "nowhere"),
        (["--data", "digits", "--lr", "-1", "--epochs", "1"], "optim.lr"),
    ],
)
def test_mistakes_are_told_before_anything_is_written(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(["roadmap", "run", *arguments]) == 1
    assert words in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_layout_is_told_first(tmp_path, capsys):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "notes.txt").write_text("no images here")
    out = tmp_path / "out"
    assert main(["roadmap", "run", "--data", str(tmp_path / "data"), "--out", str(out)]) == 1
    assert "has no folders inside" in capsys.readouterr().err
    assert not out.exists()


def test_run_and_draw(tmp_path, capsys):
    out = tmp_path / "sweep"
    words = [
        "roadmap",
        "run",
        "--data",
        "digits",
        "--steps",
        "k7",
        "--seeds",
        "1",
        "--epochs",
        "0.3",
        "--out",
        str(out),
    ]
    assert main([*words, "--json"]) == 0
    (result,) = json.loads(capsys.readouterr().out)
    assert result["step"] == "k7"
    assert main(words) == 0  # goes on: there is nothing left to do
    assert "convnext roadmap draw" in capsys.readouterr().out
    assert main(["roadmap", "draw", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == [str(out / "figure.png"), str(out / "figure.svg")]
    assert (out / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_draw_without_a_sweep(tmp_path, capsys):
    assert main(["roadmap", "draw", "--regime", "resnet200", "--out", str(tmp_path / "paper")]) == 0
    assert (tmp_path / "paper.svg").is_file()
    capsys.readouterr()
    assert main(["roadmap", "draw", str(tmp_path)]) == 1
    assert "no sweep's folder" in capsys.readouterr().err
    assert main(["roadmap", "draw", "--out", str(tmp_path / "no" / "x")]) == 1
    assert "no folder" in capsys.readouterr().err


def test_speed(capsys):
    words = ["roadmap", "speed", "--models", "roadmap_small_baseline", "roadmap_small_sep_ds", "--size", "32"]
    words += ["--rounds", "1", "--seconds", "0.01", "--threads", "1", "--device", "cpu", "--batch", "2"]
    assert main([*words, "--json"]) == 0
    speeds = json.loads(capsys.readouterr().out)["speeds"]
    assert [(s["model"], s["work"]) for s in speeds] == [
        (model, work) for work in ("forward", "train") for model in words[3:5]
    ]
    assert all(len(s["seconds"]) == 1 and min(s["seconds"]) > 0 for s in speeds)
    assert main(["roadmap", "speed", "--models", "roadmap_small_k8"]) == 1
    assert "no model" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("1h30m", 5400), ("45s", 45), ("8h", 28800), ("1.5h", 5400), ("2m5s", 125)]
)
def test_times(text, seconds):
    assert seconds_in(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "90", "h", "m30", "-5m", "1h30"])
def test_no_times(text):
    with pytest.raises(UserError, match="90m, 8h or 1h30m"):
        seconds_in(text)
