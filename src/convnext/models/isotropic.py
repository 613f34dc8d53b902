"""Isotropic ConvNeXt (arXiv 2201.03545, section 3.3 and Table 2): ConvNeXt blocks in a ViT's shape.

B batch, C channels, H W space. One patchify convolution (16x16 as published) without a norm, then blocks at one
resolution.
Parameters have the names of the official checkpoints (models/convnext_isotropic.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn

from convnext.models.check_input import check_images
from convnext.models.classifier import FeatureInfo, ImageClassifier, stage_info
from convnext.models.convnext import Block
from convnext.models.layers import INIT_STD, depth_groups, depths_by_name, drop_path_rates, init_model, mean_pool
from convnext.ops.low_precision import Conv2d
from convnext.ops.norm import LayerNorm


@dataclass(frozen=True)
class IsotropicSize:
    """What makes one isotropic ConvNeXt differ from another."""

    depth: int
    dim: int
    layer_scale_init_value: float = 0.0  # S and B train without layer scale (paper A.1); L keeps 1e-6 (TRAINING.md)
    num_classes: int = 1000
    patch: int = 16

    def resized(
        self, *, depths: tuple[int, ...] | None, dims: tuple[int, ...] | None, patch: int | None
    ) -> IsotropicSize:
        """This size with what is given in place of its own."""
        (depth,), (dim,) = depths or (self.depth,), dims or (self.dim,)
        return replace(self, depth=depth, dim=dim, patch=patch or self.patch)


CONFIGS = {
    "convnext_isotropic_small": IsotropicSize(18, 384),
    "convnext_isotropic_base": IsotropicSize(18, 768),
    "convnext_isotropic_large": IsotropicSize(36, 1024, layer_scale_init_value=1e-6),
}


class IsotropicConvNeXt(ImageClassifier):
    """Isotropic ConvNeXt: (B, in_chans, H, W) to logits (B, K), or to features (B, dim) where num_classes is 0.

    Args:
        size: depth and dim; see `CONFIGS`.
        in_chans: channels of the image.
        num_classes: outputs; 0 gives the pooled, normalised features. None: the size's own (1000).
        drop_path_rate: stochastic depth of the last block (paper A.1: S 0.1, B 0.2, L 0.5).
        layer_scale_init_value: initial layer scale, 0 for none; None: the size's own.
        head_init_scale: factor on the classifier's initial weights.
    """

    def __init__(
        self,
        size: IsotropicSize,
        *,
        in_chans: int = 3,
        num_classes: int | None = None,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float | None = None,
        head_init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        self.size, self.in_chans = size, in_chans
        self.depths, self.dims = (size.depth,), (size.dim,)
        self.num_classes = size.num_classes if num_classes is None else num_classes
        self.num_features = size.dim
        self.head_init_scale = head_init_scale
        self.strides = [size.patch]
        scale = size.layer_scale_init_value if layer_scale_init_value is None else layer_scale_init_value
        self.stem = Conv2d(in_chans, size.dim, kernel_size=size.patch, stride=size.patch)
        rates = drop_path_rates(drop_path_rate, size.depth)
        self.blocks = nn.Sequential(*(Block(size.dim, drop_path=rate, layer_scale_init_value=scale) for rate in rates))
        self.norm = LayerNorm(size.dim)
        self.head: nn.Module = nn.Linear(size.dim, self.num_classes) if self.num_classes else nn.Identity()
        self.init_weights()

    def init_weights(self, *, std: float = INIT_STD) -> None:
        """Initialises every parameter: see `init_model`."""
        init_model(self, self.block_list(), self.head, std=std, head_scale=self.head_init_scale)

    def block_list(self) -> list[Block]:
        """Every block, first to last: the units of compilation and activation checkpointing."""
        return cast("list[Block]", list(self.blocks))

    def _patches(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to (B, dim, H / patch, W / patch), channels_last."""
        check_images(x, self.in_chans, self.min_side())
        x = self.stem(x.contiguous(memory_format=torch.channels_last))
        # A one-channel image has no layout of its own to hand on; without a norm, the stem has none either.
        return x.contiguous(memory_format=torch.channels_last)

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """The one map there is: (B, in_chans, H, W) to [(B, dim, H / patch, W / patch)]."""
        return [self.blocks(self._patches(x))]

    def forward_features(self, x: Tensor) -> Tensor:
        """The map after the last block, not normalised: (B, in_chans, H, W) to (B, dim, H / patch, W / patch)."""
        return self.blocks(self._patches(x))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gives to logits (B, K); with `pre_logits` to pooled features (B, dim)."""
        x = self.norm(mean_pool(x))
        return x if pre_logits else self.head(x)

    def _intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        x, maps = self._patches(x), []
        for block in self.blocks:
            x = block(x)
            maps.append(x)
        return x, maps

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels, stride and name of each block's map."""
        count = self.size.depth
        return stage_info([self.size.dim] * count, [self.size.patch] * count, [f"blocks.{j}" for j in range(count)])

    def min_side(self, stage: int = -1) -> int:
        """The smallest side of an image, in pixels: one patch."""
        return self.size.patch

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        """The depth of every parameter, for layer-wise learning rates: see `depth_groups`."""
        blocks = [f"blocks.{j}." for j in range(self.size.depth)]
        return depths_by_name(self, depth_groups(("stem.",), [((), blocks)], blocks_per_group=blocks_per_group))
