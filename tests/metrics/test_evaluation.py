"""What evaluation.json and the log hold: all figures, plain JSON, no NaN, and null where a figure is undefined."""

import json
import math

import pytest
import torch

from convnext.metrics.accuracy import ClassificationCounts
from convnext.metrics.coco_ap import coco_figures
from convnext.metrics.miou import segmentation_figures
from convnext.tasks.classification.figures import Mistake, Skipped, evaluation_dict
from convnext.tasks.detection import evaluate as detection
from convnext.tasks.segmentation import evaluate as segmentation


def evaluation(logits, targets, classes=("cat", "dog", "owl"), **given):
    counts = ClassificationCounts(3)
    counts.update(torch.tensor(logits), torch.tensor(targets))
    given = {"model": "m", "data": "d", "held_out": True, "images_per_second": 9.5} | given
    return evaluation_dict(counts.result(), classes=classes, **given)


def test_survives_json():
    values = evaluation(
        [[2.0, 0.0, 0.0], [2.0, 0.0, 0.0]],
        [0, 1],
        skipped=[Skipped("broken.jpg", "truncated")],
        mistakes=[Mistake("b.jpg", "dog", "cat", 0.79, "mistakes/000.png")],
    )
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert values["top1"] == 0.5
    assert values["per_class"] == [
        {"name": "cat", "n": 1, "top1": 1.0},
        {"name": "dog", "n": 1, "top1": 0.0},
        {"name": "owl", "n": 0, "top1": None},
    ]
    assert values["confusion"] == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    assert values["mistakes"][0] == {
        "name": "b.jpg",
        "target": "dog",
        "prediction": "cat",
        "confidence": 0.79,
        "picture": "mistakes/000.png",
    }
    assert values["skipped"] == [{"name": "broken.jpg", "reason": "truncated"}]
    assert len(values["reliability"]) == 15
    assert set(values["reliability"][0]) == {"low", "high", "count", "confidence", "accuracy"}


def test_not_a_number_becomes_null():
    values = evaluation([[math.nan] * 3], [0], images_per_second=math.inf)
    assert (values["loss"], values["ece"], values["images_per_second"]) == (None, None, None)
    assert (values["invalid"], values["top1"]) == (1, 0.0)
    json.dumps(values, allow_nan=False)


def test_every_class_has_a_name():
    with pytest.raises(ValueError, match="2 class names for 3"):
        evaluation([[0.0, 0.0, 0.0]], [0], classes=("cat", "dog"))


def test_undefined_figures_of_a_log_are_no_zeros():
    """Nothing to find, nothing found."""
    image = {"id": 1, "height": 8, "width": 8}
    empty = {"images": [image], "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    box = coco_figures(empty, [], kind="bbox")
    found = detection.Evaluation(box=box, mask=None, results=[], images_per_second=1.0)
    assert detection.log_figures(found) == {"box_AP": None, "box_AP50": None, "box_AP75": None}
    nothing = segmentation_figures(torch.zeros(2, 2, dtype=torch.int64), ("a", "b"))
    whole = segmentation.Evaluation(nothing, torch.zeros(2, 2, dtype=torch.int64), images_per_second=1.0)
    assert segmentation.log_figures(whole) == {"mIoU": None, "mAcc": None, "aAcc": None}
