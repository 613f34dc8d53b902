"""Accuracy of a classifier. B batch, K classes.

Every figure is computed from sums over images, with one division at the end. So the result does not depend on the
number of ranks or on how the images are divided into batches (counts exactly, the loss to float64 rounding).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.metrics.calibration import CalibrationSums, ReliabilityBin
from convnext.metrics.intervals import wilson_interval

__all__ = ["CONFUSION_LIMIT", "ClassificationCounts", "ClassificationFigures", "wilson_interval"]

CONFUSION_LIMIT = 2000  # classes; K x K int64 takes 32 MB there, 3.8 GB for the 21841 of ImageNet-22k


@dataclass(frozen=True, eq=False)  # eq: comparing tensors gives a tensor, not a bool
class ClassificationFigures:
    """The figures of an evaluation. Shares are fractions in 0..1; a figure is None where nothing was counted.

    Intervals are (low, high), Wilson's 95 % confidence interval.
    """

    n: int  # images
    invalid: int  # images whose logits have no softmax (NaN, +inf): wrong in every accuracy, left out of loss and ECE
    top1: float
    top1_interval: tuple[float, float]
    top5: float  # top-`top5_k`
    top5_interval: tuple[float, float]
    top5_k: int  # min(5, K)
    loss: float | None  # mean cross-entropy in nats over the valid images
    per_class: list[float | None]  # K accuracies; None for a class without images
    per_class_n: list[int]  # K numbers of images
    mean_per_class: float  # mean over the classes that have images
    ece: float | None  # expected calibration error over the valid images
    reliability: tuple[ReliabilityBin, ...]
    confusion: Tensor | None  # (K, K) int64 on the CPU, rows = target; None above CONFUSION_LIMIT classes


class ClassificationCounts:
    """Sums over the images of an evaluation, as tensors on `device` ("cpu" or "cuda": it needs float64).

    An image whose logits have no softmax (a NaN, +inf, or only -inf) counts as wrong and as `invalid`. It has no
    confidence, cross-entropy or predicted class, so it is left out of loss, ECE and confusion, which it would turn into
    NaN. Equal logits rank by class index, lower first, as argmax does. Above CONFUSION_LIMIT classes there is no
    confusion matrix: `confusion` is None.
    """

    def __init__(self, num_classes: int, *, device: torch.device | str = "cpu") -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {num_classes}.")
        self.num_classes = num_classes
        self.top5_k = min(5, num_classes)
        self.n, self.invalid, self.top1, self.top5 = (_count(device) for _ in range(4))
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.class_n, self.class_correct = _count(device, num_classes), _count(device, num_classes)
        self.confusion = _count(device, num_classes, num_classes) if num_classes <= CONFUSION_LIMIT else None
        self.calibration = CalibrationSums(device=device)

    @torch.no_grad()
    def update(self, logits: Tensor, targets: Tensor) -> None:
        """Adds a batch: `logits` (B, K) of any floating type, `targets` (B,) int64 in 0..K-1, on any device.

        Raises ValueError for other shapes and for a target outside 0..K-1.
        """
        self._check(logits, targets)
        # moved before it is widened: MPS has no float64
        scores, targets = logits.to(self.loss.device).double(), targets.to(self.n)
        valid = scores.logsumexp(1).isfinite()
        rank = _rank(scores, targets)
        # a NaN compares as not greater, which would rank its target first: `valid` undoes that
        top1, top5 = valid & (rank == 0), valid & (rank < self.top5_k)
        self.n += targets.numel()
        self.invalid += (~valid).sum()
        self.top1 += top1.sum()
        self.top5 += top5.sum()
        self.class_n.index_add_(0, targets, torch.ones_like(targets))
        self.class_correct.index_add_(0, targets, top1.long())
        self._update_valid(scores[valid], targets[valid], top1[valid])

    def _update_valid(self, scores: Tensor, targets: Tensor, correct: Tensor) -> None:
        """Adds the sums that need a softmax: cross-entropy, confidence and predicted class."""
        log_probabilities = scores.log_softmax(1)
        best, predictions = log_probabilities.max(1)
        self.loss -= log_probabilities.gather(1, targets[:, None]).sum()
        self.calibration.update(best.exp(), correct)
        if self.confusion is not None:
            cells = targets * self.num_classes + predictions
            self.confusion.view(-1).index_add_(0, cells, torch.ones_like(cells))

    def _check(self, logits: Tensor, targets: Tensor) -> None:
        if logits.ndim != 2 or logits.shape[1] != self.num_classes or targets.shape != logits.shape[:1]:
            raise ValueError(
                f"Expected logits (B, {self.num_classes}) and targets (B,), "
                f"got {tuple(logits.shape)} and {tuple(targets.shape)}."
            )
        if targets.numel():
            low, high = int(targets.min()), int(targets.max())
            if low < 0 or high >= self.num_classes:
                raise ValueError(f"Targets are in 0..{self.num_classes - 1}, got {low}..{high}.")

    def tensors(self) -> list[Tensor]:
        """All sums. After the last `update`, add them up over ranks in place (an all-reduce)."""
        confusion = [] if self.confusion is None else [self.confusion]
        scalars = [self.n, self.invalid, self.top1, self.top5, self.loss]
        return [*scalars, self.class_n, self.class_correct, *confusion, *self.calibration.tensors()]

    def result(self) -> ClassificationFigures:
        """The figures so far. Raises UserError if there was no image at all."""
        n, invalid, top1, top5 = int(self.n), int(self.invalid), int(self.top1), int(self.top5)
        if n == 0:
            raise UserError("There was no image to evaluate on. Check that the data set has readable images.")
        class_n = self.class_n.tolist()
        per_class = [c / m if m else None for c, m in zip(self.class_correct.tolist(), class_n, strict=True)]
        known = [accuracy for accuracy in per_class if accuracy is not None]
        return ClassificationFigures(
            n=n,
            invalid=invalid,
            top1=top1 / n,
            top1_interval=wilson_interval(top1, n),
            top5=top5 / n,
            top5_interval=wilson_interval(top5, n),
            top5_k=self.top5_k,
            loss=self.loss.item() / (n - invalid) if n > invalid else None,
            per_class=per_class,
            per_class_n=class_n,
            mean_per_class=math.fsum(known) / len(known),
            ece=self.calibration.expected_calibration_error(),
            reliability=self.calibration.bins(),
            confusion=None if self.confusion is None else self.confusion.cpu(),
        )


def _count(device: torch.device | str, *shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.int64, device=device)


def _rank(scores: Tensor, targets: Tensor) -> Tensor:
    """The number of classes ranked before the target: (B, K), (B,) -> (B,) in 0..K-1. Equal scores rank by index."""
    own = scores.gather(1, targets[:, None])
    earlier = torch.arange(scores.shape[1], device=scores.device) < targets[:, None]
    return ((scores > own) | ((scores == own) & earlier)).sum(1)
