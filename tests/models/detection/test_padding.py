"""Pictures of a batch are padded with zeros: a detector from random weights must have a gradient all the same.

Zeros in and zero biases leave zeros at every norm, whose gradient is largest there. B batch, H W space.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from convnext.models import backbone as backbone_module
from convnext.models.config import ModelConfig, dense_backbone
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import mask_rcnn
from convnext.ops.instances import Instances

CANVAS, CONFIGS = (128, 160), [(128, 160), (64, 96)]  # the second picture fills less than a third
BACKBONES = {
    "v1": dense_backbone("convnext_atto"),
    "v1 without layer scale": ModelConfig("convnext_atto", layer_scale_init_value=0.0),
    "v2": dense_backbone("convnextv2_atto"),
    "swin": dense_backbone("swin_tiny"),
}


def objects(size: tuple[int, int], *boxes: tuple[int, int, int, int]) -> Instances:
    masks = torch.zeros(len(boxes), *size, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances(torch.tensor(boxes).float(), torch.arange(len(boxes)), masks)


def gradient_norm(backbone: ModelConfig) -> float:
    """Of a fresh detector's losses on a padded batch."""
    torch.manual_seed(0)
    config = mask_rcnn(backbone, num_classes=3)
    roi = replace(config.roi, width=16, samples=32, mask_convs=1)
    model = build_detector(replace(config, width=16, roi=roi))
    images = torch.zeros(2, 3, *CANVAS)
    for image, (height, width) in zip(images, CONFIGS, strict=True):
        image[:, :height, :width] = torch.randn(3, height, width)
    targets = [objects(CONFIGS[0], (10, 10, 60, 70), (30, 20, 100, 90)), objects(CONFIGS[1], (5, 5, 40, 40))]
    losses = model(images, CONFIGS, targets=targets)
    torch.stack(list(losses.values())).sum().backward()
    return nn.utils.clip_grad_norm_(model.parameters(), float("inf")).item()


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)
def test_the_gradient_of_a_padded_batch_is_of_usual_size(backbone: ModelConfig) -> None:
    assert 0.1 < gradient_norm(backbone) < 1e4


@pytest.mark.parametrize("backbone", [BACKBONES["v1"], BACKBONES["v2"]], ids=["v1", "v2"])
def test_it_would_not_be_without_the_stems_random_biases(
    backbone: ModelConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: it is about `_randomise_stem_bias`, nothing else."""
    monkeypatch.setattr(backbone_module, "_randomise_stem_bias", lambda model: None)
    norm = gradient_norm(backbone)
    assert not norm < 1e5
