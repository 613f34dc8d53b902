"""COCO's figures: by hand, and as pycocotools gives them when it is called directly."""

import copy
import importlib.util
import json
import math
from dataclasses import astuple
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools import mask as coder
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from convnext.core.errors import UserError
from convnext.metrics import coco_ap
from convnext.metrics.coco_ap import Kind, coco_figures, results_of
from convnext.ops.instances import Detections

CLASSES = [{"id": 90, "name": "zebra"}, {"id": 2, "name": "dog"}]
HOTCOCO = pytest.param(
    "hotcoco",
    marks=pytest.mark.skipif(importlib.util.find_spec("hotcoco") is None, reason="hotcoco is not installed"),
)


@pytest.fixture(params=["pycocotools", HOTCOCO])
def evaluator(request):
    return request.param


def truth_of(*objects, images=1, categories=CLASSES):
    """Each object: (image, category, box), a crowd where there is a fourth entry."""
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": category,
            "bbox": box,
            "area": box[2] * box[3],
            "iscrowd": int(bool(crowd)),
        }
        for number, (image, category, box, *crowd) in enumerate(objects)
    ]
    listed = [{"id": number, "height": 200, "width": 300} for number in range(images)]
    return {"images": listed, "annotations": annotations, "categories": categories}


def found(score, box, image=0, category=2):
    return {"image_id": image, "category_id": category, "bbox": box, "score": score}


def twelve(figures):
    return astuple(figures)[:12]


def by_pycocotools(truth, results, kind):
    """The twelve figures and the precision of each class by category id, from pycocotools itself; None for -1."""
    truth_set = COCO()
    truth_set.dataset = copy.deepcopy(truth)
    truth_set.createIndex()
    results = copy.deepcopy(results)
    for entry in results:
        entry.pop("bbox" if kind == "segm" else "segmentation", None)  # or it would take a mask's area from the box
    result_set = truth_set.loadRes(results)
    evaluation = COCOeval(truth_set, result_set, kind)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    classes = {}
    for k, category in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, k, 0, 2]
        classes[category] = [known(precision.mean()), known(precision[0].mean())]
    return [known(value) for value in evaluation.stats], classes


def known(value):
    return None if value == -1 else float(value)


def close(given, expected):
    assert [value is None for value in given] == [value is None for value in expected]
    pairs = [pair for pair in zip(given, expected, strict=True) if pair[0] is not None]
    assert pairs
    assert all(math.isclose(*pair, rel_tol=0, abs_tol=1e-6) for pair in pairs), pairs


def test_one_object_found_exactly(evaluator):
    truth = truth_of((0, 2, [10, 10, 40, 40]))  # 1600 pixels: medium
    figures = coco_figures(truth, [found(0.3, [10, 10, 40, 40])], kind="bbox", evaluator=evaluator)
    close(twelve(figures), [1, 1, 1, None, 1, None, 1, 1, 1, None, 1, None])
    dog, zebra = figures.per_class  # by category id, not in the order of the file
    assert (dog.name, dog.n, zebra.name, zebra.n, zebra.AP, zebra.AP50) == ("dog", 1, "zebra", 0, None, None)
    close([dog.AP, dog.AP50], [1, 1])


def test_an_overlap_of_062_counts_at_three_of_ten_thresholds(evaluator):
    # 62 of 100 columns: IoU 0.62, enough for 0.50, 0.55 and 0.60
    truth = truth_of((0, 2, [0, 0, 100, 100]))
    figures = coco_figures(truth, [found(0.9, [0, 0, 62, 100])], kind="bbox", evaluator=evaluator)
    close(twelve(figures), [0.3, 1, 0, None, None, 0.3, 0.3, 0.3, 0.3, None, None, 0.3])


@pytest.mark.parametrize(("score", "expected"), [(0.9, 0.5), (0.1, 1.0)])
def test_a_false_positive_costs_precision_where_it_scores_higher_than_the_object(evaluator, score, expected):
    truth = truth_of((0, 2, [10, 10, 40, 40]))
    results = [found(0.5, [10, 10, 40, 40]), found(score, [150, 100, 40, 40])]
    figures = coco_figures(truth, results, kind="bbox", evaluator=evaluator)
    close([figures.AP, figures.AP50, figures.AR100], [expected, expected, 1])
    assert (1.0 if score < 0.5 else 0.0) == figures.AR1


def test_half_of_the_objects_are_half_of_the_recalls(evaluator):
    truth = truth_of((0, 2, [10, 10, 40, 40]), (0, 2, [100, 100, 40, 40]))
    figures = coco_figures(truth, [found(0.5, [10, 10, 40, 40])], kind="bbox", evaluator=evaluator)
    close([figures.AP, figures.AR100], [51 / 101, 0.5])  # recalls 0.00 .. 0.50


