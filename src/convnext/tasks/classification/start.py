"""What training a classifier starts from where nobody names weights: published ones for photos, by device and data."""

from __future__ import annotations

from collections.abc import Mapping

from convnext.core.device import pick_device
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.dataset import DataModule
from convnext.tasks.classification.choose import ENOUGH_LARGE
from convnext.tasks.classification.setup import facts_of
from convnext.tasks.start import SMALL_SIDE, Start, Wish, from_photos, from_scratch, misfit, too_small

_SIZES = ((1_000, "tiny"), (10_000, "small"), (float("inf"), "base"))
"""On a GPU: up to how many training images, and which size."""
_FREE, _ANY = "convnext", "convnextv2"  # V2's weights are better for their size, and not for commercial use


def start(data: DataModule[ClassificationDataset], options: Mapping[str, str], wish: Wish) -> Start:
    """What training on this data best starts from."""
    known = facts_of(data, options)
    if known.side <= SMALL_SIDE:
        return too_small(known.side)
    if problem := misfit(wish):
        return from_scratch(problem)
    name, why = _model(known.images, pick_device().type != "cpu", commercial=wish.commercial)
    if wish.model:
        name, why = wish.model, "the model that was named"
    per_class = known.images / max(known.classes, 1)
    needs = f"about {ENOUGH_LARGE:,} images of each class (here: {per_class:,.0f})"
    return from_photos(name, wish, why, needs=needs, enough=per_class >= ENOUGH_LARGE)


def _model(images: int, accelerator: bool, *, commercial: bool) -> tuple[str, str]:
    """The architecture for a device and a number of images, and why."""
    family = _FREE if commercial else _ANY
    if not accelerator:
        return f"{family}_{'tiny' if commercial else 'nano'}", "no GPU here, so the smallest"
    size = next(size for most, size in _SIZES if images < most)
    if size == "small" and not commercial:
        size = "tiny"  # V2 has no small
    return f"{family}_{size}", f"{images:,} images on a GPU, so {size}"
