"""Outlined objects as label maps: what each pixel is, by hand; and trained on from the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from convnext.cli.main import main
from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.segmentation.outlines import OutlineData
from painted import painted


def square(x: int, y: int, side: int, category: int, **more: Any) -> dict[str, Any]:
    corners = [x, y, x + side, y, x + side, y + side, x, y + side]
    box = {"bbox": [x, y, side, side], "area": side * side, "iscrowd": 0, "category_id": category}
    return box | {"segmentation": [corners]} | more


def described(folder: Path, annotations: list[dict[str, Any]], names: tuple[str, ...] = ("plate", "pea")) -> Path:
    """One image of 12 x 10 pixels, twice, with these objects."""
    for number in (1, 2):
        Image.new("RGB", (12, 10)).save(folder / f"{number}.png")
    images = [{"id": number, "file_name": f"{number}.png", "width": 12, "height": 10} for number in (1, 2)]
    numbered = [
        {"id": place, "image_id": image, **one}
        for place, (image, one) in enumerate([(image, one) for image in (1, 2) for one in annotations], start=1)
    ]
    categories = [{"id": place, "name": name} for place, name in enumerate(names, start=1)]
    content = {"images": images, "annotations": numbered, "categories": categories}
    (folder / "all.json").write_text(json.dumps(content))
    return folder


def test_the_smallest_object_is_on_top_and_crowds_are_no_class(tmp_path: Path) -> None:
    crowd = {"size": [10, 12], "counts": [100, 20]}  # the last two columns
    inside = [
        square(1, 1, 2, 2),  # a pea on the plate, although it comes first
        square(0, 0, 6, 1),
        square(7, 1, 2, 2) | {"segmentation": []},  # a box alone
        square(10, 0, 2, 1) | {"bbox": [10, 0, 2, 10], "segmentation": crowd, "iscrowd": 1},
    ]
    data = OutlineData(described(tmp_path, inside)).for_evaluation(LoaderConfig())
    assert data.classes == ("background", "plate", "pea")
    assert data.values == (0, 1, 2)
    expected = torch.zeros(10, 12, dtype=torch.uint8)
    expected[0:6, 0:6] = 1
    expected[1:3, 1:3] = 2
    expected[1:3, 7:9] = 255
    expected[:, 10:] = 255
    assert torch.equal(data.labels(1), expected)
    assert data.pixels.tolist() == [2 * int((expected == k).sum()) for k in range(3)]


def test_boxes_alone_are_refused(tmp_path: Path) -> None:
    objects = [{key: value for key, value in square(1, 1, 4, 1).items() if key != "segmentation"}]
    data = OutlineData(described(tmp_path, objects))
    with pytest.raises(UserError, match="have boxes alone; label maps are made of outlines"):
        data.for_evaluation(LoaderConfig())


@pytest.mark.slow
def test_trained_on_and_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = tmp_path / "data", tmp_path / "run"
    data.mkdir()
    painted(data)
    small = ["--schedule.steps", "4", "--loop.eval-epochs", "0", "--loader.workers", "0", "--augment.crop", "64"]
    words = ["train", "--data", str(data), "--labels", "objects", "--init", "none", "--out", str(run)]
    assert main([*words, *small]) == 0
    said = capsys.readouterr().err
    assert "as data for a segmenter" in said
    assert "The outlines are made into label maps: the background, and a class for each kind of object." in said
    assert main(["evaluate", str(run), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert (figures["n"], figures["held_out"]) == (4, True)
    assert main(["evaluate", str(run), "--data", str(data), "--labels", "objects", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mIoU"] == figures["mIoU"]
    assert main(["data", "check", str(data), "--labels", "objects", "--workers", "0"]) == 0
    assert "background" in capsys.readouterr().out