def test_a_second_detection_of_an_object_is_a_false_positive(evaluator):
    truth = truth_of((0, 2, [10, 10, 40, 40]), (0, 2, [100, 100, 40, 40]))
    results = [found(0.9, [10, 10, 40, 40]), found(0.8, [10, 10, 40, 40]), found(0.7, [100, 100, 40, 40])]
    figures = coco_figures(truth, results, kind="bbox", evaluator=evaluator)
    close([figures.AP], [(51 + 50 * 2 / 3) / 101])


def test_detections_within_a_crowd_do_not_count(evaluator):
    crowd = (0, 2, [100, 0, 200, 200], "crowd")
    truth = truth_of((0, 2, [10, 10, 40, 40]), crowd)
    inside = [found(0.9, [120, 20, 30, 30]), found(0.8, [200, 90, 30, 30])]
    results = [found(0.5, [10, 10, 40, 40]), *inside]
    figures = coco_figures(truth, results, kind="bbox", evaluator=evaluator)
    close([figures.AP, figures.AR100], [1, 1])
    assert figures.per_class[0].n == 1
    outside = coco_figures(truth_of((0, 2, [10, 10, 40, 40])), results, kind="bbox", evaluator=evaluator)
    close([outside.AP], [1 / 3])


def test_an_area_range_ignores_objects_and_detections_of_other_sizes(evaluator):
    truth = truth_of((0, 2, [0, 0, 20, 20]), (0, 2, [50, 0, 50, 50]), (0, 2, [110, 0, 150, 150]))
    results = [found(0.9, [0, 100, 20, 20]), found(0.8, [50, 0, 50, 50])]  # a small false positive, the medium object
    figures = coco_figures(truth, results, kind="bbox", evaluator=evaluator)
    close([figures.APs, figures.APm, figures.APl, figures.ARs, figures.ARm, figures.ARl], [0, 1, 0, 0, 1, 0])
    close([figures.AP, figures.AR100], [34 * 0.5 / 101, 1 / 3])


def test_only_the_surest_hundred_of_a_class_and_image_count(evaluator):
    truth = truth_of((0, 2, [10, 10, 40, 40]))
    warnings = [found(0.9, [150, 100, 40, 40]) for _ in range(99)]
    hit = found(0.5, [10, 10, 40, 40])
    at_100 = coco_figures(truth, [hit, *warnings], kind="bbox", evaluator=evaluator)
    close([at_100.AP, at_100.AR10, at_100.AR100], [0.01, 0, 1])
    at_101 = coco_figures(truth, [hit, *warnings, warnings[0]], kind="bbox", evaluator=evaluator)
    close([at_101.AP, at_101.AR100], [0, 0])


def test_nothing_found_is_zero_and_nothing_to_find_is_none(evaluator):
    truth = truth_of((0, 2, [10, 10, 40, 40]))
    nothing_found = coco_figures(truth, [], kind="bbox", evaluator=evaluator)
    assert twelve(nothing_found) == (0, 0, 0, None, 0, None, 0, 0, 0, None, 0, None)
    for objects in ([], [(0, 2, [10, 10, 40, 40], "crowd")]):
        for results in ([], [found(0.9, [10, 10, 40, 40])]):
            nothing_there = coco_figures(truth_of(*objects), results, kind="bbox", evaluator=evaluator)
            assert twelve(nothing_there) == (None,) * 12
            assert [entry.n for entry in nothing_there.per_class] == [0, 0]


def test_annotations_that_are_not_listed_do_not_count(evaluator):
    truth = truth_of((0, 2, [10, 10, 40, 40]), (7, 2, [10, 10, 40, 40]), (0, 5, [10, 10, 40, 40]))
    figures = coco_figures(truth, [found(0.5, [10, 10, 40, 40])], kind="bbox", evaluator=evaluator)
    close([figures.AP], [1])
    assert [entry.n for entry in figures.per_class] == [1, 0]


def rectangle(height, width, box):
    left, top, wide, high = (round(value) for value in box)
    mask = np.zeros((height, width), dtype=bool)
    mask[max(top, 0) : top + high, max(left, 0) : left + wide] = True
    return mask


def segmentation(rng, mask, box, crowd):
    """The three ways in which COCO writes a mask: run lengths, compressed or not, and polygons."""
    if crowd:
        column = mask.ravel(order="F")
        edges = np.flatnonzero(np.diff(column)) + 1
        starts = [0] if not column[0] else [0, 0]  # the first run is one of zeros
        counts = np.diff(np.array([*starts, *edges.tolist(), column.size])).tolist()
        return {"size": list(mask.shape), "counts": counts}
    if rng.random() < 0.5:
        return [[value + dx for value, dx in zip(corners(box), rng.uniform(-3, 3, 8), strict=True)]]
    encoded: Any = coder.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def corners(box):
    left, top, wide, high = box
    return [left, top, left + wide, top, left + wide, top + high, left, top + high]


