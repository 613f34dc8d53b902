"""ConvNeXt (arXiv 2201.03545) and ConvNeXt V2 (arXiv 2301.00808).

B batch, C channels, H W space, K classes. Activations are (B, C, H, W) in channels_last memory from stem to head: seen
as (B, H, W, C) they are contiguous, so that norms and linear layers need no copy.

Parameters have the names of the official checkpoints (facebookresearch/ConvNeXt, models/convnext.py); the layers of
timm's stems, which have no official name, are numbered in their order: `downsample_layers.0.0`, `.1`, ...
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple, cast

import torch
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
from convnext.models.stem import StemKind, build_stem
from convnext.ops.depthwise import DepthwiseConv2d
from convnext.ops.grn import GRN
from convnext.ops.low_precision import Conv2d, Linear
from convnext.ops.norm import NORMS, NORMS_2D, LayerNorm, NormOf


@dataclass(frozen=True)
class ConvNeXtConfig:
    """What makes one ConvNeXt differ from another."""

    depths: tuple[int, ...]
    dims: tuple[int, ...]
    layer_scale_init_value: float = 1e-6  # 0: none
    use_grn: bool = False  # V2
    kernel_size: int = 7  # of the depthwise convolutions (paper section 2.5)
    stem: StemKind = "patch"
    norm: Literal["layer", "simple"] = "layer"
    norm_eps: float = 1e-6
    head_norm_first: bool = False  # the norm on the last map, before pooling, not after
    head_hidden: int = 0  # CLIP's large_mlp: a hidden layer in front of the classifier
    num_classes: int = 1000


def _v2(depths: tuple[int, ...], dims: tuple[int, ...]) -> ConvNeXtConfig:
    return ConvNeXtConfig(depths, dims, layer_scale_init_value=0.0, use_grn=True)


def _dinov3(depths: tuple[int, ...], dims: tuple[int, ...]) -> ConvNeXtConfig:
    return ConvNeXtConfig(depths, dims, num_classes=0)


CONFIGS = {
    # small ones of timm, after the V2 paper's
    "convnext_atto": ConvNeXtConfig((2, 2, 6, 2), (40, 80, 160, 320)),
    "convnext_femto": ConvNeXtConfig((2, 2, 6, 2), (48, 96, 192, 384)),
    "convnext_pico": ConvNeXtConfig((2, 2, 6, 2), (64, 128, 256, 512)),
    "convnext_nano": ConvNeXtConfig((2, 2, 8, 2), (80, 160, 320, 640)),
    # paper, section 3 (page 9 of the arXiv version)
    "convnext_tiny": ConvNeXtConfig((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnext_small": ConvNeXtConfig((3, 3, 27, 3), (96, 192, 384, 768)),
    "convnext_base": ConvNeXtConfig((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnext_large": ConvNeXtConfig((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnext_xlarge": ConvNeXtConfig((3, 3, 27, 3), (256, 512, 1024, 2048)),
    # timm's other stems (ols: overlapping), norms (rms, which are its SimpleNorm) and head (hnf: norm before pooling)
    "convnext_zepto_rms": ConvNeXtConfig((2, 2, 4, 2), (32, 64, 128, 256), norm="simple"),
    "convnext_zepto_rms_ols": ConvNeXtConfig((2, 2, 4, 2), (32, 64, 128, 256), stem="overlap_act", norm="simple"),
    "convnext_atto_ols": ConvNeXtConfig((2, 2, 6, 2), (40, 80, 160, 320), stem="overlap_tiered"),
    "convnext_femto_ols": ConvNeXtConfig((2, 2, 6, 2), (48, 96, 192, 384), stem="overlap_tiered"),
    "convnext_pico_ols": ConvNeXtConfig((2, 2, 6, 2), (64, 128, 256, 512), stem="overlap_tiered"),
    "convnext_nano_ols": ConvNeXtConfig((2, 2, 8, 2), (80, 160, 320, 640), stem="overlap"),
    "convnext_tiny_hnf": ConvNeXtConfig((3, 3, 9, 3), (96, 192, 384, 768), head_norm_first=True),
    # OpenCLIP's image towers
    "convnext_large_mlp": ConvNeXtConfig((3, 3, 27, 3), (192, 384, 768, 1536), head_hidden=1536),
    "convnext_xxlarge": ConvNeXtConfig((3, 4, 30, 3), (384, 768, 1536, 3072), norm_eps=1e-5),
    # V2 paper, appendix A.1
    "convnextv2_atto": _v2((2, 2, 6, 2), (40, 80, 160, 320)),
    "convnextv2_femto": _v2((2, 2, 6, 2), (48, 96, 192, 384)),
    "convnextv2_pico": _v2((2, 2, 6, 2), (64, 128, 256, 512)),
    "convnextv2_nano": _v2((2, 2, 8, 2), (80, 160, 320, 640)),
    "convnextv2_tiny": _v2((3, 3, 9, 3), (96, 192, 384, 768)),
    "convnextv2_base": _v2((3, 3, 27, 3), (128, 256, 512, 1024)),
    "convnextv2_large": _v2((3, 3, 27, 3), (192, 384, 768, 1536)),
    "convnextv2_huge": _v2((3, 3, 27, 3), (352, 704, 1408, 2816)),
    # DINOv3 backbones (facebookresearch/dinov3): ConvNeXt without a classifier, used through `forward_tokens`
    "dinov3_convnext_tiny": _dinov3((3, 3, 9, 3), (96, 192, 384, 768)),
    "dinov3_convnext_small": _dinov3((3, 3, 27, 3), (96, 192, 384, 768)),
    "dinov3_convnext_base": _dinov3((3, 3, 27, 3), (128, 256, 512, 1024)),
    "dinov3_convnext_large": _dinov3((3, 3, 27, 3), (192, 384, 768, 1536)),
}


class Block(nn.Module):
    """dwconv 7x7 -> LN -> linear C to 4C -> GELU -> (GRN) -> linear 4C to C -> layer scale -> drop path, plus input.

    Paper section 2.6 and Figure 4; V2's GRN takes the place of the layer scale. (B, C, H, W) to the same shape.
    """

    def __init__(
        self,
        dim: int,
        *,
        drop_path: float = 0.0,
        layer_scale_init_value: float = 1e-6,
        use_grn: bool = False,
        kernel_size: int = 7,
        dilation: int = 1,
        norm: NormOf = LayerNorm,
    ) -> None:
        super().__init__()
        padding = kernel_size // 2 * dilation
        self.dwconv = DepthwiseConv2d(dim, kernel_size, padding=padding, dilation=dilation)
        self.norm = norm(dim)
        self.pwconv1 = Linear(dim, 4 * dim)
        self.act = nn.GELU()
        self.grn = GRN(4 * dim) if use_grn else nn.Identity()
        self.pwconv2 = Linear(4 * dim, dim)
        self.layer_scale_init_value = layer_scale_init_value
        self.gamma = nn.Parameter(torch.empty(dim)) if layer_scale_init_value > 0 else None
        self.drop_path = DropPath(drop_path)
        self.init_layer_scale()

    @torch.no_grad()
    def init_layer_scale(self) -> None:
        """Sets the layer scale to its initial value."""
        if self.gamma is not None:
            self.gamma.fill_(self.layer_scale_init_value)

    def forward(self, x: Tensor, visible: Tensor | None = None) -> Tensor:
        """With `visible`, places (B, V) of H * W, all other places are masked: zero in `x` and in the result, as in a
        sparse convolution. What mixes channels is then computed at the visible places alone."""
        shortcut = x
        x = self.dwconv(x)
        x = x.permute(0, 2, 3, 1)  # (B, C, H, W) -> (B, H, W, C): a view, for norm and linear layers over channels
        shape = x.shape
        if visible is not None:
            x = taken(x, visible)
        x = self.norm(x)
        x = self.pwconv1(x)
        x = self.act(x)
        x = self.grn(x)
        x = self.pwconv2(x)
        if self.gamma is not None:
            x = self.gamma * x
        if visible is not None:
            x = put_back(x, visible, shape)
        x = x.permute(0, 3, 1, 2)  # back to (B, C, H, W), channels_last as it came
        return shortcut + self.drop_path(x)


def taken(x: Tensor, places: Tensor) -> Tensor:
    """Some places of a map, in a row: (B, H, W, C) and (B, V) to (B, 1, V, C)."""
    return x.flatten(1, 2).gather(1, places.unsqueeze(-1).expand(-1, -1, x.shape[-1])).unsqueeze(1)


def put_back(x: Tensor, places: Tensor, shape: torch.Size) -> Tensor:
    """The reverse of `taken`: a map of that shape, zero at all other places."""
    zeros = x.new_zeros(shape[0], shape[1] * shape[2], shape[3])
    return zeros.scatter(1, places.unsqueeze(-1).expand(-1, -1, shape[3]), x.squeeze(1)).view(shape)


class ConvNeXt(ImageClassifier):
    """ConvNeXt V1 or V2: a stem, four stages of blocks, mean pooling, norm and a linear classifier.

    Args:
        size: depths, dims and the version; see `CONFIGS`, or make your own.
        in_chans: channels of the image.
        num_classes: outputs; 0 gives the pooled, normalised features. None: the size's own (1000; DINOv3: 0).
        drop_path_rate: stochastic depth of the last block, rising linearly from 0 (paper Table 5).
        layer_scale_init_value: initial layer scale, 0 for none; None: the size's own (V1: 1e-6, V2: none).
        head_init_scale: factor on the classifier's initial weights (0.001 for fine-tuning, paper Table 6).
        stem_stride: 4 as published; 2 or 1 for small images (see `build_stem`).
        output_stride: 8, 16 or 32: no stage shrinks beyond it; it dilates its convolutions instead.

    Raises:
        ValueError: for a stride, stem or kernel size that is not offered, or depths and dims that are not four each.
    """

    def __init__(
        self,
        size: ConvNeXtConfig,
        *,
        in_chans: int = 3,
        num_classes: int | None = None,
        drop_path_rate: float = 0.0,
        layer_scale_init_value: float | None = None,
        head_init_scale: float = 1.0,
        stem_stride: int = 4,
        output_stride: int = 32,
    ) -> None:
        super().__init__()
        if len(size.depths) != 4 or len(size.dims) != 4:
            raise ValueError(f"A ConvNeXt has four stages; depths={size.depths}, dims={size.dims} do not.")
        if size.kernel_size % 2 == 0 or size.kernel_size < 1:
            raise ValueError(f"kernel_size is odd, as 3, 5, 7, 9 or 11, not {size.kernel_size}.")
        if stem_stride not in (1, 2, 4) or output_stride not in (8, 16, 32):
            raise ValueError(
                f"stem_stride is 1, 2 or 4 and output_stride 8, 16 or 32, not {stem_stride}, {output_stride}."
            )
        self.size, self.in_chans = size, in_chans
        self.depths, self.dims = size.depths, size.dims
        self.num_classes = size.num_classes if num_classes is None else num_classes
        self.head_init_scale = head_init_scale
        scale = size.layer_scale_init_value if layer_scale_init_value is None else layer_scale_init_value
        rates = iter(drop_path_rates(drop_path_rate, sum(size.depths)))
        steps = _plan_stages(stem_stride, output_stride)
        self.strides = [step.stride for step in steps]
        norm = partial(NORMS[size.norm], eps=size.norm_eps)
        norm_2d = partial(NORMS_2D[size.norm], eps=size.norm_eps)

        stem = build_stem(size.stem, in_chans, size.dims[0], stride=stem_stride, norm=norm_2d)
        self.downsample_layers = nn.ModuleList([stem])
        self.stages = nn.ModuleList()
        for i, (depth, dim, step) in enumerate(zip(size.depths, size.dims, steps, strict=True)):
            if i > 0:
                self.downsample_layers.append(_downsample(size.dims[i - 1], dim, step, norm_2d))
            blocks = [
                Block(
                    dim,
                    drop_path=next(rates),
                    layer_scale_init_value=scale,
                    use_grn=size.use_grn,
                    kernel_size=size.kernel_size,
                    dilation=step.dilation,
                    norm=norm,
                )
                for _ in range(depth)
            ]
            self.stages.append(nn.Sequential(*blocks))

        self.norm = norm(size.dims[-1])
        self.pre_logits: nn.Module = nn.Identity()
        if size.head_hidden:
            self.pre_logits = nn.Sequential(OrderedDict(fc=nn.Linear(size.dims[-1], size.head_hidden), act=nn.GELU()))
        self.num_features = size.head_hidden or size.dims[-1]
        self.head: nn.Module = nn.Linear(self.num_features, self.num_classes) if self.num_classes else nn.Identity()
        self.init_weights()

    def init_weights(self, *, std: float = INIT_STD) -> None:
        """Initialises every parameter: see `init_model`."""
        init_model(self, self.block_list(), self.head, std=std, head_scale=self.head_init_scale)

    def block_list(self) -> list[Block]:
        """Every block, first to last: the units of compilation and activation checkpointing."""
        return [cast("Block", block) for stage in self.stages for block in stage.children()]

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """The maps after each stage: (B, in_chans, H, W) to four of (B, dims[i], H / strides[i], W / strides[i]).

        Odd sizes round down, in overlapping stems up.
        """
        check_images(x, self.in_chans, self.min_side())
        return run_stages(x, self.downsample_layers, self.stages)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map: (B, in_chans, H, W) to (B, dims[-1], H / strides[-1], W / strides[-1]).

        Not normalised, but where the norm comes before pooling (`head_norm_first`).
        """
        return self._norm_first(self.forward_maps(x)[-1])

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gives to logits (B, K); with `pre_logits` to pooled features (B, num_features)."""
        x = self.pre_logits(self._pool(x))
        return x if pre_logits else self.head(x)

    def forward_tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """DINOv3's outputs: the pooled features (B, C) and the normalised last map as tokens (B, H * W, C)."""
        x = self.forward_maps(x)[-1]
        patches = x.permute(0, 2, 3, 1).flatten(1, 2)  # (B, C, H, W) -> (B, H * W, C): a view of channels_last memory
        return self._pool(self._norm_first(x)), self.norm(patches)

    def _norm_first(self, x: Tensor) -> Tensor:
        """The last map (B, C, H, W), normalised where the norm comes before pooling."""
        if not self.size.head_norm_first:
            return x
        return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, H, W, C), a view, for the norm over channels

    def _pool(self, x: Tensor) -> Tensor:
        """The mean over space, normalised where the norm comes after pooling: (B, C, H, W) to (B, C)."""
        return mean_pool(x) if self.size.head_norm_first else self.norm(mean_pool(x))

    def _intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = self.forward_maps(x)
        return self._norm_first(maps[-1]), maps

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels, stride and name of each stage's map."""
        return stage_info(self.dims, self.strides, [f"stages.{i}" for i in range(4)])

    def min_side(self, stage: int = -1) -> int:
        """The smallest side of an image, in pixels, that leaves one of the stage's map: sizes round down, in an
        overlapping stem up."""
        return self.strides[stage] - (0 if self.size.stem == "patch" else self.strides[0] - 1)

    @property
    def depth_plan(self) -> DepthPlan:
        """Prefixes of parameter names from the stem to the last block."""
        return ("downsample_layers.0.",), [
            ([f"downsample_layers.{i}."] if i > 0 else [], [f"stages.{i}.{j}." for j in range(depth)])
            for i, depth in enumerate(self.depths)
        ]

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        """The depth of every parameter, for layer-wise learning rates: see `depth_groups`."""
        return depths_by_name(self, depth_groups(*self.depth_plan, blocks_per_group=blocks_per_group))


