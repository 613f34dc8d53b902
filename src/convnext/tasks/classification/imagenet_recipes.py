"""The published ImageNet recipes: training (paper Table 5), fine-tuning (Table 6), V2's (arXiv 2301.00808).

Costs are not restated where the paper gives none; the accuracies are those that the paper reports for its own runs.
"""

from __future__ import annotations

import dataclasses

from convnext.data.config import InputConfig, MixConfig
from convnext.models.config import ModelConfig
from convnext.tasks.classification.recipe import ClassificationRecipe
from convnext.training.config import EmaConfig, LoopConfig, OptimConfig, ScheduleConfig

_NO_MIX = MixConfig(mixup=0.0, cutmix=0.0)


def _in1k(model: str, *, drop_path: float) -> ClassificationRecipe:
    """Table 5, left column: 300 epochs, batch 4096, learning rate 4e-3, EMA 0.9999 without warm-up as officially."""
    return ClassificationRecipe(
        name=f"imagenet/{model}",
        model=ModelConfig(model, drop_path_rate=drop_path),
        ema=EmaConfig(decay=0.9999, warmup=False),
    )


def convnext_tiny() -> ClassificationRecipe:
    """ConvNeXt-T on ImageNet-1K from scratch, 300 epochs. Expect 82.1 % top-1 (Table 1).

    convnext train imagenet/convnext_tiny --data IMAGENET
    """
    return _in1k("convnext_tiny", drop_path=0.1)


def convnext_small() -> ClassificationRecipe:
    """ConvNeXt-S on ImageNet-1K from scratch, 300 epochs. Expect 83.1 % top-1 (Table 1).

    convnext train imagenet/convnext_small --data IMAGENET
    """
    return _in1k("convnext_small", drop_path=0.4)


def convnext_base() -> ClassificationRecipe:
    """ConvNeXt-B on ImageNet-1K from scratch, 300 epochs. Expect 83.8 % top-1 (Table 1).

    convnext train imagenet/convnext_base --data IMAGENET
    """
    return _in1k("convnext_base", drop_path=0.5)


def convnext_large() -> ClassificationRecipe:
    """ConvNeXt-L on ImageNet-1K from scratch, 300 epochs. Expect 84.3 % top-1 (Table 1).

    convnext train imagenet/convnext_large --data IMAGENET
    """
    return _in1k("convnext_large", drop_path=0.5)


def _isotropic(model: str, *, drop_path: float) -> ClassificationRecipe:
    """Section A.1: as Table 5 with 50 epochs of warm-up."""
    recipe = _in1k(model, drop_path=drop_path)
    return dataclasses.replace(recipe, schedule=ScheduleConfig(warmup_epochs=50.0))


def convnext_isotropic_small() -> ClassificationRecipe:
    """Isotropic ConvNeXt-S on ImageNet-1K. Expect 79.7 % top-1 (Table 2; the official README says 78.7).

    convnext train imagenet/convnext_isotropic_small --data IMAGENET
    """
    return _isotropic("convnext_isotropic_small", drop_path=0.1)


def convnext_isotropic_base() -> ClassificationRecipe:
    """Isotropic ConvNeXt-B on ImageNet-1K. Expect 82.0 % top-1 (Table 2).

    convnext train imagenet/convnext_isotropic_base --data IMAGENET
    """
    return _isotropic("convnext_isotropic_base", drop_path=0.2)


def convnext_isotropic_large() -> ClassificationRecipe:
    """Isotropic ConvNeXt-L on ImageNet-1K. Expect 82.6 % top-1 (Table 2).

    convnext train imagenet/convnext_isotropic_large --data IMAGENET
    """
    return _isotropic("convnext_isotropic_large", drop_path=0.5)


_IN22K_DROP_PATH = {"tiny": 0.0, "small": 0.0, "base": 0.1, "large": 0.1, "xlarge": 0.2}


def in22k(size: str) -> ClassificationRecipe:
    """Pre-training on ImageNet-22K (21,841 classes), 90 epochs (Table 5, right column).

    convnext train imagenet22k/convnext_base --data IMAGENET22K
    """
    model = ModelConfig(f"convnext_{size}", drop_path_rate=_IN22K_DROP_PATH[size])
    schedule = ScheduleConfig(epochs=90.0, warmup_epochs=5.0)
    return ClassificationRecipe(name=f"imagenet22k/convnext_{size}", model=model, schedule=schedule)


_FT_1K_DROP_PATH = {"base": 0.8, "large": 0.95}
_FT_22K_DROP_PATH = {"tiny": 0.0, "small": 0.1, "base": 0.2, "large": 0.3, "xlarge": 0.4}


def _finetune(name: str, *, size: str, pixels: int, drop_path: float, layer_decay: float) -> ClassificationRecipe:
    """Table 6: 30 epochs, batch 512, learning rate 5e-5 without warm-up, no mixing, a small new head."""
    return ClassificationRecipe(
        name=name,
        model=ModelConfig(f"convnext_{size}", drop_path_rate=drop_path, head_init_scale=0.001),
        input=InputConfig(size=pixels),
        mix=_NO_MIX,
        optim=OptimConfig(lr=5e-5, weight_decay=1e-8, layer_decay=layer_decay),
        schedule=ScheduleConfig(epochs=30.0, warmup_epochs=0.0),
        loop=LoopConfig(global_batch=512),
    )


