"""`--model.name` gives that model whole; what the recipe had set for another one is dropped, and said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from painted import painted
from shapes import Answer, assert_refused, draw

Convnext = Callable[..., Answer]


def test_a_model_that_is_named_is_that_model(convnext: Convnext, tmp_path: Path) -> None:
    for shape in ("circle", "square"):
        (tmp_path / "small" / shape).mkdir(parents=True)
        for number in range(3):
            draw(tmp_path / "small" / shape / f"{number}.png", shape, number)
            with Image.open(tmp_path / "small" / shape / f"{number}.png") as image:
                image.resize((40, 36)).save(tmp_path / "small" / shape / f"{number}.png")
    words = ["train", "--data", tmp_path / "small", "--model.name", "convnext_zepto_rms", "--schedule.epochs", "1"]
    answer = convnext(*words, "--out", tmp_path / "run")
    assert answer.status == 0, answer.err
    assert (
        "--model.name convnext_zepto_rms gives it as it is: what the recipe had set for convnext_atto is dropped ("
        in (answer.err)
    )
    assert "depths 1 2 2 1" in answer.err
    assert "convnext_zepto_rms, 1.9 million parameters" in answer.err
    given = ["--model.depths", "1", "1", "1", "1"]
    answer = convnext(*words, *given, "--out", tmp_path / "own")
    assert json.loads((tmp_path / "own" / "recipe.json").read_text())["model"]["depths"] == [1, 1, 1, 1]
    (line,) = [line for line in answer.err.splitlines() if "is dropped" in line]
    assert "depths" not in line
    assert "dims 32" in line


def test_settings_of_the_recipe_are_no_obstacle_to_another_family(convnext: Convnext, tmp_path: Path) -> None:
    answer = convnext("train", "demo", "--model.name", "swin_tiny", "--out", tmp_path / "run")
    assert_refused(answer, "swin_tiny shrinks images 32 times: --input.size is at least 32, not 16.")
    assert "unset" not in answer.err
    assert "stem-stride" not in answer.err  # which a Swin does not have
    answer = convnext("train", "demo", "--model.name", "convnext_tiny", "--out", tmp_path / "run")
    assert_refused(answer, "--model.stem-stride")


def test_a_recipe_that_starts_from_weights_of_another_model(convnext: Convnext, tmp_path: Path) -> None:
    """The analogous weights where there are any; else it is asked."""
    (tmp_path / "data").mkdir()
    data = painted(tmp_path / "data")
    words = ["train", "coco/mask_rcnn_convnext_tiny", "--data", data, "--out", tmp_path / "run"]
    answer = convnext(*words, "--model.backbone.name", "swin_tiny")
    assert_refused(answer, "starts from convnext_tiny.fb_in1k_no_ema, which is no swin_tiny", "--init none")
