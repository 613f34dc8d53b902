"""Accuracy of object detection: the twelve figures of COCO for boxes and masks. N objects, H W space.

Average precision is the mean precision at 101 recalls, averaged over IoU thresholds 0.50, 0.55 .. 0.95 and over classes
(T.-Y. Lin et al. 2014, "Microsoft COCO"; the detection evaluation of cocodataset.org; pycocotools `cocoeval.py`).
pycocotools, or the faster hotcoco with the same figures, matches objects; this module checks and prepares their input
and turns their output into figures.
"""

from __future__ import annotations

import functools
import importlib.util
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.ops.instances import Detections

Kind: TypeAlias = Literal["bbox", "segm"]
Evaluator: TypeAlias = Literal["auto", "hotcoco", "pycocotools"]

_Entry: TypeAlias = dict[str, Any]
_Curves: TypeAlias = tuple[np.ndarray, np.ndarray]  # precision (T, R, K, A, M) and recall (T, K, A, M), see `_figures`


@dataclass(frozen=True)
class CocoClass:
    """The figures of a class: fractions in 0..1; None where the class has no instances."""

    name: str
    n: int  # instances, crowds not counted
    AP: float | None
    AP50: float | None


@dataclass(frozen=True)
class CocoFigures:
    """COCO's twelve figures: fractions in 0..1; None (-1 in COCO's own code) where no instance is in their range.

    Small, medium and large (s, m, l) are areas up to 32² pixels, up to 96², and above.
    """

    AP: float | None  # average precision over the IoU thresholds 0.50 .. 0.95
    AP50: float | None
    AP75: float | None
    APs: float | None
    APm: float | None
    APl: float | None
    AR1: float | None  # recall over the same thresholds, with the best 1, 10, 100 detections per image and class
    AR10: float | None
    AR100: float | None
    ARs: float | None
    ARm: float | None
    ARl: float | None
    per_class: tuple[CocoClass, ...]  # by ascending category id


def results_of(image_id: int, detections: Detections, category_ids: Sequence[int]) -> list[_Entry]:
    """Turns the detections of an image into entries of a COCO results file, ready for JSON.

    `category_ids[k]` is the data set's id of class k. Boxes become (x, y, width, height) in pixels; masks, if any,
    become compressed run lengths with `counts` as ASCII text.
    """
    low, high = detections.boxes.cpu().double().split(2, dim=1)  # on the CPU: MPS has no float64
    boxes = torch.cat([low, high - low], dim=1).tolist()
    columns = zip(boxes, detections.scores.tolist(), detections.labels.tolist(), strict=True)
    entries: list[_Entry] = [
        {"image_id": image_id, "category_id": int(category_ids[label]), "bbox": box, "score": score}
        for box, score, label in columns
    ]
    if detections.masks is not None:
        for entry, encoded in zip(entries, _encoded(detections.masks), strict=True):
            entry["segmentation"] = encoded
    return entries


def coco_figures(
    truth: Mapping[str, Any], results: Sequence[Mapping[str, Any]], *, kind: Kind, evaluator: Evaluator = "auto"
) -> CocoFigures:
    """Compares `results` (entries of `results_of` for all images) with `truth` (an annotation file).

    `truth` has images, annotations and categories. Annotations of images or categories that it does not list are
    ignored, and so are the annotations' own ids. With `kind` "segm" the area of a detection is that of its mask, its
    box is ignored, and an annotation that has "ignore_mask" counts as a crowd; with "bbox" the area is that of its box.
    "auto" uses hotcoco where it is installed, otherwise pycocotools. Neither prints anything, and neither argument is
    changed.

    Raises UserError where there are no images or no categories, for results of an image or a category that `truth`
    does not list, for a score or a box that is not finite, for an entry that lacks what `kind` needs, for a mask
    that is not compressed or not as large as its image, and for "hotcoco" where it is not installed.
    """
    data = _data(truth, kind)
    found = {**data, "annotations": _found(results, data, kind)}
    return _figures(_evaluator(evaluator)(data, found, kind), data)


def _encoded(masks: Tensor) -> list[_Entry]:
    """(N, H, W) bool -> N compressed run lengths."""
    # the coder reads (H, W, N) in Fortran order, which in memory is (N, W, H): one transposition, no other copy
    columns = masks.detach().bool().transpose(1, 2).contiguous().cpu().numpy()
    encoded = _coder().encode(columns.view(np.uint8).transpose(2, 1, 0))
    return [{"size": list(entry["size"]), "counts": entry["counts"].decode("ascii")} for entry in encoded]


