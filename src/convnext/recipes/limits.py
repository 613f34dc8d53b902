"""Which values the numbers of a recipe may have: a mistyped one is refused before anything is read or written."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from convnext.core.errors import UserError
from convnext.recipes.recipe import AnyRecipe, ClassificationRecipe, DetectionRecipe, SegmentationRecipe

_TRAINING = {
    "loader.workers": "[-1, inf)",
    "loader.cache_megabytes": "[0, inf)",
    "loader.val_fraction": "[0, 1)",
    "loader.max_bad": "[0, 1]",
    "loader.max_pixels": "[1, inf)",
    "optim.lr": "(0, inf)",
    "optim.matrix_lr": "(0, inf)",
    "optim.momentum": "[0, 1)",
    "optim.weight_decay": "[0, inf)",
    "optim.eps": "(0, inf)",
    "optim.layer_decay": "(0, 1]",
    "optim.blocks_per_group": "[0, inf)",
    "optim.clip_grad": "[0, inf)",
    "schedule.epochs": "(0, inf)",
    "schedule.steps": "[0, inf)",
    "schedule.warmup_epochs": "[0, inf)",
    "schedule.warmup_steps": "[0, inf)",
    "schedule.warmup_start": "[0, 1]",
    "schedule.min_lr": "[0, inf)",
    "ema.decay": "[0, 1)",
    "loop.global_batch": "[1, inf)",
    "loop.micro_batch": "[0, inf)",
    "loop.seed": "[0, inf)",
    "loop.eval_epochs": "[0, inf)",
    "loop.checkpoint_seconds": "[0, inf)",
    "loop.log_steps": "[1, inf)",
}
_MODEL = {
    "num_classes": "[0, inf)",
    "in_chans": "[3, 3]",  # what is read from image files
    "drop_path_rate": "[0, 1)",
    "layer_scale_init_value": "[0, inf)",
    "head_init_scale": "(0, inf)",
    "init_std": "(0, inf)",
    "kernel_size": "[1, 63]",
}
LIMITS: dict[type[AnyRecipe], dict[str, str]] = {
    ClassificationRecipe: {
        **_TRAINING,
        **{f"model.{name}": limits for name, limits in _MODEL.items()},
        "input.size": "[1, 4096]",
        "input.crop_ratio": "(0, 1]",
        "augment.padding": "[0, inf)",
        "augment.flip": "[0, 1]",
        "augment.randaugment_ops": "[0, inf)",
        "augment.randaugment_magnitude": "[0, 10]",
        "augment.randaugment_std": "[0, inf)",
        "mix.mixup": "[0, inf)",
        "mix.cutmix": "[0, inf)",
        "mix.prob": "[0, 1]",
        "mix.switch_prob": "[0, 1]",
        "mix.erase": "[0, 1]",
        "mix.smoothing": "[0, 1)",
    },
    DetectionRecipe: {
        **_TRAINING,
        **{f"model.backbone.{name}": limits for name, limits in _MODEL.items()},
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
    SegmentationRecipe: {
        **_TRAINING,
        "balance": "[0, 2]",
        **{f"model.backbone.{name}": limits for name, limits in _MODEL.items()},
        "model.num_classes": "[0, 255]",
        "model.width": "[1, 4096]",
        "model.auxiliary_width": "[0, 4096]",
        "model.dropout": "[0, 1)",
        "input.short": "[0, 8192]",
        "input.long": "[32, 16384]",
        "input.window": "[0, 8192]",
        "input.stride": "[1, 8192]",
        "augment.crop": "[32, 8192]",
        "augment.most": "(0, 1]",
        "augment.flip": "[0, 1]",
    },
}
"""Every plain number of a recipe, and its interval: [ and ] include the end, ( and ) do not."""

PAIRS: dict[type[AnyRecipe], dict[str, str]] = {
    ClassificationRecipe: {"optim.betas": "[0, 1)", "augment.scale": "(0, 1]", "augment.ratio": "(0, inf)"},
    DetectionRecipe: {
        "optim.betas": "[0, 1)",
        "augment.crop_sides": "[1, inf)",
        "augment.shorts": "[32, 8192]",
        "augment.crop_shorts": "[32, 8192]",
        "model.rpn.ratios": "(0, inf)",
        "model.rpn.before_nms": "[1, inf)",
        "model.rpn.after_nms": "[1, inf)",
        "model.roi.ious": "(0, 1]",
        "model.roi.weights": "[0, inf)",
    },
    SegmentationRecipe: {"optim.betas": "[0, 1)", "augment.scale": "[0.05, 20]"},
}
"""Pairs and lists of numbers."""
_ASCENDING = ("augment.scale", "augment.ratio", "augment.crop_sides")


def check_limits(recipe: AnyRecipe) -> None:
    """Raises UserError naming the first setting whose value cannot work, and what it may be."""
    for name, limits in LIMITS[type(recipe)].items():
        value = setting(recipe, name)
        if value is not None and not lies_in(value, limits):
            raise UserError(f"--{_option(name)} lies in {_words(limits)}, not {value:g}.")
    for name, limits in PAIRS[type(recipe)].items():
        values = setting(recipe, name)
        if not values or not all(lies_in(value, limits) for value in values):
            raise UserError(f"--{_option(name)} takes numbers in {_words(limits)}, not {values}.")
        if name in _ASCENDING and values[0] > values[1]:
            raise UserError(f"--{_option(name)} takes the smaller number first, not {values}.")
    if not all(value > 0 for value in recipe.input.std):
        raise UserError(f"--input.std takes numbers above 0, not {recipe.input.std}.")
    if recipe.schedule.warmup_steps and recipe.schedule.warmup_epochs:
        raise UserError(
            f"A warm-up has one length: --schedule.warmup-epochs {recipe.schedule.warmup_epochs:g} or "
            f"--schedule.warmup-steps {recipe.schedule.warmup_steps}, with 0 for the other."
        )
    if isinstance(recipe, SegmentationRecipe) and recipe.input.stride > recipe.input.window > 0:
        raise UserError(
            f"--input.stride is at most --input.window ({recipe.input.window}), or pixels between two windows would be "
            f"left out; it was {recipe.input.stride}."
        )
    if recipe.schedule.shape == "steps" and not all(drop > 0 for drop in recipe.schedule.drops):
        raise UserError(f"--schedule.drops takes passes above 0, not {recipe.schedule.drops}.")


def lies_in(value: float, limits: str) -> bool:
    """Whether a number lies in an interval as "[0, 1)"; NaN lies in none."""
    low, high = (float(end) for end in limits[1:-1].split(","))
    above = value >= low if limits[0] == "[" else value > low
    below = value <= high if limits[-1] == "]" else value < high
    return above and below


def setting(recipe: AnyRecipe, name: str) -> Any:
    """The value of a setting as "optim.lr"."""
    value: Any = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return value


def numbers(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every plain number of a dataclass, nested ones as "optim.lr"; truth values are none."""
    found: dict[str, Any] = {}
    for field in fields(config):
        value, name = getattr(config, field.name), f"{prefix}{field.name}"
        if is_dataclass(value):
            found |= numbers(value, f"{name}.")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            found[name] = value
    return found


def _option(name: str) -> str:
    return name.replace("_", "-")


def _words(limits: str) -> str:
    low, high = (end.strip() for end in limits[1:-1].split(","))
    if low == high:
        return f"{low} alone"
    start = f"{low} and above" if limits[0] == "[" else f"numbers above {low}"
    if high == "inf":
        return start
    return (
        f"{low} to {high}"
        + ("" if limits[-1] == "]" else f", {high} excluded")
        + ("" if limits[0] == "[" else f", {low} excluded")
    )
