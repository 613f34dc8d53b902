"""Calibration: whether a classifier with 90 % confidence is right in 90 % of cases. B batch.

Bin i of 15 holds confidences in (i/15, (i+1)/15]; the first one also holds 0 (Guo et al. 2017, "On Calibration of
Modern Neural Networks", section 2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 15


@dataclass(frozen=True)
class ReliabilityBin:
    """One bar of the reliability diagram. Figures are fractions in 0..1; means are None where `count` is 0."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


class CalibrationSums:
    """Sums of confidence and correctness in 15 bins of confidence of equal width.

    `count` (int64), `confidence` and `correct` (float64) have shape (15,) and are on `device`.
    """

    def __init__(self, *, device: torch.device | str = "cpu") -> None:
        self.count = torch.zeros(BINS, dtype=torch.int64, device=device)
        self.confidence = torch.zeros(BINS, dtype=torch.float64, device=device)
        self.correct = torch.zeros(BINS, dtype=torch.float64, device=device)
        self._inner_edges = torch.arange(1, BINS, dtype=torch.float64, device=device) / BINS

    def update(self, confidence: Tensor, correct: Tensor) -> None:
        """Adds a batch: `confidence` (B,) in 0..1, the probability of the predicted class; `correct` (B,) bool."""
        confidence = confidence.to(self.confidence)
        bins = torch.bucketize(confidence, self._inner_edges)
        self.count.index_add_(0, bins, torch.ones_like(bins))
        self.confidence.index_add_(0, bins, confidence)
        self.correct.index_add_(0, bins, correct.to(self.correct))

    def tensors(self) -> list[Tensor]:
        """All sums. Add them up over ranks in place."""
        return [self.count, self.confidence, self.correct]

    def expected_calibration_error(self) -> float | None:
        """ECE in 0..1: the gap between confidence and accuracy per bin, averaged over images. None without images."""
        n = int(self.count.sum())
        gaps = (self.confidence - self.correct).abs().sum()  # a bin's count times its gap is the gap of its sums
        return gaps.item() / n if n else None

    def bins(self) -> tuple[ReliabilityBin, ...]:
        """The 15 bins from low to high confidence, empty ones included."""
        sums = zip(self.count.tolist(), self.confidence.tolist(), self.correct.tolist(), strict=True)
        return tuple(
            ReliabilityBin(
                low=i / BINS,
                high=(i + 1) / BINS,
                count=count,
                confidence=confidence / count if count else None,
                accuracy=correct / count if count else None,
            )
            for i, (count, confidence, correct) in enumerate(sums)
        )
