"""UPerNet's heads and loss. B images, C channels, H W space, K classes."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from convnext.models.backbone import build_backbone
from convnext.models.config import ModelConfig
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.models.segmentation.upernet import FCNHead, UPerHead, init_segmentation_head
from convnext.ops.losses import IGNORE_INDEX, pixel_cross_entropy


def make(name: str = "convnext_atto") -> EncoderDecoder:
    torch.manual_seed(0)
    backbone = build_backbone(ModelConfig(name, depths=(1, 1, 1, 1), dims=(8, 16, 32, 64)))
    heads = UPerHead(backbone.channels, 5, width=16), FCNHead(backbone.channels[-2], 5, width=8)
    return EncoderDecoder(backbone, *heads, num_classes=5)


def test_the_loss_by_hand():
    """Two pixels of class 0 and 1 and two of none; the logits of each pixel are (1, 0): the mean is over all four."""
    logits = torch.tensor([1.0, 0.0]).view(1, 2, 1, 1).expand(1, 2, 2, 2)
    targets = torch.tensor([[[0, 1], [IGNORE_INDEX, IGNORE_INDEX]]])
    right, wrong = math.log(1 + math.exp(-1)), math.log(1 + math.exp(1))
    assert pixel_cross_entropy(logits, targets).item() == pytest.approx((right + wrong) / 4)


def test_logits_are_resized_to_the_targets():
    logits = torch.randn(2, 3, 4, 5)
    targets = torch.randint(0, 3, (2, 8, 10))
    large = nn.functional.interpolate(logits, size=(8, 10), mode="bilinear", align_corners=False)
    assert pixel_cross_entropy(logits, targets).item() == pytest.approx(
        nn.functional.cross_entropy(large, targets).item()
    )


@pytest.mark.parametrize(("height", "width"), [(64, 96), (33, 65), (32, 32)])
def test_a_class_for_every_pixel(height, width):
    model = make().eval()
    with torch.no_grad():
        assert model(torch.randn(2, 3, height, width)).shape == (2, 5, height, width)


def test_every_parameter_gets_a_gradient():
    model = make().train()
    losses = model(torch.randn(2, 3, 64, 64), torch.randint(0, 5, (2, 64, 64)))
    assert set(losses) == {"pixel", "auxiliary"}
    sum(losses.values()).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()] == []


@pytest.mark.parametrize("head", [UPerHead([4, 8, 16, 32], 3, width=8), FCNHead(16, 3, width=8)])
def test_initialisation_reaches_every_value(head):
    with torch.no_grad():
        for value in (*head.parameters(), *(b for b in head.buffers() if b.is_floating_point())):
            value.fill_(float("nan"))
    init_segmentation_head(head)
    assert all(torch.isfinite(value).all() for value in head.state_dict().values())
    assert head.conv_seg.weight.std() < 0.05


@pytest.mark.slow
def test_it_learns_two_pictures_by_heart():
    model = make().train()
    for module in model.modules():
        if isinstance(module, nn.Dropout2d):
            module.p = 0.0
    torch.manual_seed(1)
    images, targets = torch.randn(2, 3, 64, 64), torch.randint(0, 5, (2, 4, 4))
    targets = targets.repeat_interleave(16, 1).repeat_interleave(16, 2)
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(120):
        optimizer.zero_grad()
        loss = model(images, targets)["pixel"]
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5 < math.log(5)


@pytest.mark.parametrize("size", [(64, 96), (65, 100)])
def test_merging_at_the_maps_own_sizes_changes_nothing(size):
    """Logits and gradients of a head whose every tensor is random, beside those of the published way."""
    torch.manual_seed(0)
    head = UPerHead([4, 8, 16, 32], 3, width=8, dropout=0.0).double()
    for value in (*head.parameters(), *(b for b in head.buffers() if b.is_floating_point())):
        value.data.uniform_(0.5, 1.5) if value.ndim == 1 else value.data.normal_()
    maps = [torch.randn(2, c, -(-size[0] // c), -(-size[1] // c)).double() for c in (4, 8, 16, 32)]
    for mode in (head.train, head.eval):
        mode()
        found = head(maps)
        ours = torch.autograd.grad(found.square().sum(), list(head.parameters()))
        head.as_published = True
        expected = head(maps)
        theirs = torch.autograd.grad(expected.square().sum(), list(head.parameters()))
        head.as_published = False
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-8 * float(b.abs().max()))
