"""Official names to other libraries' names: what the parity tests load our weights with (rules apply top to bottom)."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from kinds import difference
from torch import Tensor, nn

from convnext.models.convnext import ConvNeXtConfig

TIMM = (
    (r"^downsample_layers\.0\.(\d)\.", r"stem.\1."),
    (r"^downsample_layers\.([123])\.(\d)\.", r"stages.\1.downsample.\2."),
    (r"^stages\.(\d)\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.dwconv\.", ".conv_dw."),
    (r"\.pwconv1\.", ".mlp.fc1."),
    (r"\.pwconv2\.", ".mlp.fc2."),
    (r"\.grn\.gamma$", ".mlp.grn.weight"),
    (r"\.grn\.beta$", ".mlp.grn.bias"),
    (r"^norm\.", "head.norm."),
    (r"^pre_logits\.", "head.pre_logits."),
    (r"^head\.(weight|bias)$", r"head.fc.\1"),
)


def timm_rules(size: ConvNeXtConfig) -> tuple[tuple[str, str], ...]:
    """A norm in front of pooling has another name there."""
    return ((r"^norm\.", "norm_pre."), *TIMM) if size.head_norm_first else TIMM


TORCHVISION = (
    *((rf"^downsample_layers\.{i}\.(\d)\.", rf"features.{2 * i}.\1.") for i in range(4)),
    *(
        (rf"^stages\.{i}\.(\d+)\.{ours}\.", rf"features.{2 * i + 1}.\1.block.{theirs}.")
        for i in range(4)
        for ours, theirs in (("dwconv", 0), ("norm", 2), ("pwconv1", 3), ("pwconv2", 5))
    ),
    *((rf"^stages\.{i}\.(\d+)\.gamma$", rf"features.{2 * i + 1}.\1.layer_scale") for i in range(4)),
    (r"^norm\.", "classifier.0."),
    (r"^head\.", "classifier.2."),
)


def transformers_rules(base: str) -> tuple[tuple[str, str], ...]:
    """ConvNext's and ConvNextV2's, whose layers stand under `base`."""
    return (
        (r"^downsample_layers\.0\.0\.", f"{base}.embeddings.patch_embeddings."),
        (r"^downsample_layers\.0\.1\.", f"{base}.embeddings.layernorm."),
        (r"^downsample_layers\.(\d)\.(\d)\.", rf"{base}.encoder.stages.\1.downsampling_layer.\2."),
        (r"^norm\.", f"{base}.layernorm."),
        (r"\.norm\.", ".layernorm."),
        (r"^stages\.(\d)\.(\d+)\.", rf"{base}.encoder.stages.\1.layers.\2."),
        (r"\.grn\.gamma$", ".grn.weight"),
        (r"\.grn\.beta$", ".grn.bias"),
        (r"\.gamma$", ".layer_scale_parameter"),
        (r"^head\.", "classifier."),
    )


TRANSFORMERS_DINOV3 = (
    (r"^norm\.", "layer_norm."),
    (r"\.norm\.", ".layer_norm."),
    (r"^downsample_layers\.(\d)\.(\d)\.", r"model.stages.\1.downsample_layers.\2."),
    (r"^stages\.(\d)\.(\d+)\.", r"model.stages.\1.layers.\2."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv(\d)\.", r".pointwise_conv\1."),
)


def renamed(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def lend(state: Mapping[str, Tensor], peer: nn.Module, rules: tuple[tuple[str, str], ...]) -> None:
    """Loads our weights into another library's model: every tensor of both, or it fails."""
    theirs = peer.state_dict()
    lent = {}
    for name, value in state.items():
        shape = theirs[renamed(name, rules)].shape
        assert [n for n in shape if n > 1] == [n for n in value.shape if n > 1], name  # (o, i) and (o, i, 1, 1)
        lent[renamed(name, rules)] = value.reshape(shape)
    assert len(lent) == len(state)
    peer.load_state_dict(lent)
    peer.eval()


@torch.no_grad()
def agree(ours: nn.Module, theirs: nn.Module, x: Tensor, *, call=lambda model, x: model(x)) -> tuple[float, float]:
    """The relative differences in float32 and in float64 (which leaves the models in float64)."""
    single = difference(ours(x), call(theirs, x))
    return single, difference(ours.double()(x.double()), call(theirs.double(), x.double()))
