"""What the loop asks of a task: whatever differs between classifying, detecting and segmenting is behind this."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn


class Task(Protocol):
    """A task knows its data, its loss and its figures; it knows nothing of optimisers, steps or checkpoints."""

    @property
    def num_images(self) -> int:
        """Images of one epoch."""
        ...

    @property
    def goal(self) -> str:
        """The figure of `evaluate` that the best model has the most of, e.g. "top1"."""
        ...

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[Any]:
        """Endless micro-batches from optimiser step `start_step` on, a pure function of the step."""
        ...

    def losses(self, model: nn.Module, batch: Any, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """The mean losses of one micro-batch by name, float32 scalars with a gradient: their sum is minimised.

        `step` and `micro` seed what is random in them.
        """
        ...

    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        """Figures on the validation images, the same on every rank. The model is in evaluation mode."""
        ...
