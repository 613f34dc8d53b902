"""ResNet (arXiv 1512.03385), and every network between it and ConvNeXt (arXiv 2201.03545, section 2).

B batch, C channels, H W space, K classes. Activations are (B, C, H, W) in channels_last memory from stem to head.
Layers bear ConvNeXt's names: `downsample_layers.0` is the stem, in a block `pwconv1` and `pwconv2` are the 1x1
convolutions and `dwconv` the spatial one, though it is depthwise in later networks only.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import Literal, cast

from torch import Tensor, nn

from convnext.models.check_input import check_images
from convnext.models.classifier import FeatureInfo, ImageClassifier, stage_info
from convnext.models.convnext import run_stages
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
from convnext.ops.depthwise import DepthwiseConv2d
from convnext.ops.norm import LayerNorm2d

_NORMS = {"batch": nn.BatchNorm2d, "layer": LayerNorm2d}


@dataclass(frozen=True)
class Design:
    """What makes one network of the family differ from another. The defaults are ResNet-50's."""

    depths: tuple[int, ...] = (3, 4, 6, 3)
    width: int = 64
    """Channels of the stem and of the first stage's narrow layers; they double from stage to stage."""
    patchify: bool = False
    """The stem is a convolution over patches that do not overlap; else 7x7 and max pooling."""
    depthwise: bool = False
    """The spatial convolution takes each channel for itself."""
    inverted: bool = False
    """A block's ends are narrow and its middle wide; else the other way about."""
    spatial_first: bool = False
    """The spatial convolution comes before both 1x1 convolutions; else between them."""
    kernel_size: int = 3
    act: Literal["relu", "gelu"] = "relu"
    every_act: bool = True
    """An activation after each convolution and each sum; else one in a block, between the 1x1 convolutions."""
    every_norm: bool = True
    """A norm after each convolution; else one in a block, after the spatial convolution."""
    norm: Literal["batch", "layer"] = "batch"
    num_classes: int = 1000

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each stage's narrow layers."""
        return tuple(self.width * 2**i for i in range(len(self.depths)))

    @property
    def dims(self) -> tuple[int, ...]:
        """Channels of each stage's maps."""
        return tuple(width if self.inverted else 4 * width for width in self.widths)

    def resized(self, *, depths: tuple[int, ...] | None, dims: tuple[int, ...] | None) -> Design:
        """This design with what is given in place of its own. Raises ValueError for dims that are not of this kind."""
        if dims is None:
            return replace(self, depths=depths or self.depths)
        factor = 1 if self.inverted else 4
        sized = replace(self, depths=depths or self.depths, width=dims[0] // factor if dims else 0)
        if sized.width < 1 or sized.dims != dims:
            multiple = "" if factor == 1 else f" are a multiple of {factor} that"
            raise ValueError(f"A ResNet's dims{multiple or ''} double from stage to stage, not {dims}.")
        return sized


CONFIGS = {  # arXiv 1512.03385, Table 1; ResNet-200: arXiv 1603.05027, here with the same blocks as the others
    "resnet50": Design(),
    "resnet101": Design((3, 4, 23, 3)),
    "resnet152": Design((3, 8, 36, 3)),
    "resnet200": Design((3, 24, 36, 3)),
}


class ResidualBlock(nn.Module):
    """Two 1x1 convolutions and a spatial one, which has the stride, in the design's order; plus input.

    (B, C, H, W) to (B, dim, H / stride, W / stride), rounded up. Where shapes differ, the input goes through a 1x1
    convolution of that stride, with a norm (torchvision's "v1.5" ResNet has the stride in the same place).
    """

    def __init__(self, design: Design, channels: int, width: int, *, stride: int = 1, drop_path: float = 0.0) -> None:
        super().__init__()
        dim, middle = (width, 4 * width) if design.inverted else (4 * width, width)
        norm, kernel = _NORMS[design.norm], design.kernel_size
        spatial = channels if design.spatial_first else middle
        padding = kernel // 2
        convolutions = {
            "pwconv1": nn.Conv2d(channels, middle, 1, bias=False),
            "dwconv": DepthwiseConv2d(spatial, kernel, stride=stride, padding=padding, bias=False)
            if design.depthwise
            else nn.Conv2d(spatial, spatial, kernel, stride=stride, padding=padding, bias=False),
            "pwconv2": nn.Conv2d(middle, dim, 1, bias=False),
        }
        order = ("dwconv", "pwconv1", "pwconv2") if design.spatial_first else ("pwconv1", "dwconv", "pwconv2")
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        for name in order:
            layers[name] = convolutions[name]
            if design.every_norm or name == "dwconv":
                layers[f"{name}_norm"] = norm(convolutions[name].out_channels)
            if name == "pwconv1" or (design.every_act and name == "dwconv"):
                layers[f"{name}_act"] = _act(design)
        self.body = nn.Sequential(layers)
        self.drop_path = DropPath(drop_path)
        self.shortcut: nn.Module = nn.Identity()
        if (stride, channels) != (1, dim):
            self.shortcut = nn.Sequential(nn.Conv2d(channels, dim, 1, stride=stride, bias=False), norm(dim))
        self.act = _act(design) if design.every_act else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.shortcut(x) + self.drop_path(self.body(x)))


