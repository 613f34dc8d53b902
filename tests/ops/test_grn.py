"""Global response normalisation, by hand. B batch, C channels, H W space."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.autograd import gradcheck

from convnext.ops.grn import GRN


def make(gamma, beta, **options):
    grn = GRN(len(gamma), **options)
    with torch.no_grad():
        grn.gamma.copy_(torch.tensor(gamma).view(1, 1, 1, -1))
        grn.beta.copy_(torch.tensor(beta).view(1, 1, 1, -1))
    return grn


def test_by_hand():
    # channel 0 is 3, 4 over two pixels: norm 5; channel 1 is 0, 15: norm 15; their mean is 10: responses 0.5 and 1.5
    x = torch.tensor([[3.0, 0.0], [4.0, 15.0]]).view(1, 1, 2, 2)
    y = make([2.0, 1.0], [1.0, -1.0])(x)
    assert y[0, 0, :, 0].tolist() == pytest.approx([2 * 3 * 0.5 + 1 + 3, 2 * 4 * 0.5 + 1 + 4])
    assert y[0, 0, :, 1].tolist() == pytest.approx([0 - 1 + 0, 15 * 1.5 - 1 + 15])


def test_epsilon():
    x = torch.tensor([[3.0, 0.0], [4.0, 15.0]]).view(1, 1, 2, 2)
    y = make([1.0, 1.0], [0.0, 0.0], eps=10.0)(x)  # responses 5 / 20 and 15 / 20
    assert y[0, 0, 1].tolist() == pytest.approx([4 * 1.25, 15 * 1.75])
    assert GRN(3).eps == 1e-6


def test_identity_at_first():
    x = torch.randn(2, 3, 4, 8)
    assert torch.equal(GRN(8)(x), x)


def test_each_image_for_itself():
    torch.manual_seed(0)
    x, grn = torch.randn(3, 4, 5, 6), make([1.0, 2.0, -1.0, 0.5, 1.5, 3.0], [0.5] * 6)
    assert torch.allclose(grn(x), torch.cat([grn(x[i : i + 1]) for i in range(3)]), atol=1e-6)


def test_formula():
    """Algorithm 1 of the paper, in NumPy."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=(2, 3, 5, 4))
    gamma, beta = generator.normal(size=4), generator.normal(size=4)
    norms = np.sqrt((x**2).sum(axis=(1, 2), keepdims=True))
    expected = gamma * (x * (norms / (norms.mean(axis=-1, keepdims=True) + 1e-6))) + beta + x
    grn = make(gamma.tolist(), beta.tolist())
    assert np.allclose(grn(torch.tensor(x, dtype=torch.float32)).detach().numpy(), expected, atol=1e-5)
    y = make(gamma.tolist(), beta.tolist()).double()
    with torch.no_grad():
        y.gamma.copy_(torch.tensor(gamma).view(1, 1, 1, -1))
        y.beta.copy_(torch.tensor(beta).view(1, 1, 1, -1))
    assert np.allclose(y(torch.tensor(x)).detach().numpy(), expected, rtol=1e-14, atol=1e-14)


def test_gradients():
    torch.manual_seed(0)
    grn = GRN(4).double()
    x = torch.randn(2, 3, 2, 4, dtype=torch.float64, requires_grad=True)
    gamma = torch.randn(1, 1, 1, 4, dtype=torch.float64, requires_grad=True)
    beta = torch.randn(1, 1, 1, 4, dtype=torch.float64, requires_grad=True)

    def call(x, gamma, beta):
        return torch.func.functional_call(grn, {"gamma": gamma, "beta": beta}, x)

    assert gradcheck(call, (x, gamma, beta))


def test_silent_channels():
    """A channel that is zero everywhere, and an image that is: no NaN, forward or backward."""
    x = torch.randn(2, 3, 3, 4)
    x[0, :, :, 1] = 0
    x[1] = 0
    x.requires_grad_()
    grn = make([1.0, 2.0, 3.0, 4.0], [0.1, 0.2, 0.3, 0.4])
    y = grn(x)
    assert torch.isfinite(y).all()
    assert torch.allclose(y[1, 0, 0], torch.tensor([0.1, 0.2, 0.3, 0.4]))
    y.square().sum().backward()
    for value in (x, grn.gamma, grn.beta):
        assert value.grad is not None
        assert torch.isfinite(value.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_type_is_kept(dtype):
    grn, x = make([1.0, 2.0], [0.5, -0.5]), torch.ones(1, 2, 2, 2)
    assert grn.to(dtype)(x.to(dtype)).dtype == dtype
    with torch.autocast("cpu", torch.bfloat16):  # the parameters stay float32, activations come in half
        y = grn.float()(x.bfloat16())
    assert y.dtype == torch.bfloat16
