"""What commands take for classifiers, besides what they take for every model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from convnext.tasks.shared_options import BatchOptions
from convnext.tasks.spec import PredictOptions


@dataclass(frozen=True)
class ClassificationEvaluateOptions(BatchOptions):
    """Options of `convnext evaluate`."""

    folders: Literal["auto", "classes"] = "auto"
    """Classifiers: classes takes every folder of --data for a class, whatever its name; auto knows parts by theirs."""


@dataclass(frozen=True)
class ClassificationPredictOptions(PredictOptions):
    """Options of `convnext predict`."""

    top: int = 5
    """Classifiers: how many classes to name for each image."""

    def problem(self) -> str:
        """What cannot work, as a sentence; empty if nothing."""
        return f"--top names at least 1 class, not {self.top}." if self.top < 1 else ""


EVALUATE_OPTIONS, PREDICT_OPTIONS = ClassificationEvaluateOptions, ClassificationPredictOptions
