"""What the tests of the models share: one small model of every kind, and weights of which every tensor matters.

B batch, C channels, H W space, K classes.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from convnext.models.baselines import Swin, SwinSize, ViT, ViTSize
from convnext.models.convnext import ConvNeXt, ConvNeXtConfig
from convnext.models.create import Model
from convnext.models.isotropic import IsotropicConvNeXt, IsotropicSize
from convnext.models.resnet import Design, ResNet

# Depths and dims differ from stage to stage, so that one taken for another is noticed.
DEPTHS, DIMS = (2, 1, 3, 1), (8, 12, 20, 16)

V1 = ConvNeXtConfig(DEPTHS, DIMS, num_classes=7)
V2 = ConvNeXtConfig(DEPTHS, DIMS, layer_scale_init_value=0.0, use_grn=True, num_classes=7)
CLIP = ConvNeXtConfig(DEPTHS, DIMS, norm_eps=1e-5, head_hidden=24, num_classes=7)
DINOV3 = ConvNeXtConfig(DEPTHS, DIMS, num_classes=0)
OVERLAP = ConvNeXtConfig(DEPTHS, DIMS, stem="overlap_tiered", num_classes=7)
ZEPTO = ConvNeXtConfig(DEPTHS, DIMS, stem="overlap_act", norm="simple", num_classes=7)
NORM_FIRST = ConvNeXtConfig(DEPTHS, DIMS, head_norm_first=True, num_classes=7)
ISOTROPIC = IsotropicSize(3, 16, num_classes=7)
ISOTROPIC_SCALED = IsotropicSize(3, 16, layer_scale_init_value=1e-6, num_classes=7)
RESNET = Design(DEPTHS, 8, num_classes=7)
RESNEXT = Design(DEPTHS, 8, patchify=True, depthwise=True, kernel_size=5, num_classes=7)
INVERTED = Design(DEPTHS, 8, patchify=True, depthwise=True, inverted=True, num_classes=7)
NEARLY = Design(
    DEPTHS,
    8,
    patchify=True,
    depthwise=True,
    inverted=True,
    spatial_first=True,
    kernel_size=7,
    act="gelu",
    every_act=False,
    every_norm=False,
    norm="layer",
    num_classes=7,
)
SWIN = SwinSize((2, 1, 3, 1), 32, num_classes=7)
VIT = ViTSize(3, 32, 2, num_classes=7)

AnySize = ConvNeXtConfig | IsotropicSize | Design | SwinSize | ViTSize
_CLASSES = {ConvNeXtConfig: ConvNeXt, IsotropicSize: IsotropicConvNeXt, Design: ResNet, SwinSize: Swin, ViTSize: ViT}


def build(size: AnySize, **options) -> Model:
    """A model of that size, in evaluation mode."""
    return _CLASSES[type(size)](size, **options).eval()


@torch.no_grad()
def randomise(model: Model, seed: int = 0) -> Model:
    """Fills every parameter at random, of order 1 in its effect: layer scale, GRN, norms and biases too.

    At their initial values (1e-6, 0, 1, 0) a wrong block would go unnoticed.
    """
    generator = torch.Generator().manual_seed(seed)
    for name, value in model.named_parameters():
        value.copy_(torch.randn(value.shape, generator=generator, dtype=value.dtype))
        if value.ndim >= 2 and not name.endswith((".gamma", ".beta")):
            value.div_(value[0].numel() ** 0.5)  # a weight: by its fan-in
        elif name.endswith((".bias", ".beta")):
            value.mul_(0.3)
        else:
            value.mul_(0.5).add_(1.0)
    for name, value in model.named_buffers():
        if name.endswith("running_mean"):
            value.copy_(0.3 * torch.randn(value.shape, generator=generator))
        elif name.endswith("running_var"):
            value.copy_(0.5 + torch.rand(value.shape, generator=generator))
    return model


def image(batch: int = 2, channels: int = 3, height: int = 64, width: int | None = None, *, seed: int = 0) -> Tensor:
    """ "Images" (B, channels, H, W) of order 1: noise, and a colour and a slope of each image's own."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(batch, channels, height, width or height, generator=generator)
    colour, slope = torch.randn(2, batch, channels, 1, 1, generator=generator)
    return noise + colour + slope * torch.linspace(-2, 2, width or height)


def difference(given: Tensor, expected: Tensor) -> float:
    """The largest difference, relative to the largest expected value."""
    assert given.shape == expected.shape
    assert torch.isfinite(given).all()
    assert torch.isfinite(expected).all()
    return ((given - expected).abs().max() / expected.abs().max()).item()


def block_outputs(model: Model, x: Tensor) -> list[Tensor]:
    """What every block of the model gives for `x`, first to last."""
    outputs: list[Tensor] = []

    def keep(_module: nn.Module, _given: Any, output: Tensor) -> None:
        outputs.append(output)

    hooks = [block.register_forward_hook(keep) for block in model.block_list()]
    try:
        model(x)
    finally:
        for hook in hooks:
            hook.remove()
    return outputs
