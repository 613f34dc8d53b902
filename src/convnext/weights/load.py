"""A trained model from a file or a run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import torch

from convnext.core.device import Precision, pick_device, pick_dtype
from convnext.core.errors import UserError
from convnext.models.config import ModelConfig
from convnext.models.create import Model, from_config
from convnext.weights.files import Card, is_ours, load_strictly, read_card, read_state
from convnext.weights.recognise import architecture

BEST = "best.safetensors"


class Loaded(NamedTuple):
    """A model in evaluation mode, and what it knows about itself."""

    model: Model
    card: Card


def model_file(path: str | Path) -> Path:
    """The file of weights that `path` means: itself, or the best model of a run's folder."""
    path = Path(path)
    if path.is_dir():
        if not (path / BEST).is_file():
            raise UserError(
                f"{path} holds no {BEST}: it is not the folder of a run, or its first evaluation is still to come."
            )
        return path / BEST
    if not path.exists():
        raise UserError(
            f"There is no model at {path}: give a run's folder or a .safetensors file that `convnext train` wrote."
        )
    return path


def model_of(path: str | Path) -> ModelConfig:
    """Which model the weights at `path` are of: what our file says, or what the names and shapes of another tell.

    Raises UserError where there is no such file, or no known model has these weights.
    """
    file = model_file(path)
    if file.suffix == ".safetensors" and is_ours(file):
        return read_card(file).model
    return ModelConfig(architecture(read_state(file), str(file)))


def load_model(path: str | Path, *, device: str = "cpu", dtype: Precision = "float32") -> Loaded:
    """Loads what `convnext train` saved: a run's folder or its .safetensors file.

    `dtype="auto"` is bfloat16 where the device is fast at it, else float32. Raises UserError for a file that is
    missing, damaged or does not fit.
    """
    file = model_file(path)
    card = read_card(file)
    with torch.device("meta"):  # no time spent on weights that are replaced at once
        model = from_config(card.model)
    where = pick_device(device)
    model.to_empty(device=where)
    load_strictly(model, read_state(file), str(file))
    return Loaded(model.to(dtype=pick_dtype(dtype, where)).eval(), card)
