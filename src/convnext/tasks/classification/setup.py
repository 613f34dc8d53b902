"""From a classification recipe to what a run is made of."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch

from convnext.core import distributed
from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.data.classification.cached import CachedDataset
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.classification.open import ClassificationData
from convnext.data.classification.open import recognise as recognise_classes
from convnext.data.dataset import DataModule
from convnext.data.decode import BadImage
from convnext.data.loader import resolved_workers
from convnext.data.recognise import Verdict
from convnext.data.splits import Record, Splits
from convnext.models.create import Model, from_config
from convnext.tasks.classification.choose import Facts, choose, warnings
from convnext.tasks.classification.recipe import ClassificationMetadata, ClassificationRecipe, owns
from convnext.tasks.classification.task import ClassificationTask
from convnext.tasks.classification.weights import load_initial
from convnext.tasks.setup import Setup, bad_images, check_num_classes, facts
from convnext.training.loop import Plan
from convnext.weights.backbone import backbone_config
from convnext.weights.locate import WeightFile

ClassificationSplits = Splits[ClassificationDataset]


def setup(
    recipe: ClassificationRecipe,
    data: DataModule[ClassificationDataset],
    device: torch.device,
    saved: Record | None = None,
) -> Setup:
    """What a classification run is made of. Raises UserError where data, model and recipe do not go together."""
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    train, classes = splits.train, splits.train.classes
    check_num_classes(recipe.model.num_classes, len(classes))
    full = replace(recipe, model=replace(recipe.model, num_classes=len(classes)))

    def warned(plan: Plan) -> list[str]:
        return warnings(
            full,
            images=len(train),
            classes=len(classes),
            side=median_side(train),
            warmup_steps=plan.warmup_steps,
            total_steps=plan.total_steps,
        )

    return Setup(
        num_images=len(train),
        split=splits.record,
        build=lambda init: _model(full, device, init),
        task=lambda plan: _task(full, splits, device, plan),
        metadata=ClassificationMetadata(full.model, full.input, classes),
        name=full.model.name,
        facts=facts(splits, train=len(train), classes=len(classes)),
        notes=(splits.note,),
        warnings=warned,
    )


def _model(recipe: ClassificationRecipe, device: torch.device, init: WeightFile | None) -> tuple[Model, list[str]]:
    model = from_config(recipe.model)
    new = load_initial(model, init) if init else []
    smallest = model.strides[-1]
    if recipe.input.size < smallest:
        raise UserError(
            f"{recipe.model.name} shrinks images {smallest} times: --input.size is at least {smallest}, not "
            f"{recipe.input.size}. A smaller --model.stem-stride takes smaller images."
        )
    return model.to(device), new


def _task(
    recipe: ClassificationRecipe, splits: ClassificationSplits, device: torch.device, plan: Plan
) -> ClassificationTask:
    train, val, cache = splits.train, splits.val, recipe.loader.cache_megabytes
    if resolved_workers(recipe.loader, size=recipe.input.size, world_size=distributed.world_size()) == 0:
        train = CachedDataset(train, megabytes=cache)
        val = CachedDataset(val, megabytes=cache) if splits.held_out else train
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
        bad=bad_images(splits, recipe),
    )


def median_side(dataset: ClassificationDataset, *, sample: int = 15) -> int:
    """The median shorter side, in pixels, of some images over the data. Raises UserError if none is readable."""
    sides = []
    for index in range(0, len(dataset), max(len(dataset) // sample, 1)):
        try:
            sides.append(min(dataset.read(index).shape[-2:]))
        except BadImage:
            continue
    if not sides:
        raise UserError("None of the images that were tried can be read; are they image files?")
    return int(statistics.median(sides))


def choose_recipe(
    data: DataModule[ClassificationDataset], init: WeightFile | None = None, options: Mapping[str, str] | None = None
) -> tuple[ClassificationRecipe, tuple[str, ...]]:
    """A recipe for this data (and these weights to start from), and the reasons for it."""
    if init is not None and init.values is not None and not owns(init.values):
        raise UserError(f"{init.file} holds no classifier, whose layers a classifier could start from.")
    plain = ClassificationRecipe(name="")
    train = data.splits(plain.loader, seed=plain.loop.seed).train
    known = Facts(
        images=len(train),
        classes=len(train.classes),
        side=median_side(train),
        accelerator=pick_device().type != "cpu",
        init=backbone_config(init) if init else None,
    )
    recipe, reasons = choose(known)
    folders = _folders(options)
    return replace(recipe, data=str(data.data), init=init.source if init else "", folders=folders), tuple(reasons)


def _folders(options: Mapping[str, str] | None) -> Literal["auto", "classes"]:
    given = (options or {}).get("folders") or "auto"
    if given not in ("auto", "classes"):
        raise UserError(f"--folders is auto or classes, not {given}.")
    return "classes" if given == "classes" else "auto"


def recognise(data: str, options: Mapping[str, str]) -> Verdict:
    """Whether a path holds data of this task."""
    return recognise_classes(data, folders=_folders(options))


def open_data(data: str, options: Mapping[str, str]) -> ClassificationData:
    """The data at a path, opened once."""
    return ClassificationData(data, folders=_folders(options))
