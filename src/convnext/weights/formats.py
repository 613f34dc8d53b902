"""What a state dict holds, whoever named its tensors: brought to the official names and shapes.

C channels, k kernel size.

Layouts and aliases are those of the published checkpoints: detection and segmentation files put the model under
`backbone.`, OpenCLIP's hold a text tower too, and V2's pre-trained ones sparse convolutions.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.weights.layouts import layout_of, translate
from convnext.weights.prefixes import INNER

_CLIP_HEADS = {  # OpenCLIP's projection -> timm's classifier
    "visual.head.proj.": "visual.trunk.head.fc.",
    "visual.head.mlp.fc1.": "visual.trunk.head.pre_logits.fc.",
    "visual.head.mlp.fc2.": "visual.trunk.head.fc.",
}
_DECODER = ("decoder.", "mask_token", "proj.", "pred.")  # of a masked autoencoder (official main_finetune.py)
_FLAT = re.compile(r"^(stem|stages)_(\d+)\.")  # timm's features_only
_ALIASES = ("norms.", "projectors.")  # DINOv3: norms.* is norm.* again; timm's files may have projectors


class Official(NamedTuple):
    """A state dict under official names, and where it comes from."""

    state: dict[str, Tensor]
    layout: str
    """official, timm, torchvision, transformers, ...: whose names the file has."""
    left: tuple[str, ...]
    """Tensors of the file that are no part of the image model (a text tower, a decoder, a detector's heads)."""
    norm_first: bool
    """Whether the file says that the norm stands before pooling (timm's convnext_tiny_hnf)."""


def official(given: Mapping[str, Tensor]) -> Official:
    """Brings a state dict of any layout known here to the official names and shapes. Values are not changed."""
    state = {_FLAT.sub(r"\1.\2.", n): value for n, value in given.items() if not n.startswith(_ALIASES)}
    kept, left, source = _image_model(state)
    if source == "openclip":
        kept = _with_clip_head(kept)
    elif source == "fcmae":
        kept = _dense(kept)
    layout, norm_first = layout_of(kept), "norm_pre.weight" in kept
    if layout is not None:
        kept, source = translate(kept, layout, back=True), source or layout.name
    kept = {name: _reshaped(name, value) for name, value in kept.items()}
    return Official(kept, source or "official", left, norm_first)


def _image_model(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], tuple[str, ...], str]:
    """The part of a file that is the image model, the names of the rest, and what sort of file it is ("": neither)."""
    if "visual.trunk.stem.0.weight" in state:
        source, prefix, ours = "openclip", "", {name for name in state if name.startswith("visual.")}
    elif any(name.startswith(_DECODER) for name in state) or any(name.endswith(".kernel") for name in state):
        source, prefix, ours = "fcmae", "encoder.", {name for name in state if not name.startswith(_DECODER)}
    elif (prefix := _of_backbone(state)) is not None:
        norm = re.compile(rf"{prefix}norm[0-3]\.")  # on the four maps: FeatureMaps has them, a classifier does not
        source, ours = "detector", {n for n in state if n.startswith(prefix) and not norm.match(n)}
    elif prefix := _inside(state):
        source, ours = "", {name for name in state if name.startswith(prefix)}
    else:
        return dict(state), (), ""
    kept = {name.removeprefix(prefix): value for name, value in state.items() if name in ours}
    return kept, tuple(name for name in state if name not in ours), source


def _of_backbone(state: Mapping[str, Tensor]) -> str | None:
    """What stands before the official names of a backbone of four maps; None where there is none."""
    known = (
        p for p in ("backbone.", "") if f"{p}downsample_layers.0.0.weight" in state and f"{p}norm0.weight" in state
    )
    return next(known, None)


def _inside(state: Mapping[str, Tensor]) -> str:
    """The prefix of a model in a larger one, where names as they are belong to no layout; else empty."""
    if "downsample_layers.0.0.weight" in state or "stem.weight" in state or layout_of(state) is not None:
        return ""
    for prefix in INNER:
        inner = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        if "downsample_layers.0.0.weight" in inner or layout_of(inner) is not None:
            return prefix
    return ""


def _with_clip_head(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's projection as a classifier without bias: that is, with a bias of zero."""
    renamed = {}
    for name, value in state.items():
        head = next((prefix for prefix in _CLIP_HEADS if name.startswith(prefix)), "")
        renamed[_CLIP_HEADS[head] + name.removeprefix(head) if head else name] = value
    weight = renamed.get("visual.trunk.head.fc.weight")
    if weight is not None:
        renamed.setdefault("visual.trunk.head.fc.bias", torch.zeros(weight.shape[0]))
    return renamed


def _dense(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """V2's sparse encoder as a dense one (official utils.py, remap_checkpoint_keys): kernels (k*k, C) depthwise or
    (k*k, C_in, C_out) become filters, column by column; the components `ln` and `linear` of names are dropped."""
    dense = {}
    for name, value in state.items():
        name = name.replace(".ln.", ".").replace(".linear.", ".")
        if name.endswith(".kernel") and value.ndim in (2, 3):  # any other is left to be named as unexpected
            name = name.removesuffix("kernel") + "weight"
            value = _filters(value if value.ndim == 3 else value.unsqueeze(1))
        elif name.endswith(".bias"):
            value = value.reshape(-1)
        dense[name] = _reshaped(name, value)
    return dense


def _filters(kernel: Tensor) -> Tensor:
    """(k*k, C_in, C_out), the places column by column, to (C_out, C_in, k, k)."""
    side = math.isqrt(kernel.shape[0])
    if side * side != kernel.shape[0]:
        return kernel  # of no known shape: it will be named as misshapen
    return kernel.permute(2, 1, 0).unflatten(2, (side, side)).transpose(3, 2)


def _reshaped(name: str, value: Tensor) -> Tensor:
    """The official shape of a tensor: some libraries have 1x1 convolutions for linear layers, or (C, 1, 1) scales."""
    linear = name.endswith((".pwconv1.weight", ".pwconv2.weight")) and ".body." not in name  # ResNet's are convolutions
    if linear and value.ndim == 4 and value.shape[2:] == (1, 1):
        return value.flatten(1)
    if name.endswith((".grn.gamma", ".grn.beta")):
        return value.reshape(1, 1, 1, -1)
    if name.endswith(".gamma") and value.ndim == 3 and value.shape[1:] == (1, 1):
        return value.reshape(-1)
    return value


def check_keys(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    """Raises UserError naming the first unexpected, missing or misshapen tensors, if any."""
    problems = [f"unexpected {name}" for name in given if name not in expected]
    problems += [f"missing {name}" for name in expected if name not in given]
    problems += [
        f"{name} has shape {tuple(given[name].shape)}, not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in given and given[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise UserError(f"{where} does not fit the model: {'; '.join(problems[:4])}{more}.")
