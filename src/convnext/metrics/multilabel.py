"""Average precision, precision, recall and F1 of several labels an image. N images, K labels.

Every figure comes from one matrix of scores, to which each rank adds the images that it saw; so the result does not
depend on the number of ranks or on how the images are divided into batches. What is not defined (the average precision
of a label that no image has, the precision of one that is never given) is None.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from convnext.core.errors import UserError

THRESHOLD = 0.5
"""The least probability of a label that counts as given, where none was chosen."""


@dataclass(frozen=True)
class LabelFigures:
    """The figures of one label. Shares are fractions in 0..1, None where undefined."""

    n: int  # images that have it
    ap: float | None
    threshold: float
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True)
class MultiLabelFigures:
    """The figures of an evaluation. Shares are fractions in 0..1, None where undefined."""

    n: int  # images
    invalid: int  # images whose logits are not finite: they get no label, the least scores, and no loss
    mean_ap: float | None  # over the labels that occur
    precision: float | None  # over all labels of all images (micro)
    recall: float | None
    f1: float | None
    macro_f1: float | None  # mean over the labels that occur
    loss: float | None  # mean binary cross-entropy in nats, over images and labels
    per_label: tuple[LabelFigures, ...]  # K


class MultiLabelScores:
    """The scores of an evaluation of `n` images, as tensors on `device`."""

    def __init__(self, n: int, num_labels: int, *, device: torch.device | str = "cpu") -> None:
        if num_labels < 1:
            raise ValueError(f"num_labels must be at least 1, not {num_labels}.")
        self.logits = torch.zeros((n, num_labels), device=device)
        self.targets = torch.zeros((n, num_labels), dtype=torch.uint8, device=device)
        self.seen = torch.zeros(n, dtype=torch.int32, device=device)
        self.invalid = torch.zeros((), dtype=torch.int64, device=device)
        self.loss = torch.zeros((), dtype=torch.float64, device=device)

    @torch.no_grad()
    def update(self, logits: Tensor, targets: Tensor, indices: Tensor) -> None:
        """Adds a batch: logits (B, K) of any floating type, targets (B, K) of 0 and 1, indices int64 (B,): which of the
        n images these are. Raises ValueError for other shapes."""
        if logits.ndim != 2 or logits.shape != targets.shape or logits.shape[1] != self.logits.shape[1]:
            raise ValueError(
                f"Expected logits and targets (B, {self.logits.shape[1]}), got {tuple(logits.shape)} and "
                f"{tuple(targets.shape)}."
            )
        places, scores = indices.to(self.seen.device), logits.to(self.logits)
        valid = scores.isfinite().all(dim=1)
        lowest = torch.finfo(scores.dtype).min
        self.logits[places] = torch.where(valid[:, None], scores, torch.full_like(scores, lowest))
        self.targets[places] = targets.to(self.targets)
        self.seen[places] = 1
        self.invalid += (~valid).sum()
        wanted = targets.to(self.logits)[valid]
        self.loss += F.binary_cross_entropy_with_logits(scores[valid], wanted, reduction="none").double().sum()

    def tensors(self) -> list[Tensor]:
        """All that is to be added up over ranks in place, after the last `update`: each image is of one rank."""
        return [self.logits, self.targets, self.seen, self.invalid, self.loss]

    def result(self, thresholds: Sequence[float] = ()) -> MultiLabelFigures:
        """The figures so far. thresholds: K least probabilities of a label that is given; none: 0.5 for each.

        Raises UserError if there was no image at all.
        """
        probabilities, targets = self._of_seen()
        n, k = probabilities.shape
        if n == 0:
            raise UserError("There was no image to evaluate on. Check that the data set has readable images.")
        least = torch.tensor(list(thresholds) or [THRESHOLD] * k, dtype=torch.float64)
        given = probabilities >= least
        true, found = targets.sum(0), given.sum(0)
        right = (given & targets).sum(0)
        per_label = tuple(
            LabelFigures(
                n=int(true[i]),
                ap=average_precision(probabilities[:, i], targets[:, i]),
                threshold=float(least[i]),
                precision=_share(right[i], found[i]),
                recall=_share(right[i], true[i]),
                f1=_share(2 * right[i], true[i] + found[i]),
            )
            for i in range(k)
        )
        occurring = [label for label in per_label if label.n]
        invalid = int(self.invalid)
        return MultiLabelFigures(
            n=n,
            invalid=invalid,
            mean_ap=_mean([label.ap for label in occurring if label.ap is not None]),
            precision=_share(right.sum(), found.sum()),
            recall=_share(right.sum(), true.sum()),
            f1=_share(2 * right.sum(), true.sum() + found.sum()),
            macro_f1=_mean([label.f1 for label in occurring if label.f1 is not None]),
            loss=self.loss.item() / ((n - invalid) * k) if n > invalid else None,
            per_label=per_label,
        )

    def thresholds(self) -> tuple[float, ...]:
        """For each label the threshold with the greatest F1 on these images; 0.5 for one that no image has, or all
        have."""
        probabilities, targets = self._of_seen()
        return tuple(best_threshold(probabilities[:, i], targets[:, i]) for i in range(probabilities.shape[1]))

    def wrong(self, thresholds: Sequence[float], most: int) -> list[tuple[int, int, float]]:
        """(image, label, how far its probability is off) of images with a label that is given and does not hold, or the
        other way round: of each image the one that is furthest off; the `most` images of the greatest distance."""
        probabilities = self.logits.cpu().double().sigmoid()
        targets = self.targets.cpu() > 0
        least = torch.tensor(list(thresholds) or [THRESHOLD] * targets.shape[1], dtype=torch.float64)
        wrong = ((probabilities >= least) != targets) & (self.seen.cpu() > 0)[:, None]
        off, labels = ((probabilities - targets.double()).abs() * wrong).max(dim=1)
        chosen = [i for i in torch.argsort(off, descending=True, stable=True).tolist() if bool(wrong[i].any())][:most]
        return [(i, int(labels[i]), float(off[i])) for i in chosen]

    def _of_seen(self) -> tuple[Tensor, Tensor]:
        """Probabilities float64 and targets bool, (N, K), on the CPU, of the images that were seen."""
        seen = self.seen.cpu() > 0
        return self.logits.cpu()[seen].double().sigmoid(), self.targets.cpu()[seen] > 0


def average_precision(scores: Tensor, targets: Tensor) -> float | None:
    """The mean, over the images that have a label, of the precision at that image's score; None where none has it.

    scores float (N,), targets bool (N,). Images of equal scores count together, in whatever order they come (as in
    scikit-learn).
    """
    total = int(targets.sum())
    if not total:
        return None
    right, found = _cumulative(scores, targets)[:2]
    gained = torch.diff(right, prepend=right.new_zeros(1))
    return float((gained * right / found).sum() / total)


def best_threshold(scores: Tensor, targets: Tensor) -> float:
    """The threshold of the greatest F1: half-way between the scores that it separates. Of equal ones the greatest, so
    that a label is given with more certainty. 0.5 where F1 says nothing: no image, or every one, has the label."""
    total = int(targets.sum())
    if not total or total == len(targets):
        return THRESHOLD
    right, found, levels = _cumulative(scores, targets)
    place = int(torch.argmax(2 * right / (found + total)))
    below = float(levels[place + 1]) if place + 1 < len(levels) else 0.0
    return (float(levels[place]) + below) / 2


def _cumulative(scores: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(images with the label, images, the score) from each distinct score up, the greatest first; float64."""
    order = torch.argsort(scores, descending=True, stable=True)
    levels, counts = torch.unique_consecutive(scores[order], return_counts=True)
    ends = counts.cumsum(0)
    right = targets[order].double().cumsum(0)[ends - 1]
    return right, ends.double(), levels


def _share(part: Tensor, whole: Tensor) -> float | None:
    return int(part) / int(whole) if int(whole) else None


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
