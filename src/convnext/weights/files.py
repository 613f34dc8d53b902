"""Models as files: safetensors with the configuration inside, and safe reading of other people's checkpoints.

A file of ours is a plain safetensors file whose metadata key `convnext` holds JSON: the model's configuration, the
class names, the preprocessing, and a digest of all that and of every tensor, so that damage is noticed.
Pickles (.pth, .pt) are read as plain data: code in them is never run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from convnext.core.atomic import replacing
from convnext.core.errors import UserError
from convnext.core.pickles import read_pickle
from convnext.core.typed import from_dict, to_dict
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.weights.formats import check_keys, official_names, unwrap

KEY = "convnext"
_DIGEST = "sha256"


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
    values = to_dict(card)
    text = json.dumps({**values, _DIGEST: _digest(values, tensors)})
    with replacing(path) as file:  # one key of metadata: safetensors writes several in any order
        file.write(save(tensors, metadata={KEY: text}))


def _digest(values: Any, tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256(json.dumps(values).encode())
    for name, value in sorted(tensors.items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _stored(metadata: Mapping[str, str]) -> tuple[Any, str]:
    """The card's values and the digest ("" where there is none). Raises KeyError or JSONDecodeError without a card."""
    values = json.loads(metadata[KEY])
    return values, values.pop(_DIGEST, "") if isinstance(values, dict) else ""


def is_ours(path: Path) -> bool:
    """Whether a safetensors file has a card. Raises UserError where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}.") from None


def read_card(path: Path) -> Card:
    """The card of one of our files. Raises UserError where it has none."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}.") from None
    try:
        return from_dict(Card, _stored(metadata)[0])
    except (KeyError, json.JSONDecodeError):
        raise UserError(f"{path} does not say which model it holds; `convnext train` writes files that do.") from None
    except UserError as error:
        raise UserError(f"{path} does not say which model it holds in a way known here: {error}") from None


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of a .safetensors, .pth or .pt file, under official names, on the CPU.

    Raises UserError for a file that is missing, damaged, of another kind, or a pickle that would run code.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    if path.suffix == ".safetensors":
        return official_names(_read_safetensors(path))
    return unwrap(read_pickle(path), str(path))


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}.") from None
    try:
        values, digest = _stored(metadata)
    except (KeyError, json.JSONDecodeError):
        return state  # not a file of ours
    if digest and digest != _digest(values, state):
        raise UserError(f"{path} is damaged: it does not hold what was saved in it. Take another copy of it.")
    return state


def load_strictly(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Loads every tensor, or raises UserError naming what does not fit."""
    check_keys(model.state_dict(), state, where)
    model.load_state_dict(state)


def load_initial(model: nn.Module, path: Path) -> list[str]:
    """Loads pre-trained weights to fine-tune from, and returns the names that keep their fresh values.

    Those are a classifier of another number of classes, and the final norm and classifier that a headless encoder
    (FCMAE, DINOv3) lacks. Raises UserError where anything else does not fit.
    """
    state, expected = read_state(path), model.state_dict()
    fresh = [name for name in expected if name.startswith(("head.", "norm.")) and name not in state]
    fresh += [n for n in expected if n.startswith("head.") and n in state and state[n].shape != expected[n].shape]
    kept = {name: value for name, value in state.items() if not name.startswith("head.") or name in expected}
    load_strictly(model, {**kept, **{name: expected[name] for name in fresh}}, str(path))
    return fresh
