"""What commands take for segmenters, besides what they take for every model."""

from __future__ import annotations

from dataclasses import dataclass

from convnext.tasks.shared_options import SkipBadOptions, TTAOptions, WindowOptions
from convnext.tasks.spec import EvaluateOptions, PredictOptions


@dataclass(frozen=True)
class SegmentationEvaluateOptions(WindowOptions, SkipBadOptions, TTAOptions, EvaluateOptions):
    """Options of `convnext evaluate`."""

    labels: str = ""
    """Segmenters: what the values or colours of the label maps mean: a mapping file (JSON), or ade20k, cityscapes or
    voc; objects: --data holds outlined objects."""


@dataclass(frozen=True)
class SegmentationPredictOptions(WindowOptions, TTAOptions, PredictOptions):
    """Options of `convnext predict`."""

    megabytes: int = 1024
    """Segmenters: memory for an image's scores; a larger image is predicted in parts."""


EVALUATE_OPTIONS, PREDICT_OPTIONS = SegmentationEvaluateOptions, SegmentationPredictOptions
