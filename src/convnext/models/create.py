"""A model by name, and what it costs. B batch, C channels, H W space."""

from __future__ import annotations

import dataclasses

import torch
from torch import nn
from torch.func import functional_call
from torch.utils.flop_counter import FlopCounterMode

from convnext.core.errors import UserError, nearest
from convnext.models import convnext, isotropic
from convnext.models.config import ModelConfig
from convnext.models.convnext import ConvNeXt
from convnext.models.isotropic import IsotropicConvNeXt
from convnext.models.layers import INIT_STD

Model = ConvNeXt | IsotropicConvNeXt

NAMES: tuple[str, ...] = (*convnext.SIZES, *isotropic.SIZES)


def create_model(
    name: str,
    *,
    num_classes: int | None = None,
    in_chans: int = 3,
    drop_path_rate: float = 0.0,
    layer_scale_init_value: float | None = None,
    head_init_scale: float = 1.0,
    stem_stride: int = 4,
    output_stride: int = 32,
    depths: tuple[int, ...] | None = None,
    dims: tuple[int, ...] | None = None,
) -> Model:
    """Builds the model `name` (one of `NAMES`) with fresh weights, in float32 on the current default device.

    Args are those of `ConvNeXt`; `depths` and `dims` replace the named model's. num_classes: None for as many as the
    model was published with. `from_config` has every setting.

    Raises:
        UserError: for an unknown name (the nearest are offered) or a setting that the model does not have.
    """
    config = ModelConfig(
        name,
        in_chans=in_chans,
        drop_path_rate=drop_path_rate,
        layer_scale_init_value=layer_scale_init_value,
        head_init_scale=head_init_scale,
        stem_stride=stem_stride,
        output_stride=output_stride,
        depths=depths,
        dims=dims,
    )
    return _build(config, num_classes)


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
    common = {
        "in_chans": config.in_chans,
        "num_classes": num_classes,
        "drop_path_rate": config.drop_path_rate,
        "layer_scale_init_value": config.layer_scale_init_value,
        "head_init_scale": config.head_init_scale,
    }
    changed = {"depths": config.depths, "dims": config.dims, "kernel_size": config.kernel_size}
    changed = {key: value for key, value in changed.items() if value is not None}
    if name in isotropic.SIZES:
        if changed or (config.stem_stride, config.output_stride) != (4, 32):
            raise UserError(
                f"{name} has one 16x16 stem, one depth and 7x7 filters: stem_stride, output_stride, depths, dims and "
                "kernel_size stay unset."
            )
    elif name not in convnext.SIZES:
        raise UserError(f"There is no model '{name}'.{nearest(name, NAMES)} `convnext models` lists them all.")
    try:
        if name in isotropic.SIZES:
            return IsotropicConvNeXt(isotropic.SIZES[name], **common)
        size = dataclasses.replace(convnext.SIZES[name], **changed)
        return ConvNeXt(size, stem_stride=config.stem_stride, output_stride=config.output_stride, **common)
    except ValueError as error:
        raise UserError(str(error)) from None


def count_parameters(model: nn.Module) -> int:
    """All parameters, trained or not."""
    return sum(parameter.numel() for parameter in model.parameters())


def count_macs(model: nn.Module, size: int | tuple[int, int], *, in_chans: int = 3) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image of `size` pixels (H, W).

    These are the "FLOPs" of the papers' tables. Only shapes are followed, wherever the model stands.
    """
    height, width = (size, size) if isinstance(size, int) else size
    shapes = {name: torch.empty_like(value, device="meta") for name, value in model.named_parameters()}
    dtype = next(iter(shapes.values())).dtype
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        functional_call(model, shapes, torch.empty(1, in_chans, height, width, dtype=dtype, device="meta"))
    return counter.get_total_flops() // 2
