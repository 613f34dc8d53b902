"""A model as a backbone for dense tasks: feature maps of chosen stages, each with a norm of its own or none.

B batch, C channels, H W space. Names are those of the official detection and segmentation checkpoints:
`downsample_layers.*`, `stages.*` and `norm0` .. `norm3` (object_detection/mmdet/models/backbones/convnext.py). Swin's
layers keep torchvision's names beside such norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from torch import Tensor, nn

from convnext.models.baselines import Swin, run_swin
from convnext.models.check_input import check_images
from convnext.models.classifier import FeatureInfo
from convnext.models.convnext import ConvNeXt, run_stages
from convnext.models.layers import depth_groups, depths_by_name
from convnext.models.resnet import ResNet
from convnext.ops.norm import NORMS_2D, LayerNorm2d

Staged = ConvNeXt | ResNet | Swin
"""Models of four stages."""


class FeatureMaps(nn.Module):
    """Takes over the stem and stages of `model`; its pooling, norm and classifier are left behind.

    Args:
        model: any model of four stages; its layers are shared, not copied.
        stages: which stages' maps to return, of 0..3, ascending.
        norm: a new norm of the model's kind (LayerNorm, but for zepto's) on each returned map, as the official dense
            tasks have it for ConvNeXt and Swin; False: maps as they are, as they have it for ResNet.

    `channels` and `strides` describe the returned maps, which is all that a head needs to know; `feature_info` says the
    same as timm's feature extractors do.

    Raises:
        ValueError: for stages that are not ascending numbers of 0..3.
    """

    def __init__(self, model: Staged, *, stages: Sequence[int] = (0, 1, 2, 3), norm: bool = True) -> None:
        super().__init__()
        if not stages or list(stages) != sorted(set(stages)) or not set(stages) <= set(range(4)):
            raise ValueError(f"stages are ascending numbers of 0, 1, 2, 3, not {tuple(stages)}.")
        self.wanted = tuple(stages)
        depth = stages[-1] + 1
        self.is_swin = isinstance(model, Swin)
        if isinstance(model, Swin):
            self.features = model.features[: 2 * depth]
        else:
            self.downsample_layers, self.stages = model.downsample_layers[:depth], model.stages[:depth]
        self.channels = [model.dims[i] for i in stages]
        self.strides = [model.strides[i] for i in stages]
        self.feature_info = FeatureInfo(model.feature_info[i] for i in stages)
        self.in_chans, self.min_side = model.in_chans, model.min_side(depth - 1)
        self._depth_plan = model.depth_plan
        for i in stages:
            self.add_module(f"norm{i}", _norm(model, model.dims[i]) if norm else nn.Identity())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) to one map (B, channels[k], H / strides[k], W / strides[k]) for each wanted stage."""
        check_images(x, self.in_chans, self.min_side)
        maps = run_swin(x, self.features) if self.is_swin else run_stages(x, self.downsample_layers, self.stages)
        return [self.get_submodule(f"norm{i}")(maps[i]) for i in self.wanted]

    def block_list(self) -> list[nn.Module]:
        """Every block, first to last: the units of compilation and activation checkpointing."""
        stages = self.features[1::2] if self.is_swin else self.stages
        return [block for stage in stages for block in cast("nn.ModuleList", stage)]

    def deepest(self, *, blocks_per_group: int = 3) -> int:
        """The depth of whatever stands behind the last blocks: the maps' norms, and heads."""
        return len(depth_groups(*self._depth_plan, blocks_per_group=blocks_per_group))

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]:
        """The depth of every parameter, as the whole model has it; the maps' norms are one beyond the last blocks."""
        return depths_by_name(self, depth_groups(*self._depth_plan, blocks_per_group=blocks_per_group))


def _norm(model: Staged, dim: int) -> nn.Module:
    if isinstance(model, ConvNeXt):
        return NORMS_2D[model.size.norm](dim, eps=model.size.norm_eps)
    return LayerNorm2d(dim, eps=1e-5)  # torch's, as in Swin's own layers
