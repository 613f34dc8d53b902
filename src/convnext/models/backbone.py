"""The backbone of a detector or segmenter from its configuration. B batch, C channels, H W space."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import nn

from convnext.core.errors import UserError, nearest
from convnext.models import baselines, convnext, resnet, roadmap
from convnext.models.baselines import Swin
from convnext.models.config import ModelConfig
from convnext.models.convnext import ConvNeXt
from convnext.models.create import from_config
from convnext.models.features import FeatureMaps, Staged
from convnext.models.resnet import ResNet

BACKBONE_NAMES = (*convnext.CONFIGS, *resnet.CONFIGS, *baselines.SWIN_CONFIGS)
"""Models of four maps, but for the steps of the roadmap."""

_BIAS_STD = 0.1


def build_backbone(config: ModelConfig) -> FeatureMaps:
    """The backbone that a `ModelConfig` names, newly initialised: four maps, normalised but for ResNet's.

    Raises UserError as `create_model` does, and for models without four maps.
    """
    model = from_config(replace(config, num_classes=0))
    if not isinstance(model, Staged):
        raise UserError(
            f"{config.name} has no four maps; detectors and segmenters take a ConvNeXt, a ResNet or a Swin."
        )
    if not isinstance(model, ResNet):
        _randomise_stem_bias(model)
    return FeatureMaps(model, norm=not isinstance(model, ResNet))


@torch.no_grad()
def _randomise_stem_bias(model: ConvNeXt | Swin) -> None:
    """Initialises the biases of the stem at random.

    Images of a batch are padded with zeros. Where every bias is zero too, nothing but zeros reaches the norms there,
    whose gradient is then 1 / sqrt(eps), a thousand, at each of them in turn: it overflows before the stem.
    """
    stem = model.features[0] if isinstance(model, Swin) else model.downsample_layers[0]
    for layer in stem.modules():
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            nn.init.normal_(layer.bias, std=_BIAS_STD)


def check_network_name(name: str, heads: Iterable[str], *, what: str) -> None:
    """Raises UserError, with the nearest names, unless `name` is one of `heads`, an underscore and a backbone's name.

    what: "detector" or "segmenter", for the message.
    """
    heads = list(heads)
    names = [f"{head}_{backbone}" for head in heads for backbone in (*BACKBONE_NAMES, *roadmap.MODEL_NAMES)]
    if name not in names:
        raise UserError(
            f"There is no {what} '{name}'.{nearest(name, names)} Its name is that of its head ({', '.join(heads)}), an "
            "underscore, and that of its backbone, as convnext_tiny; `convnext models` lists backbones."
        )
