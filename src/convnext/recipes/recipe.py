"""A recipe: everything that decides how a model is trained, as one value that can be written down and run again."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path

from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.typed import from_dict, to_dict
from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig, LoaderConfig, MixConfig
from convnext.data.detection.config import DetectionAugmentConfig, DetectionInputConfig
from convnext.data.segmentation.config import SegmentationAugmentConfig, SegmentationInputConfig
from convnext.models.config import ModelConfig
from convnext.models.detection.config import DetectorConfig
from convnext.models.segmentation.config import SegmenterConfig
from convnext.train.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig


@dataclass(frozen=True)
class Recipe:
    """What every recipe has."""

    name: str
    """What this recipe is called."""
    data: str = ""
    """The images: see `convnext train --help`."""
    init: str = ""
    """Weights to start from: a file, a name from `convnext weights list` or hf-hub:owner/name. Empty: from scratch."""
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


@dataclass(frozen=True)
class ClassificationRecipe(Recipe):
    """How to train a classifier. The defaults are ConvNeXt's on ImageNet-1K (paper Table 5)."""

    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    input: InputConfig = field(default_factory=InputConfig)
    """What a picture looks like when it reaches the model."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is done to each training image."""
    mix: MixConfig = field(default_factory=MixConfig)
    """What is done to each training batch."""


@dataclass(frozen=True)
class DetectionRecipe(Recipe):
    """How to train a detector: boxes, and polygons where the data has them."""

    model: DetectorConfig = field(default_factory=DetectorConfig)
    """The detector."""
    input: DetectionInputConfig = field(default_factory=DetectionInputConfig)
    """What a picture looks like when it reaches the detector in evaluation and prediction."""
    augment: DetectionAugmentConfig = field(default_factory=DetectionAugmentConfig)
    """What is done to each training picture."""


@dataclass(frozen=True)
class SegmentationRecipe(Recipe):
    """How to train a segmenter: a class for every pixel."""

    labels: str = ""
    """What the values or colours of the label maps mean, as a JSON file; empty: `labels.json` beside the data, or what
    the data's own layout says."""
    balance: float = 0.0
    """How much more the pixels of rare classes weigh in the losses: their share to the power of -balance. 0: all alike,
    as the papers have it; 1: each class as much as any other."""
    model: SegmenterConfig = field(default_factory=SegmenterConfig)
    """The segmenter."""
    input: SegmentationInputConfig = field(default_factory=SegmentationInputConfig)
    """What a picture looks like when it reaches the segmenter in evaluation and prediction."""
    augment: SegmentationAugmentConfig = field(default_factory=SegmentationAugmentConfig)
    """What is done to each training picture."""


AnyRecipe = ClassificationRecipe | DetectionRecipe | SegmentationRecipe
_TASKS: dict[str, type[AnyRecipe]] = {
    "classify": ClassificationRecipe,
    "detect": DetectionRecipe,
    "segment": SegmentationRecipe,
}


def save_recipe(path: Path, recipe: AnyRecipe) -> None:
    """Writes the recipe as JSON, with the name of its task."""
    task = next(name for name, kind in _TASKS.items() if type(recipe) is kind)
    write_text(path, json.dumps({"task": task, **to_dict(recipe)}, indent=2) + "\n")


def read_recipe(path: Path) -> AnyRecipe:
    """A recipe from JSON; one that names no task is a classifier's.

    Raises UserError for a file that is not there or not JSON, or a field unknown or wrong.
    """
    try:
        values = json.loads(path.read_text())
    except OSError:
        raise UserError(f"There is no recipe file {path}.") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not JSON: {error}.") from None
    task = values.pop("task", "classify") if isinstance(values, dict) else "classify"
    if task not in _TASKS:
        raise UserError(f"{path} is a recipe for '{task}'; known are {', '.join(_TASKS)}.")
    return from_dict(_TASKS[task], values)
