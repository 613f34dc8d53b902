"""Warnings that hold for recipes of every task."""

from __future__ import annotations

from convnext.recipes.recipe import Recipe


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
    """A warm-up of a twentieth, in the setting that the recipe has it in."""
    if recipe.schedule.warmup_steps:
        return f"warmup-steps {max(total_steps // 20, 1)}"
    return f"warmup-epochs {recipe.schedule.epochs / 20:.2g}"
