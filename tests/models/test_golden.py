"""Outputs written down once: the mathematics cannot change unnoticed, even where no other library is at hand.

Weights and images are sines, so that no generator has a part in them. The figures were computed in float64 and agree
with timm's to 1e-12 (test_parity_timm.py compares the two on random weights).
"""

from __future__ import annotations

import pytest
import torch
from kinds import CLIP, ISOTROPIC_SCALED, NORM_FIRST, OVERLAP, V1, V2, ZEPTO, build
from torch import Tensor

GOLDEN = {
    "v1": [
        [2.551884447, 5.117271778, 5.002233967, 2.267478922, -1.654308036, -4.709023379, -5.297022497],
        [2.551897692, 5.117482206, 5.002531225, 2.267707121, -1.65426857, -4.709193343, -5.297312757],
    ],
    "v2": [
        [3.175419664, 4.977526234, 4.172890328, 1.182044995, -2.429100256, -4.769123285, -4.611770661],
        [3.175419712, 4.977526259, 4.172890318, 1.182044955, -2.429100305, -4.769123317, -4.61177066],
    ],
    "clip": [
        [7.897388354, 9.671971232, 0.748006319, -9.518510172, -10.010807558, -0.064853324, 9.730832879],
        [7.897563541, 9.672512889, 0.748311371, -9.518781367, -10.011353054, -0.065065772, 9.731190016],
    ],
    "isotropic": [
        [2.700464696, 4.952070359, 4.61024715, 1.853933155, -1.873403941, -4.619707319, -4.946654563],
        [2.700564258, 4.951910244, 4.609911327, 1.853597737, -1.873563052, -4.619606682, -4.946346955],
    ],
    "overlap": [
        [3.924747603, 4.274964078, 2.383592789, -0.760028395, -3.508684563, -4.420405028, -3.014933198],
        [3.924731978, 4.274964508, 2.383609048, -0.760004833, -3.508666055, -4.42040128, -3.014946176],
    ],
    "zepto": [
        [0.23280878, -0.476009084, -0.936898633, -0.909903604, -0.409127082, 0.304636447, 0.859715777],
        [0.232913387, -0.475745902, -0.936614896, -0.90974811, -0.409181376, 0.304400838, 0.859422412],
    ],
    "norm_first": [
        [2.551889244, 5.117272587, 5.002230364, 2.267472796, -1.654313472, -4.709025275, -5.297019858],
        [2.551902563, 5.117482269, 5.002526447, 2.267700007, -1.654274289, -4.709194667, -5.297308992],
    ],
    "v1_dilated": [
        [2.553949474, 5.117525126, 5.000542774, 2.264730091, -1.656672951, -4.70976416, -5.295750659],
        [2.553929952, 5.117562008, 5.000616718, 2.264802319, -1.656640318, -4.709788233, -5.295818816],
    ],
}

CONFIGS = {
    "v2": V2,
    "clip": CLIP,
    "isotropic": ISOTROPIC_SCALED,
    "overlap": OVERLAP,
    "zepto": ZEPTO,
    "norm_first": NORM_FIRST,
}


def waves(shape: torch.Size | tuple[int, ...], phase: float) -> Tensor:
    """Sines of frequencies that share no period."""
    count = torch.Size(shape).numel()
    return torch.sin(torch.arange(count, dtype=torch.float64) * 0.7390851 + phase).view(shape)


@torch.no_grad()
def outputs(kind: str, dtype: torch.dtype) -> Tensor:
    size = CONFIGS.get(kind, V1)
    model = build(size, **({"output_stride": 8} if kind == "v1_dilated" else {})).double()
    for number, parameter in enumerate(model.parameters()):
        fan_in = parameter[0].numel() if parameter.ndim in (2, 4) and parameter.shape[0] > 1 else 1
        parameter.copy_(waves(parameter.shape, float(number)) * (2 / fan_in) ** 0.5)
    return model.to(dtype)(waves((2, 3, 64, 64), 0.5).to(dtype))


@pytest.mark.parametrize("kind", GOLDEN)
def test_golden(kind):
    expected = torch.tensor(GOLDEN[kind], dtype=torch.float64)
    assert torch.allclose(outputs(kind, torch.float64), expected, rtol=0, atol=2e-9)
    assert torch.allclose(
        outputs(kind, torch.float32).double(), expected, rtol=0, atol=1e-5 * expected.abs().max().item()
    )