def _coder() -> Any:  # its type stubs only allow one mask at a time
    from pycocotools import mask

    return mask


def _data(truth: Mapping[str, Any], kind: Kind) -> dict[str, list[_Entry]]:
    """The images, categories and objects of `truth`, sorted by id, with only the keys that an evaluator needs."""
    for key in ("images", "annotations", "categories"):
        if key not in truth:
            raise UserError(
                f"The annotations have no {key!r}. They need images, annotations and categories, like COCO's."
            )
    for key in ("images", "categories"):
        if not truth[key]:
            raise UserError(f"The annotations list no {key}, so there is nothing to evaluate on.")
    sizes = ("height", "width") if kind == "segm" else ()
    images = [_picked(image, ("id", *sizes), "An image of the annotations") for image in truth["images"]]
    categories = [_picked(entry, ("id", "name"), "A category of the annotations") for entry in truth["categories"]]
    for key, entries in (("images", images), ("categories", categories)):
        if len(_ids(entries)) < len(entries):
            raise UserError(f"Two {key} of the annotations have the same id. Give each its own.")
    objects = [_true_object(entry, kind) for entry in truth["annotations"]]
    listed, known = _ids(images), _ids(categories)
    return {
        "images": sorted(images, key=lambda entry: entry["id"]),
        "categories": sorted(categories, key=lambda entry: entry["id"]),
        "annotations": _numbered(
            entry for entry in objects if entry["image_id"] in listed and entry["category_id"] in known
        ),
    }


def _true_object(entry: Mapping[str, Any], kind: Kind) -> _Entry:
    what, shape = f"Annotation {entry.get('id')}", _shape(kind)
    taken = _picked(entry, ("image_id", "category_id", "area", shape), what)
    if not taken[shape]:
        raise UserError(f"{what} has an empty {shape}. Leave the object out, or give its {shape}.")
    # evaluators differ on a first polygon of fewer than three points: one raises, one ignores it
    if kind == "segm" and isinstance(taken[shape], list) and len(taken[shape][0]) < 6:
        raise UserError(f"{what} has a polygon of fewer than three points (six numbers). Leave that polygon out.")
    ignored = kind == "segm" and entry.get("ignore_mask", 0)  # a box without an outline: nothing to compare masks with
    return {**taken, "iscrowd": int(bool(entry.get("iscrowd", 0) or ignored))}


def _found(results: Sequence[Mapping[str, Any]], data: dict[str, list[_Entry]], kind: Kind) -> list[_Entry]:
    """The results as numbered objects with their areas."""
    keys = ("image_id", "category_id", "score", _shape(kind))
    taken = [_picked(entry, keys, f"Result {number}") for number, entry in enumerate(results)]
    _known("image_id", taken, _ids(data["images"]), "images")
    _known("category_id", taken, _ids(data["categories"]), "categories")
    for number, entry in enumerate(taken):
        if not math.isfinite(entry["score"]):
            raise UserError(f"Result {number} has the score {entry['score']}. Scores are finite numbers.")
    areas = _mask_areas(taken, data["images"]) if kind == "segm" else _box_areas(taken)
    return _numbered({**entry, "area": area, "iscrowd": 0} for entry, area in zip(taken, areas, strict=True))


def _shape(kind: Kind) -> str:
    return "segmentation" if kind == "segm" else "bbox"


def _box_areas(results: list[_Entry]) -> list[float]:
    for number, entry in enumerate(results):
        box = entry["bbox"]
        # the overlap with a NaN box is NaN, which pycocotools counts as a match
        if len(box) != 4 or not all(map(math.isfinite, box)):
            raise UserError(f"Result {number} has the box {box}. A box is four finite numbers: x, y, width, height.")
    return [float(entry["bbox"][2] * entry["bbox"][3]) for entry in results]


def _mask_areas(results: list[_Entry], images: list[_Entry]) -> list[float]:
    sizes = {image["id"]: [image["height"], image["width"]] for image in images}
    for number, entry in enumerate(results):
        given, size = entry["segmentation"], sizes[entry["image_id"]]
        if not isinstance(given, Mapping) or not isinstance(given.get("counts"), str | bytes):
            raise UserError(
                f"The mask of result {number} is not in compressed run lengths: a size and counts that are text, "
                f"as results_of returns them."
            )
        # an evaluator takes a mask of another size as one that overlaps nothing
        if list(given["size"]) != size:
            raise UserError(
                f"The mask of result {number} has the size {list(given['size'])} (height, width), but image "
                f"{entry['image_id']} has {size}. Give masks of the image's own size."
            )
    coder = _coder()  # one mask at a time: pycocotools 2.0.11 overflows with more than 255
    return [float(coder.area(entry["segmentation"])) for entry in results]


