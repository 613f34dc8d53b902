"""Following the shapes of a network without its values."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import nn

N = TypeVar("N", bound=nn.Module)


def on_meta(network: N) -> N:
    """A copy of a network without values, in evaluation mode."""
    memo: dict[int, Any] = {}
    for parameter in network.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
    for buffer in network.buffers():
        memo[id(buffer)] = torch.empty_like(buffer, device="meta")
    return copy.deepcopy(network, memo).eval()
