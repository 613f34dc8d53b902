"""What training starts from where nobody names weights (`--init auto`): a wish, and a task's answer to it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from convnext.weights.catalog import best_start, list_weights

if TYPE_CHECKING:
    from convnext.weights.locate import Published

_OF_LAYERS = {
    *("depths", "dims", "kernel_size", "patch_size", "window_size", "img_size", "stem_stride"),
    "layer_scale_init_value",
}
"""Settings of a model with which published layers do not fit it."""
AUTO, NONE = "auto", "none"
"""Words that --init takes in place of weights."""
COMMERCIAL = "commercial"
"""What --licence is unless somebody says otherwise."""
SMALL_SIDE = 64
"""Pixels of the shorter side up to which images keep recipes that start from scratch: these are quick, and weights of
photos help little with so few pixels unless the images are enlarged."""


@dataclass(frozen=True)
class Wish:
    """What is asked of published weights, besides that they suit the data."""

    model: str = ""
    """The model that somebody named, of networks with heads the backbone; "": any."""
    changed: tuple[str, ...] = ()
    """Settings of the model that were given, as "depths" or "backbone.stem_stride"."""
    commercial: bool = True
    """Whether the licence must allow commercial use."""


@dataclass(frozen=True)
class Start:
    """What training on some data best starts from."""

    row: Published | None
    """Published weights; None: from scratch."""
    why: str
    """Why these, or why none: the rest of a line."""
    needs: str = ""
    """What training from scratch takes and what there is, in words: "about 1,000 images of each class (here: 20)"."""
    enough: bool = True
    """Whether there is so much."""
    named: Mapping[str, str] = field(default_factory=dict)
    """Parts of the model that are taken in place of the weights' own, as "model.head" -> "mlp"."""


def from_scratch(why: str) -> Start:
    """Nothing to start from, and why."""
    return Start(None, why)


def too_small(side: int) -> Start:
    """Nothing to start from for small images. side: the median shorter side, in pixels."""
    return from_scratch(f"small images ({side} pixels) have recipes of their own; --init NAME takes published weights")


def misfit(wish: Wish, *, prefix: str = "") -> str:
    """Why published layers cannot fit the model that is wished for, as the rest of a line; "" where they can.

    prefix: of the settings of the layers, as "backbone.".
    """
    changed = [name for name in sorted(wish.changed) if name.startswith(prefix) and name[len(prefix) :] in _OF_LAYERS]
    options = " and ".join(f"--model.{name.replace('_', '-')}" for name in changed)
    return f"published weights do not fit a model with {options}" if changed else ""


def from_photos(model: str, wish: Wish, why: str, *, needs: str, enough: bool) -> Start:
    """A published classifier, or its layers, of an architecture; from scratch where none suits the wish."""
    row = best_start(model, commercial=wish.commercial)
    if row is not None:
        return Start(row, f"pre-trained on {row.trained_on}; {why}", needs, enough)
    licences = sorted({row.licence for row in list_weights(model=model)})
    if licences:
        return from_scratch(f"weights of {model} are not for commercial use ({licences[0]}): --licence any takes them")
    return from_scratch(f"no published weights of {model} are known here")
