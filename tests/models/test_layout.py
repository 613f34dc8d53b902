"""Activations stay channels_last from stem to head, and none is copied on the way. B batch, C channels, H W space."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from kinds import (
    CLIP,
    DINOV3,
    ISOTROPIC,
    ISOTROPIC_SCALED,
    NORM_FIRST,
    OVERLAP,
    V1,
    V2,
    ZEPTO,
    block_outputs,
    build,
    image,
    randomise,
)
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from convnext.models.features import FeatureMaps

KINDS = {
    "v1": V1,
    "v2": V2,
    "clip": CLIP,
    "dinov3": DINOV3,
    "overlap": OVERLAP,
    "zepto": ZEPTO,
    "norm_first": NORM_FIRST,
    "isotropic": ISOTROPIC,
    "isotropic_scaled": ISOTROPIC_SCALED,
}

COPIES = ("clone", "copy", "contiguous", "_to_copy", "cat", "stack", "constant_pad_nd")


def is_channels_last(x: Tensor) -> bool:
    """Whether (B, C, H, W) is (B, H, W, C) in memory, without gaps; strictly, unlike torch's own test."""
    _, c, h, w = x.shape
    return x.stride() == (h * w * c, 1, w * c, c)


class CopyWatch(TorchDispatchMode):
    """Lists every operation that copies an activation, and every one that is given a layout it must copy inside."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[str] = []
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.__name__.split(".")[0]
        self.seen.append(name)
        result = func(*args, **(kwargs or {}))
        given = [x for x in args if isinstance(x, Tensor) and x.ndim == 4 and x.shape[2] * x.shape[3] > 1]
        if name in COPIES and args[0].numel() > 1:
            self.copies.append(f"{name} of {tuple(args[0].shape)}")
        if name == "convolution" and not (is_channels_last(args[0]) and is_channels_last(result)):
            self.copies.append(f"{name} of strides {args[0].stride()} to {result.stride()}")
        if name in ("native_layer_norm", "linalg_vector_norm") and not args[0].is_contiguous():
            self.copies.append(f"{name} of strides {args[0].stride()}")
        if name in ("add", "mul") and len({x.stride() for x in given if x.shape == given[0].shape}) > 1:
            self.copies.append(f"{name} of strides {[x.stride() for x in given]}")
        if name in ("view", "_unsafe_view", "reshape") and result.data_ptr() != args[0].data_ptr():
            self.copies.append(f"{name} of {tuple(args[0].shape)}")
        return result


def watched(model: nn.Module, x: Tensor) -> CopyWatch:
    with torch.no_grad(), CopyWatch() as watch:
        model(x)
    return watch


@pytest.mark.parametrize("kind", KINDS)
def test_every_block_keeps_channels_last(kind):
    for channels in (1, 3, 4):
        model = build(KINDS[kind], in_chans=channels)
        x = image(2, channels, 96, 64)
        for given in (x, x.contiguous(memory_format=torch.channels_last), x.transpose(2, 3)):
            outputs = block_outputs(model, given)
            assert len(outputs) == len(model.block_list())
            assert all(is_channels_last(y) for y in outputs), [y.stride() for y in outputs]
            assert all(is_channels_last(y) for y in model.forward_maps(given))


@pytest.mark.parametrize("kind", KINDS)
def test_training_keeps_channels_last(kind):
    """Drop path and backward too: the gradient of every block's output is channels_last, as its output is."""
    model = randomise(build(KINDS[kind], drop_path_rate=0.2)).train()
    outputs: list[Tensor] = []
    gradients: list[Tensor] = []

    def watch(_module: nn.Module, _given: Any, output: Tensor) -> None:
        outputs.append(output)
        output.register_hook(gradients.append)

    for block in model.block_list():
        block.register_forward_hook(watch)
    model(image(2, 3, 64, 96)).square().sum().backward()
    assert len(outputs) == len(gradients) == len(model.block_list())
    assert all(is_channels_last(y) for y in outputs)
    assert all(is_channels_last(gradient) for gradient in gradients), [g.stride() for g in gradients]


@pytest.mark.parametrize("kind", KINDS)
def test_no_copies_in_evaluation(kind):
    x = image(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    watch = watched(build(KINDS[kind]), x)
    assert watch.copies == []
    norm = "linalg_vector_norm" if kind == "zepto" else "native_layer_norm"
    assert {"convolution", norm, "gelu", "addmm", "add", "mean"} <= set(watch.seen)  # it does watch


@pytest.mark.parametrize("kind", ["v1", "zepto", "isotropic"])
def test_one_copy_of_another_layout(kind):
    """An image that is not channels_last is brought to it once, and nothing else is copied."""
    assert len(watched(build(KINDS[kind]), image(2, 3, 64, 96)).copies) == 1


@pytest.mark.parametrize("size", [V1, ZEPTO])
def test_no_copies_for_feature_maps(size):
    x = image(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    backbone = FeatureMaps(build(size)).eval()  # type: ignore[arg-type]
    assert watched(backbone, x).copies == []
    with torch.no_grad():
        assert all(is_channels_last(y) for y in backbone(x))


class _Careless(nn.Module):
    """A block as it might be written: its output is (B, C, H, W) in memory."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x).contiguous()


def test_the_watch_sees_copies():
    model = build(V1)
    model.stages[0][0] = _Careless(model.stages[0][0])  # type: ignore[index]
    x = image(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    copies = watched(model, x).copies
    assert any("clone" in text for text in copies)
    assert any("convolution of strides" in text for text in copies)  # the next block's
