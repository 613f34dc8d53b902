"""A recipe: everything that decides how a model is trained, as one value that can be written down and run again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.typed import from_dict, to_dict
from convnext.data.config import AugmentConfig, InputConfig, LoaderConfig, MixConfig
from convnext.models.config import ModelConfig
from convnext.train.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig


@dataclass(frozen=True)
class Recipe:
    """How to train a classifier. The defaults are ConvNeXt's on ImageNet-1K (paper Table 5)."""

    name: str
    """What this recipe is called."""
    data: str = ""
    """A folder of class folders, a folder of tar shards, one tar file, or the word digits."""
    init: str = ""
    """Weights to start from: a file of ours (.safetensors) or an official checkpoint (.pth). Empty: from scratch."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    input: InputConfig = field(default_factory=InputConfig)
    """What a picture looks like when it reaches the model."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is done to each training image."""
    mix: MixConfig = field(default_factory=MixConfig)
    """What is done to each training batch."""
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


def save_recipe(path: Path, recipe: Recipe) -> None:
    """Writes the recipe as JSON."""
    write_text(path, json.dumps(to_dict(recipe), indent=2) + "\n")


def read_recipe(path: Path) -> Recipe:
    """A recipe from JSON. Raises UserError for a file that is not there or not JSON, or a field unknown or wrong."""
    try:
        values = json.loads(path.read_text())
    except OSError:
        raise UserError(f"There is no recipe file {path}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON: {error}.") from None
    return from_dict(Recipe, values)
