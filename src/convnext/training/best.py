"""Which weights of a run are the best: by the goal's figure; where that says nothing, by the loss, else the last."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from convnext.core import distributed

Figures = Mapping[str, Any]


@dataclass(frozen=True)
class Best:
    """An evaluation of weights that may be the best.

    goal: its figure, higher is better; None where undefined. loss: of the validation images; None where the task
    evaluates none.
    """

    goal: float | None = None
    loss: float | None = None
    step: int | None = None
    """Optimiser steps that the weights have had; None: from a checkpoint that did not say."""

    def beats(self, other: Best | None) -> bool:
        """Whether these weights, the later ones, take the place of the others.

        A goal that is undefined, or 0, says nothing about weights: between two of those the lower loss decides, and
        without losses the later weights do.
        """
        if other is None:
            return True
        if self.goal and other.goal:
            return self.goal > other.goal
        if self.goal:
            return self.goal > 0 or other.goal is None
        if other.goal:
            return self.goal is not None and other.goal < 0
        if self.loss is None or other.loss is None:
            return True
        return self.loss < other.loss

    def chosen(self, goal: str) -> str:
        """How the weights were chosen, in a sentence, where not by the goal; else empty."""
        if self.goal:
            return ""
        above = f"No evaluation gave a {goal} above 0" + (" (it is undefined at the last)" if self.goal is None else "")
        which = (
            "those of the last evaluation, for there is no validation loss"
            if self.loss is None
            else f"those of the lowest validation loss, {self.loss:.4g}"
        )
        where = "" if self.step is None else f" (step {self.step})"
        return f"{above}: the weights that are kept as the best are {which}{where}."

    def as_values(self) -> dict[str, Any]:
        """As plain values, for a checkpoint."""
        return asdict(self)


def best_from(values: Any) -> Best | None:
    """What `Best.as_values` gave, or the plain goal of an earlier version's checkpoint, where 0 was undefined too."""
    if isinstance(values, dict):
        return Best(**values)
    return Best(goal=values or None) if isinstance(values, float) and math.isfinite(values) else None


def not_finite(figures: Figures) -> str:
    """What is not finite about evaluated weights, in words; empty where they may be the best.

    Looks at "loss", where there is one, and at "invalid", the number of images for which the outputs were not finite.
    """
    if invalid := figures.get("invalid"):
        return f"the model's outputs are not finite numbers for {invalid:g} of the validation images"
    loss = figures.get("loss")
    if "loss" in figures and (loss is None or not math.isfinite(loss)):
        return "the validation loss is not a finite number"
    return ""


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Whether all floating-point values are finite, on every rank."""
    wrong = torch.stack([~value.isfinite().all() for value in tensors if value.is_floating_point()]).sum().float()
    distributed.sum_over_ranks([wrong])
    return not bool(wrong)
