"""Segmenters on ADE20K as the paper trained them (Table 4 and the official configurations), others, and a small one for
a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from convnext.data.config import LoaderConfig
from convnext.data.segmentation.config import SegmentationAugmentConfig, SegmentationInputConfig
from convnext.models.config import ModelConfig, dense_backbone
from convnext.models.segmentation.config import SegmenterConfig, linear, mlp, upernet
from convnext.tasks.segmentation.published import windows_of
from convnext.tasks.segmentation.recipe import SegmentationRecipe
from convnext.training.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig

_EPOCH = 1263  # steps of 16 images in ADE20K's 20,210
_EVERY = 16_000  # steps between evaluations


@dataclass(frozen=True)
class _Row:
    """What differs between the official configurations (semantic_segmentation/configs/convnext)."""

    size: str
    init: str
    crop: int
    drop_path: float = 0.4
    lr: float = 1e-4
    precision: str = "auto"


_ROWS = {
    "tiny": _Row("tiny", "convnext_tiny.fb_in1k_no_ema", 512),
    "small": _Row("small", "convnext_small.fb_in1k_no_ema", 512, drop_path=0.3),
    "base": _Row("base", "convnext_base.fb_in1k_no_ema", 512),
    "base_22k": _Row("base", "convnext_base.fb_in22k", 640),
    "large_22k": _Row("large", "convnext_large.fb_in22k", 640, precision="float32"),
    "xlarge_22k": _Row("xlarge", "convnext_xlarge.fb_in22k", 640, lr=8e-5, precision="float32"),
}
PUBLISHED = tuple(f"ade20k/upernet_convnext_{size}" for size in _ROWS)
"""Names of the paper's recipes."""


def published(name: str) -> SegmentationRecipe:
    """UPerNet on ADE20K as the paper has it: 160,000 steps of 16 images.

    convnext train ade20k/upernet_convnext_tiny --data ADEChallengeData2016

    The folder holds images/{training,validation} and annotations/{training,validation}. Cost: 8 GPUs, 2 images on
    each at a time. Expect, mIoU at one scale, and at six with mirror images (Table 4 and the official README): T 46.0,
    46.7; S 48.7, 49.6; B 49.1, 49.9; from ImageNet-22K at 640 pixels B 52.6, 53.1; L 53.2, 53.7; XL 53.6, 54.0. The
    latter: convnext evaluate RUN --window 0 --scales 0.5 0.75 1 1.25 1.5 1.75 --flip

    Squares are cut from images of half to twice the size; AdamW, a learning rate that falls in a line after 1,500
    steps of warm-up, smaller for each stage further from the head. `--init` is the ImageNet weights of the paper.
    """
    row = _ROWS[name.removeprefix("ade20k/upernet_convnext_")]
    backbone = dense_backbone(f"convnext_{row.size}", drop_path_rate=row.drop_path)
    return SegmentationRecipe(
        name=name,
        init=row.init,
        labels="ade20k",
        model=upernet(backbone),
        input=windows_of(row.crop),
        augment=SegmentationAugmentConfig(crop=row.crop),
        optim=OptimConfig(lr=row.lr, weight_decay=0.05, layer_decay=0.9, blocks_per_group=0),
        schedule=ScheduleConfig(
            steps=160_000, warmup_epochs=0.0, warmup_steps=1500, warmup_start=1e-6, shape="linear", min_lr=0.0
        ),
        loop=LoopConfig(
            global_batch=16,
            micro_batch=2,
            eval_epochs=_EVERY / _EPOCH,
            precision="float32" if row.precision == "float32" else "auto",
        ),
    )


def mlp_convnext_tiny() -> SegmentationRecipe:
    """As the paper's ConvNeXt-T on ADE20K, with an all-MLP head: a tenth of UPerNet's work, for people who need speed.

    convnext train ade20k/mlp_convnext_tiny --data ADEChallengeData2016

    The network takes 25 G multiply-accumulates at 512 x 512, with UPerNet as published 235 G.

    Expect some points less than UPerNet's: nothing is published for it, and it was not trained on ADE20K here. A head
    of linear layers does well on good backbones (SegFormer, arXiv 2105.15203).
    """
    recipe = published(PUBLISHED[0])
    return replace(recipe, name="ade20k/mlp_convnext_tiny", model=mlp(recipe.model.backbone))


