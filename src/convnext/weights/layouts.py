"""The names that other libraries give to ConvNeXt's tensors, and the way there and back.

A layout is a table of name patterns, the official one beside theirs: {i} {j} {k} are numbers, {p} is "weight" or
"bias". Each table serves both directions. Official names are those of facebookresearch/ConvNeXt, models/convnext.py;
the source of the others stands at each table.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache

from torch import Tensor

_BLOCK = ("dwconv", "norm", "pwconv1", "pwconv2", "gamma", "grn.gamma", "grn.beta")
_GROUPS = {
    "i": r"\d+",
    "j": r"\d+",
    "k": r"\d+",
    "p": "weight|bias",
    "b": "weight|bias|running_mean|running_var|num_batches_tracked",  # of a BatchNorm
}


@dataclass(frozen=True)
class Layout:
    """How one library names things."""

    name: str
    mark: str
    """A tensor that every model in this layout has, and none in another."""
    rules: tuple[tuple[str, str], ...]
    """(official pattern, their pattern), the first that fits counts."""
    prefixes: tuple[str, ...] = ("",)
    """What may stand in front of every name but the classifier's; the first is written."""
    bare: str = "\0"
    """The start of the names that have no prefix."""


def _blocks(block: str, parts: tuple[str, ...], official: str = "stages.{i}.{j}.") -> tuple[tuple[str, str], ...]:
    """Rules for the tensors of one block; `parts` are their names in the order of `_BLOCK`."""
    ends = [".{p}" if part in ("dwconv", "norm", "pwconv1", "pwconv2") else "" for part in _BLOCK]
    return tuple(
        (official + ours + end, block + theirs + end) for ours, theirs, end in zip(_BLOCK, parts, ends, strict=True)
    )


_MLP = ("mlp.fc1", "mlp.fc2")
TIMM = Layout(  # huggingface/pytorch-image-models, timm/models/convnext.py
    "timm",
    "stages.0.blocks.0.conv_dw.weight",
    (
        ("downsample_layers.0.{k}.{p}", "stem.{k}.{p}"),
        ("downsample_layers.{i}.{k}.{p}", "stages.{i}.downsample.{k}.{p}"),
        *_blocks("stages.{i}.blocks.{j}.", ("conv_dw", "norm", *_MLP, "gamma", "mlp.grn.weight", "mlp.grn.bias")),
        ("norm.{p}", "head.norm.{p}"),
        ("pre_logits.fc.{p}", "head.pre_logits.fc.{p}"),
        ("head.{p}", "head.fc.{p}"),
    ),
    prefixes=("", "visual.trunk."),  # the second in OpenCLIP's files
)
TIMM_NORM_FIRST = replace(TIMM, rules=(("norm.{p}", "norm_pre.{p}"), *TIMM.rules))  # convnext_tiny_hnf

TORCHVISION = Layout(  # pytorch/vision, torchvision/models/convnext.py: stem, stages and downsampling are one sequence
    "torchvision",
    "features.1.0.block.0.weight",  # not the stem's: torchvision's Swin, which is read as it is, has that too
    (
        *((f"downsample_layers.{i}.{{k}}.{{p}}", f"features.{2 * i}.{{k}}.{{p}}") for i in range(4)),
        *(
            rule
            for i in range(4)
            for rule in _blocks(
                f"features.{2 * i + 1}.{{j}}.",
                ("block.0", "block.2", "block.3", "block.5", "layer_scale", "grn.gamma", "grn.beta"),
                official=f"stages.{i}.{{j}}.",
            )
        ),
        ("norm.{p}", "classifier.0.{p}"),
        ("head.{p}", "classifier.2.{p}"),
    ),
)

_HF_BLOCK = ("dwconv", "layernorm", "pwconv1", "pwconv2", "layer_scale_parameter", "grn.weight", "grn.bias")
_HF_RULES = (
    ("downsample_layers.0.0.{p}", "embeddings.patch_embeddings.{p}"),
    ("downsample_layers.0.1.{p}", "embeddings.layernorm.{p}"),
    ("downsample_layers.{i}.{k}.{p}", "encoder.stages.{i}.downsampling_layer.{k}.{p}"),
    *_blocks("encoder.stages.{i}.layers.{j}.", _HF_BLOCK),
    ("norm.{p}", "layernorm.{p}"),
    ("head.{p}", "classifier.{p}"),
)
TRANSFORMERS = Layout(  # huggingface/transformers, models/convnext and models/convnextv2
    "transformers",
    "embeddings.patch_embeddings.weight",
    _HF_RULES,
    prefixes=("convnext.", "convnextv2.", ""),
    bare="classifier.",
)

