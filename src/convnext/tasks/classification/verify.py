"""Published weights on the user's own ImageNet: is the accuracy the published one?"""

from __future__ import annotations

from typing import Any

from convnext.core.device import Precision
from convnext.core.errors import UserError
from convnext.data.classification.open import ClassificationData, recognise
from convnext.data.config import LoaderConfig
from convnext.data.recognise import Mine
from convnext.tasks.choose import refuse_names_of_others
from convnext.tasks.classification.evaluate import evaluate_on
from convnext.tasks.classification.options import ClassificationEvaluateOptions
from convnext.tasks.classification.recipe import TASK
from convnext.weights.catalog import find
from convnext.weights.locate import fetch

IMAGES = 50_000  # of ImageNet-1K's validation set
TOLERANCE = 0.1  # percentage points: decoders, resizing and rounding differ between libraries by up to this


def verify(
    name: str, *, data: str, batch: int = 64, workers: int = -1, device: str = "auto", dtype: Precision = "float32"
) -> dict[str, Any]:
    """Evaluates the published weights `name` on ImageNet's validation images at `data`, preprocessed as published.

    Returns the figures of `evaluate_on` with `published` and `source` (the accuracy in percent and who measured it),
    `difference` (in points) and `agrees`: whether they differ by no more than 0.1 points on all 50,000 images, or, on
    fewer, whether the published figure lies in the 95 % interval of the measured one, widened by as much.

    Raises UserError for weights without published accuracy, and for data with other classes.
    """
    refuse_names_of_others(name, TASK, advice="classifiers alone are verified")
    row = find(name)
    if row.top1 is None:
        raise UserError(
            f"No ImageNet-1K accuracy is published for {name} ({row.trained_on}), so there is none to verify."
        )
    opened = ClassificationData(data)
    if not isinstance(recognise(data), Mine):
        opened.for_evaluation(LoaderConfig())  # says what is wrong with it, before the weights are fetched
    options = ClassificationEvaluateOptions(workers=workers, device=device, dtype=dtype, batch=batch)
    figures = evaluate_on(fetch(row), options, opened)
    measured, (low, high) = 100 * figures["top1"], (100 * end for end in figures["top1_interval"])
    whole = figures["n"] == IMAGES
    agrees = abs(measured - row.top1) <= TOLERANCE if whole else low - TOLERANCE <= row.top1 <= high + TOLERANCE
    return {
        **figures,
        "published": row.top1,
        "source": row.source,
        "difference": measured - row.top1,
        "whole": whole,
        "agrees": agrees,
    }
