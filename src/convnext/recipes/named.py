"""A model that somebody names stands whole: what a recipe had set for another one is dropped, and said."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, NamedTuple, TypeVar

from convnext.core.text import printable

R = TypeVar("R")


class Named(NamedTuple):
    """A model, or a head, of a recipe that was named anew."""

    option: str
    """The setting, as "model.backbone.name"."""
    before: str
    after: str
    dropped: tuple[str, ...]
    """What the recipe had set for the one before, as "depths 1 1 2 1"."""

    def __str__(self) -> str:
        whose = f"for {self.before}" if self.before != self.after else "in its place"
        return (
            f"--{self.option.replace('_', '-')} {printable(self.after)} gives it as it is: what the recipe had set "
            f"{whose} is dropped ({', '.join(self.dropped)})"
        )


def named_parts(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """What has a name in a recipe, with its place: "model" or "model.backbone" for a model.

    That is every dataclass with a field `NAMED` (its name) and a method `whole` (the one of another name).
    """
    for entry in fields(config):
        value, place = getattr(config, entry.name), f"{prefix}{entry.name}"
        if is_dataclass(value):
            if hasattr(value, "whole"):
                yield place, value
            yield from named_parts(value, f"{place}.")


def with_whole_models(recipe: R, given: Mapping[str, str], *, of_weights: bool) -> tuple[R, list[Named]]:
    """The recipe with what `given` names as that is published, and what was dropped for it.

    given: option -> value, as "model.name" -> "convnext_tiny"; settings that it has besides are not counted as dropped.
    of_weights: whether the recipe's models are those of weights to start from: a name that says the same changes
    nothing.
    """
    changes: list[Named] = []
    for place, old in list(named_parts(recipe)):
        option = f"{place}.{old.NAMED}"
        before, name = getattr(old, old.NAMED), given.get(option, "")
        if not name or (of_weights and name == before):
            continue
        new = old.whole(name)
        keys = [e.name for e in fields(old) if e.name != old.NAMED and getattr(old, e.name) != getattr(new, e.name)]
        told = [f"{key.replace('_', '-')} {_words(getattr(old, key))}" for key in keys if f"{place}.{key}" not in given]
        if told:
            changes.append(Named(option, before, name, tuple(told)))
        changed = {old.NAMED: name, **{key: getattr(new, key) for key in keys}}
        recipe = _replaced(recipe, place.split("."), changed)
    return recipe, changes


def _replaced(config: Any, place: list[str], changed: Mapping[str, Any]) -> Any:
    """A nested dataclass with other values at a place."""
    if not place:
        return replace(config, **changed)
    return replace(config, **{place[0]: _replaced(getattr(config, place[0]), place[1:], changed)})


def _words(value: Any) -> str:
    if isinstance(value, (tuple, list)):
        return " ".join(str(item) for item in value)
    return f"{value:g}" if isinstance(value, float) else str(value)
