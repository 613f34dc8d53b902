"""Runs that the version before the redesign wrote: they resume, evaluate, predict and load; one of each task.

Each was stopped after two steps; log.finished.jsonl is its log as that version went on. tests/old_runs holds what that
version left of: classify: `cifar10` on circles and squares; detect: `small/mask_rcnn` on `painted`; segment:
`small/segmenter` with its "light" head on `labelmaps`; all with tiny models.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import convnext
from convnext.cli.main import main
from convnext.core.logs import read_log
from convnext.run import evaluate
from convnext.tasks.recipes import read_recipe
from labelmaps import labelled
from painted import painted
from shapes import draw

pytestmark = pytest.mark.slow

OLD = Path(__file__).parents[1] / "old_runs"
NAMES = ("classify", "detect", "segment")


def data_of(task: str, place: Path) -> Path:
    """The data that the old run was trained on, drawn again."""
    if task == "detect":
        place.mkdir()
        return painted(place)
    if task == "segment":
        return labelled(place)
    for shape in ("circle", "square"):
        (place / shape).mkdir(parents=True)
        for number in range(12):
            draw(place / shape / f"{number}.png", shape, number)
    return place


@pytest.fixture(params=NAMES)
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An old run whose recipe leads to its data."""
    run = tmp_path / "run"
    shutil.copytree(OLD / request.param, run)
    values = json.loads((run / "recipe.json").read_text())
    values["data"] = str(data_of(request.param, tmp_path / "data"))
    (run / "recipe.json").write_text(json.dumps(values))
    return run


def losses(path: Path) -> list[float]:
    return [event["loss"] for event in read_log(path) if event["event"] == "step"]


def test_resumes_as_if_nothing_had_changed(old: Path) -> None:
    before = losses(old / "log.jsonl")
    assert main(["train", "--resume", str(old)]) == 0
    expected = losses(old / "log.finished.jsonl")
    assert losses(old / "log.jsonl")[: len(before)] == before
    assert losses(old / "log.jsonl") == pytest.approx(expected, rel=2e-3)  # another processor rounds differently
    assert (old / "report.html").is_file()


def test_evaluates_predicts_and_loads(old: Path, tmp_path: Path) -> None:
    figures = evaluate(old)
    assert figures["held_out"] is True
    predictor = convnext.load(old)
    image = next((tmp_path / "data").rglob("*.png"))
    result = predictor(image)
    assert result.summary()
    assert result.plot().size[0] > 0
    assert predictor.metadata.classes


def test_the_recipe_is_read_with_todays_names() -> None:
    assert read_recipe(OLD / "segment" / "recipe.json").model.head == "mlp"
    assert read_recipe(OLD / "classify" / "recipe.json").task == "classify"
