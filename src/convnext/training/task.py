"""The interface between the training loop and a task: classification, detection or segmentation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import Tensor, nn


class Task(Protocol):
    """A task has data, losses and figures. It knows nothing about optimisers, schedules and checkpoints."""

    @property
    def num_images(self) -> int:
        """The number of images in an epoch."""
        ...

    @property
    def goal(self) -> str:
        """The figure of `evaluate` that selects the best model, higher is better: "top1", for example."""
        ...

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[Any]:
        """Yields micro-batches without end, from optimiser step `start_step` on: a pure function of the step."""
        ...

    def losses(self, model: nn.Module, batch: Any, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """The mean losses of one micro-batch by name: float32 scalars with a gradient, whose sum is minimised.

        `step` and `micro` seed any randomness.
        """
        ...

    def evaluate(self, model: nn.Module) -> Mapping[str, float | None]:
        """Figures on the validation images, the same on every rank; None where undefined. The model is in evaluation
        mode.

        Two of them mean the same in every task: "loss", where there is one, decides between weights where the goal does
        not; "invalid" is the number of images for which the outputs were not finite, and is left out where that is 0.
        """
        ...
