"""Which values the numbers of a recipe may have: a mistyped one is refused before anything is read or written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any

from convnext.core.errors import UserError
from convnext.recipes.recipe import Recipe

TRAINING = {
    "loader.bands": "[3, 3]",  # a task that takes others says so
    "loader.white": "[0, 0]",
    "loader.workers": "[-1, inf)",
    "loader.cache_megabytes": "[0, inf)",
    "loader.val_fraction": "[0, 1)",
    "loader.train_fraction": "(0, 1]",
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
"""What every recipe has: [ and ] include the end, ( and ) do not."""
TRAINING_LISTS = {"optim.betas": "[0, 1)"}
AUGMENT = {
    "input.size": "[1, 4096]",
    "input.crop_ratio": "(0, 1]",
    "augment.padding": "[0, inf)",
    "augment.flip": "[0, 1]",
    "augment.randaugment_ops": "[0, inf)",
    "augment.randaugment_magnitude": "[0, 10]",
    "augment.randaugment_std": "[0, inf)",
}
"""What recipes of whole images have: an `InputConfig` and an `AugmentConfig`."""
AUGMENT_LISTS = {"augment.scale": "(0, 1]", "augment.ratio": "(0, inf)"}
AUGMENT_ASCENDING = ("augment.scale", "augment.ratio")
_MODEL = {
    "num_classes": "[0, inf)",
    "in_chans": "[3, 3]",  # what is read from image files
    "drop_path_rate": "[0, 1)",
    "layer_scale_init_value": "[0, inf)",
    "head_init_scale": "(0, inf)",
    "init_std": "(0, inf)",
    "kernel_size": "[1, 63]",
    "patch_size": "[1, 64]",
    "window_size": "[1, 64]",
    "img_size": "[1, 4096]",
}


def model_limits(prefix: str) -> dict[str, str]:
    """The intervals of a `ModelConfig` that stands at `prefix`, as "model" or "model.backbone"."""
    return {f"{prefix}.{name}": limits for name, limits in _MODEL.items()}


@dataclass(frozen=True)
class Limits:
    """What the numbers of a task's recipes may be, besides those that every recipe has."""

    numbers: Mapping[str, str]
    """Every plain number, and its interval."""
    lists: Mapping[str, str] = field(default_factory=dict)
    """Pairs and lists of numbers, and the interval of each."""
    ascending: tuple[str, ...] = ()
    """Pairs of which the smaller number comes first."""
    positive: tuple[str, ...] = ("input.std",)
    """Lists of numbers above 0."""


def check_limits(recipe: Recipe, limits: Limits) -> None:
    """Raises UserError naming the first setting whose value cannot work, and what it may be."""
    check_numbers(recipe, limits)
    if recipe.schedule.warmup_steps and recipe.schedule.warmup_epochs:
        raise UserError(
            f"A warm-up has one length: --schedule.warmup-epochs {recipe.schedule.warmup_epochs:g} or "
            f"--schedule.warmup-steps {recipe.schedule.warmup_steps}, with 0 for the other."
        )
    if recipe.schedule.shape == "steps" and not all(drop > 0 for drop in recipe.schedule.drops):
        raise UserError(f"--schedule.drops takes passes above 0, not {recipe.schedule.drops}.")
    if problem := recipe.problem():
        raise UserError(problem)


def check_numbers(recipe: Recipe, limits: Limits) -> None:
    """The same for each number by itself: what can be refused before it is known which recipe settings change."""
    for name, interval in {**TRAINING, **limits.numbers}.items():
        value = setting(recipe, name)
        if value is not None and not lies_in(value, interval):
            raise UserError(f"--{_option(name)} lies in {_words(interval)}, not {value:g}.")
    for name, interval in {**TRAINING_LISTS, **limits.lists}.items():
        values = setting(recipe, name)
        if not values or not all(lies_in(value, interval) for value in values):
            raise UserError(f"--{_option(name)} takes numbers in {_words(interval)}, not {values}.")
        if name in limits.ascending and values[0] > values[1]:
            raise UserError(f"--{_option(name)} takes the smaller number first, not {values}.")
    for name in limits.positive:
        values = setting(recipe, name)
        if not all(value > 0 for value in values):
            raise UserError(f"--{_option(name)} takes numbers above 0, not {values}.")


def lies_in(value: float, limits: str) -> bool:
    """Whether a number lies in an interval as "[0, 1)"; NaN lies in none."""
    low, high = (float(end) for end in limits[1:-1].split(","))
    above = value >= low if limits[0] == "[" else value > low
    below = value <= high if limits[-1] == "]" else value < high
    return above and below


def setting(recipe: Recipe, name: str) -> Any:
    """The value of a setting as "optim.lr"."""
    value: Any = recipe
    for part in name.split("."):
        value = getattr(value, part)
    return value


def numbers(config: Any, prefix: str = "") -> dict[str, Any]:
    """Every plain number of a dataclass, nested ones as "optim.lr"; truth values are none."""
    found: dict[str, Any] = {}
    for entry in fields(config):
        value, name = getattr(config, entry.name), f"{prefix}{entry.name}"
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
