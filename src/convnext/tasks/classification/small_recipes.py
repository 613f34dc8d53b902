"""Recipes for small images, which train from scratch on a laptop."""

from __future__ import annotations

from dataclasses import replace

from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig, MixConfig
from convnext.models.config import ModelConfig
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.training.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig


def demo() -> ClassificationRecipe:
    """A small ConvNeXt on scikit-learn's 1,797 handwritten digits of 8x8 pixels: half a minute on two CPU cores.

    convnext train demo

    Expect about 99 % top-1 on the 180 held-out digits.
    """
    return ClassificationRecipe(
        name="demo",
        data="digits",
        model=ModelConfig(
            "convnext_atto",
            depths=(1, 1, 2, 1),
            dims=(32, 64, 96, 128),
            stem_stride=1,
            output_stride=8,
            drop_path_rate=0.05,
            layer_scale_init_value=0.0,
            init_std=0.08,
        ),
        input=InputConfig(size=16, mean=(0.3, 0.3, 0.3), std=(0.38, 0.38, 0.38)),
        augment=AugmentConfig(crop="padded", padding=2, flip=0.0, randaugment_ops=0),
        mix=MixConfig(mixup=0.0, cutmix=0.0, erase=0.0, smoothing=0.0),
        optim=OptimConfig(lr=2e-3),
        schedule=ScheduleConfig(epochs=12.0, warmup_epochs=1.0),
        ema=EmaConfig(decay=0.98),
        loop=LoopConfig(global_batch=32),
    )


def cifar10() -> ClassificationRecipe:
    """A small ConvNeXt on CIFAR-10's 32x32 images, from scratch, within a quarter of an hour on two CPU cores.

    convnext train cifar10 --data CIFAR10

    Expect 86 % top-1 on held-out images (docs/results/cifar10.md). What makes a short run work: orthogonalised steps,
    3x3 filters on small maps, and initial weights four times larger than usual, for the model is narrow.
    """
    return ClassificationRecipe(
        name="cifar10",
        model=ModelConfig(
            "convnext_atto",
            depths=(1, 2, 2, 1),
            dims=(32, 64, 128, 128),
            kernel_size=3,
            stem_stride=2,
            layer_scale_init_value=0.0,
            init_std=0.08,
        ),
        input=InputConfig(size=32),
        augment=AugmentConfig(crop="padded", randaugment_ops=0),
        mix=MixConfig(mixup=0.0, cutmix=0.0, erase=0.0),
        optim=OptimConfig("muon", lr=1.5e-3, weight_decay=0.05),
        schedule=ScheduleConfig(epochs=20.0, warmup_epochs=2.0),
        ema=EmaConfig(decay=0.999),
        loop=LoopConfig(global_batch=128, eval_epochs=2.0, log_steps=50),
    )


def cifar10_v2() -> ClassificationRecipe:
    """A small ConvNeXt V2 on CIFAR-10, which can start from `pretrain/small`: AdamW, as in the paper's fine-tuning.

    convnext train cifar10_v2 --data CIFAR10 --init runs/pretrain_small

    Expect what docs/results/fcmae.md measured, from scratch and after pre-training.
    """
    return replace(
        cifar10(),
        name="cifar10_v2",
        model=ModelConfig(
            "convnextv2_atto",
            depths=(1, 2, 2, 1),
            dims=(32, 64, 128, 128),
            kernel_size=3,
            stem_stride=2,
            output_stride=8,
            init_std=0.08,
        ),
        optim=OptimConfig(lr=2e-3, weight_decay=0.05),
        schedule=ScheduleConfig(epochs=8.0, warmup_epochs=1.0),
    )
