"""What commands take for classifiers, besides what they take for every model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from convnext.data.classification.config import TableConfig
from convnext.tasks.shared_options import BatchOptions, SkipBadOptions
from convnext.tasks.spec import PredictOptions


@dataclass(frozen=True)
class ClassificationEvaluateOptions(SkipBadOptions, BatchOptions):
    """Options of `convnext evaluate`."""

    folders: Literal["auto", "classes"] = "auto"
    """Classifiers: classes takes every folder of --data for a class, whatever its name; auto knows parts by theirs."""
    table: TableConfig = field(default_factory=TableConfig)
    """Classifiers: how a table of images and labels is read, where --data is one."""


@dataclass(frozen=True)
class ClassificationPredictOptions(PredictOptions):
    """Options of `convnext predict`."""

    top: int = 5
    """Classifiers: how many classes to name for each image. Where an image can have several labels, all that the
    model gives are named."""

    def problem(self) -> str:
        """What cannot work, as a sentence; empty if nothing."""
        return f"--top names at least 1 class, not {self.top}." if self.top < 1 else ""


EVALUATE_OPTIONS, PREDICT_OPTIONS = ClassificationEvaluateOptions, ClassificationPredictOptions