class ResNet(ImageClassifier):
    """A stem, four stages of blocks of which the first shrinks the map, mean pooling and a linear classifier.

    Args:
        design: see `CONFIGS`, `create.roadmap_step`, or make your own.
        in_chans: channels of the image.
        num_classes: outputs; 0 gives the pooled features. None: the design's own (1000).
        drop_path_rate: stochastic depth of the last block, rising linearly from 0.
        head_init_scale: factor on the classifier's initial weights.
        stem_stride: 4 as published; 2 or 1 for small images.

    Weights begin as ConvNeXt's do, whatever the design: one change at a time.

    Raises:
        ValueError: for a stride or kernel size that is not offered, or depths that are not four.
    """

    def __init__(
        self,
        design: Design,
        *,
        in_chans: int = 3,
        num_classes: int | None = None,
        drop_path_rate: float = 0.0,
        head_init_scale: float = 1.0,
        stem_stride: int = 4,
    ) -> None:
        super().__init__()
        if len(design.depths) != 4 or design.kernel_size % 2 == 0 or stem_stride not in (1, 2, 4):
            raise ValueError(
                "A ResNet has four stages, odd filters and a stem stride of 1, 2 or 4, not "
                f"{design.depths}, {design.kernel_size}, {stem_stride}."
            )
        self.design, self.in_chans = design, in_chans
        self.depths, self.dims = design.depths, design.dims
        self.strides = [stem_stride * 2**i for i in range(4)]
        self.num_classes = design.num_classes if num_classes is None else num_classes
        self.num_features = design.dims[-1]
        self.head_init_scale = head_init_scale
        rates = iter(drop_path_rates(drop_path_rate, sum(design.depths)))
        build_stem = _patches if design.patchify else _overlapping
        stem = build_stem(design, in_chans, stem_stride)
        # The blocks shrink the maps: nothing stands between the stages yet.
        self.downsample_layers = nn.ModuleList([stem, nn.Identity(), nn.Identity(), nn.Identity()])
        self.stages = nn.ModuleList()
        channels = design.width
        for i, (depth, width, dim) in enumerate(zip(design.depths, design.widths, design.dims, strict=True)):
            blocks = []
            for j in range(depth):
                stride = 2 if i > 0 and j == 0 else 1
                blocks.append(ResidualBlock(design, channels, width, stride=stride, drop_path=next(rates)))
                channels = dim
            self.stages.append(nn.Sequential(*blocks))
        self.head: nn.Module = nn.Linear(self.num_features, self.num_classes) if self.num_classes else nn.Identity()
        self.init_weights()

    def init_weights(self, *, std: float = INIT_STD) -> None:
        """Initialises every parameter and running statistic: see `init_model`."""
        init_model(self, (), self.head, std=std, head_scale=self.head_init_scale)

    def block_list(self) -> list[ResidualBlock]:
        """Every block, first to last: the units of compilation and activation checkpointing."""
        return [cast("ResidualBlock", block) for stage in self.stages for block in stage.children()]

    def forward_maps(self, x: Tensor) -> list[Tensor]:
        """The maps after each stage: (B, in_chans, H, W) to four of (B, dims[i], H / strides[i], W / strides[i]).

        Odd sizes round up, but for the patches of a patchify stem.
        """
        check_images(x, self.in_chans, self.min_side())
        return run_stages(x, self.downsample_layers, self.stages)

    def forward_features(self, x: Tensor) -> Tensor:
        """The last map: (B, in_chans, H, W) to (B, dims[-1], H / strides[-1], W / strides[-1])."""
        return self.forward_maps(x)[-1]

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        """What `forward_features` gives to logits (B, K); with `pre_logits` to pooled features (B, num_features)."""
        x = mean_pool(x)
        return x if pre_logits else self.head(x)

    def _intermediates(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        maps = self.forward_maps(x)
        return maps[-1], maps

    @property
    def feature_info(self) -> FeatureInfo:
        """Channels, stride and name of each stage's map."""
        return stage_info(self.dims, self.strides, [f"stages.{i}" for i in range(4)])

    def min_side(self, stage: int = -1) -> int:
        """The smallest side of an image, in pixels: a patch; a stem that overlaps and the stages round up."""
        return self.strides[0] if self.design.patchify else 1

    @property
    def depth_plan(self) -> DepthPlan:
        """Prefixes of parameter names from the stem to the last block."""
        return ("downsample_layers.0.",), [
            ((), [f"stages.{i}.{j}." for j in range(depth)]) for i, depth in enumerate(self.depths)
        ]

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        """The depth of every parameter, for layer-wise learning rates, by the same rule as ConvNeXt's."""
        return depths_by_name(self, depth_groups(*self.depth_plan, blocks_per_group=blocks_per_group))


def _act(design: Design) -> nn.Module:
    return nn.ReLU(inplace=True) if design.act == "relu" else nn.GELU()


def _overlapping(design: Design, in_chans: int, stride: int) -> nn.Sequential:
    """ResNet's stem: a 7x7 convolution and 3x3 max pooling, of stride 2 each where the whole has stride 4."""
    return nn.Sequential(
        nn.Conv2d(in_chans, design.width, 7, stride=max(stride // 2, 1), padding=3, bias=False),
        _NORMS[design.norm](design.width),
        _act(design),
        nn.MaxPool2d(3, stride=min(stride, 2), padding=1),
    )


def _patches(design: Design, in_chans: int, stride: int) -> nn.Sequential:
    """The paper's stem (section 2.3); at stride 1 a patch would be one pixel without neighbours: there it is 3x3.

    Multiply-accumulates do not tell whether an activation follows it; here one does, as after ResNet's stem, until
    activations become fewer.
    """
    kernel, padding = (3, 1) if stride == 1 else (stride, 0)
    conv = nn.Conv2d(in_chans, design.width, kernel, stride=stride, padding=padding, bias=False)
    act = [_act(design)] if design.every_act else []
    return nn.Sequential(conv, _NORMS[design.norm](design.width), *act)
