"""What commands take for autoencoders, besides what they take for every model."""

from __future__ import annotations

from dataclasses import dataclass

from convnext.tasks.shared_options import BatchOptions
from convnext.tasks.spec import PredictOptions


@dataclass(frozen=True)
class PretrainingEvaluateOptions(BatchOptions):
    """Options of `convnext evaluate`."""


@dataclass(frozen=True)
class PretrainingPredictOptions(PredictOptions):
    """Options of `convnext predict`."""

    mask_seed: int = 0
    """Autoencoders: which cells of an image are masked: another number, other cells."""


EVALUATE_OPTIONS, PREDICT_OPTIONS = PretrainingEvaluateOptions, PretrainingPredictOptions