def linear_convnext_tiny() -> SegmentationRecipe:
    """A linear layer on a frozen ConvNeXt-T on ADE20K: what its features know of classes, in 40,000 steps.

    convnext train ade20k/linear_convnext_tiny --data ADEChallengeData2016

    For any other backbone: --model.backbone.name and --init. Expect far less than from training it all: nothing is
    published for ConvNeXt-T, and it was not trained on ADE20K here.
    """
    recipe = published(PUBLISHED[0])
    return replace(
        recipe,
        name="ade20k/linear_convnext_tiny",
        model=linear(dense_backbone("convnext_tiny")),
        optim=OptimConfig(lr=1e-3, weight_decay=1e-3),
        schedule=replace(recipe.schedule, steps=40_000),
    )


def small_segmenter() -> SegmentationRecipe:
    """A small segmenter for a few hundred images, from random weights on a CPU in half an hour.

    convnext train small/segmenter --data PICTURES

    PICTURES holds images and label maps (convnext train --help says how they may lie). Expect 66 % mIoU on CamVid's
    367 training images of 11 classes in 25 minutes (two cores: docs/results/segmentation.md); for images of another
    size change --input.short. From trained weights, with --init, fewer images are enough.
    """
    backbone = ModelConfig(
        "convnext_atto", layer_scale_init_value=0.0, init_std=0.08, kernel_size=3, drop_path_rate=0.05
    )
    return SegmentationRecipe(
        name="small/segmenter",
        balance=0.75,
        model=SegmenterConfig(backbone, head="mlp", width=128, auxiliary_width=0),
        input=SegmentationInputConfig(short=360, long=640, window=0),
        augment=SegmentationAugmentConfig(crop=256),
        loader=LoaderConfig(val_fraction=0.2),
        optim=OptimConfig(name="muon", lr=2e-3, clip_grad=5.0),
        schedule=ScheduleConfig(epochs=120.0, warmup_epochs=1.0, min_lr=1e-5),
        ema=EmaConfig(decay=0.995),
        loop=LoopConfig(global_batch=16, eval_epochs=12.0),
    )


def head_for(backbone: ModelConfig, *, accelerator: bool) -> SegmenterConfig:
    """A segmenter around a classifier's layers: UPerNet, or what a CPU can train."""
    return upernet(backbone) if accelerator else mlp(backbone)


def fine_tuned(init: str, model: SegmenterConfig, *, images: int, accelerator: bool) -> SegmentationRecipe:
    """A recipe for the segmenter `model`, from the weights `init`, on that many images."""
    batch, crop = (16, 512) if accelerator else (8, 256)
    seen = min(max((60 if accelerator else 20) * images, 2_000), 640_000 if accelerator else 8_000)
    steps = seen // batch
    return SegmentationRecipe(
        name="finetune-segmenter",
        init=init,
        model=replace(model, num_classes=0, backbone=replace(model.backbone, drop_path_rate=0.1)),
        input=windows_of(crop),
        augment=SegmentationAugmentConfig(crop=crop),
        optim=OptimConfig(lr=1e-4, layer_decay=0.9, blocks_per_group=0, clip_grad=10.0),
        schedule=ScheduleConfig(steps=steps, warmup_epochs=0.0, warmup_steps=steps // 20, shape="linear", min_lr=0.0),
        loop=LoopConfig(global_batch=batch, eval_epochs=max(seen / images / 8, 1.0)),
    )


RECIPES: dict[str, Callable[[], SegmentationRecipe]] = {
    **{name: partial(published, name) for name in PUBLISHED},
    "ade20k/mlp_convnext_tiny": mlp_convnext_tiny,
    "ade20k/linear_convnext_tiny": linear_convnext_tiny,
    "small/segmenter": small_segmenter,
}
"""Every recipe of a segmenter by name."""
