"""What a detector's recipe and file of weights hold. No torch here: the command line reads these first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from convnext.data.detection.config import DetectionAugmentConfig, DetectionInputConfig
from convnext.models.detection.config import DetectorConfig
from convnext.recipes.limits import Limits, model_limits
from convnext.recipes.recipe import Recipe

TASK = "detect"


@dataclass(frozen=True)
class DetectionRecipe(Recipe):
    """How to train a detector: boxes, and masks where the data has them."""

    task: ClassVar[str] = TASK

    model: DetectorConfig = field(default_factory=DetectorConfig)
    """The detector."""
    input: DetectionInputConfig = field(default_factory=DetectionInputConfig)
    """What an image looks like when it reaches the detector in evaluation and prediction."""
    augment: DetectionAugmentConfig = field(default_factory=DetectionAugmentConfig)
    """What is done to each training image."""
    crowds: Literal["auto", "ignore", "objects"] = "auto"
    """What annotations with iscrowd 1 are. ignore: regions of many objects, neither learned from nor background.
    objects: objects like the others. auto: ignore, unless half of all annotations are crowds, which is asked about."""


@dataclass(frozen=True)
class DetectionMetadata:
    """What a saved detector knows about itself."""

    task: ClassVar[str] = TASK

    model: DetectorConfig
    input: DetectionInputConfig
    classes: tuple[str, ...] = ()
    """Names of the classes, for people."""
    category_ids: tuple[int, ...] = ()
    """The classes' numbers in their data set, for results in COCO's form."""
    note: str = ""
    source: str = ""
    """Published weights: their name or address, and licence."""


LIMITS = Limits(
    numbers={
        **model_limits("model.backbone"),
        "model.num_classes": "[0, inf)",
        "model.width": "[1, 4096]",
        "model.rpn.anchor_scale": "(0, inf)",
        "model.rpn.smooth": "[0, inf)",
        "model.rpn.positive_iou": "(0, 1]",
        "model.rpn.negative_iou": "(0, 1]",
        "model.rpn.samples": "[2, inf)",
        "model.rpn.nms_iou": "(0, 1]",
        "model.roi.convs": "[0, 64]",
        "model.roi.fcs": "[1, 64]",
        "model.roi.width": "[1, 65536]",
        "model.roi.samples": "[1, inf)",
        "model.roi.positive_share": "(0, 1]",
        "model.roi.score": "[0, 1)",
        "model.roi.nms_iou": "(0, 1]",
        "model.roi.most": "[1, inf)",
        "model.roi.mask_threshold": "(0, 1)",
        "model.roi.mask_convs": "[0, 64]",
        "input.short": "[32, 8192]",
        "input.long": "[32, 16384]",
        "input.divisor": "[32, 32]",  # as the region proposals have it
        "augment.long": "[32, 16384]",
        "augment.flip": "[0, 1]",
        "augment.crop": "[0, 1]",
        "augment.min_side": "[1, inf)",
    },
    lists={
        "augment.crop_sides": "[1, inf)",
        "augment.shorts": "[32, 8192]",
        "augment.crop_shorts": "[32, 8192]",
        "model.rpn.ratios": "(0, inf)",
        "model.rpn.before_nms": "[1, inf)",
        "model.rpn.after_nms": "[1, inf)",
        "model.roi.ious": "(0, 1]",
        "model.roi.weights": "[0, inf)",
    },
    ascending=("augment.crop_sides",),
)


def owns(values: Mapping[str, Any]) -> bool:
    """Whether metadata of a file is a detector's: as it says, or, in files of before, by its region proposals."""
    if "task" in values:
        return values["task"] == TASK
    return isinstance(values.get("model"), dict) and "rpn" in values["model"]


RECIPE_TYPE, METADATA_TYPE = DetectionRecipe, DetectionMetadata
