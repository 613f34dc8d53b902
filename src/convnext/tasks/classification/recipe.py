"""What a classifier's recipe and file of weights hold. No torch here: the command line reads these first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from convnext.data.classification.config import AugmentConfig, TableConfig
from convnext.data.config import InputConfig, MixConfig
from convnext.models.config import ModelConfig
from convnext.recipes.limits import AUGMENT, AUGMENT_ASCENDING, AUGMENT_LISTS, Limits, model_limits
from convnext.recipes.recipe import Recipe

TASK = "classify"


@dataclass(frozen=True)
class ClassificationRecipe(Recipe):
    """How to train a classifier. The defaults are ConvNeXt's on ImageNet-1K (paper Table 5)."""

    task: ClassVar[str] = TASK

    model: ModelConfig = field(default_factory=ModelConfig)
    """The model."""
    input: InputConfig = field(default_factory=InputConfig)
    """What an image looks like when it reaches the model."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is done to each training image."""
    mix: MixConfig = field(default_factory=MixConfig)
    """What is done to each training batch."""
    folders: Literal["auto", "classes"] = "auto"
    """What folders mean. auto: train, val and test (in any usual spelling) are parts, others classes. classes: every
    folder is a class, whatever its name."""
    balance: bool = False
    """Train on each class equally often, however many images it has: those of rare classes come again and again, those
    of frequent ones take turns."""
    table: TableConfig = field(default_factory=TableConfig)
    """How a table of images and labels is read (csv, tsv, jsonl, parquet)."""


@dataclass(frozen=True)
class ClassificationMetadata:
    """What a saved classifier knows about itself."""

    task: ClassVar[str] = TASK

    model: ModelConfig
    input: InputConfig
    classes: tuple[str, ...] = ()
    """Names of the classes, for people."""
    note: str = ""
    class_dirs: tuple[str, ...] = ()
    """Names of the classes' folders in the data set that the classes are of, where those differ (ImageNet's ids)."""
    source: str = ""
    """Published weights: their name or address, and licence."""
    multi_label: bool = False
    """Whether an image can have several labels, or none: each output is a label's own log-odds."""
    thresholds: tuple[float, ...] = ()
    """Of several labels: the least probability with which each is given, chosen on the validation images; (): 0.5."""


LIMITS = Limits(
    numbers={
        **model_limits("model"),
        **AUGMENT,
        "model.in_chans": "[1, 1000]",
        "loader.bands": "[1, 1000]",
        "loader.white": "[0, inf)",
        "input.white": "[0, inf)",
        "mix.mixup": "[0, inf)",
        "mix.cutmix": "[0, inf)",
        "mix.prob": "[0, 1]",
        "mix.switch_prob": "[0, 1]",
        "mix.erase": "[0, 1]",
        "mix.smoothing": "[0, 1)",
    },
    lists=AUGMENT_LISTS,
    ascending=AUGMENT_ASCENDING,
)


def owns(values: Mapping[str, Any]) -> bool:
    """Whether metadata of a file is a classifier's: as it says, or, in files of before, by having no heads."""
    if "task" in values:
        return values["task"] == TASK
    return not (isinstance(values.get("model"), dict) and "backbone" in values["model"])


RECIPE_TYPE, METADATA_TYPE = ClassificationRecipe, ClassificationMetadata
