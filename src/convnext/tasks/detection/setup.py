"""From a detection recipe to its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import torch
from torch import nn

from convnext.core import distributed
from convnext.core.device import pick_device
from convnext.data.detection.coco import CocoDataset, for_training
from convnext.data.detection.open import DetectionSplits, open_coco
from convnext.data.loader import BadImages
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import mask_rcnn
from convnext.models.detection.rcnn import RCNN
from convnext.models.detection.roi_heads import RoIHeads
from convnext.recipes.advice import length_warnings
from convnext.recipes.recipe import DetectionRecipe
from convnext.tasks.classification.weights import model_of
from convnext.tasks.detection.recipes import fine_tuned, small_mask_rcnn
from convnext.tasks.detection.task import DetectionTask
from convnext.tasks.detection.weights import detector_of, load_initial_detector
from convnext.tasks.setup import Setup, check_num_classes, facts
from convnext.train.loop import Plan
from convnext.weights.files import DetectionMetadata

_FEW = 200  # pictures: training from random weights on fewer reaches little


def open_pictures(recipe: DetectionRecipe, split: dict[str, Any] | None) -> DetectionSplits:
    """The data of a recipe; with `split`, as it was split before."""
    return open_coco(
        recipe.data,
        val_fraction=recipe.loader.val_fraction,
        seed=recipe.loop.seed,
        max_pixels=recipe.loader.max_pixels,
        skip_bad=recipe.loader.skip_bad,
        split=split,
    )


def detection(recipe: DetectionRecipe, device: torch.device, split: dict[str, Any] | None) -> Setup:
    """The parts of a detection run. Raises UserError where data, model and recipe do not go together."""
    opened = open_pictures(recipe, split)
    classes = opened.train.classes
    check_num_classes(recipe.model.num_classes, len(classes))
    notes = [opened.note]
    masks = recipe.model.masks and opened.train.has_masks
    if recipe.model.masks and not masks:
        notes.append("the data has no polygons: boxes alone are learned")
    full = replace(recipe, model=replace(recipe.model, num_classes=len(classes), masks=masks))
    train = for_training(opened.train, full.augment)
    if len(train) < len(opened.train):
        few = len(opened.train) - len(train)
        notes.append(f"{few} training pictures are left out: without objects, or smaller than --augment.min-side")
    return Setup(
        num_images=len(train),
        split=opened.split,
        build=lambda init: _model(full, device, load_init=init),
        task=lambda _: _task(full, train, opened, device),
        metadata=DetectionMetadata(full.model, full.input, classes, opened.train.category_ids),
        name=f"{'Cascade ' if len(full.model.roi.ious) > 1 else ''}{'Mask' if masks else 'Faster'} R-CNN on "
        f"{full.model.backbone.name}",
        facts=facts(train=len(train), val=len(opened.val), held_out=opened.held_out, classes=len(classes)),
        notes=tuple(notes),
        warnings=lambda plan: warnings(full, len(train), plan),
    )


def _model(recipe: DetectionRecipe, device: torch.device, *, load_init: bool) -> tuple[RCNN, list[str]]:
    model = build_detector(recipe.model)
    fresh = load_initial_detector(model, recipe.init) if recipe.init and load_init else []
    if device.type == "cuda" and distributed.world_size() > 1:
        # Batch norm over the regions of all ranks, as in the official configurations; the backbone keeps its own.
        model.roi_head = cast("RoIHeads", nn.SyncBatchNorm.convert_sync_batchnorm(model.roi_head))
    return model.to(device), fresh


def _task(recipe: DetectionRecipe, train: CocoDataset, opened: DetectionSplits, device: torch.device) -> DetectionTask:
    images = len(opened.train) + (len(opened.val) if opened.held_out else 0)
    return DetectionTask(
        train=train,
        val=opened.val,
        input=recipe.input,
        augment=recipe.augment,
        loader=recipe.loader,
        device=device,
        seed=recipe.loop.seed,
        eval_batch=1,  # as detectors are judged: padding to the size of others changes a little what is found
        bad=BadImages(images, max_bad=recipe.loader.max_bad),
    )


def warnings(recipe: DetectionRecipe, images: int, plan: Plan) -> list[str]:
    """What will probably go wrong with this recipe on that many pictures."""
    found = length_warnings(recipe, warmup_steps=plan.warmup_steps, total_steps=plan.total_steps)
    if not recipe.init and images < _FEW:
        found.append(
            f"Training from random weights on {images} pictures reaches little on anything but plain objects. Start "
            "from a trained detector: --init mask_rcnn_convnext_tiny.fb_coco, or --init with a file."
        )
    return found


def choose_detection_recipe(data: str, *, init: str = "") -> tuple[DetectionRecipe, tuple[str, ...]]:
    """A recipe for annotated pictures (and these weights to start from), and the reasons for it."""
    plain = small_mask_rcnn()
    opened = open_pictures(replace(plain, data=data, loader=replace(plain.loader, skip_bad=True)), None)
    images, accelerator = len(opened.train), pick_device().type != "cpu"
    if not init:
        recipe = replace(plain, data=data)
        return recipe, ("a small Mask R-CNN from random weights; with --init a trained detector learns from fewer",)
    model = detector_of(init) or mask_rcnn(replace(model_of(init), num_classes=0))
    recipe = replace(fine_tuned(init, model, images=images, accelerator=accelerator), data=data)
    where = "a GPU" if accelerator else "no GPU here, so smaller pictures"
    return recipe, (f"fine-tuning at {recipe.input.short} pixels ({where}), {recipe.schedule.epochs:g} epochs",)
