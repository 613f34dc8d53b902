"""The isotropic model against the paper's description, written out as a plain loop (no library has this model)."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from kinds import ISOTROPIC, ISOTROPIC_SCALED, build, difference, image, randomise
from torch import Tensor


def layer_norm(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Over the channels of (B, C, ...)."""
    shape = (1, -1) + (1,) * (x.ndim - 2)
    centred = x - x.mean(1, keepdim=True)
    return centred / (centred.square().mean(1, keepdim=True) + 1e-6).sqrt() * weight.view(shape) + bias.view(shape)


def reference(state: dict[str, Tensor], x: Tensor, depth: int) -> Tensor:
    """Section 3.3: 16 x 16 patches, blocks at one resolution, mean, norm, classifier. All as (B, C, H, W)."""
    x = F.conv2d(x, state["stem.weight"], state["stem.bias"], stride=16)
    for j in range(depth):
        prefix = f"blocks.{j}."
        w = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        y = F.conv2d(x, w["dwconv.weight"], w["dwconv.bias"], padding=3, groups=x.shape[1])
        y = layer_norm(y, w["norm.weight"], w["norm.bias"])
        y = torch.einsum("bchw,dc->bdhw", y, w["pwconv1.weight"]) + w["pwconv1.bias"].view(1, -1, 1, 1)
        y = y * 0.5 * (1 + torch.erf(y / 2**0.5))
        y = torch.einsum("bdhw,cd->bchw", y, w["pwconv2.weight"]) + w["pwconv2.bias"].view(1, -1, 1, 1)
        x = x + (w["gamma"].view(1, -1, 1, 1) * y if "gamma" in w else y)
    pooled = layer_norm(x.flatten(2).mean(2), state["norm.weight"], state["norm.bias"])
    return pooled @ state["head.weight"].T + state["head.bias"]


@torch.no_grad()
@pytest.mark.parametrize("size", [ISOTROPIC, ISOTROPIC_SCALED])
def test_reference(size):
    model, x = randomise(build(size)), image(2, 3, 96, 64)
    assert difference(model(x), reference(model.state_dict(), x, size.depth)) < 1e-5
    model, x = model.double(), x.double()
    assert difference(model(x), reference(model.state_dict(), x, size.depth)) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("size", [ISOTROPIC, ISOTROPIC_SCALED])
def test_every_tensor_matters(size):
    """Had the model mixed up any one tensor, the comparison above would show it."""
    model, x = randomise(build(size)).double(), image(2, 3, 96, 64).double()
    expected = reference(model.state_dict(), x, size.depth)
    for name, value in model.state_dict().items():
        changed = {**model.state_dict(), name: value.flip(0) * 1.1}
        assert difference(reference(changed, x, size.depth), expected) > 1e-6, name
