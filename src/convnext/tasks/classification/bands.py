"""What a classifier of other than three bands needs to know of its data, measured before training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from convnext.core.errors import UserError
from convnext.data.bands import greatest
from convnext.data.classification.dataset import ClassificationDataset, Subset
from convnext.data.dataset import DataModule
from convnext.data.decode import BadImage
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.tasks.evaluation import spread

_SAMPLE = 200  # images that are looked at


def measure(
    recipe: ClassificationRecipe, data: DataModule[ClassificationDataset]
) -> tuple[ClassificationRecipe, tuple[str, ...]]:
    """The recipe with what `loader.bands` asks for, and in words what was measured; the recipe itself for 3 bands.

    Of other bands: the model's channels, the value that counts as white, and mean and standard deviation of each band
    over 200 training images at most. RandAugment, which knows colours alone, is turned off. Raises UserError where
    the model was asked to have other channels, or no image can be read.
    """
    bands, channels = recipe.loader.bands, recipe.model.in_chans
    if bands == 3 and channels == 3:
        return recipe, ()
    if channels not in (3, bands):
        raise UserError(
            f"--model.in-chans {channels} and --loader.bands {bands} differ. Give --loader.bands alone: the model "
            "takes as many channels as the images have bands."
        )
    notes = []
    loader = recipe.loader
    if not loader.white:
        loader = replace(loader, white=_white(data.splits(loader, seed=recipe.loop.seed).train, recipe))
        if loader.white:
            notes.append(f"the value that counts as white, {loader.white:g}, is measured: --loader.white sets it")
    train = data.splits(loader, seed=recipe.loop.seed).train
    mean, std, looked = _statistics(train, bands)
    values = "; ".join(f"{m:.3f} and {s:.3f}" for m, s in zip(mean[:8], std[:8], strict=True))
    notes.append(f"{bands} bands: mean and standard deviation, measured on {looked} images, are {values}")
    augment = recipe.augment
    if augment.randaugment_ops:
        augment = replace(augment, randaugment_ops=0)
        notes.append("RandAugment is turned off: it is for images of 3 bands")
    return replace(
        recipe,
        loader=loader,
        augment=augment,
        model=replace(recipe.model, in_chans=bands),
        input=replace(recipe.input, mean=mean, std=std, white=loader.white),
    ), tuple(notes)


def _white(dataset: ClassificationDataset, recipe: ClassificationRecipe) -> float:
    """The greatest value of the images that are looked at; 0 for a data set of one's own, which gives no files."""
    inner, places = _unwrapped(dataset)
    content = getattr(inner, "content", None)
    if content is None:
        return 0.0
    found = [0.0]
    for index in places:
        try:
            name, limit = inner.name(index), recipe.loader.max_pixels
            found.append(greatest(content(index), name=name, max_pixels=limit, bands=recipe.loader.bands))
        except BadImage:
            continue
    return max(found)


def _unwrapped(dataset: ClassificationDataset) -> tuple[Any, list[int]]:
    """The data set below a subset of it, and the places in it of images spread over the subset."""
    places = list(spread(len(dataset), _SAMPLE))
    if isinstance(dataset, Subset):
        return dataset.dataset, dataset.indices[places].tolist()
    return dataset, places


def _statistics(dataset: ClassificationDataset, bands: int) -> tuple[tuple[float, ...], tuple[float, ...], int]:
    """Mean and standard deviation of each band in 0..1, and over how many images."""
    sums, squares, count, looked = torch.zeros(bands).double(), torch.zeros(bands).double(), 0, 0
    reason = ""
    for index in spread(len(dataset), _SAMPLE):
        try:
            values = dataset.read(index).double() / 255
        except BadImage as error:
            reason = reason or str(error)
            continue
        sums += values.sum(dim=(1, 2))
        squares += values.square().sum(dim=(1, 2))
        count, looked = count + values[0].numel(), looked + 1
    if not looked:
        raise UserError(f"None of the images that were tried has {bands} bands ({reason}).")
    mean = sums / count
    std = (squares / count - mean.square()).clamp_min(0).sqrt().clamp_min(1 / 255)
    return tuple(round(m, 6) for m in mean.tolist()), tuple(round(s, 6) for s in std.tolist()), looked