TRANSFORMERS_DINOV3 = Layout(  # huggingface/transformers, models/dinov3_convnext
    "transformers-dinov3",
    "stages.0.downsample_layers.0.weight",
    (
        ("downsample_layers.{i}.{k}.{p}", "stages.{i}.downsample_layers.{k}.{p}"),
        *_blocks(
            "stages.{i}.layers.{j}.",
            ("depthwise_conv", "layer_norm", "pointwise_conv1", "pointwise_conv2", "gamma", "grn.gamma", "grn.beta"),
        ),
        ("norm.{p}", "layer_norm.{p}"),
    ),
    prefixes=("model.", ""),
    bare="layer_norm.",
)

MMPRETRAIN = Layout(  # open-mmlab/mmpretrain, mmpretrain/models/backbones/convnext.py; also in mmdet and mmseg
    "mmpretrain",
    "stages.0.0.depthwise_conv.weight",
    (
        ("downsample_layers.{i}.{k}.{p}", "downsample_layers.{i}.{k}.{p}"),
        *_blocks(
            "stages.{i}.{j}.",
            ("depthwise_conv", "norm", "pointwise_conv1", "pointwise_conv2", "gamma", "grn.gamma", "grn.beta"),
        ),
        ("norm.{p}", "norm3.{p}"),
        ("head.{p}", "head.fc.{p}"),
    ),
    prefixes=("backbone.", ""),
    bare="head.",
)

_RESNET_BLOCK = (("pwconv1", "conv1", "bn1"), ("dwconv", "conv2", "bn2"), ("pwconv2", "conv3", "bn3"))
TORCHVISION_RESNET = Layout(  # pytorch/vision, torchvision/models/resnet.py; timm's ResNets have the same names
    "torchvision-resnet",
    "layer1.0.conv1.weight",
    (
        ("downsample_layers.0.0.weight", "conv1.weight"),
        ("downsample_layers.0.1.{b}", "bn1.{b}"),
        *(
            rule
            for i in range(4)
            for ours, conv, norm in _RESNET_BLOCK
            for rule in (
                (f"stages.{i}.{{j}}.body.{ours}.weight", f"layer{i + 1}.{{j}}.{conv}.weight"),
                (f"stages.{i}.{{j}}.body.{ours}_norm.{{b}}", f"layer{i + 1}.{{j}}.{norm}.{{b}}"),
            )
        ),
        *((f"stages.{i}.{{j}}.shortcut.{{k}}.{{b}}", f"layer{i + 1}.{{j}}.downsample.{{k}}.{{b}}") for i in range(4)),
        ("head.{p}", "fc.{p}"),
    ),
)

FOREIGN = (TIMM_NORM_FIRST, TORCHVISION, TRANSFORMERS, TRANSFORMERS_DINOV3, MMPRETRAIN, TORCHVISION_RESNET)
"""Every layout but the official one, as it is read: timm's with either of its norms."""


def translate(state: Mapping[str, Tensor], layout: Layout, *, back: bool = False) -> dict[str, Tensor]:
    """A state dict from the official names to `layout`'s, or `back` to the official ones. Shapes are not touched.

    A name that no rule knows is kept: whoever loads the result names it as unexpected.
    """
    return {_renamed(name, layout, back): value for name, value in state.items()}


def _renamed(name: str, layout: Layout, back: bool) -> str:
    if back and not name.startswith(layout.bare):
        name = name.removeprefix(max((p for p in layout.prefixes if name.startswith(p)), key=len, default=""))
    for ours, theirs in layout.rules:
        source, target = (theirs, ours) if back else (ours, theirs)
        if found := _pattern(source).fullmatch(name):
            result = target.format(**found.groupdict())
            return result if back or result.startswith(layout.bare) else layout.prefixes[0] + result
    return name


@cache
def _pattern(template: str) -> re.Pattern[str]:
    expression = re.escape(template).replace(r"\{", "{").replace(r"\}", "}")
    return re.compile(expression.format(**{name: f"(?P<{name}>{group})" for name, group in _GROUPS.items()}))


def layout_of(state: Mapping[str, Tensor]) -> Layout | None:
    """The foreign layout that a state dict is in; None where it has none of the marks."""
    for layout in FOREIGN:
        if any(prefix + layout.mark in state for prefix in layout.prefixes):
            return layout
    return None
