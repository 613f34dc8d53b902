"""What a segmenter's recipe and file of weights hold. No torch here: the command line reads these first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from convnext.data.segmentation.config import SegmentationAugmentConfig, SegmentationInputConfig
from convnext.models.segmentation.config import RENAMED_HEADS, SegmenterConfig
from convnext.recipes.limits import Limits, model_limits
from convnext.recipes.recipe import Recipe

TASK = "segment"


def migrated(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values of a recipe or of metadata with the heads' names of today."""
    model = values.get("model")
    head = model.get("head") if isinstance(model, dict) else None
    if not isinstance(model, dict) or not isinstance(head, str) or head not in RENAMED_HEADS:
        return dict(values)
    return {**values, "model": {**model, "head": RENAMED_HEADS[head]}}


@dataclass(frozen=True)
class SegmentationRecipe(Recipe):
    """How to train a segmenter: a class for every pixel."""

    task: ClassVar[str] = TASK

    labels: str = ""
    """What the values or colours of the label maps mean: a mapping file (JSON), or ade20k, cityscapes or voc; empty:
    `labels.json` beside the data, or what the data itself says. objects: the data holds annotated objects, as a
    detector takes them, and their outlines are made into label maps."""
    balance: float = 0.0
    """How much more the pixels of rare classes weigh in the losses: their share to the power of -balance. 0: all alike,
    as the papers have it; 1: each class as much as any other."""
    model: SegmenterConfig = field(default_factory=SegmenterConfig)
    """The segmenter."""
    input: SegmentationInputConfig = field(default_factory=SegmentationInputConfig)
    """What an image looks like when it reaches the segmenter in evaluation and prediction."""
    augment: SegmentationAugmentConfig = field(default_factory=SegmentationAugmentConfig)
    """What is done to each training image."""

    def problem(self) -> str:
        """As `Recipe.problem`."""
        if self.input.stride > self.input.window > 0:
            return (
                f"--input.stride is at most --input.window ({self.input.window}), or pixels between two windows would "
                f"be left out; it was {self.input.stride}."
            )
        return ""

    @staticmethod
    def migrated(values: dict[str, Any]) -> dict[str, Any]:
        """As `Recipe.migrated`."""
        return migrated(values)


@dataclass(frozen=True)
class SegmentationMetadata:
    """What a saved segmenter knows about itself."""

    task: ClassVar[str] = TASK

    model: SegmenterConfig
    input: SegmentationInputConfig
    classes: tuple[str, ...] = ()
    """Names of the classes, for people."""
    colours: tuple[tuple[int, int, int], ...] = ()
    """Of each class: red, green, blue, 0..255, as the data has them or as they were chosen for it."""
    values: tuple[int, ...] = ()
    """Of each class: its value in the data set's label maps, for maps that are written in its convention."""
    note: str = ""
    source: str = ""
    """Published weights: their name or address, and licence."""


LIMITS = Limits(
    numbers={
        "balance": "[0, 2]",
        **model_limits("model.backbone"),
        "model.num_classes": "[0, 255]",
        "model.width": "[1, 4096]",
        "model.auxiliary_width": "[0, 4096]",
        "model.dropout": "[0, 1)",
        "input.short": "[0, 8192]",
        "input.long": "[32, 16384]",
        "input.window": "[0, 8192]",
        "input.stride": "[1, 8192]",
        "augment.crop": "[32, 8192]",
        "augment.most": "(0, 1]",
        "augment.flip": "[0, 1]",
    },
    lists={"augment.scale": "[0.05, 20]"},
    ascending=("augment.scale",),
)


def owns(values: Mapping[str, Any]) -> bool:
    """Whether metadata of a file is a segmenter's: as it says, or, in files of before, by its head."""
    if "task" in values:
        return values["task"] == TASK
    return isinstance(values.get("model"), dict) and "backbone" in values["model"] and "head" in values["model"]


RECIPE_TYPE, METADATA_TYPE = SegmentationRecipe, SegmentationMetadata