def _known(key: str, results: list[_Entry], ids: set[Any], what: str) -> None:
    unknown = sorted({entry[key] for entry in results} - ids)
    if unknown:
        some = ", ".join(map(str, unknown[:3])) + (", ..." if len(unknown) > 3 else "")
        raise UserError(
            f"The results have {len(unknown)} {key} that the annotations do not list among their {what}: {some}. "
            f"Give results and annotations of the same data set."
        )


def _picked(entry: Mapping[str, Any], keys: Sequence[str], what: str) -> _Entry:
    """Copies `keys` into a new dictionary: evaluators write into their input."""
    try:
        return {key: entry[key] for key in keys}
    except KeyError as error:
        raise UserError(f"{what} has no {error.args[0]!r}. It needs {', '.join(keys)}.") from None


def _numbered(entries: Iterable[_Entry]) -> list[_Entry]:
    # from 1: pycocotools takes a match with id 0 as no match
    return [{**entry, "id": number} for number, entry in enumerate(entries, start=1)]


def _ids(entries: list[_Entry]) -> set[Any]:
    return {entry["id"] for entry in entries}


def _evaluator(name: Evaluator) -> Callable[[_Entry, _Entry, Kind], _Curves]:
    if name == "pycocotools" or (name == "auto" and importlib.util.find_spec("hotcoco") is None):
        return _by_pycocotools
    if importlib.util.find_spec("hotcoco") is None:
        raise UserError(
            "hotcoco is not installed. Install it (pip install 'convnext[fast]') or use evaluator='pycocotools', "
            "which gives the same figures."
        )
    return _by_hotcoco


def _by_hotcoco(truth: _Entry, found: _Entry, kind: Kind) -> _Curves:
    from hotcoco import COCO, COCOeval

    return _curves(COCOeval(COCO(truth), COCO(found), kind))


def _by_pycocotools(truth: _Entry, found: _Entry, kind: Kind) -> _Curves:
    sets: list[Any] = []
    for dataset in (truth, found):
        sets.append(_quiet("pycocotools.coco").COCO())
        sets[-1].dataset = dataset
        sets[-1].createIndex()
    return _curves(_quiet("pycocotools.cocoeval").COCOeval(*sets, kind))


def _curves(evaluation: Any) -> _Curves:
    evaluation.evaluate()
    evaluation.accumulate()
    return evaluation.eval["precision"], evaluation.eval["recall"]


@functools.cache
def _quiet(name: str) -> ModuleType:
    """A private copy of a module, in which `print` does nothing.

    pycocotools prints its progress. Redirecting standard output would silence other threads too, and replacing `print`
    in its modules would silence it for other users of them.
    """
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name} is not installed.")
    module = importlib.util.module_from_spec(spec)
    vars(module)["print"] = lambda *_: None
    spec.loader.exec_module(module)
    return module


def _figures(curves: _Curves, data: dict[str, list[_Entry]]) -> CocoFigures:
    """T IoU thresholds, R recalls, K classes, A areas (all, small, medium, large), M detections per image (1, 10, 100).

    -1 marks entries without instances.
    """
    precision, recall = curves
    counts = Counter(entry["category_id"] for entry in data["annotations"] if not entry["iscrowd"])
    every, small, medium, large = range(4)  # areas
    return CocoFigures(
        AP=_mean(precision[..., every, 2]),
        AP50=_mean(precision[0, ..., every, 2]),
        AP75=_mean(precision[5, ..., every, 2]),
        APs=_mean(precision[..., small, 2]),
        APm=_mean(precision[..., medium, 2]),
        APl=_mean(precision[..., large, 2]),
        AR1=_mean(recall[..., every, 0]),
        AR10=_mean(recall[..., every, 1]),
        AR100=_mean(recall[..., every, 2]),
        ARs=_mean(recall[..., small, 2]),
        ARm=_mean(recall[..., medium, 2]),
        ARl=_mean(recall[..., large, 2]),
        per_class=tuple(
            CocoClass(
                name=category["name"],
                n=counts[category["id"]],
                AP=_mean(precision[:, :, k, every, 2]),
                AP50=_mean(precision[0, :, k, every, 2]),
            )
            for k, category in enumerate(data["categories"])
        ),
    )


def _mean(values: np.ndarray) -> float | None:
    known = values[values > -1]
    return float(known.mean()) if known.size else None
