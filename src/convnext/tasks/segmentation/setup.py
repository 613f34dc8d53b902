"""From a segmentation recipe to its parts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import nn

from convnext.core import distributed
from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.loader import BadImages
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.open import SegmentationSplits, num_pictures, open_label_maps
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.ops.losses import class_weights
from convnext.recipes.advice import length_warnings
from convnext.recipes.recipe import SegmentationRecipe
from convnext.tasks.classification.weights import model_of
from convnext.tasks.segmentation.recipes import fine_tuned, head_for, small_segmenter
from convnext.tasks.segmentation.task import SegmentationTask
from convnext.tasks.segmentation.weights import load_initial_segmenter, segmenter_of
from convnext.tasks.setup import Setup, check_num_classes, facts
from convnext.train.loop import Plan
from convnext.weights.files import SegmentationMetadata

_FEW = 200  # pictures: training from random weights on fewer reaches little
_NAMES = {"upernet": "UPerNet", "light": "a light head", "linear": "a linear layer"}


def open_pixels(recipe: SegmentationRecipe, split: dict[str, Any] | None) -> SegmentationSplits:
    """The data of a recipe; with `split`, as it was split before."""
    return open_label_maps(
        recipe.data,
        labels=recipe.labels,
        val_fraction=recipe.loader.val_fraction,
        seed=recipe.loop.seed,
        max_pixels=recipe.loader.max_pixels,
        skip_bad=recipe.loader.skip_bad,
        split=split,
    )


def segmentation(recipe: SegmentationRecipe, device: torch.device, split: dict[str, Any] | None) -> Setup:
    """The parts of a segmentation run. Raises UserError where data, model and recipe do not go together."""
    opened = open_pixels(recipe, split)
    palette = opened.train.palette
    check_num_classes(recipe.model.num_classes, len(palette.classes))
    full = replace(recipe, model=replace(recipe.model, num_classes=len(palette.classes)))
    train, notes = _enough(opened.train, recipe.loop.global_batch), [opened.note]
    if len(train) > len(opened.train):
        notes.append(f"a step takes {len(train)} parts of pictures: each of {len(opened.train)} gives several")
    if recipe.model.frozen and not recipe.init:
        notes.append("the backbone is frozen at random weights: give trained ones with --init")
    return Setup(
        num_images=len(train),
        split=opened.split,
        build=lambda init: _model(full, device, load_init=init),
        task=lambda plan: _task(full, train, opened, device, plan),
        metadata=SegmentationMetadata(full.model, full.input, palette.classes, palette.colours, palette.values),
        name=f"{_NAMES[full.model.head]} on {full.model.backbone.name}",
        facts=facts(
            train=len(opened.train), val=len(opened.val), held_out=opened.held_out, classes=len(palette.classes)
        ),
        notes=tuple(notes),
        warnings=lambda plan: warnings(full, len(opened.train), plan),
    )


def _enough(source: LabelMapDataset, batch: int) -> LabelMapDataset:
    """The pictures, each several times where there are fewer than a step takes: its parts differ, and batch norm needs
    more than one."""
    times = -(-batch // len(source))
    return source if times == 1 else source.selected([*range(len(source))] * times)


def _model(recipe: SegmentationRecipe, device: torch.device, *, load_init: bool) -> tuple[nn.Module, list[str]]:
    model: EncoderDecoder = build_segmenter(recipe.model)
    fresh = load_initial_segmenter(model, recipe.init) if recipe.init and load_init else []
    if device.type == "cuda" and distributed.world_size() > 1:
        # Batch norm over the pictures of all ranks, as in the official configurations; the backbone keeps its own.
        for name in ("decode_head", "auxiliary_head"):
            head = getattr(model, name)
            setattr(model, name, head and nn.SyncBatchNorm.convert_sync_batchnorm(head))
    return model.to(device), fresh


def _task(
    recipe: SegmentationRecipe, train: LabelMapDataset, opened: SegmentationSplits, device: torch.device, plan: Plan
) -> SegmentationTask:
    if recipe.model.head == "upernet" and plan.micro_batch < 2:
        raise UserError(
            "UPerNet's batch norms need two pictures or more at a time, for one of them sees a single pixel of each: "
            "--loop.micro-batch 2 and a --loop.global-batch that it divides, or --model.head light."
        )
    images = len(opened.train) + (len(opened.val) if opened.held_out else 0)
    return SegmentationTask(
        train=train,
        val=opened.val,
        input=recipe.input,
        augment=recipe.augment,
        loader=recipe.loader,
        device=device,
        seed=recipe.loop.seed,
        bad=BadImages(images, max_bad=recipe.loader.max_bad),
        weights=_weights(train, recipe.balance).to(device) if recipe.balance else None,
    )


def _weights(source: LabelMapDataset, balance: float) -> torch.Tensor:
    assert source.pixels is not None  # counted when the data was opened
    return class_weights(torch.from_numpy(source.pixels), balance)


def warnings(recipe: SegmentationRecipe, images: int, plan: Plan) -> list[str]:
    """What will probably go wrong with this recipe on that many pictures."""
    found = length_warnings(recipe, warmup_steps=plan.warmup_steps, total_steps=plan.total_steps)
    if not recipe.init and images < _FEW:
        found.append(
            f"Training from random weights on {images} pictures reaches little. Start from a trained segmenter "
            "(--init upernet_convnext_tiny.fb_ade20k) or a trained classifier (--init convnext_tiny.fb_in22k)."
        )
    return found


def choose_segmentation_recipe(
    data: str, *, labels: str = "", init: str = ""
) -> tuple[SegmentationRecipe, tuple[str, ...]]:
    """A recipe for pictures with label maps (and these weights to start from), and the reasons for it."""
    if not init:
        recipe = replace(small_segmenter(), data=data, labels=labels)
        return recipe, ("a small segmenter from random weights; with --init a trained one learns from fewer pictures",)
    images = num_pictures(data, labels=labels, val_fraction=LoaderConfig().val_fraction)
    accelerator = pick_device().type != "cpu"
    model = segmenter_of(init)
    if model is None:  # a classifier's layers
        model = head_for(replace(model_of(init), num_classes=0), accelerator=accelerator)
    recipe = replace(fine_tuned(init, model, images=images, accelerator=accelerator), data=data, labels=labels)
    where = "a GPU" if accelerator else "no GPU here, so small squares"
    return recipe, (f"fine-tuning on squares of {recipe.augment.crop} pixels ({where}), {recipe.schedule.steps} steps",)
