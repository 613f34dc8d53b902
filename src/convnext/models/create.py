"""A model by name, and what it costs. B batch, C channels, H W space."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import Literal, overload

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from convnext.core.errors import UserError, nearest
from convnext.models import baselines, convnext, isotropic, resnet, roadmap
from convnext.models.baselines import Swin, ViT
from convnext.models.config import ModelConfig
from convnext.models.convnext import ConvNeXt, ConvNeXtConfig
from convnext.models.features import FeatureMaps, Staged
from convnext.models.isotropic import IsotropicConvNeXt
from convnext.models.layers import INIT_STD
from convnext.models.resnet import Design, ResNet

Model = ConvNeXt | IsotropicConvNeXt | ResNet | Swin | ViT

MODEL_NAMES: tuple[str, ...] = (
    *convnext.CONFIGS,
    *isotropic.CONFIGS,
    *resnet.CONFIGS,
    *baselines.SWIN_CONFIGS,
    *baselines.VIT_CONFIGS,
    *roadmap.MODEL_NAMES,
)


def match_names(pattern: str | list[str], names: Iterable[str]) -> list[str]:
    """The names that match a pattern, or any of several: wildcards as in a shell (`*`, `?`, `[ab]`), in any case.

    Each name once, in natural order (vit_9 before vit_16), as timm's `list_models` has it. Empty where none matches.
    """
    patterns = [pattern] if isinstance(pattern, str) else pattern
    matching = {name for name in names if any(fnmatchcase(name.lower(), one.lower()) for one in patterns)}
    return sorted(matching, key=_natural)


def _natural(name: str) -> list[tuple[int, str]]:
    """What names are sorted by: their digits as numbers."""
    parts = re.split(r"(\d+)", name.lower())
    return [(int(part), "") if part.isdigit() else (-1, part) for part in parts]


@overload
def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
    stem_stride: int = 4,
    output_stride: int = 32,
    depths: tuple[int, ...] | None = None,
    dims: tuple[int, ...] | None = None,
    features_only: Literal[False] = False,
    out_indices: Sequence[int] = (0, 1, 2, 3),
) -> Model: ...
@overload
def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
    stem_stride: int = 4,
    output_stride: int = 32,
    depths: tuple[int, ...] | None = None,
    dims: tuple[int, ...] | None = None,
    features_only: Literal[True],
    out_indices: Sequence[int] = (0, 1, 2, 3),
) -> FeatureMaps: ...
def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
    stem_stride: int = 4,
    output_stride: int = 32,
    depths: tuple[int, ...] | None = None,
    dims: tuple[int, ...] | None = None,
    features_only: bool = False,
    out_indices: Sequence[int] = (0, 1, 2, 3),
) -> Model | FeatureMaps:
    """Builds the model `name` (one of `MODEL_NAMES`), newly initialised, in float32 on the current default device.

    Args:
        name: as `list_models` gives them.
        num_classes: outputs; 0 gives features; None: as many as the model was published with.
        in_chans, drop_path_rate, stem_stride, output_stride: as for `ConvNeXt`.
        depths, dims: replace the named model's blocks and channels of each stage.
        features_only: a `FeatureMaps` in place of the classifier: four maps, as they leave their stages.
        out_indices: which of them, 0 to 3 or -4 to -1, ascending; for `features_only`.

    `from_config` has every setting (layer scale, the initial weights).

    Raises:
        UserError: for an unknown name (the nearest are offered), a setting that the model does not have, or maps that
            it does not have.
    """
    config = ModelConfig(
        name,
        in_chans=in_chans,
        drop_path_rate=drop_path_rate,
        stem_stride=stem_stride,
        output_stride=output_stride,
        depths=depths,
        dims=dims,
    )
    if not features_only:
        return _build(config, num_classes)
    model = _build(config, 0)
    if not isinstance(model, Staged):
        raise UserError(
            f"{name} has no stages: take `forward_intermediates` of the whole model in place of features_only."
        )
    try:
        return FeatureMaps(model, stages=[i + 4 if i < 0 else i for i in out_indices], norm=False)
    except ValueError as error:
        raise UserError(f"out_indices={tuple(out_indices)}: {error}") from None


def from_config(config: ModelConfig) -> Model:
    """Builds what a `ModelConfig` says; its `num_classes` is taken as it stands (0: features).

    Raises UserError as `create_model` does.
    """
    model = _build(config, config.num_classes)
    if config.init_std != INIT_STD:
        model.init_weights(std=config.init_std)
    return model


def _build(config: ModelConfig, num_classes: int | None) -> Model:
    name = config.name
    _check_settings(config)
    common = {
        "in_chans": config.in_chans,
        "num_classes": num_classes,
        "drop_path_rate": config.drop_path_rate,
        "head_init_scale": config.head_init_scale,
    }
    scale = {"layer_scale_init_value": config.layer_scale_init_value}
    layers, patch = {"depths": config.depths, "dims": config.dims}, config.patch_size
    try:
        if name in isotropic.CONFIGS:
            return IsotropicConvNeXt(isotropic.CONFIGS[name].resized(**layers, patch=patch), **scale, **common)
        if name in baselines.SWIN_CONFIGS:
            swin = baselines.SWIN_CONFIGS[name].resized(**layers, patch=patch, window=config.window_size)
            return Swin(swin, **common)
        if name in baselines.VIT_CONFIGS:
            return ViT(baselines.VIT_CONFIGS[name].resized(**layers, patch=patch, pixels=config.img_size), **common)
        known = roadmap_step(name) if name in roadmap.MODEL_NAMES else {**convnext.CONFIGS, **resnet.CONFIGS}[name]
        if isinstance(known, Design):
            return ResNet(known.resized(**layers), stem_stride=config.stem_stride, **common)
        changed = {key: value for key, value in layers.items() if value is not None}
        size = dataclasses.replace(known, **changed, kernel_size=config.kernel_size or known.kernel_size)
        return ConvNeXt(size, stem_stride=config.stem_stride, output_stride=config.output_stride, **scale, **common)
    except ValueError as error:
        raise UserError(str(error)) from None


def roadmap_step(name: str) -> Design | ConvNeXtConfig:
    """What a network of the roadmap (one of `roadmap.MODEL_NAMES`) is; where the road arrives, a ConvNeXt."""
    regime, step = roadmap.split(name)
    design = Design(**roadmap.design_fields(name))
    if step != roadmap.ARRIVAL:
        return design
    scale = roadmap.REGIMES[regime].layer_scale_init_value
    return ConvNeXtConfig(design.depths, design.dims, layer_scale_init_value=scale, kernel_size=design.kernel_size)


_SETTINGS = {  # those that some models have and others do not
    "stem_stride": 4,
    "output_stride": 32,
    "layer_scale_init_value": None,
    "depths": None,
    "dims": None,
    "kernel_size": None,
    "patch_size": None,
    "window_size": None,
    "img_size": None,
}
_CONVNEXT = {"stem_stride", "output_stride", "layer_scale_init_value", "depths", "dims", "kernel_size"}
_ONE_STAGE = (*isotropic.CONFIGS, *baselines.VIT_CONFIGS)


def _check_settings(config: ModelConfig) -> None:
    """Raises UserError for an unknown name, or a setting that the named model does not have."""
    name = config.name
    if name not in MODEL_NAMES:
        raise UserError(f"There is no model '{name}'.{nearest(name, MODEL_NAMES)} `convnext models` lists them all.")
    taken = settings_of(name)
    wrong = [key for key, usual in _SETTINGS.items() if key not in taken and getattr(config, key) != usual]
    if wrong:
        also = f" beside {', '.join(sorted(taken))}" if taken else ""
        raise UserError(f"{name} is as published{also}: leave {' and '.join(wrong)} unset.")
    for key in ("depths", "dims"):
        given = getattr(config, key)
        if name in _ONE_STAGE and given is not None and len(given) != 1:
            raise UserError(f"{name} has one stage: {key} is one number, not {given}.")


def settings_of(name: str) -> set[str]:
    """The settings that the named model has, of those that some models have and others do not, as "stem_stride"."""
    if name in convnext.CONFIGS:
        return set(_CONVNEXT)
    if name in isotropic.CONFIGS:
        return {"layer_scale_init_value", "depths", "dims", "patch_size"}
    if name in resnet.CONFIGS:
        return {"stem_stride", "depths", "dims"}
    if name in baselines.SWIN_CONFIGS:
        return {"depths", "dims", "patch_size", "window_size"}
    return {"depths", "dims", "patch_size", "img_size"} if name in baselines.VIT_CONFIGS else {"stem_stride"}


def count_parameters(model: nn.Module) -> int:
    """All parameters, trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, size: int | tuple[int, int], *, in_chans: int = 3) -> int:
    """Multiply-accumulates of convolutions, linear layers and attention for one image of `size` pixels (H, W).

    These are the "FLOPs" of the papers' tables. Only shapes are followed, wherever the model stands.
    """
    height, width = (size, size) if isinstance(size, int) else size
    tensors = (*model.named_parameters(), *model.named_buffers())
    shapes = {name: torch.empty_like(value, device="meta") for name, value in tensors}
    dtype = next(iter(shapes.values())).dtype
    image = torch.empty(1, in_chans, height, width, dtype=dtype, device="meta")
    counter, modes = FlopCounterMode(display=False), [(module, module.training) for module in model.modules()]
    model.eval()  # a BatchNorm has nothing to learn from one image
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # one kernel, of which the counter knows nothing
    try:
        with torch.no_grad(), counter:
            functional_call(model, shapes, image)
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
        for module, training in modes:
            module.training = training
    return counter.get_total_flops() // 2
