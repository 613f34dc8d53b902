"""LayerNorm of both layouts, by hand. B batch, C channels, H W space."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from convnext.ops.norm import LayerNorm, LayerNorm2d


def with_weights(norm, weight, bias):
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(weight))
        norm.bias.copy_(torch.tensor(bias))
    return norm


def test_by_hand():
    # 1, 3, 5, 7: mean 4, variance 5; with an epsilon of 4 the standard deviation is 3
    norm = with_weights(LayerNorm(4, eps=4.0), [1.0, 2.0, 3.0, 1.0], [0.0, 0.0, 1.0, -1.0])
    y = norm(torch.tensor([[1.0, 3.0, 5.0, 7.0]]))
    assert y.flatten().tolist() == pytest.approx([-1.0, -2 / 3, 2.0, 0.0])


def test_by_hand_over_channels():
    # two pixels of two channels: (1, 3) with mean 2, variance 1, and (10, 10), which has none
    norm = with_weights(LayerNorm2d(2, eps=3.0), [2.0, 4.0], [1.0, 0.0])
    y = norm(torch.tensor([1.0, 10.0, 3.0, 10.0]).view(1, 2, 1, 2))
    assert y.flatten().tolist() == pytest.approx([0.0, 1.0, 2.0, 0.0])  # 2 * -1 / 2 + 1, 1; 4 * 1 / 2, 0


def test_epsilon_is_the_official_one():
    assert (LayerNorm(3).eps, LayerNorm2d(3).eps) == (1e-6, 1e-6)  # torch's own is 1e-5
    x = torch.tensor([[1e-3, -1e-3]])  # variance 1e-6: half of the sum is epsilon
    assert LayerNorm(2)(x).flatten().tolist() == pytest.approx([2**-0.5, -(2**-0.5)])


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_both_are_the_same_norm(layout):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 3, 4).contiguous(memory_format=layout)
    one, other = LayerNorm(5), LayerNorm2d(5)
    with_weights(one, [1.0, -2.0, 0.5, 3.0, 1.5], [0.1, 0.2, 0.3, 0.4, 0.5])
    other.load_state_dict(one.state_dict())
    y = other(x)
    assert torch.allclose(y, one(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
    assert y.is_contiguous(memory_format=torch.channels_last)
    mean = torch.stack([x[:, c] for c in range(5)]).mean(0)
    assert torch.allclose(y[:, 0], (x[:, 0] - mean) / (x.var(1, correction=0) + 1e-6).sqrt() + 0.1, atol=1e-6)


@pytest.mark.parametrize("norm", [LayerNorm(4), LayerNorm2d(4)])
def test_gradients(norm):
    torch.manual_seed(0)
    shape = (2, 4, 3, 2) if isinstance(norm, LayerNorm2d) else (2, 3, 4)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    norm = norm.double()
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def call(x, weight, bias):
        return torch.func.functional_call(norm, {"weight": weight, "bias": bias}, x)

    assert gradcheck(call, (x, weight, bias))