def finetune_384(size: str) -> ClassificationRecipe:
    """ImageNet-1K weights to 384 pixels. Expect B 85.1 %, L 85.5 % top-1 (Table 1).

    convnext train imagenet384/convnext_base --data IMAGENET --init convnext_base_1k_224.pth
    """
    drop_path = _FT_1K_DROP_PATH[size]
    name = f"imagenet384/convnext_{size}"
    return _finetune(name, size=size, pixels=384, drop_path=drop_path, layer_decay=0.7)


def finetune_22k(size: str, pixels: int) -> ClassificationRecipe:
    """ImageNet-22K weights to ImageNet-1K at 224 or 384 pixels. Expect, at 224 and 384 (Table 1):

    T 82.9, 84.1; S 84.6, 85.8; B 85.8, 86.8; L 86.6, 87.5; XL 87.0, 87.8 % top-1.

    convnext train imagenet22k-1k/convnext_base_384 --data IMAGENET --init convnext_base_22k_224.pth
    """
    name, drop_path = f"imagenet22k-1k/convnext_{size}_{pixels}", _FT_22K_DROP_PATH[size]
    recipe = _finetune(name, size=size, pixels=pixels, drop_path=drop_path, layer_decay=0.8)
    return dataclasses.replace(recipe, ema=EmaConfig(decay=0.9999, warmup=False)) if size == "xlarge" else recipe


def v2_small(size: str) -> ClassificationRecipe:
    """FCMAE weights of V2 atto, femto, pico or nano to ImageNet-1K, 600 epochs (V2 Table 11).

    Expect A 76.7, F 78.5, P 80.3, N 81.9 % top-1 (V2 Table 14).

    convnext train imagenet/convnextv2_atto --data IMAGENET --init ENCODER.pt

    ENCODER.pt holds the FCMAE encoder under its dense names (stages.0.0.dwconv.weight, not ...dwconv.kernel).
    """
    decay = {"atto": 0.3, "femto": 0.05, "pico": 0.3, "nano": 0.3}[size]
    mixing = {"atto": 0.0, "femto": 0.3, "pico": 0.3, "nano": 0.5}[size]
    drop_path = {"atto": 0.1, "femto": 0.0, "pico": 0.0, "nano": 0.1}[size]
    return ClassificationRecipe(
        name=f"imagenet/convnextv2_{size}",
        model=ModelConfig(f"convnextv2_{size}", drop_path_rate=drop_path, head_init_scale=0.001),
        mix=MixConfig(mixup=mixing, cutmix=mixing, smoothing=0.2),
        # The base rate 2e-4 is for 256 images: lr = blr * batch / 256.
        optim=OptimConfig(lr=2e-4 * 1024 / 256, weight_decay=decay, layer_decay=0.9, blocks_per_group=1),
        schedule=ScheduleConfig(epochs=600.0, warmup_epochs=0.0),
        ema=EmaConfig(decay=0.9999, warmup=False),
        loop=LoopConfig(global_batch=1024),
    )


@dataclasses.dataclass(frozen=True)
class _V2:
    base_lr: float
    layer_decay: float
    blocks_per_group: int
    warmup: float
    epochs: float
    drop_path: float


# V2 Tables 12 and 13. The paper prints 6.25e-3 for B and L; the official commands use 6.25e-4, the likely value.
_V2_LARGE = {
    "tiny": _V2(8e-4, 0.9, 1, 40.0, 300.0, 0.2),
    "base": _V2(6.25e-4, 0.6, 3, 20.0, 100.0, 0.1),
    "large": _V2(6.25e-4, 0.6, 3, 20.0, 100.0, 0.2),
    "huge": _V2(1.25e-3, 0.75, 1, 10.0, 50.0, 0.3),
}


def v2_large(size: str) -> ClassificationRecipe:
    """FCMAE weights of V2 tiny, base, large or huge to ImageNet-1K (V2 Tables 12 and 13).

    Expect T 83.0, B 84.9, L 85.8, H 86.3 % top-1 (V2 Table 14).

    convnext train imagenet/convnextv2_tiny --data IMAGENET --init ENCODER.pt

    ENCODER.pt holds the FCMAE encoder under its dense names (stages.0.0.dwconv.weight, not ...dwconv.kernel).
    """
    row = _V2_LARGE[size]
    return ClassificationRecipe(
        name=f"imagenet/convnextv2_{size}",
        model=ModelConfig(f"convnextv2_{size}", drop_path_rate=row.drop_path, head_init_scale=0.001),
        optim=OptimConfig(
            lr=row.base_lr * 1024 / 256, layer_decay=row.layer_decay, blocks_per_group=row.blocks_per_group
        ),
        schedule=ScheduleConfig(epochs=row.epochs, warmup_epochs=row.warmup),
        ema=EmaConfig(decay=0.9999, warmup=False),
        loop=LoopConfig(global_batch=1024),
    )
