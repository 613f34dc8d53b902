"""The feature pyramid, by hand. B batch, C channels, H W space."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convnext.models.detection.fpn import FPN, named_conv

CHANNELS, STRIDES = (3, 5, 7, 9), (4, 8, 16, 32)


def maps(height: int = 16, width: int = 24, *, batch: int = 2) -> list[Tensor]:
    """As of an image four times as high and wide; odd sides are rounded down."""
    return [torch.randn(batch, c, height >> i, width >> i) for i, c in enumerate(CHANNELS)]


@torch.no_grad()
def plain() -> FPN:
    """A pyramid of one channel that leaves values as they are: what it adds up can be seen."""
    fpn = FPN((1, 1, 1, 1), STRIDES, width=1)
    for lateral, conv in zip(fpn.lateral_convs, fpn.fpn_convs, strict=True):
        lateral.conv.weight.fill_(1)  # type: ignore[union-attr]
        conv.conv.weight.zero_()[..., 1, 1] = 1  # type: ignore[union-attr, index]
    return fpn


@torch.no_grad()
def test_sums_from_coarse_to_fine():
    """Each map gets the sum of the coarser ones, each of their pixels over 2 x 2 finer ones."""
    finest, second, third = torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 4, 4), torch.zeros(1, 1, 2, 2)
    finest[..., 0, 5], second[..., 3, 0], third[..., 0, 1] = 1, 10, 100
    outs = plain()([finest, second, third, torch.full((1, 1, 1, 1), 1000.0)])
    assert outs[3].tolist() == [[[[1000]]]]
    assert outs[2].tolist() == [[[[1000, 1100], [1000, 1000]]]]
    assert outs[1].int().tolist() == [
        [[[1000, 1000, 1100, 1100], [1000, 1000, 1100, 1100], [1000] * 4, [1010, 1000, 1000, 1000]]]
    ]
    expected = outs[1].repeat_interleave(2, 2).repeat_interleave(2, 3) + finest
    assert torch.equal(outs[0], expected)
    assert outs[0][0, 0, 0, 5] == 1101


@torch.no_grad()
def test_each_level_has_its_own_convolutions():
    fpn, given = plain(), [torch.ones(1, 1, 8 >> i, 8 >> i) for i in range(4)]
    fpn.lateral_convs[1].conv.weight.fill_(10)  # type: ignore[union-attr]
    fpn.fpn_convs[0].conv.bias.fill_(0.5)  # type: ignore[union-attr]
    assert [out.mean().item() for out in fpn(given)] == [13.5, 12, 2, 1, 1]


@torch.no_grad()
def test_the_last_is_every_other_pixel():
    fpn = FPN(CHANNELS, STRIDES, width=6).eval()
    for shape in ((64, 96), (40, 88)):
        outs = fpn(maps(*shape))
        assert torch.equal(outs[4], outs[3][:, :, ::2, ::2])


@torch.no_grad()
@pytest.mark.parametrize("shape", [(16, 24), (13, 31), (9, 8), (25, 47)])
def test_shapes(shape):
    fpn, given = FPN(CHANNELS, STRIDES, width=6), maps(*shape)
    outs = fpn(given)
    assert fpn.strides == [4, 8, 16, 32, 64]
    assert fpn.width == 6
    assert [tuple(out.shape[1:]) for out in outs[:4]] == [(6, *m.shape[2:]) for m in given]
    assert tuple(outs[4].shape) == (2, 6, *((side + 1) // 2 for side in given[3].shape[2:]))
    assert all(torch.isfinite(out).all() for out in outs)


def test_every_parameter_gets_a_gradient():
    fpn = FPN(CHANNELS, STRIDES, width=6)
    sum(out.square().sum() for out in fpn(maps())[:4]).backward()  # type: ignore[union-attr]
    for name, parameter in fpn.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_init_weights_forgets_nothing():
    fpn = FPN((64, 96, 128, 160), STRIDES, width=32)
    for value in fpn.parameters():
        value.fill_(float("nan"))
    fpn.init_weights()
    for name, value in fpn.named_parameters():
        if name.endswith("bias"):
            assert (value == 0).all(), name
        else:
            bound = (6 / (value[0].numel() + value[:, 0].numel())) ** 0.5  # Xavier: inputs and outputs of a neuron
            assert 0.95 * bound < value.abs().max() <= bound, name


def test_a_named_convolution():
    """With a norm it has no bias; an activation comes last; the size stays."""
    assert list(named_conv(3, 4, 1).state_dict()) == ["conv.weight", "conv.bias"]
    full = named_conv(3, 4, 5, norm=True, act=True)
    assert [name for name, _ in full.named_children()] == ["conv", "bn", "act"]
    assert "conv.bias" not in full.state_dict()
    assert isinstance(full.bn, nn.BatchNorm2d)
    given = full(torch.randn(2, 3, 6, 7))
    assert given.shape == (2, 4, 6, 7)
    assert given.min() == 0
