"""From a pre-training recipe to what a run is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import nn

from convnext.core import distributed
from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.data.classification.cached import CachedDataset
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.config import loader_for
from convnext.data.dataset import DataModule
from convnext.data.loader import resolved_workers
from convnext.data.pretraining.batch import Masking
from convnext.data.pretraining.open import open_images
from convnext.data.pretraining.open import recognise as recognise_images
from convnext.data.recognise import Verdict
from convnext.data.splits import Record, Splits, limited
from convnext.models.fcmae import FCMAE
from convnext.recipes.advice import Reason, length_warnings
from convnext.tasks.pretraining.recipe import PretrainingMetadata, PretrainingRecipe
from convnext.tasks.pretraining.recipes import imagenet, small
from convnext.tasks.pretraining.task import PretrainingTask
from convnext.tasks.pretraining.weights import load_initial_autoencoder
from convnext.tasks.setup import Setup, bad_images, facts, median_side
from convnext.tasks.start import SMALL_SIDE
from convnext.training.loop import Plan
from convnext.weights.backbone import backbone_config
from convnext.weights.locate import WeightFile

FEW = 5_000  # images: masked pre-training on fewer learns little
_SEEN = 2_000_000  # images, again and again, of a run that was picked


def setup(
    recipe: PretrainingRecipe,
    data: DataModule[ClassificationDataset],
    device: torch.device,
    saved: Record | None = None,
) -> Setup:
    """What a pre-training run is made of. Raises UserError where data, model and recipe do not go together."""
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    splits = limited(splits, recipe.loader.train_fraction, seed=recipe.loop.seed)
    cell, size = _cell(recipe), recipe.input.size
    if size % cell or size < 2 * cell:
        raise UserError(
            f"A cell of this encoder is {cell} pixels, its total stride: --input.size is a multiple of that, of two at "
            f"least, not {size}. A smaller --model.backbone.stem-stride or --model.backbone.output-stride makes "
            "smaller cells."
        )
    train = len(splits.train)
    return Setup(
        num_images=train,
        split=splits.record,
        build=lambda init: _model(recipe, device, init),
        task=lambda plan: _task(recipe, splits, device, plan, cell),
        metadata=PretrainingMetadata(recipe.model, recipe.input),
        name=f"FCMAE of {recipe.model.backbone.name}",
        facts=facts(splits, train=train, classes=0),
        notes=(splits.note, f"{(size // cell) ** 2} cells of {cell} pixels in an image"),
        warnings=lambda plan: _warnings(recipe, train, plan),
    )


def _cell(recipe: PretrainingRecipe) -> int:
    with torch.device("meta"):
        return FCMAE(recipe.model).cell


def _model(recipe: PretrainingRecipe, device: torch.device, init: WeightFile | None) -> tuple[nn.Module, list[str]]:
    model = FCMAE(recipe.model)
    new = load_initial_autoencoder(model, init) if init else []
    return model.to(device), new


def _task(
    recipe: PretrainingRecipe, splits: Splits[ClassificationDataset], device: torch.device, plan: Plan, cell: int
) -> PretrainingTask:
    train, val, cache = splits.train, splits.val, recipe.loader.cache_megabytes
    if resolved_workers(recipe.loader, size=recipe.input.size, world_size=distributed.world_size()) == 0:
        train = CachedDataset(train, megabytes=cache)
        val = CachedDataset(val, megabytes=cache) if splits.held_out else train
    return PretrainingTask(
        train=train,
        val=val,
        input=recipe.input,
        augment=recipe.augment,
        masking=Masking(cell, recipe.model.mask_ratio, recipe.loop.seed),
        loader=recipe.loader,
        device=device,
        seed=recipe.loop.seed,
        eval_batch=max(plan.micro_batch, 32),
        bad=bad_images(splits, recipe),
    )


def _warnings(recipe: PretrainingRecipe, images: int, plan: Plan) -> list[str]:
    few = [f"{images:,} images are few to pre-train on: about {FEW:,} or more teach something"] if images < FEW else []
    return [*few, *length_warnings(recipe, warmup_steps=plan.warmup_steps, total_steps=plan.total_steps)]


def choose_recipe(
    data: DataModule[ClassificationDataset], init: WeightFile | None = None, options: Mapping[str, str] | None = None
) -> tuple[PretrainingRecipe, tuple[str, ...]]:
    """A recipe for these images (and these weights to go on from), and the reasons for it."""
    train = data.splits(loader_for(options or {}), seed=0).train
    images, side, gpu = len(train), median_side(train), pick_device().type != "cpu"
    recipe = small() if side <= SMALL_SIDE else imagenet("tiny" if gpu else "atto")
    why = f"images of {side} pixels" if side <= SMALL_SIDE else ("a GPU" if gpu else "no GPU here, so the smallest")
    reasons = [Reason(f"FCMAE of {recipe.model.backbone.name} ({why})", "model")]
    if init is not None:
        recipe = replace(recipe, model=replace(recipe.model, backbone=backbone_config(init)))
        reasons = [Reason(f"goes on with {recipe.model.backbone.name} of {init.source}", "model", "init")]
    batch = min(recipe.loop.global_batch, 512 if gpu else 128)
    epochs = float(min(max(round(_SEEN / images), 5), 800))
    lr = recipe.optim.lr * batch / recipe.loop.global_batch
    recipe = replace(
        recipe,
        data=str(data.data),
        init=init.source if init else "",
        optim=replace(recipe.optim, lr=float(f"{lr:.2g}")),
        schedule=replace(recipe.schedule, epochs=epochs, warmup_epochs=round(0.05 * epochs, 2)),
        loop=replace(recipe.loop, global_batch=batch, eval_epochs=max(round(epochs / 10), 1)),
    )
    reasons.append(Reason(f"{images:,} images: batches of {batch}, {epochs:g} epochs", "schedule", "loop.global_batch"))
    return recipe, tuple(reasons)


def recognise(data: str, options: Mapping[str, str]) -> Verdict:
    """Whether a path holds images."""
    return recognise_images(data)


def open_data(data: str, options: Mapping[str, str]) -> DataModule[ClassificationDataset]:
    """The data at a path, opened once."""
    return open_images(data)
