"""The layers of a classifier, whoever saved them: which model they are of, and loading them under other heads."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from convnext.core.errors import UserError
from convnext.core.typed import from_dict
from convnext.models.config import ModelConfig
from convnext.weights.catalog import Checkpoint
from convnext.weights.files import load_strictly
from convnext.weights.formats import Official, official
from convnext.weights.locate import WeightFile, locate
from convnext.weights.recognise import recognise

_NORM = re.compile(r"norm\d\.")
_NOT_LAYERS = ("norm.", "head.", "pre_logits.")  # of a classifier: other heads stand in their place


def official_state(file: WeightFile) -> Official:
    """A file's weights under official names. Raises UserError where it holds no weights of a layout known here."""
    return official(file.state)


def backbone_config(source: str | Path | WeightFile) -> ModelConfig:
    """Which model the layers at `source` are of: as our file says, or as the names and shapes of another show.

    Raises UserError where there is no such file, or no known model has these layers.
    """
    file = locate(source)
    if file.values is not None:
        model = file.values.get("model")
        values = model.get("backbone", model) if isinstance(model, dict) else model
        try:
            return from_dict(ModelConfig, values)
        except UserError as error:
            raise UserError(f"{file.file} does not say which model it holds in a way known here: {error}") from None
    given = official_state(file)
    model = recognise(given.state, file.source, norm_first=given.norm_first)
    return replace(model, name=file.row.model) if isinstance(file.row, Checkpoint) else model


def is_autoencoder(values: Mapping[str, Any]) -> bool:
    """Whether a file's metadata is of masked pre-training: its encoder is the layers of a classifier."""
    model = values.get("model")
    return isinstance(model, dict) and "mask_ratio" in model


def load_backbone(backbone: nn.Module, source: str | Path | WeightFile) -> list[str]:
    """Loads a classifier's layers into a backbone of four maps, whose norms stay newly initialised.

    Returns in words what stays so. Raises UserError where the layers do not fit.
    """
    file = locate(source)
    norms: dict[str, Tensor] = {n: value for n, value in backbone.state_dict().items() if _NORM.match(n)}
    given = {n: value for n, value in official_state(file).state.items() if not n.startswith(_NOT_LAYERS)}
    load_strictly(backbone, {**given, **norms}, file.source)
    return ["everything behind the backbone"]
