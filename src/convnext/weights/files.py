"""Models as files: safetensors with the configuration inside, and safe reading of other people's checkpoints.

A file of ours is a plain safetensors file whose metadata key `convnext` holds JSON: the model's configuration, the
class names, the preprocessing, and a digest of all that and of every tensor, so that damage is noticed.
Pickles (.pth, .pt) are read as plain data: code in them is never run.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from convnext.core.atomic import replacing
from convnext.core.errors import UserError
from convnext.core.pickles import read_pickle
from convnext.core.typed import from_dict, to_dict
from convnext.weights.containers import Contents, check_values, contents
from convnext.weights.formats import Official, check_keys, official
from convnext.weights.kinds import kind_of
from convnext.weights.sharded import index_of, shards_of

KEY = "convnext"
_DIGEST = "sha256"
TASK = "task"
M = TypeVar("M", bound="Metadata")


class Metadata(Protocol):
    """What a saved model knows about itself: a frozen dataclass of each task's own (`tasks/*/recipe`)."""

    __dataclass_fields__: ClassVar[dict[str, Any]]

    task: ClassVar[str]
    """The task's name, as it stands in the file."""

    @property
    def model(self) -> Any:
        """The configuration of the model, of a type of each task's own."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, for people."""
        ...


def save_model(path: Path, state: Mapping[str, Tensor], metadata: Metadata) -> None:
    """Writes the weights and their metadata to `path` (.safetensors), atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    values = {TASK: metadata.task, **to_dict(metadata)}
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
    """The metadata's values and the digest ("" where there is none). Raises KeyError or JSONDecodeError for a file of
    others."""
    values = json.loads(metadata[KEY])
    return values, values.pop(_DIGEST, "") if isinstance(values, dict) else ""


def read_values(path: Path) -> dict[str, Any] | None:
    """The metadata in one of our files as JSON values; None for a file of others. Raises UserError where the file
    cannot be read, or its metadata is damaged."""
    if path.suffix != ".safetensors":
        return None
    kind_of(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}.") from None
    if KEY not in metadata:
        return None
    try:
        values = _stored(metadata)[0]
    except json.JSONDecodeError:
        values = None
    if not isinstance(values, dict):
        raise UserError(f"{path} does not say which model it holds; `convnext train` writes files that do.")
    return values


def metadata_from(values: Mapping[str, Any], kind: type[M], where: Path) -> M:
    """Metadata of the type `kind` from a file's values. Raises UserError where they are not of that type."""
    try:
        return from_dict(kind, {key: value for key, value in values.items() if key != TASK})
    except UserError as error:
        raise UserError(f"{where} does not say which model it holds in a way known here: {error}") from None


def read_official(path: Path) -> Official:
    """The weights in a .safetensors, .pth, .pt or .bin file under official names, on the CPU, and whose names it had.

    Tensors are mapped from the file where its format allows it: they cost memory when they are used. Raises UserError
    for a file that is missing, damaged, of another kind, or a pickle that would run code.
    """
    return official(read_whole(path))


def read_whole(path: Path, *, which: str = "") -> dict[str, Tensor]:
    """Every tensor in a file, under the names that it has there. Raises UserError as `read_official` does."""
    return read_contents(path, which=which).state


def read_contents(path: Path, *, which: str = "") -> Contents:
    """Every tensor in a file (or in the files of an index), without prefixes of wrappers; and what was taken.

    which: the name of one of several states in a checkpoint; "": the average of the weights where there is one. Raises
    UserError as `read_official` does, and for weights that are not finite.
    """
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    index = index_of(path)
    if index is not None:
        loaded: Any = {}
        for shard in shards_of(index):
            loaded |= contents(_load(shard), str(shard)).state
    else:
        loaded = _load(path)
    found = contents(loaded, str(path), which=which)
    check_values(found.state, str(path))
    return found


def _load(path: Path) -> Any:
    return _read_safetensors(path) if kind_of(path) == "safetensors" else read_pickle(path)


def read_state(path: Path) -> dict[str, Tensor]:
    """The state dict of `read_official` alone."""
    return read_official(path).state


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
    """Loads every tensor, or raises UserError naming what does not fit. A model on the meta device takes the tensors
    themselves, without a copy."""
    expected = model.state_dict()
    check_keys(expected, state, where)
    model.load_state_dict(state, assign=any(value.is_meta for value in expected.values()))
