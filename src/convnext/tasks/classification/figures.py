"""The figures of an evaluation as `evaluation.json` holds them: plain JSON values, read by the page."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from convnext.metrics.accuracy import ClassificationFigures


@dataclass(frozen=True)
class Mistake:
    """An image the model got wrong: names of the classes, confidence in 0..1, its thumbnail relative to the run."""

    name: str
    target: str
    prediction: str
    confidence: float
    picture: str | None = None  # such as "mistakes/000.png"


@dataclass(frozen=True)
class Skipped:
    """An image that could not be read, and why."""

    name: str
    reason: str


def evaluation_dict(
    result: ClassificationFigures,
    *,
    classes: Sequence[str],
    model: str,
    data: str,
    held_out: bool | None,
    images_per_second: float,
    skipped: Sequence[Skipped] = (),
    mistakes: Sequence[Mistake] = (),
) -> dict[str, Any]:
    """What `evaluation.json` holds: every figure of `result` with the names that make it readable.

    `held_out` says whether the model was kept from these images in training (None: not known). Shares are fractions in
    0..1; what is undefined or not a number (the loss of a model that gave none) is None, for JSON has no NaN. Raises
    ValueError if `classes` does not name each class of `result`.
    """
    if len(classes) != len(result.per_class):
        raise ValueError(f"{len(classes)} class names for {len(result.per_class)} classes.")
    per_class = zip(classes, result.per_class_n, result.per_class, strict=True)
    return {
        "model": model,
        "data": data,
        "held_out": held_out,
        "n": result.n,
        "invalid": result.invalid,
        "top1": result.top1,
        "top1_interval": list(result.top1_interval),
        "top5": result.top5,
        "top5_k": result.top5_k,
        "top5_interval": list(result.top5_interval),
        "loss": _finite(result.loss),
        "ece": _finite(result.ece),
        "mean_per_class": result.mean_per_class,
        "reliability": [dataclasses.asdict(entry) for entry in result.reliability],
        "per_class": [{"name": name, "n": n, "top1": top1} for name, n, top1 in per_class],
        "confusion": None if result.confusion is None else result.confusion.tolist(),
        "images_per_second": _finite(images_per_second),
        "skipped": [dataclasses.asdict(entry) for entry in skipped],
        "mistakes": [dataclasses.asdict(entry) for entry in mistakes],
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
