"""What the tasks of training runs share: their data, and batches of it. B is the type of a batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.data.batch import Loaded, Work
from convnext.data.config import LoaderConfig
from convnext.data.dataset import Dataset
from convnext.data.loader import BadImages, Sampling, resolved_workers, train_batches

B = TypeVar("B")
D = TypeVar("D", bound=Dataset)


@dataclass(frozen=True, kw_only=True)
class BaseTask(ABC, Generic[D, B]):
    """A `training.task.Task` on a training and a validation data set; each task adds how images are loaded, the losses
    and the evaluation."""

    train: D
    val: D
    loader: LoaderConfig
    device: torch.device
    seed: int
    bad: BadImages

    @property
    @abstractmethod
    def goal(self) -> str:
        """As `training.task.Task.goal`."""

    @property
    @abstractmethod
    def image_size(self) -> int:
        """Pixels of an image's side, about, by which the number of worker processes is decided."""

    @property
    def num_images(self) -> int:
        """Training images of an epoch."""
        return len(self.train)

    def sampling(self) -> Sampling:
        """What the order of the images depends on, besides chance."""
        return Sampling()

    @abstractmethod
    def load(self) -> Callable[[Work], Loaded[B]]:
        """What makes a training batch in a worker process: picklable, a pure function of its argument."""

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[B]:
        """Endless micro-batches from optimiser step `start_step` on."""
        world = distributed.world_size()
        return train_batches(
            self.load(),
            num_images=len(self.train),
            global_batch=global_batch,
            micro_batch=micro_batch,
            seed=self.seed,
            start_step=start_step,
            bad=self.bad,
            workers=resolved_workers(self.loader, size=self.image_size, world_size=world),
            ranks=(distributed.rank(), world),
            sampling=self.sampling(),
        )

    @abstractmethod
    def losses(self, model: nn.Module, batch: Any, *, step: int, micro: int) -> Mapping[str, Tensor]:
        """As `training.task.Task.losses`."""

    @abstractmethod
    def evaluate(self, model: nn.Module) -> Mapping[str, float | None]:
        """As `training.task.Task.evaluate`."""