def run_stages(x: Tensor, downsample_layers: nn.ModuleList, stages: nn.ModuleList) -> list[Tensor]:
    """The maps after each stage. The one place where the layout is set: channels_last, from here to the head."""
    x = x.contiguous(memory_format=torch.channels_last)
    maps = []
    for downsample, stage in zip(downsample_layers, stages, strict=True):
        x = stage(downsample(x))
        maps.append(x)
    return maps


class _Step(NamedTuple):
    """How one stage begins: the stride of its maps, whether it shrinks them, and the dilations before and within it."""

    stride: int
    shrink: bool
    dilation_before: int
    dilation: int


def _plan_stages(stem_stride: int, output_stride: int) -> list[_Step]:
    steps = [_Step(stem_stride, False, 1, 1)]
    for _ in range(3):
        stride, dilation = steps[-1].stride, steps[-1].dilation
        shrink = stride * 2 <= output_stride
        steps.append(_Step(stride * 2 if shrink else stride, shrink, dilation, dilation if shrink else dilation * 2))
    return steps


def _downsample(dim: int, out: int, step: _Step, norm: NormOf) -> nn.Sequential:
    """Norm and a 2x2 convolution of stride 2; where the map keeps its size: stride 1, dilated, padded to that size."""
    if step.shrink:
        return nn.Sequential(norm(dim), Conv2d(dim, out, kernel_size=2, stride=2))
    # As padding="same" would, which warns where the two sides differ. The names stay those of the shrinking layer.
    before = step.dilation_before // 2
    after = step.dilation_before - before
    pad = nn.ZeroPad2d((before, after, before, after))
    conv = Conv2d(dim, out, kernel_size=2, dilation=step.dilation_before)
    return nn.Sequential(OrderedDict([("0", norm(dim)), ("pad", pad), ("1", conv)]))
