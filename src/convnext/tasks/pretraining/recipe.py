"""What an autoencoder's recipe and file of weights hold. No torch here: the command line reads these first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig
from convnext.models.config import FCMAEConfig
from convnext.recipes.limits import AUGMENT, AUGMENT_ASCENDING, AUGMENT_LISTS, Limits, model_limits
from convnext.recipes.recipe import Recipe

TASK = "pretrain"


@dataclass(frozen=True)
class PretrainingRecipe(Recipe):
    """How to pre-train an encoder on images without labels (FCMAE, V2 paper, section 3)."""

    task: ClassVar[str] = TASK

    model: FCMAEConfig = field(default_factory=FCMAEConfig)
    """The encoder and the decoder on it."""
    input: InputConfig = field(default_factory=InputConfig)
    """What an image looks like when it reaches the model."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """What is done to each training image."""


@dataclass(frozen=True)
class PretrainingMetadata:
    """What a saved autoencoder knows about itself."""

    task: ClassVar[str] = TASK

    model: FCMAEConfig
    input: InputConfig
    classes: tuple[str, ...] = ()
    """None: it has no classes."""
    note: str = ""
    source: str = ""


LIMITS = Limits(
    numbers={
        **model_limits("model.backbone"),
        **AUGMENT,
        "model.mask_ratio": "(0, 1)",
        "model.decoder_dim": "[1, 16384]",
        "model.decoder_depth": "[1, 64]",
        "input.white": "[0, 0]",
    },
    lists=AUGMENT_LISTS,
    ascending=AUGMENT_ASCENDING,
)


def owns(values: Mapping[str, Any]) -> bool:
    """Whether metadata of a file is an autoencoder's."""
    return values.get("task") == TASK


RECIPE_TYPE, METADATA_TYPE = PretrainingRecipe, PretrainingMetadata
