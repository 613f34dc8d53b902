"""What the paper compares ConvNeXt with beside ResNet: Swin (arXiv 2103.14030) and ViT (2010.11929), torchvision's.

B batch, C channels, H W space, N tokens, K classes. Layers and their names are torchvision's (ViT's classifier is
`head`, as in every model here); these classes give them the interface of the other models. A DeiT without distillation
(arXiv 2012.12877) is a ViT. torchvision is imported when one is built.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.models.check_input import check_images
from convnext.models.classifier import FeatureInfo, ImageClassifier, stage_info
from convnext.models.layers import (
    INIT_STD,
    DepthPlan,
    DropPath,
    depth_groups,
    depths_by_name,
    drop_path_rates,
    init_model,
    mean_pool,
)


def _heads(dim: int, usual: int) -> int:
    """Heads of attention of `usual` channels each, of half as many where the dim is no multiple of that."""
    return dim // (usual if dim % usual == 0 else usual // 2)


@dataclass(frozen=True)
class SwinSize:
    """What makes one Swin differ from another."""

    depths: tuple[int, ...]
    width: int
    """Channels of the first stage; they double from stage to stage, as do heads of 32 channels each (in reduced ones
    of 16)."""
    num_classes: int = 1000
    patch: int = 4
    window: int = 7

    def resized(
        self, *, depths: tuple[int, ...] | None, dims: tuple[int, ...] | None, patch: int | None, window: int | None
    ) -> SwinSize:
        """This size with what is given in place of its own. Raises ValueError for dims that are no Swin's."""
        depths, width = depths or self.depths, self.width
        if dims is not None:
            width = dims[0] if dims else 0
            if width < 1 or width % 16 or dims != tuple(width * 2**i for i in range(len(depths))):
                raise ValueError(f"A Swin's dims are a multiple of 16 that doubles from stage to stage, not {dims}.")
        if len(depths) != 4:
            raise ValueError(f"A Swin has four stages; depths={depths} does not.")
        return replace(self, depths=depths, width=width, patch=patch or self.patch, window=window or self.window)


@dataclass(frozen=True)
class ViTSize:
    """What makes one ViT differ from another."""

    depth: int
    dim: int
    heads: int
    num_classes: int = 1000
    patch: int = 16
    pixels: int = 224
    """Side of the images that positions are learned for."""

    def resized(
        self, *, depths: tuple[int, ...] | None, dims: tuple[int, ...] | None, patch: int | None, pixels: int | None
    ) -> ViTSize:
        """This size with what is given in place of its own; heads of 64 channels, or of 32 where dim needs it.

        Raises ValueError for what no ViT has.
        """
        (depth,), (dim,) = depths or (self.depth,), dims or (self.dim,)
        if dim % 32:
            raise ValueError(f"A ViT's dim is a multiple of 32, not {dim}.")
        heads = self.heads if dims is None else _heads(dim, 64)
        size = replace(self, depth=depth, dim=dim, heads=heads, patch=patch or self.patch, pixels=pixels or self.pixels)
        if size.pixels % size.patch:
            raise ValueError(f"img_size is a multiple of the patch's {size.patch} pixels, not {size.pixels}.")
        return size


SWIN_CONFIGS = {  # arXiv 2103.14030, section 3.3
    "swin_tiny": SwinSize((2, 2, 6, 2), 96),
    "swin_small": SwinSize((2, 2, 18, 2), 96),
    "swin_base": SwinSize((2, 2, 18, 2), 128),
    "swin_large": SwinSize((2, 2, 18, 2), 192),
}
VIT_CONFIGS = {  # arXiv 2012.12877, Table 1 (S, B); 2010.11929, Table 1 (B, L)
    "vit_small": ViTSize(12, 384, 6),
    "vit_base": ViTSize(12, 768, 12),
    "vit_large": ViTSize(24, 1024, 16),
}


