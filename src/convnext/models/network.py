"""A backbone with heads on it, as the loop and the optimiser see it."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from convnext.core.errors import NotFinite


def check_finite(outputs: Iterable[Tensor]) -> None:
    """Raises NotFinite where one of a network's outputs is not a number: sorted or thresholded, it would look like a
    result. Sums in float32, so that it costs one pass and one wait for the device."""
    if not math.isfinite(float(torch.stack([output.sum(dtype=torch.float32) for output in outputs]).sum())):
        raise NotFinite("The network's outputs are not numbers (NaN or infinity).")


class Network(nn.Module):
    """What detectors and segmenters share: the backbone's blocks, and the depth of every parameter.

    backbone: knows its blocks and depths (`models.features`).
    """

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone

    def block_list(self) -> list[nn.Module]:
        """The backbone's blocks: the units of compilation and activation checkpointing."""
        return cast("Any", self.backbone).block_list()

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        """The depth of every parameter, for layer-wise learning rates: all heads, and the norms of the backbone's maps,
        are one beyond the backbone's last blocks (official layer_decay_optimizer_constructor.py)."""
        backbone = cast("Any", self.backbone)  # of any family
        inner = backbone.depth_ids(blocks_per_group=blocks_per_group)
        deepest = backbone.deepest(blocks_per_group=blocks_per_group)
        return {
            name: inner.get(name.removeprefix("backbone."), deepest) if name.startswith("backbone.") else deepest
            for name, _ in self.named_parameters()
        }


N = TypeVar("N", bound=nn.Module)


def on_meta(network: N) -> N:
    """A copy of a network without values, in evaluation mode."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo).eval()
