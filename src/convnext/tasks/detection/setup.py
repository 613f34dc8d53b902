"""From a detection recipe to what a run is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast, get_args

import torch
from torch import nn

from convnext.core import distributed
from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.data.dataset import DataModule
from convnext.data.detection.annotations import Crowds
from convnext.data.detection.coco import for_training
from convnext.data.detection.dataset import DetectionDataset
from convnext.data.detection.open import DetectionData
from convnext.data.detection.open import recognise as recognise_coco
from convnext.data.recognise import Verdict
from convnext.data.splits import Record, Splits, limited
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import DetectorConfig, mask_rcnn
from convnext.models.detection.rcnn import RCNN
from convnext.models.detection.roi_heads import RoIHeads
from convnext.recipes.advice import Reason, length_warnings
from convnext.tasks.detection.recipe import DetectionMetadata, DetectionRecipe
from convnext.tasks.detection.recipes import fine_tuned, small_mask_rcnn
from convnext.tasks.detection.task import DetectionTask
from convnext.tasks.detection.weights import describe_detector, holds_detector, load_initial_detector
from convnext.tasks.setup import Setup, bad_images, check_num_classes, facts
from convnext.training.loop import Plan
from convnext.weights.backbone import backbone_config
from convnext.weights.locate import WeightFile

FEW = 200  # images: training from random weights on fewer reaches little


def setup(
    recipe: DetectionRecipe, data: DataModule[DetectionDataset], device: torch.device, saved: Record | None = None
) -> Setup:
    """What a detection run is made of. Raises UserError where data, model and recipe do not go together."""
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    splits = limited(splits, recipe.loader.train_fraction, seed=recipe.loop.seed)
    whole, classes, notes = splits.train, splits.train.classes, [splits.note]
    check_num_classes(recipe.model.num_classes, len(classes))
    masks = recipe.model.masks and whole.has_masks
    if recipe.model.masks and not masks:
        notes.append("the data has no masks: only boxes are learned")
    full = replace(recipe, model=replace(recipe.model, num_classes=len(classes), masks=masks))
    train = for_training(whole, full.augment)
    if len(train) < len(whole):
        few = len(whole) - len(train)
        notes.append(f"{few} training images are left out: without objects, or smaller than --augment.min-side")
    return Setup(
        num_images=len(train),
        split=splits.record,
        build=lambda init: _model(full, device, init, classes),
        task=lambda _: _task(full, train, splits, device),
        metadata=DetectionMetadata(full.model, full.input, classes, whole.category_ids),
        name=_name(full.model),
        facts=facts(splits, train=len(train), classes=len(classes)),
        notes=tuple(notes),
        warnings=lambda plan: warnings(full, len(train), plan),
    )


def _name(model: DetectorConfig) -> str:
    cascade = "Cascade " if len(model.roi.ious) > 1 else ""
    return f"{cascade}{'Mask' if model.masks else 'Faster'} R-CNN on {model.backbone.name}"


def _model(
    recipe: DetectionRecipe, device: torch.device, init: WeightFile | None, classes: Sequence[str]
) -> tuple[RCNN, list[str]]:
    model = build_detector(recipe.model)
    new = load_initial_detector(model, init, classes=classes) if init else []
    if device.type == "cuda" and distributed.world_size() > 1:
        # Batch norm over the regions of all ranks, as in the official configurations; the backbone keeps its own.
        model.roi_head = cast("RoIHeads", nn.SyncBatchNorm.convert_sync_batchnorm(model.roi_head))
    return model.to(device), new


def _task(
    recipe: DetectionRecipe, train: DetectionDataset, splits: Splits[DetectionDataset], device: torch.device
) -> DetectionTask:
    return DetectionTask(
        train=train,
        val=splits.val,
        input=recipe.input,
        augment=recipe.augment,
        loader=recipe.loader,
        device=device,
        seed=recipe.loop.seed,
        eval_batch=1,  # as detectors are evaluated: padding to the size of others changes a little what is found
        bad=bad_images(splits, recipe),
    )


def warnings(recipe: DetectionRecipe, images: int, plan: Plan) -> list[str]:
    """What will probably go wrong with this recipe on that many images."""
    found = length_warnings(recipe, warmup_steps=plan.warmup_steps, total_steps=plan.total_steps)
    if not recipe.init and images < FEW:
        found.append(
            f"Training from random weights on {images} images reaches little on anything but plain objects. Start "
            "from a trained detector: --init mask_rcnn_convnext_tiny.fb_coco, or --init with a file."
        )
    return found


def choose_recipe(
    data: DataModule[DetectionDataset], init: WeightFile | None = None, options: Mapping[str, str] | None = None
) -> tuple[DetectionRecipe, tuple[str, ...]]:
    """A recipe for annotated images (and these weights to start from), and the reasons for it."""
    plain = replace(small_mask_rcnn(), data=str(data.data), crowds=_crowds(options))
    if init is None:
        reason = "a small Mask R-CNN from random weights; with --init a trained detector learns from fewer images"
        return plain, (Reason(reason, "model.backbone.name", "init"),)
    tolerant = replace(plain.loader, skip_bad=True)  # what is wrong is reported when training begins
    images = len(data.splits(tolerant, seed=plain.loop.seed).train)
    accelerator = pick_device().type != "cpu"
    if holds_detector(init):
        model = describe_detector(init)[0].model
    else:
        model = mask_rcnn(replace(backbone_config(init), num_classes=0))
    recipe = fine_tuned(init.source, model, images=images, accelerator=accelerator)
    where = "a GPU" if accelerator else "no GPU here, so smaller images"
    reasons = (
        Reason(f"fine-tuning {init.source}", "init"),
        Reason(f"at {recipe.input.short} pixels ({where})", "input.short"),
        Reason(f"{images} images: {recipe.schedule.epochs:g} epochs", "schedule"),
    )
    return replace(recipe, data=str(data.data), crowds=plain.crowds), reasons


def _crowds(options: Mapping[str, str] | None) -> Crowds:
    given = (options or {}).get("crowds") or "auto"
    if given not in get_args(Crowds):
        raise UserError(f"--crowds is one of {', '.join(get_args(Crowds))}, not {given}.")
    return cast(Crowds, given)


def recognise(data: str, options: Mapping[str, str]) -> Verdict:
    """Whether a path holds data of this task."""
    return recognise_coco(data)


def open_data(data: str, options: Mapping[str, str]) -> DetectionData:
    """The data at a path, opened once."""
    return DetectionData(data, crowds=_crowds(options))
