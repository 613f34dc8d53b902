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
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from convnext.core.atomic import replacing
from convnext.core.errors import UserError
from convnext.core.pickles import read_pickle
from convnext.core.typed import from_dict, to_dict
from convnext.data.config import InputConfig
from convnext.data.detection.config import DetectionInputConfig
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.models.config import ModelConfig
from convnext.models.detection.config import DetectorConfig
from convnext.models.segmentation.config import SegmenterConfig
from convnext.weights.formats import Official, check_keys, official, unwrap

KEY = "convnext"
_DIGEST = "sha256"
C = TypeVar("C", bound="AnyMetadata")


@dataclass(frozen=True)
class ClassificationMetadata:
    """What a saved model knows about itself."""

    model: ModelConfig
    input: InputConfig
    classes: tuple[str, ...] = ()
    """Names of the classes, for people."""
    note: str = ""
    class_dirs: tuple[str, ...] = ()
    """Names of the classes' folders in the data set that the classes are of, where those differ (ImageNet's ids)."""
    source: str = ""
    """Published weights: their name or address, and licence."""


@dataclass(frozen=True)
class DetectionMetadata:
    """What a saved detector knows about itself."""

    model: DetectorConfig
    input: DetectionInputConfig
    classes: tuple[str, ...] = ()
    """Names of the classes, for people."""
    category_ids: tuple[int, ...] = ()
    """The classes' numbers in their data set, for results in COCO's form."""
    note: str = ""
    source: str = ""
    """Published weights: their name or address, and licence."""


@dataclass(frozen=True)
class SegmentationMetadata:
    """What a saved segmenter knows about itself."""

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


AnyMetadata = ClassificationMetadata | DetectionMetadata | SegmentationMetadata
_CARDS = {ClassificationMetadata: "classifier", DetectionMetadata: "detector", SegmentationMetadata: "segmenter"}
_READERS = {
    ClassificationMetadata: "load_model",
    DetectionMetadata: "load_detector",
    SegmentationMetadata: "load_segmenter",
}


def save_model(path: Path, state: dict[str, Tensor], metadata: AnyMetadata) -> None:
    """Writes the weights and their metadata to `path` (.safetensors), atomically."""
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    values = to_dict(metadata)
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
    """The metadata's values and the digest ("" where there is none). Raises KeyError or JSONDecodeError without metadata of ours."""
    values = json.loads(metadata[KEY])
    return values, values.pop(_DIGEST, "") if isinstance(values, dict) else ""


def is_ours(path: Path) -> bool:
    """Whether a safetensors file has metadata of ours. Raises UserError where it cannot be read."""
    try:
        with safe_open(path, framework="pt") as file:
            return KEY in (file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}.") from None


def read_metadata(path: Path) -> ClassificationMetadata:
    """The metadata of a classifier's file. Raises UserError where it has none."""
    return _metadata_of(path, ClassificationMetadata)


def read_detection_metadata(path: Path) -> DetectionMetadata:
    """The metadata of a detector's file. Raises UserError where it has none."""
    return _metadata_of(path, DetectionMetadata)


def read_segmentation_metadata(path: Path) -> SegmentationMetadata:
    """The metadata of a segmenter's file. Raises UserError where it has none."""
    return _metadata_of(path, SegmentationMetadata)


def _metadata_of(path: Path, kind: type[C]) -> C:
    metadata = read_any_metadata(path)
    if not isinstance(metadata, kind):
        raise UserError(
            f"{path} holds a {_CARDS[type(metadata)]}, not a {_CARDS[kind]}: `{_READERS[type(metadata)]}` reads it."
        )
    return metadata


def read_any_metadata(path: Path) -> AnyMetadata:
    """The metadata of one of our files. Raises UserError where it has none."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be read as safetensors: {error}.") from None
    try:
        values = _stored(metadata)[0]
        return from_dict(_kind_of(values), values)
    except (KeyError, json.JSONDecodeError):
        raise UserError(f"{path} does not say which model it holds; `convnext train` writes files that do.") from None
    except UserError as error:
        raise UserError(f"{path} does not say which model it holds in a way known here: {error}") from None


def _kind_of(values: Any) -> type[AnyMetadata]:
    """Which metadata these values are of: detectors and segmenters have a backbone, segmenters a head."""
    model = values.get("model") if isinstance(values, dict) else None
    if not isinstance(model, dict) or "backbone" not in model:
        return ClassificationMetadata
    return SegmentationMetadata if "head" in model else DetectionMetadata


def read_official(path: Path) -> Official:
    """The weights in a .safetensors, .pth, .pt or .bin file under official names, on the CPU, and whose names it had.

    Tensors are mapped from the file where its format allows it: they cost memory when they are used. Raises UserError
    for a file that is missing, damaged, of another kind, or a pickle that would run code.
    """
    return official(read_whole(path))


def read_whole(path: Path) -> dict[str, Tensor]:
    """Every tensor in a file, under the names that it has there. Raises UserError as `read_official` does."""
    if not path.is_file():
        raise UserError(f"There is no file {path}.")
    loaded = _read_safetensors(path) if path.suffix == ".safetensors" else read_pickle(path)
    return unwrap(loaded, str(path))


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
