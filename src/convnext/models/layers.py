"""Stochastic depth, pooling and the initialisation that all models here share. B batch, C channels, H W space."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from convnext.ops.grn import GRN
from convnext.ops.norm import SimpleNorm, SimpleNorm2d


class DropPath(nn.Module):
    """Stochastic depth (arXiv 1603.09382): drops a sample's whole branch with probability `rate` while training.

    The branches that stay are scaled by 1 / (1 - rate), so that the expectation is unchanged.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"A drop path rate lies in [0, 1), not {rate}.")
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or self.rate == 0.0:
            return x
        keep = 1.0 - self.rate
        shape = (x.shape[0],) + (1,) * (x.ndim - 1)
        # Drawn in the branch's own type, so that a bf16 branch stays bf16.
        return x * x.new_empty(shape).bernoulli_(keep).div_(keep)

    def extra_repr(self) -> str:
        return f"rate={self.rate:.3f}"


def drop_path_rates(rate: float, depth: int) -> list[float]:
    """The rate of each of `depth` blocks: linear from 0 to `rate` (official `main.py`)."""
    return [rate * i / max(depth - 1, 1) for i in range(depth)]


def mean_pool(x: Tensor) -> Tensor:
    """The mean over space of channels_last maps: (B, C, H, W) to (B, C)."""
    # Taken over (B, H, W, C): the gradient of mean((-2, -1)) would be laid out (B, C, H, W), and the layers of the last
    # stage would copy it.
    return x.permute(0, 2, 3, 1).mean((1, 2))


INIT_STD = 0.02  # the official code's; the paper's Table 5 prints 0.2, a misprint that its authors confirmed


@torch.no_grad()
def init_weights(module: nn.Module, *, std: float = INIT_STD) -> None:
    """Initialises one layer, every parameter of it: use as `model.apply(init_weights)`.

    Weights of convolutions and linear layers: truncated normal of that standard deviation, biases 0; norms 1 and 0;
    GRN 0. A BatchNorm's running statistics are forgotten.
    """
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.trunc_normal_(module.weight, std=std)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.LayerNorm):
        nn.init.ones_(module.weight)
        nn.init.zeros_(module.bias)
    elif isinstance(module, (SimpleNorm, SimpleNorm2d)):
        nn.init.ones_(module.weight)
    elif isinstance(module, nn.BatchNorm2d):
        module.reset_parameters()
    elif isinstance(module, GRN):
        nn.init.zeros_(module.gamma)
        nn.init.zeros_(module.beta)


@torch.no_grad()
def init_head(head: nn.Module, *, scale: float) -> None:
    """Initialises a classifier (or the Identity that stands for none), its values times `scale`."""
    init_weights(head)
    if isinstance(head, nn.Linear):
        head.weight.mul_(scale)
        head.bias.mul_(scale)


class HasLayerScale(Protocol):
    """A block, which knows the initial value of its layer scale."""

    def init_layer_scale(self) -> None: ...


def init_model(
    model: nn.Module, blocks: Iterable[HasLayerScale], head: nn.Module, *, std: float, head_scale: float
) -> None:
    """Initialises every parameter; `std` is that of all weights but the classifier's, which keep 0.02.

    0.02 suits the published widths. Narrow models learn faster from more: 64 channels or so from 0.08.
    """
    model.apply(partial(init_weights, std=std))
    for block in blocks:
        block.init_layer_scale()
    init_head(head, scale=head_scale)


Stages = Iterable[tuple[Sequence[str], Sequence[str]]]
"""For each stage, the prefixes of the layers in front of its blocks, and of its blocks."""


DepthPlan = tuple[Sequence[str], Stages]
"""The prefixes of the stem's parameters, and the stages."""


def depth_groups(stem: Sequence[str], stages: Stages, *, blocks_per_group: int) -> list[list[str]]:
    """Which prefixes of parameter names share a learning rate where that depends on depth: the shallowest first.

    Groups of 3 blocks are the paper's rule ("every 3 consecutive blocks form a group", section A.2; official
    optim_factory.py), here for any depths: the stem first, layers between stages with the group after them. Groups of 1
    are V2's "single" rule, where the stem shares the first block's depth and depth 0 is empty. Groups of 0 stand for
    whole stages, the segmenters' "stage_wise" rule: stem and layers between stages first, then each stage, and what
    comes behind as far off as groups of 3 have it (official layer_decay_optimizer_constructor.py).
    """
    if blocks_per_group == 0:
        between = [layer for before, _ in stages for layer in before]
        groups = [[*stem, *between], *(list(blocks) for _, blocks in stages)]
        behind = len(depth_groups(stem, stages, blocks_per_group=3))
        return groups + [[] for _ in range(behind - len(groups))]
    groups = [list(stem)]
    for before, blocks in stages:
        parts = [list(blocks[i : i + blocks_per_group]) for i in range(0, len(blocks), blocks_per_group)]
        parts[0] = [*before, *parts[0]]
        groups += parts
    if blocks_per_group == 1:
        groups[:2] = [[], groups[0] + groups[1]]
    return groups


def depths_by_name(model: nn.Module, groups: Sequence[Sequence[str]]) -> dict[str, int]:
    """The depth of every parameter: the number of the group that has its prefix, or one beyond (norm, classifier)."""
    depths = {prefix: depth for depth, group in enumerate(groups) for prefix in group}
    return {
        name: next((depth for prefix, depth in depths.items() if name.startswith(prefix)), len(groups))
        for name, _ in model.named_parameters()
    }
