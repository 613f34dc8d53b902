"""What is known of a classifier's weights that were not saved here: from the catalogue, from the files that timm and
transformers write beside theirs, else from the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from convnext.core.errors import UserError
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.weights.catalog import Checkpoint, catalog
from convnext.weights.imagenet import COUNTS, imagenet_classes
from convnext.weights.locate import WeightFile


def assumed_metadata(file: WeightFile, model: ModelConfig) -> tuple[ClassificationMetadata, list[str]]:
    """The metadata of weights that have none, and what had to be assumed, in sentences for people."""
    row, notes = file.row, []
    if isinstance(row, Checkpoint):
        model, image, source = replace(model, name=row.model), row.input, f"{row.name} ({row.licence})"
        if not row.commercial:
            notes.append(f"{row.name}: licence {row.licence}, not for commercial use")
    else:
        image, source = _input(file), ""
        if image is None:
            image = InputConfig()
            notes.append(f"{file.file} does not say its preprocessing: {image.size} pixels, as ImageNet's, is taken")
        if len(image.mean) != model.in_chans:
            image = replace(image, mean=_spread(image.mean, model.in_chans), std=_spread(image.std, model.in_chans))
            notes.append(
                f"{file.file} takes {model.in_chans} channels and does not say how they are normalised: mean "
                f"{image.mean[0]:.3g} and deviation {image.std[0]:.3g} are taken for each"
            )
    names, class_dirs = _names(file.config, model.num_classes) or file.classes(model.num_classes), ()
    if model.num_classes in COUNTS:
        data, ours, ids = imagenet_classes(model.num_classes)
        if row is None and not names:
            notes.append(f"{file.file} does not name its {model.num_classes:,} classes: {data}'s are taken")
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


def _input(file: WeightFile) -> InputConfig | None:
    """The preprocessing that timm's or transformers' files tell, None where they tell none."""
    try:
        if isinstance(timm := file.config.get("pretrained_cfg"), dict):
            mean, std = _normalisation(timm["mean"], timm["std"])
            return InputConfig(
                size=int(timm["input_size"][-1]),
                resize="warp" if timm.get("crop_mode") == "squash" else "crop",
                crop_ratio=float(timm.get("crop_pct", 0.875)),
                interpolation="bilinear" if timm.get("interpolation") == "bilinear" else "bicubic",
                mean=mean,
                std=std,
            )
        if file.preprocessor:
            size = file.preprocessor["size"]
            mean, std = _normalisation(file.preprocessor["image_mean"], file.preprocessor["image_std"])
            edge = int(size["shortest_edge"] if isinstance(size, dict) and "shortest_edge" in size else _height(size))
            return InputConfig(
                size=edge,
                resize="warp" if edge >= 384 else "crop",  # the rule of transformers' ConvNextImageProcessor
                crop_ratio=float(file.preprocessor.get("crop_pct") or 224 / 256),
                interpolation="bilinear" if file.preprocessor.get("resample") == 2 else "bicubic",
                mean=mean,
                std=std,
            )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise UserError(f"The preprocessing beside {file.file} cannot be read ({error!r}).") from None
    return None


def _height(size: Any) -> int:
    return int(size["height"] if isinstance(size, dict) else size)


def _normalisation(mean: Any, std: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The mean and deviation of each channel. Raises ValueError where they are not of the same channels."""
    means, stds = tuple(float(value) for value in mean), tuple(float(value) for value in std)
    if not means or len(means) != len(stds):
        raise ValueError("mean and deviation are of other channels")
    return means, stds


def _spread(values: tuple[float, ...], channels: int) -> tuple[float, ...]:
    """The average of some channels' numbers, for each of other channels."""
    return (sum(values) / len(values),) * channels


def published() -> Mapping[str, Checkpoint]:
    """Published classifiers and encoders by name."""
    return catalog()
