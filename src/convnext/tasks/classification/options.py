"""What commands take for classifiers, besides what they take for every model."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from convnext.core.errors import UserError
from convnext.data.classification.config import TableConfig
from convnext.data.corruptions.config import kinds_of
from convnext.tasks.classification.suites import SuiteName
from convnext.tasks.shared_options import BatchOptions, SkipBadOptions
from convnext.tasks.spec import PredictOptions


@dataclass(frozen=True)
class ClassificationEvaluateOptions(SkipBadOptions, BatchOptions):
    """Options of `convnext evaluate`."""

    folders: Literal["auto", "classes"] = "auto"
    """Classifiers: classes takes every folder of --data for a class, whatever its name; auto knows parts by theirs."""
    table: TableConfig = field(default_factory=TableConfig)
    """Classifiers: how a table of images and labels is read, where --data is one."""
    suite: tuple[SuiteName, ...] = ()
    """Classifiers of ImageNet-1K: robustness suites, as imagenet-a imagenet-r sketch v2 real objectnet c c-bar, in
    folders of --data (or --data is the one's own)."""
    corruptions: tuple[str, ...] = ()
    """Classifiers: evaluate on corrupted images of any data: main (the fifteen of ImageNet-C), extra (four more), all,
    or by name."""
    severities: tuple[int, ...] = (1, 2, 3, 4, 5)
    """Classifiers: of --corruptions, 1 to 5."""
    frost: str = ""
    """Classifiers: a folder with photographs of frost, for that corruption; without one, frost is drawn."""
    limit: int = 0
    """Classifiers: with --corruptions, so many images alone, spread over all; 0: all."""

    @property
    def opens_data(self) -> bool:
        """Suites have layouts of their own."""
        return not self.suite

    def problem(self) -> str:
        """What cannot work, as a sentence; empty if nothing."""
        if self.suite and self.corruptions:
            return "Give --suite or --corruptions, not both: the suites c and c-bar are corrupted already."
        if not self.severities or any(not 1 <= severity <= 5 for severity in self.severities):
            return f"--severities are 1 to 5, not {' '.join(map(str, self.severities)) or 'none'}."
        if self.limit < 0:
            return f"--limit is 0 or more, not {self.limit}."
        if not self.corruptions and (self.limit or self.frost or self.severities != (1, 2, 3, 4, 5)):
            return "--severities, --frost and --limit go with --corruptions."
        if self.suite and self.split != "auto":
            return "--split goes with a data set that has parts; a suite is evaluated whole."
        try:
            kinds_of(self.corruptions)
        except UserError as error:
            return str(error)
        return super().problem()


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