class Swin(ImageClassifier):
    """Swin: patches, four stages of windowed attention, norm, mean pooling, a linear classifier.

    Args:
        size: see `SWIN_CONFIGS`.
        in_chans: channels of the image.
        num_classes: outputs; 0 gives the pooled, normalised features. None: the size's own (1000).
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.
        head_init_scale: factor on the classifier's initial weights.
    """

    def __init__(
        self,
        size: SwinSize,
        *,
        in_chans: int = 3,
        num_classes: int | None = None,
        drop_path_rate: float = 0.0,
        head_init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        from torchvision.models.swin_transformer import SwinTransformer

        self.size, self.in_chans = size, in_chans
        self.depths, self.dims = size.depths, tuple(size.width * 2**i for i in range(len(size.depths)))
        self.strides = [size.patch * 2**i for i in range(len(size.depths))]
        self.num_classes = size.num_classes if num_classes is None else num_classes
        self.num_features = self.dims[-1]
        self.head_init_scale = head_init_scale
        heads = [_heads(size.width, 32) * 2**i for i in range(len(size.depths))]
        patch, window = [size.patch] * 2, [size.window] * 2
        theirs = SwinTransformer(patch, size.width, list(size.depths), heads, window, stochastic_depth_prob=0.0)
        self.features, self.norm = theirs.features, theirs.norm
        if in_chans != 3:
            self.features[0][0] = nn.Conv2d(in_chans, size.width, size.patch, stride=size.patch)  # type: ignore[index]
        for block, rate in zip(self.block_list(), drop_path_rates(drop_path_rate, sum(size.depths)), strict=True):
            block.stochastic_depth = DropPath(rate)  # torchvision's own does the same with other random numbers
        self.head: nn.Module = nn.Linear(self.num_features, self.num_classes) if self.num_classes else nn.Identity()
        self.init_weights()

    def init_weights(self, *, std: float = INIT_STD) -> None:
        """Initialises every parameter and index: see `init_model`; position biases as weights (official code)."""
        init_model(self, (), self.head, std=std, head_scale=self.head_init_scale)
        for block in self.block_list():
            table = block.attn.relative_position_bias_table
            nn.init.trunc_normal_(table, std=std)
            block.attn.define_relative_position_index()
            block.attn.relative_position_index = block.attn.relative_position_index.to(table.device)

    def block_list(self) -> list[Any]:
        """Every block, first to last: the units of compilation and activation checkpointing."""
        return [block for i in range(len(self.depths)) for block in self.features[2 * i + 1].children()]

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """The maps after each stage: (B, in_chans, H, W) to four of (B, dims[i], H / strides[i], W / strides[i]).

        Not normalised; odd sizes round up after the first.
        """
        check_images(x, self.in_chans, self.min_side())
        return run_swin(x, self.features)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map, normalised: (B, in_chans, H, W) to (B, num_features, H / 32, W / 32)."""
        return self._normed(self.forward_maps(x)[-1])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gives to logits (B, K); with `pre_logits` to pooled features (B, num_features)."""
        x = mean_pool(x)
        return x if pre_logits else self.head(x)

    def _normed(self, x: Tensor) -> Tensor:
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, H, W, C), for the norm over channels

    def _intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = self.forward_maps(x)
        return self._normed(maps[-1]), maps

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels, stride and name of each stage's map; the module's own output is (B, H, W, C)."""
        return stage_info(self.dims, self.strides, [f"features.{2 * i + 1}" for i in range(len(self.dims))])

    def min_side(self, stage: int = -1) -> int:
        """The smallest side of an image, in pixels: a patch; later layers round up."""
        return self.strides[0]

    @property
    def depth_plan(self) -> DepthPlan:
        """Prefixes of parameter names from the stem to the last block."""
        return ("features.0.",), [
            ([f"features.{2 * i}."] if i > 0 else [], [f"features.{2 * i + 1}.{j}." for j in range(depth)])
            for i, depth in enumerate(self.depths)
        ]

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        """The depth of every parameter, for layer-wise learning rates: see `depth_groups`."""
        return depths_by_name(self, depth_groups(*self.depth_plan, blocks_per_group=blocks_per_group))


def run_swin(x: Tensor, features: nn.Sequential) -> list[Tensor]:
    """The maps after each stage of Swin's `features`: a layer that shrinks the map and the blocks behind it in turn."""
    maps = []
    x = x.contiguous(memory_format=torch.channels_last)
    for i in range(0, len(features), 2):
        x = features[i + 1](features[i](x))
        maps.append(x.permute(0, 3, 1, 2))  # (B, H, W, C) -> (B, C, H, W): a view, channels_last as elsewhere
    return maps


