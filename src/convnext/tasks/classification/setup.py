"""From a classification recipe to what a run is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.classification.cached import CachedDataset
from convnext.data.classification.config import TableConfig
from convnext.data.classification.dataset import ClassificationDataset, class_dirs, images_of_each, several_labels
from convnext.data.classification.open import ClassificationData
from convnext.data.classification.open import recognise as recognise_classes
from convnext.data.config import loader_for
from convnext.data.dataset import DataModule
from convnext.data.loader import resolved_workers
from convnext.data.recognise import Verdict
from convnext.data.splits import Record, Splits, limited
from convnext.models.create import Model, from_config, settings_of
from convnext.tasks.classification.choose import Facts, choose, warnings
from convnext.tasks.classification.recipe import ClassificationMetadata, ClassificationRecipe, owns
from convnext.tasks.classification.task import ClassificationTask
from convnext.tasks.classification.weights import load_initial
from convnext.tasks.setup import Setup, bad_images, check_num_classes, facts, median_side
from convnext.training.loop import Plan
from convnext.weights.backbone import backbone_config, is_autoencoder
from convnext.weights.locate import WeightFile

ClassificationSplits = Splits[ClassificationDataset]


def setup(
    recipe: ClassificationRecipe,
    data: DataModule[ClassificationDataset],
    device: torch.device,
    saved: Record | None = None,
) -> Setup:
    """What a classification run is made of. Raises UserError where data, model and recipe do not go together."""
    seed, share = recipe.loop.seed, recipe.loader.train_fraction
    whole = data.splits(recipe.loader, seed=seed, saved=saved)
    splits = limited(
        whole, share, seed=seed, targets=None if several_labels(whole.train) else lambda part: part.targets
    )
    train, classes = splits.train, splits.train.classes
    check_num_classes(recipe.model.num_classes, len(classes))
    if recipe.balance and several_labels(train):
        raise UserError("--balance goes with one class for each image, and here an image can have several labels.")
    parts = [train, splits.val] if splits.held_out else [train]
    each = torch.stack([images_of_each(part) for part in parts]).sum(dim=0)
    full = replace(recipe, model=replace(recipe.model, num_classes=len(classes)))

    def warned(plan: Plan) -> list[str]:
        return warnings(
            full,
            images=len(train),
            classes=len(classes),
            side=median_side(train),
            warmup_steps=plan.warmup_steps,
            total_steps=plan.total_steps,
            each=each.tolist(),
        )

    return Setup(
        num_images=len(train),
        split=splits.record,
        build=lambda init: _model(full, device, init, train),
        task=lambda plan: _task(full, splits, device, plan),
        metadata=ClassificationMetadata(full.model, full.input, classes, multi_label=several_labels(train)),
        name=full.model.name,
        facts=facts(splits, train=len(train), classes=len(classes)),
        notes=(splits.note, counted(train, each)),
        warnings=warned,
    )


def _model(
    recipe: ClassificationRecipe, device: torch.device, init: WeightFile | None, data: ClassificationDataset
) -> tuple[Model, list[str]]:
    model, folders = from_config(recipe.model), class_dirs(data)
    several = several_labels(data)
    # log-odds of labels and of classes that exclude each other are not each other's
    alike = init is not None and bool((init.values or {}).get("multi_label")) == several
    names, keys = (data.classes, folders) if alike else ((), ())
    new = load_initial(model, init, classes=names, class_dirs=keys) if init else []
    if several and (not init or "head.bias" in new):
        start_at_frequencies(model, data)
    smallest = model.strides[-1]
    if recipe.input.size < smallest:
        finer = [key for key in ("stem_stride", "patch_size") if key in settings_of(recipe.model.name)]
        hint = "".join(f" A smaller --model.{key.replace('_', '-')} takes smaller images." for key in finer)
        raise UserError(
            f"{recipe.model.name} shrinks images {smallest} times: --input.size is at least {smallest}, not "
            f"{recipe.input.size}.{hint}"
        )
    return model.to(device), new


def start_at_frequencies(model: nn.Module, data: ClassificationDataset) -> None:
    """Lets a new classifier of several labels begin with how often each occurs: most occur seldom, and would
    otherwise begin at one half."""
    head = getattr(model, "head", None)
    if isinstance(head, nn.Linear):
        often = ((images_of_each(data) + 0.5) / (len(data) + 1)).to(head.bias)
        with torch.no_grad():
            head.bias.copy_(torch.logit(often))


def counted(data: ClassificationDataset, each: Tensor) -> str:
    """How many images the most frequent class has, and the rarest: a sentence. each: int64 (K,), images of each."""
    most, least = int(each.argmax()), int(each.argmin())
    what = "label" if several_labels(data) else "class"
    names = [printable(data.classes[place]) for place in (most, least)]
    counts = [f"{int(each[place]):,}" for place in (most, least)]
    if counts[0] == counts[1]:
        return f"each {what} has {counts[0]} images"
    return f"the most frequent {what} is '{names[0]}' with {counts[0]} images, the rarest '{names[1]}' with {counts[1]}"


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
        balance=recipe.balance,
        bad=bad_images(splits, recipe),
    )


def facts_of(data: DataModule[ClassificationDataset], options: Mapping[str, str]) -> Facts:
    """What the choice of a recipe depends on, of data that is opened by these `data_options`."""
    plain = ClassificationRecipe(name="")
    train = data.splits(loader_for(options), seed=plain.loop.seed).train
    return Facts(
        images=len(train),
        classes=len(train.classes),
        side=median_side(train),
        accelerator=pick_device().type != "cpu",
    )


def choose_recipe(
    data: DataModule[ClassificationDataset], init: WeightFile | None = None, options: Mapping[str, str] | None = None
) -> tuple[ClassificationRecipe, tuple[str, ...]]:
    """A recipe for this data (and these weights to start from), and the reasons for it."""
    if init is not None and init.values is not None and not (owns(init.values) or is_autoencoder(init.values)):
        raise UserError(f"{init.file} holds no classifier, whose layers a classifier could start from.")
    known = replace(facts_of(data, options or {}), init=backbone_config(init) if init else None)
    recipe, reasons = choose(known)
    loader = replace(recipe.loader, bands=loader_for(options or {}).bands)
    recipe = replace(recipe, loader=loader, folders=_folders(options), table=_table(options or {}))
    return replace(recipe, data=str(data.data), init=init.source if init else ""), tuple(reasons)


def _table(options: Mapping[str, str]) -> TableConfig:
    """How tables are read, of `data_options`."""
    per_image = options.get("table.per_image") or "auto"
    if per_image not in ("auto", "one", "several"):
        raise UserError(f"--table.per-image is auto, one or several, not '{per_image}'.")
    return TableConfig(options.get("table.image", ""), options.get("table.label", ""), per_image)


def _folders(options: Mapping[str, str] | None) -> Literal["auto", "classes"]:
    given = (options or {}).get("folders") or "auto"
    if given not in ("auto", "classes"):
        raise UserError(f"--folders is auto or classes, not {given}.")
    return "classes" if given == "classes" else "auto"


def recognise(data: str, options: Mapping[str, str]) -> Verdict:
    """Whether a path holds data of this task."""
    return recognise_classes(data, folders=_folders(options), table=_table(options))


def open_data(data: str, options: Mapping[str, str]) -> ClassificationData:
    """The data at a path, opened once."""
    return ClassificationData(data, folders=_folders(options), table=_table(options))
