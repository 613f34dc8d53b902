"""Names of the classes beside weights, in the places where trainings keep them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

_OUTER = ("meta", "dataset_meta", "hyper_parameters")  # of mmengine and mmcv, of Lightning
_KEYS = (
    *("classes", "CLASSES", "class_names", "label_names", "names"),
    *("idx_to_class", "id2label", "class_to_idx", "label2id"),
)


def class_names(loaded: Any) -> tuple[str, ...]:
    """The classes that a checkpoint names, in the order of a model's outputs; () where it names none.

    They stand as a list, as number -> name, or as name -> number (torchvision's `class_to_idx`).
    """
    if not isinstance(loaded, Mapping):
        return ()
    for key in _KEYS:
        if names := _names(loaded.get(key)):
            return names
    return next((names for key in _OUTER if (names := class_names(loaded.get(key)))), ())


def _names(value: Any) -> tuple[str, ...]:
    """Names in order, () for a value of another form, or names that are not unique."""
    found: Sequence[Any] = ()
    if isinstance(value, (list, tuple)):
        found = value
    elif isinstance(value, Mapping):
        pairs = {_number(key): name for key, name in value.items()}
        turned = {_number(number): name for name, number in value.items()}
        numbered = next((one for one in (turned, pairs) if set(one) == set(range(len(value)))), {})
        found = [numbered[i] for i in range(len(numbered))]
    named = all(isinstance(name, str) and name for name in found)
    return tuple(found) if named and len(set(found)) == len(found) else ()


def _number(value: Any) -> int | None:
    """A class number, also where it is written as text."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.isdigit() and len(value) < 7 else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
