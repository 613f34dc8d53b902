"""From a classification recipe to its parts."""

from __future__ import annotations

import statistics
from dataclasses import replace
from typing import Any

import torch

from convnext.core import distributed
from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.data.classification.cached import CachedDataset
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.classification.open import ClassificationSplits, open_classification
from convnext.data.decode import BadImage
from convnext.data.detection.open import looks_like_coco
from convnext.data.loader import BadImages, resolved_workers
from convnext.models.create import Model, from_config
from convnext.recipes.recipe import ClassificationRecipe
from convnext.tasks.classification.choose import Facts, choose
from convnext.tasks.classification.task import ClassificationTask
from convnext.tasks.classification.weights import load_initial, model_of
from convnext.tasks.setup import Setup, check_num_classes, facts
from convnext.train.loop import Plan
from convnext.weights.files import ClassificationMetadata


def open_images(recipe: ClassificationRecipe, split: dict[str, Any] | None) -> ClassificationSplits:
    """The data of a recipe; with `split`, as it was split before."""
    try:
        return open_classification(
            recipe.data,
            val_fraction=recipe.loader.val_fraction,
            seed=recipe.loop.seed,
            max_pixels=recipe.loader.max_pixels,
            split=split,
        )
    except UserError as error:
        if not looks_like_coco(recipe.data):
            raise
        what = f"{recipe.data} is annotated for a detector, and {recipe.name} is the recipe of a classifier"
        raise UserError(f"{what}: leave it out, or take small/mask_rcnn. {error}") from None


def classification(recipe: ClassificationRecipe, device: torch.device, split: dict[str, Any] | None) -> Setup:
    """The parts of a classification run. Raises UserError where data, model and recipe do not go together."""
    opened = open_images(recipe, split)
    classes = opened.train.classes
    check_num_classes(recipe.model.num_classes, len(classes))
    full = replace(recipe, model=replace(recipe.model, num_classes=len(classes)))

    def warnings(plan: Plan) -> list[str]:
        return warnings(
            full,
            images=len(opened.train),
            classes=len(classes),
            side=median_side(opened.train),
            warmup_steps=plan.warmup_steps,
            total_steps=plan.total_steps,
        )

    return Setup(
        num_images=len(opened.train),
        split=opened.split,
        build=lambda init: _model(full, device, load_init=init),
        task=lambda plan: _task(full, opened, device, plan),
        metadata=ClassificationMetadata(full.model, full.input, classes),
        name=full.model.name,
        facts=facts(train=len(opened.train), val=len(opened.val), held_out=opened.held_out, classes=len(classes)),
        notes=(opened.note,),
        warnings=warnings,
    )


def _model(recipe: ClassificationRecipe, device: torch.device, *, load_init: bool) -> tuple[Model, list[str]]:
    model = from_config(recipe.model)
    fresh = load_initial(model, recipe.init) if recipe.init and load_init else []
    smallest = model.strides[-1]
    if recipe.input.size < smallest:
        raise UserError(
            f"{recipe.model.name} shrinks images {smallest} times: --input.size is at least {smallest}, not "
            f"{recipe.input.size}. A smaller --model.stem-stride takes smaller images."
        )
    return model.to(device), fresh


def _task(
    recipe: ClassificationRecipe, opened: ClassificationSplits, device: torch.device, plan: Plan
) -> ClassificationTask:
    images = len(opened.train) + (len(opened.val) if opened.held_out else 0)
    train, val = opened.train, opened.val
    if resolved_workers(recipe.loader, size=recipe.input.size, world_size=distributed.world_size()) == 0:
        train = CachedDataset(train, megabytes=recipe.loader.cache_megabytes)
        val = CachedDataset(val, megabytes=recipe.loader.cache_megabytes) if opened.held_out else train
    return ClassificationTask(
        train=train,
        val=val,
        input=recipe.input,
        augment=recipe.augment,
        mixing=recipe.mix,
        loader=recipe.loader,
        device=device,
        seed=recipe.loop.seed,
        eval_batch=max(plan.micro_batch, 32),
        bad=BadImages(images, max_bad=recipe.loader.max_bad),
    )


def median_side(source: ClassificationDataset, *, sample: int = 15) -> int:
    """The median shorter side, in pixels, of some images over the source. Raises UserError if none is readable."""
    sides = []
    for index in range(0, len(source), max(len(source) // sample, 1)):
        try:
            sides.append(min(source.read(index).shape[-2:]))
        except BadImage:
            continue
    if not sides:
        raise UserError("None of the images that were tried can be read; are they image files?")
    return int(statistics.median(sides))


def choose_recipe(data: str, *, init: str = "") -> tuple[ClassificationRecipe, tuple[str, ...]]:
    """A recipe for this data (and these weights to start from), and the reasons for it."""
    plain = ClassificationRecipe(name="")
    opened = open_classification(
        data, val_fraction=plain.loader.val_fraction, seed=plain.loop.seed, max_pixels=plain.loader.max_pixels
    )
    known = Facts(
        images=len(opened.train),
        classes=len(opened.train.classes),
        side=median_side(opened.train),
        accelerator=pick_device().type != "cpu",
        init=model_of(init) if init else None,
    )
    recipe, reasons = choose(known)
    return replace(recipe, data=data, init=init), tuple(reasons)
