"""Outputs of weights that a training starts from: kept where their classes are the data's, by name. K classes."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from torch import Tensor

from convnext.core.errors import UserError


def class_order(known: Sequence[str], wanted: Sequence[str]) -> list[int] | None:
    """Where each wanted class stands among the known ones; None where they are not the same classes, or are not known
    by unique names. Names are compared in one Unicode form."""
    known, wanted = ([unicodedata.normalize("NFC", name) for name in names] for names in (known, wanted))
    if not known or len(set(known)) < len(known) or sorted(known) != sorted(wanted):
        return None
    places = {name: place for place, name in enumerate(known)}
    return [places[name] for name in wanted]


def in_order(value: Tensor, order: Sequence[int]) -> Tensor:
    """The rows of an output's weight or bias in another order of classes.

    value: (K * n, ...), n rows for each class, one class after the other; or (K + 1, ...), the last row for none.
    Raises UserError for a tensor of another number of rows.
    """
    classes = len(order)
    if not value.ndim or (len(value) != classes + 1 and (len(value) % classes or not len(value))):
        raise UserError(f"The weights have outputs of {classes} classes and a tensor of {tuple(value.shape)} for them.")
    if len(value) == classes + 1:
        return value[[*order, classes]]
    rows = len(value) // classes
    return value.unflatten(0, (classes, rows))[list(order)].flatten(0, 1)


def kept_words(where: str, order: Sequence[int]) -> str:
    """A line that says that outputs are kept."""
    again = "" if list(order) == sorted(order) else ", in another order"
    return f"{where}: the outputs of its {len(order)} classes are kept: they are the data's{again}"


def new_words(known: Sequence[str]) -> str:
    """Why outputs start anew though weights have some: the rest of a sentence. known: the weights' classes, by name."""
    return "of which the weights have others" if known else "which the weights do not name"
