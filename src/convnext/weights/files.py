"""Models as files: safetensors with the configuration inside, and safe reading of other people's checkpoints.

A file of ours is a plain safetensors file whose metadata key `convnext` holds JSON: the model's configuration, the class
names and the preprocessing. Pickles (.pth, .pt) are read with weights_only=True: code in them is never run.
"""

from __future__ import annotations

import json
import pickle
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from convnext.core.atomic import replacing
from convnext.core.errors import UserError
from convnext.core.typed import from_dict, to_dict
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.weights.formats import check_keys, official_names, unwrap

KEY = "convnext"


@dataclass(frozen=True)
class Card:
    """What a saved model knows about itself."""

    model: ModelConfig
    input: InputConfig
    classes: tuple[str, ...] = ()
    note: str = ""


def save_model(path: Path, state: dict[str, Tensor], card: Card) -> None:
    """Writes the weights and their card to `path` (.safetensors), atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as file:
        file.write(save(tensors, metadata={KEY: json.dumps(to_dict(card))}))


def read_card(path: Path) -> Card:
    """The card of one of our files. Raises UserError where it has none."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}.") from None
    try:
        return from_dict(Card, json.loads(metadata[KEY]))
    except (KeyError, json.JSONDecodeError):
        raise UserError(f"{path} does not say which model it holds; `convnext train` writes files that do.") from None


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of a .safetensors, .pth or .pt file, under official names, on the CPU.

    Raises UserError for a file that is missing, damaged, of another kind, or a pickle that would run code.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    if path.suffix == ".safetensors":
        try:
            with safe_open(path, framework="pt") as file:
                return official_names({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} cannot be read as safetensors: {error}.") from None
    return unwrap(read_pickle(path), str(path))


def read_pickle(path: Path) -> Any:
    """What a torch checkpoint holds, with weights_only=True. Raises UserError for anything that is not plain data."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).split("\n", 1)[0]
        raise UserError(f"{path} was refused: it is not plain weights ({reason}). Nothing in it was run.") from None
    except (RuntimeError, OSError, EOFError, ValueError, KeyError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise UserError(f"{path} is damaged or not a torch checkpoint: {type(error).__name__}: {error}") from None


def load_strictly(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Loads every tensor, or raises UserError naming what does not fit."""
    check_keys(model.state_dict(), state, where)
    model.load_state_dict(state)


def load_initial(model: nn.Module, path: Path) -> list[str]:
    """Loads pre-trained weights to fine-tune from, and returns the names that keep their fresh values.

    Those are a classifier of another number of classes, and the final norm and classifier that a headless encoder
    (FCMAE, a detection backbone) lacks. Raises UserError where anything else does not fit.
    """
    state, expected = read_state(path), model.state_dict()
    fresh = [name for name in expected if name.startswith(("head.", "norm.")) and name not in state]
    fresh += [n for n in expected if n.startswith("head.") and n in state and state[n].shape != expected[n].shape]
    kept = {name: value for name, value in state.items() if not name.startswith("head.") or name in expected}
    load_strictly(model, {**kept, **{name: expected[name] for name in fresh}}, str(path))
    return fresh
