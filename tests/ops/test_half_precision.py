"""Large activations in half precision: the norms stay finite and near float32, where plain formulas overflow.

float16's largest value is 65,504, so a square above 256 is infinite. B batch, C channels, H W space.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from convnext.ops.grn import GRN
from convnext.ops.norm import LayerNorm, LayerNorm2d

ULP = {torch.float16: 2.0**-10, torch.bfloat16: 2.0**-7}  # distance of neighbours, relative
CASES = {  # each with a shape of its own layout
    "LayerNorm": (LayerNorm, (2, 7, 7, 32)),
    "LayerNorm2d": (LayerNorm2d, (2, 32, 7, 7)),
    "GRN": (GRN, (2, 7, 7, 32)),
}


def case(name: str, dtype: torch.dtype) -> tuple[nn.Module, Tensor]:
    """The module in float32 and activations of order 1000, both with values that `dtype` has."""
    kind, shape = CASES[name]
    torch.manual_seed(0)
    module = kind(32)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape).to(dtype))
    return module, (1000 * torch.randn(shape)).to(dtype)


@torch.no_grad()
@pytest.mark.parametrize("dtype", ULP)
@pytest.mark.parametrize("name", CASES)
def test_near_float32(name, dtype):
    module, x = case(name, dtype)
    expected = module(x.float())
    given = module.to(dtype)(x)
    assert given.dtype == dtype
    assert torch.isfinite(given).all()
    assert (given.float() - expected).abs().max() <= 2 * ULP[dtype] * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_plain_formulas_overflow(name):
    """The same activations, the formulas written out in float16: not finite. So the test above can fail."""
    _, x = case(name, torch.float16)
    channels = 1 if name == "LayerNorm2d" else -1
    if name == "GRN":
        y = x.pow(2).sum((1, 2), keepdim=True).sqrt()
    else:  # the official channels-first norm
        mean = x.mean(channels, keepdim=True)
        y = (x - mean).pow(2).mean(channels, keepdim=True)
    assert not torch.isfinite(y).all()


@torch.no_grad()
def test_response_of_a_large_map():
    """Over 80 x 80 pixels of order 1000 the norm itself, 80,000, is more than float16 has."""
    torch.manual_seed(0)
    grn, x = GRN(8), (1000 * torch.randn(1, 80, 80, 8)).half()
    grn.gamma.uniform_(-1, 1)
    assert not torch.isfinite(torch.linalg.vector_norm(x, dim=(1, 2))).any()
    given = grn.half()(x)
    assert torch.isfinite(given).all()
    expected = grn.float()(x.float())
    assert (given.float() - expected).abs().max() <= 2 * ULP[torch.float16] * expected.abs().max()


@pytest.mark.parametrize("dtype", ULP)
@pytest.mark.parametrize("name", CASES)
def test_gradients_near_float32(name, dtype):
    module, x = case(name, dtype)
    direction = torch.randn(x.shape)
    gradients = []
    for module_, x_ in ((module, x.float()), (case(name, dtype)[0].to(dtype), x)):
        x_ = x_.clone().requires_grad_()
        (module_(x_).float() * direction).sum().backward()
        assert x_.grad is not None
        gradients.append(x_.grad.float())
    expected, given = gradients
    assert torch.isfinite(given).all()
    assert (given - expected).abs().max() <= 8 * ULP[dtype] * expected.abs().max()


@torch.no_grad()
@pytest.mark.parametrize("dtype", ULP)
def test_whole_model_with_large_activations(dtype):
    """An image a thousand times too bright through a model: the stem's norm takes it."""
    from convnext.models.convnext import ConvNeXt, ConvNeXtConfig

    torch.manual_seed(0)
    model = ConvNeXt(ConvNeXtConfig((1, 1, 1, 1), (8, 8, 16, 16), 0.0, use_grn=True, num_classes=5)).eval()
    x = 100 * torch.randn(2, 3, 64, 64)
    expected = model(x)
    given = model.to(dtype)(x.to(dtype))
    assert torch.isfinite(given).all()
    assert (given.float() - expected).abs().max() < 0.05 * expected.abs().max()
