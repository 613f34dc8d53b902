"""LayerNorm and the simple norm, of both layouts, by hand. B batch, C channels, H W space."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

from convnext.ops.norm import LayerNorm, LayerNorm2d, SimpleNorm, SimpleNorm2d


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


def simple(kind, weight, **options):
    norm = kind(len(weight), **options)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor(weight))
    return norm


def test_simple_by_hand():
    # 1, 2, 6: mean 3, squares about it 4 + 1 + 9, over two of them 7; with an epsilon of 2 the root is 3
    y = simple(SimpleNorm, [3.0, 6.0, -1.0], eps=2.0)(torch.tensor([[1.0, 2.0, 6.0]]))
    assert y.flatten().tolist() == pytest.approx([1.0, 4.0, -2.0])
    # two pixels of two channels: (1, 3) with variance 2, and (10, 10), which has none
    y = simple(SimpleNorm2d, [2.0, 4.0], eps=2.0)(torch.tensor([1.0, 10.0, 3.0, 10.0]).view(1, 2, 1, 2))
    assert y.flatten().tolist() == pytest.approx([1.0, 20 / 2**0.5, 6.0, 40 / 2**0.5])
    assert (SimpleNorm(2).eps, SimpleNorm2d(2).eps) == (1e-6, 1e-6)


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("channels", [2, 5])
def test_simple_is_the_formula_in_both_layouts(layout, channels):
    torch.manual_seed(0)
    x = torch.randn(2, channels, 3, 4, dtype=torch.float64).contiguous(memory_format=layout)
    weight = torch.randn(channels).tolist()
    y = simple(SimpleNorm2d, weight).double()(x)
    expected = x / (x.var(1, keepdim=True) + 1e-6).sqrt() * torch.tensor(weight, dtype=x.dtype).view(1, -1, 1, 1)
    assert torch.allclose(y, expected, rtol=1e-12, atol=1e-15)
    assert y.is_contiguous(memory_format=torch.channels_last)
    other = simple(SimpleNorm, weight).double()(x.permute(0, 2, 3, 1))
    assert torch.allclose(other, expected.permute(0, 2, 3, 1), rtol=1e-12, atol=1e-15)


def test_simple_of_a_large_mean():
    """A variance a million times smaller than the square of the mean is still right to five digits."""
    torch.manual_seed(0)
    x = 1000 + torch.randn(4, 64)
    expected = x.double() / (x.double().var(1, keepdim=True) + 1e-6).sqrt()
    assert (SimpleNorm(64)(x) / expected - 1).abs().max() < 1e-5


@pytest.mark.parametrize("norm", [SimpleNorm(4), SimpleNorm2d(4)])
def test_simple_gradients(norm):
    torch.manual_seed(0)
    shape = (2, 4, 3, 2) if isinstance(norm, SimpleNorm2d) else (2, 3, 4)
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(4, dtype=torch.float64, requires_grad=True)

    def call(x, weight):
        return torch.func.functional_call(norm, {"weight": weight}, x)

    assert gradcheck(call, (x, weight))


def test_simple_of_equal_channels():
    """No variance at all: no NaN, forward or backward."""
    norm = SimpleNorm(4)
    x = torch.tensor([[2.0, 2.0, 2.0, 2.0], [0.0, 0.0, 0.0, 0.0]], requires_grad=True)
    y = norm(x)
    assert y[0].tolist() == pytest.approx([2000.0] * 4)  # by epsilon alone
    assert y[1].tolist() == [0.0] * 4
    y.sum().backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    assert torch.isfinite(norm.weight.grad).all()  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "ulp"), [(torch.float16, 2.0**-10), (torch.bfloat16, 2.0**-7)])
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("kind", [SimpleNorm, SimpleNorm2d])
def test_simple_in_half_precision(kind, scale, dtype, ulp):
    """Statistics are float32: in fp16 the variance of activations above 256 is infinite. Gradients too."""
    torch.manual_seed(0)
    x = (scale * torch.randn(2, 16, 5, 16)).to(dtype)
    if scale == 1e4 and dtype == torch.float16:
        assert not torch.isfinite(x.var(1)).all()  # so this can fail
    norm, direction = simple(kind, torch.randn(16).to(dtype).tolist()), torch.randn(x.shape)
    outputs, gradients = [], []
    for given in (x.float(), x):
        given = given.clone().requires_grad_()
        y = norm.to(given.dtype)(given)
        assert y.dtype == given.dtype
        (y.float() * direction).sum().backward()
        assert given.grad is not None
        outputs.append(y.detach().float())
        gradients.append(given.grad.float())
    for expected, half in (outputs, gradients):
        assert torch.isfinite(half).all()
        assert (half - expected).abs().max() <= 2 * ulp * expected.abs().max()


def test_simple_keeps_the_type_under_autocast():
    with torch.autocast("cpu", torch.bfloat16):
        assert SimpleNorm(4)(torch.randn(2, 4).bfloat16()).dtype == torch.bfloat16
