"""A fourth task, of one file and one line: it trains, evaluates, predicts and reports through the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mean_colour import MEAN_COLOUR, NAME, ColourResult
from PIL import Image

import convnext
from convnext.cli.completion import words
from convnext.cli.main import main
from convnext.core.logs import read_log
from convnext.tasks.table import TASKS


@pytest.fixture(autouse=True)
def fourth(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(TASKS, NAME, MEAN_COLOUR)  # the one line


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    folder = tmp_path / "colours"
    folder.mkdir()
    rows, chance = ["name,r,g,b"], torch.Generator().manual_seed(0)
    for number in range(16):
        colour = tuple(torch.randint(256, (3,), generator=chance).tolist())
        Image.new("RGB", (8, 8), colour).save(folder / f"{number}.png")
        rows.append(f"{number}.png," + ",".join(f"{value / 255:.4f}" for value in colour))
    (folder / "colours.csv").write_text("\n".join(rows))
    return folder


def test_trains_evaluates_predicts_and_reports(
    colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "runs" / "colours"
    assert main(["train", "--data", str(colours), "--out", str(run), "--schedule.epochs", "80"]) == 0
    said = capsys.readouterr()
    assert "as data for a colourist (it has a colours.csv)" in said.err
    assert "mean error 0.0" in said.err
    assert json.loads((run / "recipe.json").read_text())["task"] == NAME
    evals = [event for event in read_log(run / "log.jsonl") if event["event"] == "eval"]
    assert evals[-1]["closeness"] > 0.95

    assert main(["evaluate", str(run), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["n"], figures["held_out"]) == (4, True)
    assert figures["error"] < 0.05
    assert main(["evaluate", str(run), "--data", str(colours)]) == 0
    assert capsys.readouterr().out.startswith("error")

    assert main(["predict", str(colours / "0.png"), "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    truth = Image.open(colours / "0.png").getpixel((0, 0))
    assert max(abs(a - b) for a, b in zip(found["colour"], truth, strict=True)) < 25
    assert Path(found["picture"]).is_file()

    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "Mean error" in page
    assert "<h2>Colours</h2>" in page
    assert "<h2>Recipe</h2>" in page


def test_the_rest_of_the_program_knows_it(colours: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "colourist   says the mean colour of an image" in capsys.readouterr().out
    assert main(["recipes"]) == 0
    assert "small/mean_colour" in capsys.readouterr().out
    assert "small/mean_colour" in words(["train"])
    run = tmp_path / "run"
    assert main(["train", "small/mean_colour", "--data", str(colours), "--out", str(run)]) == 0
    assert main(["train", "--resume", str(run)]) == 0
    assert main(["weights", "inspect", str(run)]) == 0
    assert "a colourist" in capsys.readouterr().out
    assert main(["weights", "convert", str(run), str(tmp_path / "copy.safetensors")]) == 0
    result = convnext.load(tmp_path / "copy.safetensors")(colours / "1.png")
    assert isinstance(result, ColourResult)
    (tmp_path / "empty").mkdir()
    capsys.readouterr()
    assert main(["train", "--data", str(tmp_path / "empty"), "--out", str(tmp_path / "x")]) == 1
    assert "for a colourist: a folder of images with colours.csv" in capsys.readouterr().err
    assert main(["train", "cifar10", "--data", str(colours), "--out", str(tmp_path / "y")]) == 1
    assert "looks like data for a colourist (it has a colours.csv)" in capsys.readouterr().err
