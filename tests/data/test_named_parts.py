"""`convnext evaluate --split`: the part that is named, under the classes of the training part; never another one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from convnext.cli.main import main
from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.tasks.table import TASKS
from labelmaps import save, scene
from painted import paint
from shapes import draw

PARTS = {"train": 8, "val": 4, "test": 2}


def photos(root: Path, parts: dict[str, int]) -> Path:
    for part, count in parts.items():
        for shape in ("circle", "square"):
            (root / part / shape).mkdir(parents=True)
            for number in range(count // 2):
                draw(root / part / shape / f"{part}{number}.jpg", shape, number)
    return root


def objects(root: Path, parts: dict[str, int]) -> Path:
    for place, (part, count) in enumerate(parts.items()):
        paint(root, part, range(10 * place, 10 * place + count))
    return root


def label_maps(root: Path, parts: dict[str, int]) -> Path:
    for place, (part, count) in enumerate(parts.items()):
        for number in range(count):
            picture, labels = scene(10 * place + number)
            save(root / "images" / part / f"{number}.png", picture)
            save(root / "masks" / part / f"{number}.png", labels)
    return root


MAKE: dict[str, Callable[[Path, dict[str, int]], Path]] = {
    "classify": photos,
    "detect": objects,
    "segment": label_maps,
}


@pytest.mark.parametrize("task", MAKE)
def test_the_part_that_is_named(task: str, tmp_path: Path) -> None:
    data = TASKS[task].open_data(str(MAKE[task](tmp_path, PARTS)), {})
    for part, count in PARTS.items():
        found = data.for_evaluation(LoaderConfig(), part)
        assert len(found) == count
        assert found.classes == data.for_evaluation(LoaderConfig(), "train").classes
    assert len(data.for_evaluation(LoaderConfig())) == PARTS["val"]


@pytest.mark.parametrize("task", MAKE)
def test_a_part_that_is_not_there(task: str, tmp_path: Path) -> None:
    data = TASKS[task].open_data(str(MAKE[task](tmp_path, {"train": 4, "val": 2})), {})
    with pytest.raises(UserError, match=r"has no part 'test'; it has train and val\. Leave --split out"):
        data.for_evaluation(LoaderConfig(), "test")


@pytest.mark.parametrize("task", ["classify", "segment"])
def test_a_test_part_that_validates_is_the_test_part(task: str, tmp_path: Path) -> None:
    data = TASKS[task].open_data(str(MAKE[task](tmp_path, {"train": 4, "test": 2})), {})
    assert len(data.for_evaluation(LoaderConfig(), "test")) == len(data.for_evaluation(LoaderConfig())) == 2
    with pytest.raises(UserError, match=r"has no part 'val'; it has train and test\."):
        data.for_evaluation(LoaderConfig(), "val")


def test_a_run_is_evaluated_on_any_part_of_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = photos(tmp_path / "data", PARTS), tmp_path / "run"
    tiny = ["--model.dims", "8", "8", "8", "8", "--model.depths", "1", "1", "1", "1", "--schedule.epochs", "1"]
    assert main(["train", "cifar10", "--data", str(data), "--out", str(run), "--loader.workers", "0", *tiny]) == 0
    capsys.readouterr()
    for part, count in PARTS.items():
        for more in ([], ["--data", str(data)]):
            assert main(["evaluate", str(run), "--split", part, "--json", "--workers", "0", *more]) == 0
            figures = json.loads(capsys.readouterr().out)
            assert figures["n"] == count
            assert figures["held_out"] == (None if more else part != "train")