def random_set(seed, images=20, classes=5):
    """Images with objects of five classes (one of them never there), crowds, masks, and detections near and far."""
    rng = np.random.default_rng(seed)
    truth = truth_of(images=images, categories=[{"id": 3 * k + 1, "name": f"c{k}"} for k in range(classes)])
    results = []
    for image in truth["images"]:
        height, width = image["height"], image["width"]
        boxes, labels, masks = [], [], []
        for _ in range(rng.integers(0, 9)):
            size = rng.choice([12, 40, 120], 2) * rng.uniform(0.7, 1.3, 2)
            box = [*(rng.uniform(0, 1, 2) * (width - size[0], height - size[1])), *size]
            label, crowd = int(rng.integers(classes - 1)), rng.random() < 0.15
            mask = rectangle(height, width, box)
            truth["annotations"].append(
                {
                    "id": len(truth["annotations"]) + 1,
                    "image_id": image["id"],
                    "category_id": 3 * label + 1,
                    "bbox": box,
                    "area": float(mask.sum()),
                    "iscrowd": int(crowd),
                    "segmentation": segmentation(rng, mask, box, crowd),
                }
            )
            for _ in range(rng.integers(0, 4)):
                near = np.array(box) + rng.normal(0, 0.08, 4) * np.tile(size, 2)
                boxes.append([near[0], near[1], near[0] + near[2], near[1] + near[3]])
                labels.append(label if rng.random() < 0.8 else int(rng.integers(classes)))
                masks.append(rectangle(height, width, near))
        scores = rng.integers(1, 20, len(boxes)) / 20  # with many ties
        detections = Detections(
            torch.tensor(boxes).reshape(-1, 4),
            torch.tensor(scores, dtype=torch.float32),
            torch.tensor(labels, dtype=torch.int64),
            torch.tensor(np.array(masks, dtype=bool).reshape(-1, height, width)),
        )
        results += results_of(image["id"], detections, [3 * k + 1 for k in range(classes)])
    return truth, results


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", range(3))
def test_random_sets_give_what_pycocotools_gives(evaluator, seed, kind):
    truth, results = random_set(seed)
    expected, classes = by_pycocotools(truth, results, kind)
    assert None not in expected
    assert 0.1 < (expected[0] or 0) < 0.9  # neither nothing nor everything is found
    figures = coco_figures(truth, results, kind=kind, evaluator=evaluator)
    close(twelve(figures), expected)
    assert [entry.name for entry in figures.per_class] == [f"c{k}" for k in range(5)]
    for entry, category in zip(figures.per_class, sorted(classes), strict=True):
        if entry.n:
            close([entry.AP, entry.AP50], classes[category])
    assert (figures.per_class[4].n, figures.per_class[4].AP) == (0, None)
    instances = [entry["category_id"] for entry in truth["annotations"] if not entry["iscrowd"]]
    assert [entry.n for entry in figures.per_class] == [instances.count(category) for category in sorted(classes)]


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_nothing_is_printed_and_nothing_changed(evaluator, kind, capfd):
    truth, results = random_set(5, images=4)
    before = copy.deepcopy((truth, results))
    coco_figures(truth, results, kind=kind, evaluator=evaluator)
    assert capfd.readouterr() == ("", "")
    assert (truth, results) == before
    COCO().createIndex()
    assert "index created" in capfd.readouterr().out  # pycocotools still speaks to others


def test_the_area_of_a_mask_is_not_that_of_its_box(evaluator):
    # a thin mask in a large box: 100 pixels, so that as a false positive it is small
    mask = torch.zeros(1, 200, 300, dtype=torch.bool)
    mask[0, 150, 100:200] = True
    box, score, label = torch.tensor([[100.0, 50, 300, 200]]), torch.tensor([0.9]), torch.tensor([1])
    wrong = results_of(0, Detections(box, score, label, mask), [90, 2])
    truth = truth_of((0, 2, [0, 0, 100, 100]))
    truth["annotations"][0]["segmentation"] = [corners([0, 0, 100, 100])]
    seen = Detections(torch.tensor([[0.0, 0, 100, 100]]), torch.tensor([0.5]), label, torch.zeros_like(mask))
    assert seen.masks is not None
    seen.masks[0, :100, :100] = True
    results = [*wrong, *results_of(0, seen, [90, 2])]
    figures = coco_figures(truth, results, kind="segm", evaluator=evaluator)
    close([figures.AP, figures.APl], [0.5, 1])
    assert coco_figures(truth, results, kind="bbox", evaluator=evaluator).APl == pytest.approx(0.5)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # decode, under numpy 2
