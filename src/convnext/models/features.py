"""A model as a backbone for dense tasks: feature maps of chosen stages, each with a norm of its own or none.

B batch, C channels, H W space. Names are those of the official detection and segmentation checkpoints:
`downsample_layers.*`, `stages.*` and `norm0` .. `norm3` (object_detection/mmdet/models/backbones/convnext.py). Swin's
layers keep torchvision's names beside such norms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from convnext.core.errors import UserError
from convnext.models.baselines import Swin, run_swin
from convnext.models.config import ModelConfig
from convnext.models.convnext import ConvNeXt, run_stages
from convnext.models.create import from_config
from convnext.models.layers import depth_groups, depths_by_name
from convnext.models.resnet import ResNet
from convnext.ops.norm import NORMS_2D, LayerNorm2d

Staged = ConvNeXt | ResNet | Swin
_BIAS_STD = 0.1


class FeatureMaps(nn.Module):
    """Takes over the stem and stages of `model`; its pooling, norm and classifier are left behind.

    Args:
        model: any model of four stages; its layers are shared, not copied.
        stages: which stages' maps to return, of 0..3, ascending.
        norm: a new norm of the model's kind (LayerNorm, but for zepto's) on each returned map, as the official dense
            tasks have it for ConvNeXt and Swin; False: maps as they are, as they have it for ResNet.

    `channels` and `strides` describe the returned maps, which is all that a head needs to know.

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
        self._depth_plan = model.depth_plan
        for i in stages:
            self.add_module(f"norm{i}", _norm(model, model.dims[i]) if norm else nn.Identity())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) to one map (B, channels[k], H / strides[k], W / strides[k]) for each wanted stage."""
        maps = run_swin(x, self.features) if self.is_swin else run_stages(x, self.downsample_layers, self.stages)
        return [self.get_submodule(f"norm{i}")(maps[i]) for i in self.wanted]

    def block_list(self) -> list[nn.Module]:
        """Every block, first to last: the units of compilation and activation checkpointing."""
        stages = self.features[1::2] if self.is_swin else self.stages
        return [block for stage in stages for block in stage]  # type: ignore[union-attr]

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


def build_maps(config: ModelConfig) -> FeatureMaps:
    """The backbone that a `ModelConfig` names, with fresh weights: four maps, normalised but for ResNet's.

    Raises UserError as `create_model` does, and for models without four maps.
    """
    model = from_config(replace(config, num_classes=0))
    if not isinstance(model, Staged):
        raise UserError(f"{config.name} has no four maps; detectors take a ConvNeXt, a ResNet or a Swin.")
    if not isinstance(model, ResNet):
        _colour_padding(model)
    return FeatureMaps(model, norm=not isinstance(model, ResNet))


@torch.no_grad()
def _colour_padding(model: ConvNeXt | Swin) -> None:
    """Lets the stem's biases begin at random.

    Pictures of a batch are padded with zeros. Where every bias is zero too, nothing but zeros reaches the norms there,
    whose gradient is then 1 / sqrt(eps), a thousand, at each of them in turn: it overflows before the stem.
    """
    stem = model.features[0] if isinstance(model, Swin) else model.downsample_layers[0]
    for layer in stem.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.bias, std=_BIAS_STD)
