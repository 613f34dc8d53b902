"""Options that several tasks share. Their help says which."""

from __future__ import annotations

from dataclasses import dataclass

from convnext.tasks.spec import EvaluateOptions


@dataclass(frozen=True)
class BatchOptions(EvaluateOptions):
    """Evaluation in batches."""

    batch: int = 0
    """Images at a time; 0: 64, or 1 for a detector; a segmenter takes one."""

    def problem(self) -> str:
        """What cannot work, as a sentence; empty if nothing."""
        return f"--batch is 0 or more, not {self.batch}." if self.batch < 0 else ""


@dataclass(frozen=True)
class TTAOptions:
    """Test-time augmentation."""

    scales: tuple[float, ...] = (1.0,)
    """Detectors, segmenters: predict each image at these sizes, as 0.5 1 1.5, and merge the predictions."""
    flip: bool = False
    """Detectors, segmenters: predict mirror images too."""


@dataclass(frozen=True)
class SkipBadOptions:
    """What to do with bad annotations."""

    skip_bad: bool = False
    """Leave out annotations that cannot be used (of a classifier: rows of a table without their image), and say which,
    instead of stopping."""


@dataclass(frozen=True)
class WindowOptions:
    """Sizes in evaluation and prediction of segmenters."""

    short: int | None = None
    """Segmenters: pixels of the images' shorter side, in place of its own; 0: images as they are."""
    window: int | None = None
    """Segmenters: side of the sliding window, in place of its own; 0: the whole image at once."""
