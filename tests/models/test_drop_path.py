"""Stochastic depth by itself, pooling, and how layers begin. B batch, C channels, H W space."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convnext.models.layers import DropPath, drop_path_rates, init_weights, mean_pool
from convnext.ops.norm import SimpleNorm, SimpleNorm2d


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
def test_drop_path_keeps_the_expectation(rate):
    """A sample's branch is dropped whole at `rate`, and what stays is scaled by 1 / (1 - rate)."""
    torch.manual_seed(0)
    x = torch.rand(4000, 3, 2, 2) + 1
    y = DropPath(rate).train()(x)
    factors = y / x
    assert torch.allclose(factors, factors[:, :1, :1, :1])  # the whole sample alike
    values = factors[:, 0, 0, 0]
    dropped = (values == 0).float().mean().item()
    assert dropped == pytest.approx(rate, abs=0.03)  # four standard deviations
    assert torch.allclose(values[values > 0], torch.tensor(1 / (1 - rate)))
    assert values.mean().item() == pytest.approx(1.0, abs=4 * (rate / (1 - rate) / 4000) ** 0.5)


def test_drop_path_of_evaluation_and_of_rate_zero():
    x = torch.randn(4, 2)
    assert DropPath(0.5).eval()(x) is x
    assert DropPath(0.0).train()(x) is x


def test_drop_path_draws_from_the_global_generator():
    """Which a checkpoint stores: a resumed run drops the same branches."""
    drop, x = DropPath(0.5).train(), torch.ones(64, 1)
    state = torch.get_rng_state()
    first = drop(x)
    torch.set_rng_state(state)
    assert torch.equal(drop(x), first)
    assert not torch.equal(drop(x), first)


def test_drop_path_gradient():
    torch.manual_seed(0)
    x = torch.ones(100, 2, requires_grad=True)
    y = DropPath(0.5).train()(x)
    y.sum().backward()
    assert x.grad is not None
    assert torch.equal(x.grad, y.detach())  # of ones: the factor itself
    assert set(x.grad.unique().tolist()) == {0.0, 2.0}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_drop_path_keeps_type_and_layout(dtype):
    x = torch.ones(4, 3, 5, 5, dtype=dtype).contiguous(memory_format=torch.channels_last)
    y = DropPath(0.5).train()(x)
    assert y.dtype == dtype
    assert y.stride() == x.stride()


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_wrong_rates(rate):
    with pytest.raises(ValueError, match=r"lies in \[0, 1\), not"):
        DropPath(rate)


def test_rates():
    assert drop_path_rates(0.4, 5) == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert drop_path_rates(0.4, 1) == [0.0]
    assert drop_path_rates(0.4, 0) == []


def test_mean_pool():
    x = torch.arange(24.0).view(1, 2, 3, 4).contiguous(memory_format=torch.channels_last).requires_grad_()
    y = mean_pool(x)
    assert y.tolist() == [[5.5, 17.5]]
    (y * torch.tensor([12.0, 24.0])).sum().backward()
    assert x.grad is not None
    assert x.grad[0, :, 1, 2].tolist() == [1.0, 2.0]


def test_init_weights():
    torch.manual_seed(0)
    layers = nn.Sequential(
        nn.Conv2d(64, 64, 3), nn.Linear(256, 256, bias=False), nn.LayerNorm(4), SimpleNorm(4), SimpleNorm2d(4)
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.fill_(float("nan"))
    layers.apply(init_weights)
    state = layers.state_dict()
    for name in ("0.weight", "1.weight"):  # truncated at 2, a hundred standard deviations: a normal distribution
        assert state[name].std().item() == pytest.approx(0.02, rel=0.02)
        assert abs(state[name].mean().item()) < 0.0005
    assert state["0.bias"].tolist() == [0.0] * 64
    assert (state["2.weight"].tolist(), state["2.bias"].tolist()) == ([1.0] * 4, [0.0] * 4)
    assert (state["3.weight"].tolist(), state["4.weight"].tolist()) == ([1.0] * 4, [1.0] * 4)
