"""What commands take for detectors, besides what they take for every model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from convnext.tasks.shared_options import BatchOptions, SkipBadOptions, TTAOptions
from convnext.tasks.spec import PredictOptions


@dataclass(frozen=True)
class DetectionEvaluateOptions(SkipBadOptions, TTAOptions, BatchOptions):
    """Options of `convnext evaluate`."""

    results: Path | None = None
    """Detectors: a file for every detection, in COCO's form."""
    crowds: Literal["auto", "ignore", "objects"] = "auto"
    """Detectors: what annotations of --data with iscrowd 1 are: regions to ignore, or objects."""


@dataclass(frozen=True)
class DetectionPredictOptions(TTAOptions, PredictOptions):
    """Options of `convnext predict`."""

    score: float = 0.5
    """Detectors: show objects from this score on."""
    results: Path | None = None
    """Detectors: a file for every detection, in COCO's form; images are numbered in their order, from 1."""

    def problem(self) -> str:
        """What cannot work, as a sentence; empty if nothing."""
        return "" if 0 <= self.score <= 1 else f"--score lies in 0 to 1, not {self.score:g}."


EVALUATE_OPTIONS, PREDICT_OPTIONS = DetectionEvaluateOptions, DetectionPredictOptions
