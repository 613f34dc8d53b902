"""Detectors on COCO as the paper trained them (Table 3 and the official configurations), and a small one for a CPU."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from convnext.data.config import LoaderConfig
from convnext.data.detection.config import DetectionAugmentConfig, DetectionInputConfig
from convnext.models.config import ModelConfig, dense_backbone
from convnext.models.detection.config import DetectorConfig, RoIConfig, RPNConfig, cascade_mask_rcnn, mask_rcnn
from convnext.tasks.detection.recipe import DetectionRecipe
from convnext.training.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig


@dataclass(frozen=True)
class _Row:
    """What differs between the official configurations (object_detection/configs/convnext)."""

    cascade: bool
    size: str
    init: str
    lr: float
    layer_decay: float
    drop_path: float
    precision: str = "auto"


_ROWS = {
    "mask_rcnn_convnext_tiny": _Row(False, "tiny", "convnext_tiny.fb_in1k_no_ema", 1e-4, 0.95, 0.4),
    "cascade_mask_rcnn_convnext_tiny": _Row(True, "tiny", "convnext_tiny.fb_in1k_no_ema", 2e-4, 0.7, 0.4),
    "cascade_mask_rcnn_convnext_small": _Row(True, "small", "convnext_small.fb_in1k_no_ema", 2e-4, 0.7, 0.6),
    "cascade_mask_rcnn_convnext_base": _Row(True, "base", "convnext_base.fb_in1k_no_ema", 2e-4, 0.8, 0.7),
    "cascade_mask_rcnn_convnext_base_22k": _Row(True, "base", "convnext_base.fb_in22k", 1e-4, 0.8, 0.6),
    "cascade_mask_rcnn_convnext_large_22k": _Row(True, "large", "convnext_large.fb_in22k", 1e-4, 0.7, 0.7, "float32"),
    "cascade_mask_rcnn_convnext_xlarge_22k": _Row(
        True, "xlarge", "convnext_xlarge.fb_in22k", 1e-4, 0.7, 0.8, "float32"
    ),
}
_SCHEDULES = {"": (36.0, (27.0, 33.0)), "_1x": (12.0, (8.0, 11.0))}
PUBLISHED = tuple(f"coco/{name}{schedule}" for name in _ROWS for schedule in _SCHEDULES)
"""Names of recipes: the paper's, of 36 epochs, and their short forms of 12."""


def published(name: str) -> DetectionRecipe:
    """A detector on COCO as the paper has it (36 epochs), or with a third of them (names ending in _1x).

    convnext train coco/mask_rcnn_convnext_tiny --data COCO

    COCO holds annotations/, train2017/ and val2017/. Cost: 8 GPUs, 2 images on each at a time. Expect, box AP and mask
    AP (Table 3): Mask R-CNN T 46.2, 41.7; Cascade T 50.4, 43.7; S 51.9, 45.0; B 52.7, 45.6; from ImageNet-22K B 54.0,
    46.9; L 54.8, 47.6; XL 55.2, 47.7. None is published for 12 epochs.

    Images have 480 to 800 pixels on the shorter side, half of them cut before; AdamW, learning rates that fall from
    head to stem, 500 steps of warm-up, a tenth after 27 and 33 epochs. `--init` is the ImageNet weights of the paper.
    """
    key = name.removeprefix("coco/").removesuffix("_1x")
    row, (epochs, drops) = _ROWS[key], _SCHEDULES["_1x" if name.endswith("_1x") else ""]
    backbone = dense_backbone(f"convnext_{row.size}", drop_path_rate=row.drop_path)
    return DetectionRecipe(
        name=name,
        init=row.init,
        model=cascade_mask_rcnn(backbone) if row.cascade else mask_rcnn(backbone),
        optim=OptimConfig(lr=row.lr, weight_decay=0.05, layer_decay=row.layer_decay),
        schedule=ScheduleConfig(
            epochs=epochs, warmup_epochs=0.0, shape="steps", drops=drops, warmup_steps=500, warmup_start=0.001
        ),
        loop=LoopConfig(
            global_batch=16,
            micro_batch=2,
            precision="float32" if row.precision == "float32" else "auto",
        ),
    )


def small_mask_rcnn() -> DetectionRecipe:
    """A small Mask R-CNN for a few dozen images, from random weights on a CPU in twenty minutes.

    convnext train small/mask_rcnn --data PICTURES

    PICTURES is annotated in COCO's form (convnext train --help says how it may lie). Expect some 85 % box AP50 from 14
    images of plain objects (fruits and nuts, 18 minutes on two cores: docs/results/detection.md), but little where
    objects vary more: for those start from a trained detector, with --init.
    """
    backbone = ModelConfig("convnext_atto", layer_scale_init_value=0.0, init_std=0.08)
    return DetectionRecipe(
        name="small/mask_rcnn",
        model=DetectorConfig(
            backbone,
            width=64,
            rpn=RPNConfig(before_nms=(500, 300), after_nms=(300, 300)),
            roi=RoIConfig(width=256, samples=128, mask_convs=2),
        ),
        input=DetectionInputConfig(short=320, long=533),
        augment=DetectionAugmentConfig(
            shorts=(256, 288, 320, 352, 384),
            long=640,
            crop_shorts=(320, 400, 480),
            crop_sides=(192, 320),
            drop_empty=False,
        ),
        loader=LoaderConfig(val_fraction=0.2),
        optim=OptimConfig(lr=1e-3, clip_grad=10.0),
        schedule=ScheduleConfig(epochs=300.0, warmup_epochs=10.0),
        ema=EmaConfig(decay=0.99),
        loop=LoopConfig(global_batch=4, micro_batch=4, eval_epochs=25.0),
    )


def fine_tuned(init: str, model: DetectorConfig, *, images: int, accelerator: bool) -> DetectionRecipe:
    """A recipe for the detector `model`, from the weights `init`, on that many images."""
    batch = 8 if accelerator else 2
    epochs = min(max(round((30_000 if accelerator else 2_000) / images), 2), 60)
    sides = DetectionInputConfig() if accelerator else DetectionInputConfig(short=480, long=800)
    shorts = (480, 560, 640, 720, 800) if accelerator else (320, 400, 480)
    return DetectionRecipe(
        name="finetune-detector",
        init=init,
        model=replace(model, num_classes=0, backbone=replace(model.backbone, drop_path_rate=0.1)),
        input=sides,
        augment=DetectionAugmentConfig(shorts=shorts, long=sides.long, crop=0.0, drop_empty=False),
        optim=OptimConfig(lr=1e-4, layer_decay=0.8, clip_grad=10.0),
        schedule=ScheduleConfig(epochs=float(epochs), warmup_epochs=round(0.05 * epochs, 2)),
        loop=LoopConfig(global_batch=batch, micro_batch=2, eval_epochs=max(epochs / 10, 1.0)),
    )


RECIPES: dict[str, Callable[[], DetectionRecipe]] = {
    **{name: partial(published, name) for name in PUBLISHED},
    "small/mask_rcnn": small_mask_rcnn,
}
"""Every recipe of a detector by name."""
