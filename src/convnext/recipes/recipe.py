"""A recipe: everything that decides how a model is trained, as one value that can be written down and run again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from convnext.data.config import LoaderConfig
from convnext.training.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig


@dataclass(frozen=True)
class Recipe:
    """What every recipe has; each task's own type adds its model, input and augmentation."""

    task: ClassVar[str] = ""
    """The task's name, as it stands in recipe.json."""

    name: str
    """What this recipe is called."""
    data: str = ""
    """The images: see `convnext train --help`."""
    init: str = ""
    """Weights to start from: a file, a name from `convnext weights list` or hf-hub:owner/name. auto, where no recipe is
    named: published ones that suit the data. none, or empty: from scratch."""
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    """How images are read."""
    optim: OptimConfig = field(default_factory=OptimConfig)
    """The optimiser."""
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    """The learning rate over time."""
    ema: EmaConfig = field(default_factory=EmaConfig)
    """The running average of the weights."""
    loop: LoopConfig = field(default_factory=LoopConfig)
    """Batches, types, evaluation and saving."""

    def problem(self) -> str:
        """What cannot work in the combination of several settings, as a sentence; empty if nothing."""
        return ""

    @staticmethod
    def migrated(values: dict[str, Any]) -> dict[str, Any]:
        """JSON values that an earlier version wrote, as this version has them."""
        return values
