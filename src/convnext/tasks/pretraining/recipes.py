"""Recipes of masked pre-training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig
from convnext.models.config import FCMAEConfig, ModelConfig
from convnext.tasks.pretraining.recipe import PretrainingRecipe
from convnext.training.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig

_SIZES = ("atto", "femto", "pico", "nano", "tiny", "base", "large", "huge")


def imagenet(size: str) -> PretrainingRecipe:
    """FCMAE of a ConvNeXt V2 on ImageNet-1K's images, 800 epochs (V2 paper, Table 8; official TRAINING.md).

    convnext train pretrain/convnextv2_base --data IMAGENET, then
    convnext train imagenet/convnextv2_base --data IMAGENET --init runs/pretrain_convnextv2_base

    Expect after fine-tuning A 76.7, F 78.5, P 80.3, N 81.9, T 83.0, B 84.9, L 85.8, H 86.3 % top-1 (Table 14, of 1600
    epochs: --schedule.epochs 1600). Of V1 nothing is to be gained: B 83.7 beside 83.8 from scratch (section 3).
    """
    return PretrainingRecipe(
        name=f"pretrain/convnextv2_{size}",
        model=FCMAEConfig(ModelConfig(f"convnextv2_{size}")),
        augment=AugmentConfig(crop="resized", scale=(0.2, 1.0), randaugment_ops=0),
        # the base rate 1.5e-4 is for 256 images: lr = blr * batch / 256
        optim=OptimConfig(lr=1.5e-4 * 4096 / 256, weight_decay=0.05, betas=(0.9, 0.95)),
        schedule=ScheduleConfig(epochs=800.0, warmup_epochs=40.0, min_lr=0.0),
        ema=EmaConfig(decay=0.0),
        loop=LoopConfig(global_batch=4096, eval_epochs=10.0),
    )


def small() -> PretrainingRecipe:
    """FCMAE of a small ConvNeXt V2 on images of 32 pixels, as CIFAR-10's: ten minutes on two CPU cores.

    convnext train pretrain/small --data CIFAR10, then
    convnext train cifar10_v2 --data CIFAR10 --init runs/pretrain_small

    Expect what docs/results/fcmae.md measured. Cells are of 8 pixels, 16 in an image.
    """
    backbone = ModelConfig(
        "convnextv2_atto",
        depths=(1, 2, 2, 1),
        dims=(32, 64, 128, 128),
        kernel_size=3,
        stem_stride=2,
        output_stride=8,
        init_std=0.08,
    )
    return PretrainingRecipe(
        name="pretrain/small",
        model=FCMAEConfig(backbone, decoder_dim=128),
        input=InputConfig(size=32),
        augment=AugmentConfig(crop="resized", scale=(0.4, 1.0), randaugment_ops=0),
        optim=OptimConfig(lr=2e-3, weight_decay=0.05, betas=(0.9, 0.95)),
        schedule=ScheduleConfig(epochs=20.0, warmup_epochs=2.0),
        ema=EmaConfig(decay=0.0),
        loop=LoopConfig(global_batch=256, eval_epochs=5.0, log_steps=50),
    )


RECIPES: Mapping[str, Callable[[], PretrainingRecipe]] = {
    **{f"pretrain/convnextv2_{size}": partial(imagenet, size) for size in _SIZES},
    "pretrain/small": small,
}
