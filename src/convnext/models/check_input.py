"""Sentences for images that a model cannot take, before torch fails inside it. B batch, C channels, H W space."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import Proxy


def check_images(x: Tensor, in_chans: int, min_side: int) -> None:
    """Refuses what is not a batch of images: float (B, in_chans, H, W), H and W of at least `min_side` pixels.

    Looks at the shape and type alone, never at values. While a model is compiled, exported or traced, nothing is
    checked: the check is no part of the graph.

    Raises:
        TypeError: for what is no tensor, or a tensor of whole numbers.
        ValueError: for another number of dimensions or channels, channels in the last place, or too small an image.
    """
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or isinstance(x, Proxy):
        return
    if not isinstance(x, Tensor):
        raise TypeError(f"The model takes a float tensor (B, {in_chans}, H, W), not a {type(x).__name__}.")
    shape = tuple(x.shape)
    if x.ndim == 4 and shape[1] == in_chans and x.is_floating_point() and min(shape[2:]) >= min_side:
        return
    wanted = f"The model takes a batch of images (B, {in_chans}, H, W), not {shape}"
    if x.ndim == 3:
        raise ValueError(f"{wanted}: x.unsqueeze(0) makes a batch of one image.")
    if x.ndim != 4:
        raise ValueError(f"{wanted}.")
    if shape[1] != in_chans and shape[3] == in_chans:
        raise ValueError(f"{wanted}: channels come before height and width; x.permute(0, 3, 1, 2) puts them there.")
    if shape[1] != in_chans:
        raise ValueError(f"{wanted}: it was built for {in_chans} channels; build it with in_chans={shape[1]}.")
    if not x.is_floating_point():
        raise TypeError(
            f"The model takes normalised images of floating type, not {x.dtype}: "
            "divide by 255, subtract the mean and divide by the standard deviation first."
        )
    raise ValueError(
        f"The model takes images of at least {min_side} x {min_side} pixels, not {shape[2]} x {shape[3]}: "
        "enlarge them, or build it with a smaller stem_stride where it has one."
    )