class ViT(ImageClassifier):
    """ViT: patches with learned positions and a class token, blocks of attention, norm, a linear classifier.

    Positions are learned for images of one size, 224 pixels as published, and interpolated for others (arXiv
    2010.11929, section 3.2). Args as for `Swin`.
    """

    def __init__(
        self,
        size: ViTSize,
        *,
        in_chans: int = 3,
        num_classes: int | None = None,
        drop_path_rate: float = 0.0,
        head_init_scale: float = 1.0,
    ) -> None:
        super().__init__()
        from torchvision.models.vision_transformer import VisionTransformer

        self.size, self.in_chans = size, in_chans
        self.depths, self.dims, self.strides = (size.depth,), (size.dim,), [size.patch]
        self.num_classes = size.num_classes if num_classes is None else num_classes
        self.num_features = size.dim
        self.head_init_scale = head_init_scale
        theirs = VisionTransformer(size.pixels, size.patch, size.depth, size.heads, size.dim, 4 * size.dim)
        self.conv_proj, self.class_token, self.encoder = theirs.conv_proj, theirs.class_token, theirs.encoder
        if in_chans != 3:
            self.conv_proj = nn.Conv2d(in_chans, size.dim, size.patch, stride=size.patch)
        for block, rate in zip(self.block_list(), drop_path_rates(drop_path_rate, size.depth), strict=True):
            # torchvision's ViT drops no paths: the two places at a branch's end have a dropout of 0.
            block.dropout = block.mlp[-1] = DropPath(rate)  # type: ignore[index, operator]
        self.head: nn.Module = nn.Linear(size.dim, self.num_classes) if self.num_classes else nn.Identity()
        self.init_weights()

    def init_weights(self, *, std: float = INIT_STD) -> None:
        """Initialises every parameter: see `init_model`; positions and class token as weights (DeiT's code)."""
        init_model(self, (), self.head, std=std, head_scale=self.head_init_scale)
        for block in self.block_list():
            nn.init.trunc_normal_(block.self_attention.in_proj_weight, std=std)
            nn.init.zeros_(block.self_attention.in_proj_bias)
        for value in (self.encoder.pos_embedding, self.class_token):
            nn.init.trunc_normal_(value, std=std)

    def block_list(self) -> list[Any]:
        """Every block, first to last: the units of compilation and activation checkpointing."""
        return list(self.encoder.layers.children())

    def _embedded(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) to the class token and, row by row, those of the patches: (B, 1 + N, C)."""
        check_images(x, self.in_chans, self.min_side())
        x = self.conv_proj(x)
        tokens = x.flatten(2).transpose(1, 2)  # (B, C, H, W) -> (B, N, C)
        tokens = torch.cat([self.class_token.expand(x.shape[0], -1, -1), tokens], dim=1)
        return tokens + self._positions(x.shape[2], x.shape[3])

    def _positions(self, height: int, width: int) -> Tensor:
        """The positions of that many patches, (1, 1 + height * width, C)."""
        learned, side = self.encoder.pos_embedding, self.size.pixels // self.size.patch
        if (height, width) == (side, side):
            return learned
        grid = learned[:, 1:].unflatten(1, (side, side)).permute(0, 3, 1, 2)  # (1, N, C) -> (1, C, side, side)
        grid = F.interpolate(grid.float(), size=(height, width), mode="bicubic", antialias=True).to(learned.dtype)
        return torch.cat([learned[:, :1], grid.flatten(2).transpose(1, 2)], dim=1)

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """The one map there is, without the class token: (B, in_chans, H, W) to [(B, dim, H / patch, W / patch)]."""
        return [self._unflattened(self.encoder.layers(self._embedded(x)), x)]

    def forward_features(self, x: Tensor) -> Tensor:
        """The normalised tokens, the class token first: (B, in_chans, H, W) to (B, 1 + N, num_features)."""
        return self.encoder.ln(self.encoder.layers(self._embedded(x)))

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gives to logits (B, K); with `pre_logits` to the class token (B, num_features)."""
        x = x[:, 0]
        return x if pre_logits else self.head(x)

    def _intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        tokens, maps = self._embedded(x), []
        for block in self.block_list():
            tokens = block(tokens)
            maps.append(self._unflattened(tokens, x))
        return self.encoder.ln(tokens), maps

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels, stride and name of each block's map; the module's own output is tokens (B, 1 + N, C)."""
        names = [f"encoder.layers.encoder_layer_{j}" for j in range(self.size.depth)]
        return stage_info([self.size.dim] * len(names), [self.size.patch] * len(names), names)

    def min_side(self, stage: int = -1) -> int:
        """The smallest side of an image, in pixels: one patch."""
        return self.size.patch

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        """The depth of every parameter, for layer-wise learning rates: see `depth_groups`."""
        stem = ("conv_proj.", "class_token", "encoder.pos_embedding")
        blocks = [f"encoder.layers.encoder_layer_{j}." for j in range(self.size.depth)]
        return depths_by_name(self, depth_groups(stem, [((), blocks)], blocks_per_group=blocks_per_group))

    def _unflattened(self, tokens: Tensor, x: Tensor) -> Tensor:
        """The tokens (B, 1 + N, C) of images x as a map (B, C, H / patch, W / patch), without the class token."""
        height, width = x.shape[2] // self.size.patch, x.shape[3] // self.size.patch
        return tokens[:, 1:].unflatten(1, (height, width)).permute(0, 3, 1, 2)  # (B, N, C) -> (B, C, H, W): a view
