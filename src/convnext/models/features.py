"""A ConvNeXt as a backbone for dense tasks: feature maps of chosen stages, each with a norm of its own or none.

B batch, C channels, H W space. Names are those of the official detection and segmentation checkpoints:
`downsample_layers.*`, `stages.*` and `norm0` .. `norm3` (object_detection/mmdet/models/backbones/convnext.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from convnext.models.convnext import ConvNeXt, run_stages
from convnext.ops.norm import NORMS_2D


class FeatureMaps(nn.Module):
    """Takes over the stem and stages of `model`; its pooling, norm and classifier are left behind.

    Args:
        model: any ConvNeXt; its layers are shared, not copied.
        stages: which stages' maps to return, of 0..3, ascending.
        norm: a new norm of the model's kind (LayerNorm, but for zepto's) on each returned map, as the official dense
            tasks have it; False: maps as they are.

    `channels` and `strides` describe the returned maps, which is all that a head needs to know.

    Raises:
        ValueError: for stages that are not ascending numbers of 0..3.
    """

    def __init__(self, model: ConvNeXt, *, stages: Sequence[int] = (0, 1, 2, 3), norm: bool = True) -> None:
        super().__init__()
        if not stages or list(stages) != sorted(set(stages)) or not set(stages) <= set(range(4)):
            raise ValueError(f"stages are ascending numbers of 0, 1, 2, 3, not {tuple(stages)}.")
        self.wanted = tuple(stages)
        depth = stages[-1] + 1
        self.downsample_layers = model.downsample_layers[:depth]
        self.stages = model.stages[:depth]
        self.channels = [model.size.dims[i] for i in stages]
        self.strides = [model.strides[i] for i in stages]
        for i in stages:
            kind, eps = NORMS_2D[model.size.norm], model.size.norm_eps
            self.add_module(f"norm{i}", kind(model.size.dims[i], eps=eps) if norm else nn.Identity())

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, in_chans, H, W) to one map (B, channels[k], H / strides[k], W / strides[k]) for each wanted stage."""
        maps = run_stages(x, self.downsample_layers, self.stages)
        return [self.get_submodule(f"norm{i}")(maps[i]) for i in self.wanted]
