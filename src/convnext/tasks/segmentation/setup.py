"""From a segmentation recipe to what a run is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import nn

from convnext.core import distributed
from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.dataset import DataModule
from convnext.data.detection.open import recognise as recognise_objects
from convnext.data.recognise import Verdict
from convnext.data.segmentation.dataset import SegmentationDataset
from convnext.data.segmentation.open import SegmentationData
from convnext.data.segmentation.open import recognise as recognise_label_maps
from convnext.data.segmentation.outlines import OBJECTS, OutlineData
from convnext.data.splits import Record, Splits, limited
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.ops.losses import class_weights
from convnext.recipes.advice import Reason, length_warnings
from convnext.tasks.segmentation.recipe import SegmentationMetadata, SegmentationRecipe
from convnext.tasks.segmentation.recipes import fine_tuned, head_for, small_segmenter
from convnext.tasks.segmentation.task import SegmentationTask
from convnext.tasks.segmentation.weights import describe_segmenter, holds_segmenter, load_initial_segmenter
from convnext.tasks.setup import Setup, bad_images, check_num_classes, facts
from convnext.training.loop import Plan
from convnext.weights.backbone import backbone_config
from convnext.weights.locate import WeightFile

FEW = 200  # images: training from random weights on fewer reaches little
_NAMES = {"upernet": "UPerNet", "mlp": "an all-MLP head", "linear": "a linear layer"}


def setup(
    recipe: SegmentationRecipe,
    data: DataModule[SegmentationDataset],
    device: torch.device,
    saved: Record | None = None,
) -> Setup:
    """What a segmentation run is made of. Raises UserError where data, model and recipe do not go together."""
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    splits = limited(splits, recipe.loader.train_fraction, seed=recipe.loop.seed)
    whole, classes = splits.train, splits.train.classes
    check_num_classes(recipe.model.num_classes, len(classes))
    full = replace(recipe, model=replace(recipe.model, num_classes=len(classes)))
    train, notes = _enough(whole, recipe.loop.global_batch), [splits.note]
    if len(train) > len(whole):
        notes.append(f"a step takes {len(train)} crops of images: each of {len(whole)} gives several")
    if recipe.model.frozen and not recipe.init:
        notes.append("the backbone is frozen at random weights: give trained ones with --init")
    return Setup(
        num_images=len(train),
        split=splits.record,
        build=lambda init: _model(full, device, init, classes),
        task=lambda plan: _task(full, train, splits, device, plan),
        metadata=SegmentationMetadata(full.model, full.input, classes, whole.colours, whole.values),
        name=f"{_NAMES[full.model.head]} on {full.model.backbone.name}",
        facts=facts(splits, train=len(whole), classes=len(classes)),
        notes=tuple(notes),
        warnings=lambda plan: [*missing_classes(whole), *warnings(full, len(whole), plan)],
    )


def _enough(dataset: SegmentationDataset, batch: int) -> SegmentationDataset:
    """The images, each several times where there are fewer than a step takes: its crops differ, and batch norm needs
    more than one."""
    times = -(-batch // len(dataset))
    return dataset if times == 1 else dataset.selected([*range(len(dataset))] * times)


def _model(
    recipe: SegmentationRecipe, device: torch.device, init: WeightFile | None, classes: Sequence[str]
) -> tuple[nn.Module, list[str]]:
    model: EncoderDecoder = build_segmenter(recipe.model)
    new = load_initial_segmenter(model, init, classes=classes) if init else []
    if device.type == "cuda" and distributed.world_size() > 1:
        # Batch norm over the images of all ranks, as in the official configurations; the backbone keeps its own.
        for name in ("decode_head", "auxiliary_head"):
            head = getattr(model, name)
            setattr(model, name, head and nn.SyncBatchNorm.convert_sync_batchnorm(head))
    return model.to(device), new


def _task(
    recipe: SegmentationRecipe,
    train: SegmentationDataset,
    splits: Splits[SegmentationDataset],
    device: torch.device,
    plan: Plan,
) -> SegmentationTask:
    if recipe.model.head == "upernet" and plan.micro_batch < 2:
        raise UserError(
            "UPerNet's batch norms need two images or more at a time, for one of them sees a single pixel of each: "
            "--loop.micro-batch 2 and a --loop.global-batch that it divides, or --model.head mlp."
        )
    return SegmentationTask(
        train=train,
        val=splits.val,
        input=recipe.input,
        augment=recipe.augment,
        loader=recipe.loader,
        device=device,
        seed=recipe.loop.seed,
        bad=bad_images(splits, recipe),
        weights=_weights(train, recipe.balance).to(device) if recipe.balance else None,
    )


def _weights(dataset: SegmentationDataset, balance: float) -> torch.Tensor:
    if dataset.pixels is None:
        raise UserError("--balance needs the pixels of each class, which this data set does not count (`pixels`).")
    return class_weights(torch.from_numpy(dataset.pixels), balance)


def warnings(recipe: SegmentationRecipe, images: int, plan: Plan) -> list[str]:
    """What will probably go wrong with this recipe on that many images."""
    found = length_warnings(recipe, warmup_steps=plan.warmup_steps, total_steps=plan.total_steps)
    if not recipe.init and images < FEW:
        found.append(
            f"Training from random weights on {images} images reaches little. Start from a trained segmenter "
            "(--init upernet_convnext_tiny.fb_ade20k) or a trained classifier (--init convnext_tiny.fb_in22k)."
        )
    return found


def missing_classes(dataset: SegmentationDataset) -> list[str]:
    """A warning of classes that no pixel of the training images has."""
    if dataset.pixels is None:
        return []
    classes = dataset.classes
    never = [name for name, count in zip(classes, dataset.pixels.tolist(), strict=True) if not count]
    if not never:
        return []
    return [
        f"{len(never)} of {len(classes)} classes never occur in the training images ({_few(never)}): nothing is "
        "learned of them. Are the values right? classes.txt or a mapping file (--labels) says what they mean."
    ]


def _few(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")


def choose_recipe(
    data: SegmentationData | OutlineData, init: WeightFile | None = None, options: Mapping[str, str] | None = None
) -> tuple[SegmentationRecipe, tuple[str, ...]]:
    """A recipe for images with label maps (and these weights to start from), and the reasons for it."""
    labels = (options or {}).get("labels", "")
    if init is None:
        recipe = replace(small_segmenter(), data=str(data.data), labels=labels)
        reason = "a small segmenter from random weights; with --init a trained one learns from fewer images"
        return recipe, (Reason(reason, "model.backbone.name", "init"),)
    images = data.num_train_images(LoaderConfig().val_fraction)
    accelerator = pick_device().type != "cpu"
    if holds_segmenter(init):
        model = describe_segmenter(init)[1].model
    else:  # a classifier's layers
        model = head_for(replace(backbone_config(init), num_classes=0), accelerator=accelerator)
    recipe = fine_tuned(init.source, model, images=images, accelerator=accelerator)
    where = "a GPU" if accelerator else "no GPU here, so small crops"
    reasons = (
        Reason(f"fine-tuning {init.source}", "init"),
        Reason(f"on crops of {recipe.augment.crop} pixels ({where})", "augment.crop"),
        Reason(f"{images} images: {recipe.schedule.steps} steps", "schedule"),
    )
    return replace(recipe, data=str(data.data), labels=labels), reasons


def recognise(data: str, options: Mapping[str, str]) -> Verdict:
    """Whether a path holds data of this task."""
    labels = options.get("labels", "")
    return recognise_objects(data) if labels == OBJECTS else recognise_label_maps(data, labels)


def open_data(data: str, options: Mapping[str, str]) -> SegmentationData | OutlineData:
    """The data at a path, opened once."""
    labels = options.get("labels", "")
    return OutlineData(data) if labels == OBJECTS else SegmentationData(data, labels=labels)
