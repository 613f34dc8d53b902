"""What is known of weights that were not saved here: from the catalogue, from a hub's files, else from the weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from convnext.core.errors import UserError
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.weights.catalog import Checkpoint, at_location, catalog, find
from convnext.weights.download import download
from convnext.weights.files import ClassificationMetadata
from convnext.weights.hub import PREFIX, hub_file, hub_weights, parse_hub_id
from convnext.weights.imagenet import COUNTS, imagenet_classes

BEST = "best.safetensors"
_FOLDER_FILES = (BEST, "model.safetensors", "pytorch_model.bin")
_SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
_DIGEST = 8  # hex digits of the sha256 at the end of a published file's name, as convnext_tiny-983f1562.pth


class Located(NamedTuple):
    """A file of weights on this machine, and what others say about it."""

    file: Path
    row: Checkpoint | None
    """Its row of the catalogue."""
    config: dict[str, Any]
    """config.json beside it, as timm and transformers write it."""
    preprocessor: dict[str, Any]
    """preprocessor_config.json beside it, as transformers writes it."""


def locate(source: str | Path) -> Located:
    """The file that a path, a name of the catalogue or `hf-hub:owner/name` means, downloaded where need be.

    A folder means the best model of a run, or the model that timm or transformers saved there. Raises UserError for
    what is none of these, naming the nearest, and where a download fails.
    """
    text, path = str(source), Path(source)
    if text.startswith(PREFIX):
        return _on_hub(text)
    if path.exists():
        return _on_disk(path)
    if text.startswith("https://"):
        return Located(download(text, sha256=_digest_in(text)), at_location(text), {}, {})
    if text not in catalog() and (len(path.parts) > 1 or path.suffix in _SUFFIXES):
        raise UserError(
            f"There is no model at {path}: give a run's folder, a file of weights ({', '.join(_SUFFIXES)}), a name "
            f"from `convnext weights list`, or {PREFIX}owner/name."
        )
    row = find(text)
    if row.location.startswith(PREFIX):
        return _on_hub(row.location)._replace(row=row)
    return Located(download(row.location, sha256=_digest_in(row.location)), row, {}, {})


def _digest_in(url: str) -> str:
    """The digest that a published file's name ends in, "" where it has none."""
    end = Path(url).stem.rpartition("-")[2]
    return end if len(end) == _DIGEST and all(c in "0123456789abcdef" for c in end) else ""


def _on_hub(text: str) -> Located:
    repo, revision = parse_hub_id(text)
    file, config = hub_weights(repo, revision=revision)
    preprocessor: dict[str, Any] = {}
    if "architectures" in config:  # transformers' file: its preprocessing stands in another
        preprocessor = _json(hub_file(repo, "preprocessor_config.json", revision=revision))
    return Located(file, at_location(f"{PREFIX}{repo}"), config, preprocessor)


def _on_disk(path: Path) -> Located:
    if path.is_file():
        return Located(path, at_location(path.name), {}, {})
    file = next((path / name for name in _FOLDER_FILES if (path / name).is_file()), None)
    if file is None:
        raise UserError(
            f"{path} holds no {BEST}: it is not the folder of a run, or its first evaluation is still to come."
        )
    config, preprocessor = path / "config.json", path / "preprocessor_config.json"
    if file.name == BEST or not config.is_file():
        return Located(file, None, {}, {})
    return Located(file, None, _json(config), _json(preprocessor) if preprocessor.is_file() else {})


def _json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:
        raise UserError(f"{path} cannot be read as JSON: {error}.") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} holds no object of named values.")
    return values


def metadata_of(located: Located, model: ModelConfig) -> tuple[ClassificationMetadata, list[str]]:
    """The metadata of weights that have none, and what had to be assumed, in sentences for people."""
    row, notes = located.row, []
    if row is not None:
        model, image, source = replace(model, name=row.model), row.input, f"{row.name} ({row.licence})"
        if not row.commercial:
            notes.append(f"{row.name}: licence {row.licence}, not for commercial use")
    else:
        image, source = _input(located), ""
        if image is None:
            image = InputConfig()
            notes.append(f"{located.file} does not say its preprocessing: {image.size} pixels, as ImageNet's, is taken")
    names, class_dirs = _names(located.config, model.num_classes), ()
    if model.num_classes in COUNTS:
        data, ours, ids = imagenet_classes(model.num_classes)
        if row is None and not names:
            notes.append(f"{located.file} does not name its {model.num_classes:,} classes: {data}'s are taken")
        if row is not None or not names or names[0].split(",")[0] == ours[0]:  # others write all words of a synset
            names, class_dirs = ours, ids
    return ClassificationMetadata(model, image, names, source=source, class_dirs=class_dirs), notes


def _names(config: Mapping[str, Any], count: int) -> tuple[str, ...]:
    """The class names in timm's or transformers' config.json, () where it has none or another number of them."""
    labels = config.get("label_names")
    if not isinstance(labels, list):
        by_number = config.get("id2label")
        labels = list(by_number.values()) if isinstance(by_number, dict) else []
    return tuple(str(label) for label in labels) if len(labels) == count else ()


def _input(located: Located) -> InputConfig | None:
    """The preprocessing that timm's or transformers' files tell, None where they tell none."""
    try:
        if isinstance(timm := located.config.get("pretrained_cfg"), dict):
            return InputConfig(
                size=int(timm["input_size"][-1]),
                resize="warp" if timm.get("crop_mode") == "squash" else "crop",
                crop_ratio=float(timm.get("crop_pct", 0.875)),
                interpolation="bilinear" if timm.get("interpolation") == "bilinear" else "bicubic",
                mean=_three(timm["mean"]),
                std=_three(timm["std"]),
            )
        if located.preprocessor:
            size = located.preprocessor["size"]
            edge = int(size["shortest_edge"] if isinstance(size, dict) and "shortest_edge" in size else _height(size))
            return InputConfig(
                size=edge,
                resize="warp" if edge >= 384 else "crop",  # the rule of transformers' ConvNextImageProcessor
                crop_ratio=float(located.preprocessor.get("crop_pct") or 224 / 256),
                interpolation="bilinear" if located.preprocessor.get("resample") == 2 else "bicubic",
                mean=_three(located.preprocessor["image_mean"]),
                std=_three(located.preprocessor["image_std"]),
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"The preprocessing beside {located.file} cannot be read ({error!r}).") from None
    return None


def _height(size: Any) -> int:
    return int(size["height"] if isinstance(size, dict) else size)


def _three(values: Any) -> tuple[float, float, float]:
    red, green, blue = (float(value) for value in values)
    return red, green, blue
