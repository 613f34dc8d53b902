"""The models that are compared: of each family a ladder of sizes, smallest first. No torch here.

imagenet: models as published, for 224 pixels. small: reduced ones for images of 32 pixels, from about 2 to 18 million
multiply-accumulates: maps begin at half the resolution (ConvNeXt, ResNet, Swin) or with 4x4 patches (ViT, isotropic).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, get_args

from convnext.core.errors import UserError, nearest
from convnext.models.config import ModelConfig

Regime = Literal["small", "imagenet"]
Family = Literal["convnext", "convnextv2", "isotropic", "vit", "swin", "resnet"]
FAMILIES: tuple[str, ...] = get_args(Family)
_NARROW = 0.08  # standard deviation of initial weights that suits few channels


def _pyramid(name: str, *, depths: tuple[int, ...], width: int) -> ModelConfig:
    """A ConvNeXt (no layer scale: short runs end before one of 1e-6 has grown) or a ResNet for small images."""
    scale = 0.0 if name.startswith("convnext_") else None
    dims = tuple(width * 2**i for i in range(4))
    return ModelConfig(name, depths=depths, dims=dims, stem_stride=2, layer_scale_init_value=scale, init_std=_NARROW)


def _swin(depths: tuple[int, ...], width: int) -> ModelConfig:
    dims = tuple(width * 2**i for i in range(4))
    return ModelConfig("swin_tiny", depths=depths, dims=dims, patch_size=2, window_size=4, init_std=_NARROW)


def _columns(name: str, depth: int, dim: int) -> ModelConfig:
    """A ViT or an isotropic ConvNeXt for small images."""
    pixels = 32 if name.startswith("vit") else None
    return ModelConfig(name, depths=(depth,), dims=(dim,), patch_size=4, img_size=pixels, init_std=_NARROW)


def _named(*names: str) -> tuple[ModelConfig, ...]:
    return tuple(ModelConfig(name) for name in names)


_SIZES = ("atto", "femto", "pico", "nano", "tiny", "small", "base", "large")
_THREE = (1, 1, 3, 1)  # blocks of a reduced ConvNeXt-T
_REDUCED = tuple((_THREE, width) for width in (12, 16, 24, 32))
LADDERS: Mapping[str, Mapping[str, Sequence[ModelConfig]]] = {
    "small": {
        "convnext": tuple(_pyramid("convnext_atto", depths=depths, width=width) for depths, width in _REDUCED),
        "convnextv2": tuple(_pyramid("convnextv2_atto", depths=depths, width=width) for depths, width in _REDUCED),
        "isotropic": tuple(
            _columns("convnext_isotropic_small", depth, dim) for depth, dim in ((4, 32), (2, 64), (4, 64), (3, 96))
        ),
        "vit": tuple(_columns("vit_small", depth, dim) for depth, dim in ((2, 32), (4, 32), (2, 64), (4, 64))),
        "swin": tuple(
            _swin(depths, width)
            for depths, width in (((1, 1, 1, 1), 16), (_THREE, 16), ((2, 2, 6, 2), 16), ((1, 1, 1, 1), 32))
        ),
        "resnet": tuple(
            _pyramid("resnet50", depths=depths, width=4 * width)
            for depths, width in ((_THREE, 6), (_THREE, 8), (_THREE, 12), ((2, 2, 6, 2), 16))
        ),
    },
    "imagenet": {
        "convnext": _named(*(f"convnext_{size}" for size in _SIZES)),
        "convnextv2": _named(*(f"convnextv2_{size}" for size in (*_SIZES[:5], "base", "large", "huge"))),
        "isotropic": _named(*(f"convnext_isotropic_{size}" for size in ("small", "base", "large"))),
        "vit": (ModelConfig("vit_small", dims=(192,)), *_named("vit_small", "vit_base", "vit_large")),
        "swin": _named("swin_tiny", "swin_small", "swin_base", "swin_large"),
        "resnet": _named("resnet50", "resnet101", "resnet152", "resnet200"),
    },
}


def rung(regime: str, family: str, size: int) -> ModelConfig:
    """The model on a rung of a family's ladder, counted from 1, the smallest.

    Raises UserError for a regime, family or rung that there is not.
    """
    if regime not in LADDERS:
        raise UserError(f"There is no regime '{regime}'.{nearest(regime, LADDERS)} There are {', '.join(LADDERS)}.")
    if family not in FAMILIES:
        raise UserError(f"There is no family '{family}'.{nearest(family, FAMILIES)} There are {', '.join(FAMILIES)}.")
    ladder = LADDERS[regime][family]
    if not 1 <= size <= len(ladder):
        raise UserError(f"The {regime} ladder of {family} has sizes 1 to {len(ladder)}, not {size}.")
    return replace(ladder[size - 1])