def test_masks_survive_the_results():
    generator = torch.Generator().manual_seed(0)
    masks = torch.rand(7, 13, 29, generator=generator) < 0.4
    masks[2], masks[3] = False, True
    boxes = torch.tensor([[1.5, 2, 11, 7]]).repeat(7, 1)
    detections = Detections(boxes, torch.linspace(0.9, 0.1, 7), torch.arange(7) % 2, masks)
    results = json.loads(json.dumps(results_of(12, detections, [90, 2])))
    assert [entry["segmentation"]["size"] for entry in results] == [[13, 29]] * 7
    decoded = np.stack([coder.decode(entry["segmentation"]) for entry in results])
    assert np.array_equal(decoded.astype(bool), masks.numpy())
    assert [entry["category_id"] for entry in results] == [90, 2, 90, 2, 90, 2, 90]
    assert results[0]["bbox"] == [1.5, 2.0, 9.5, 5.0]
    assert results[0]["image_id"] == 12
    assert [entry["score"] for entry in results] == pytest.approx(torch.linspace(0.9, 0.1, 7).tolist())
    assert torch.equal(boxes[0], torch.tensor([1.5, 2, 11, 7]))


@pytest.mark.parametrize("masks", [None, torch.zeros(0, 13, 29, dtype=torch.bool)])
def test_an_image_without_detections_has_no_results(masks):
    nothing = Detections(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.int64), masks)
    assert results_of(1, nothing, [2]) == []


def test_boxes_alone_give_no_segmentation():
    boxes = Detections(torch.tensor([[0.0, 0, 4, 4]], dtype=torch.float64), torch.tensor([0.5]), torch.tensor([0]))
    assert results_of(0, boxes, [2]) == [found(0.5, [0, 0, 4, 4])]
    assert boxes.boxes.tolist() == [[0, 0, 4, 4]]


RLE = {"size": [200, 300], "counts": "PP10"}
BAD: dict[str, tuple[Kind, list[dict[str, Any]]]] = {
    "1 image_id": ("bbox", [found(0.5, [0, 0, 4, 4], image=9)]),
    "1 category_id": ("bbox", [found(0.5, [0, 0, 4, 4], category=9)]),
    "the score nan": ("bbox", [found(math.nan, [0, 0, 4, 4])]),
    "four finite numbers": ("bbox", [found(0.5, [0, math.nan, 4, 4])]),
    "no 'segmentation'": ("segm", [found(0.5, [0, 0, 4, 4])]),
    "compressed": ("segm", [{**found(0.5, [0, 0, 4, 4]), "segmentation": [[0, 0, 4, 0, 4, 4]]}]),
    r"\[200, 300\]": ("segm", [{**found(0.5, [0, 0, 4, 4]), "segmentation": {**RLE, "size": [100, 300]}}]),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_results_say_what_is_wrong(message):
    kind, results = BAD[message]
    truth = truth_of((0, 2, [10, 10, 40, 40]))
    truth["annotations"][0]["segmentation"] = RLE
    with pytest.raises(UserError, match=message):
        coco_figures(truth, results, kind=kind)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"images": []}, "list no images"),
        ({"categories": []}, "list no categories"),
        ({"categories": [*CLASSES, CLASSES[0]]}, "Two categories"),
        ({"annotations": [{"id": 4, "image_id": 0, "category_id": 2, "bbox": [0, 0, 4, 4]}]}, "Annotation 4 .*'area'"),
    ],
)
def test_bad_annotations_say_what_is_wrong(change, message):
    with pytest.raises(UserError, match=message):
        coco_figures({**truth_of(), **change}, [], kind="bbox")
    with pytest.raises(UserError, match="no 'annotations'"):
        coco_figures({"images": []}, [], kind="bbox")


@pytest.mark.parametrize("shape", [[], [[10, 10, 40, 40]]])
def test_an_object_without_a_usable_mask_is_refused(shape):
    truth = truth_of((0, 2, [10, 10, 40, 40]))
    truth["annotations"][0]["segmentation"] = shape
    with pytest.raises(UserError, match=r"Annotation 0 has (an empty segmentation|a polygon of fewer)"):
        coco_figures(truth, [], kind="segm")


def test_without_hotcoco_auto_takes_pycocotools(monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(coco_ap.importlib.util, "find_spec", lambda name: None if name == "hotcoco" else find(name))
    monkeypatch.setattr(coco_ap, "_by_hotcoco", None)
    truth, results = truth_of((0, 2, [10, 10, 40, 40])), [found(0.5, [10, 10, 40, 40])]
    assert pytest.approx(1) == coco_figures(truth, results, kind="bbox").AP
    with pytest.raises(UserError, match="convnext\\[fast\\]"):
        coco_figures(truth, results, kind="bbox", evaluator="hotcoco")
