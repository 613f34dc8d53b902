"""Warnings that hold for recipes of every task, and the reasons for a recipe that was picked."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

from convnext.core.typed import to_dict
from convnext.recipes.recipe import Recipe

_LISTED = 8  # settings


class Reason(str):
    """A sentence on why a recipe was picked. about: the settings that it speaks of, as "schedule.epochs" or "model": it
    is no longer true where one of them was changed."""

    about: tuple[str, ...]

    def __new__(cls, text: str, *about: str) -> Self:
        reason = super().__new__(cls, text)
        reason.about = about
        return reason


def true_reasons(reasons: Sequence[str], picked: Recipe, used: Recipe) -> list[str]:
    """The reasons for a picked recipe that still hold for the one that is used, and what was set in their place."""
    before, changed = _settings(to_dict(picked)), _changed(picked, used)
    kept = still_true(reasons, picked, used)
    if not changed:
        return kept
    listed = [
        f"--{_option(name)} {_shown(value)} (picked: {_shown(before.get(name))})" for name, value in changed.items()
    ]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return [*kept, f"set by you: {', '.join(listed[:_LISTED])}{more}"]


def still_true(reasons: Sequence[str], picked: Recipe, used: Recipe) -> list[str]:
    """The reasons for a picked recipe that still hold for the one that is used."""
    changed = _changed(picked, used)
    return [reason for reason in reasons if not _concerned(reason, changed)]


def _changed(picked: Recipe, used: Recipe) -> dict[str, Any]:
    """The settings in which a recipe differs from the one that was picked, with their values."""
    before, after = _settings(to_dict(picked)), _settings(to_dict(used))
    return {name: value for name, value in after.items() if value != before.get(name)}


def _concerned(reason: str, changed: Sequence[str] | dict[str, Any]) -> bool:
    about = reason.about if isinstance(reason, Reason) else ()
    return any(name == one or name.startswith(f"{one}.") for one in about for name in changed)


def _settings(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The settings of a recipe by name, as "optim.lr"."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _settings(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return found


def _option(name: str) -> str:
    return name.replace("_", "-")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(_shown, value))
    return f"{value:g}" if isinstance(value, float) else "none" if value in (None, "") else str(value)


def length_warnings(recipe: Recipe, *, warmup_steps: int, total_steps: int) -> list[str]:
    """What will probably go wrong with a run of this length, whatever its task."""
    found = []
    horizon = 1 / (1 - recipe.ema.decay) if recipe.ema.decay else 0
    if horizon > total_steps:
        found.append(
            f"The average of the weights reaches back {horizon:.0f} steps, but the run has {total_steps}: it would "
            f"mostly remember the beginning. Use --ema.decay {max(1 - 10 / total_steps, 0.5):.4g} or less, 0 for none."
        )
    if warmup_steps > total_steps / 5:
        found.append(
            f"The warm-up takes {warmup_steps} of {total_steps} steps, more than a fifth. "
            f"Use --schedule.{_shorter(recipe, total_steps)}."
        )
    return found


def _shorter(recipe: Recipe, total_steps: int) -> str:
    """A warm-up of a twentieth, in the unit that the schedule counts in."""
    if recipe.schedule.warmup_steps:
        return f"warmup-steps {max(total_steps // 20, 1)}"
    if recipe.schedule.steps:  # the epochs of a run whose length is given in steps say nothing
        return f"warmup-epochs 0 --schedule.warmup-steps {max(total_steps // 20, 1)}"
    return f"warmup-epochs {recipe.schedule.epochs / 20:.2g}"
