"""Feature maps for dense tasks. B batch, C channels, H W space."""

from __future__ import annotations

import pytest
import torch
from kinds import DIMS, OVERLAP, V1, V2, ZEPTO, build, difference, image, randomise
from torch import nn

from convnext.models.convnext import ConvNeXt
from convnext.models.features import FeatureMaps
from convnext.ops.norm import LayerNorm2d, SimpleNorm2d


def make(size=V1, **options) -> ConvNeXt:
    model = randomise(build(size, **options))
    assert isinstance(model, ConvNeXt)
    return model


@torch.no_grad()
@pytest.mark.parametrize("size", [V1, V2, ZEPTO])
@pytest.mark.parametrize("stages", [(0, 1, 2, 3), (0,), (1, 3), (2,)])
@pytest.mark.parametrize("options", [{}, {"output_stride": 16}, {"stem_stride": 2, "output_stride": 8}])
def test_maps(size, stages, options):
    model = make(size, **options)
    backbone = FeatureMaps(model, stages=stages, norm=False).eval()
    assert backbone.channels == [DIMS[i] for i in stages]
    assert backbone.strides == [model.strides[i] for i in stages]
    x = image(2, 3, 64, 96)
    maps = backbone(x)
    assert [tuple(m.shape) for m in maps] == [
        (2, c, 64 // s, 96 // s) for c, s in zip(backbone.channels, backbone.strides, strict=True)
    ]
    whole = model.forward_maps(x)
    assert all(torch.equal(m, whole[i]) for m, i in zip(maps, stages, strict=True))


@torch.no_grad()
def test_each_map_has_a_norm_of_its_own():
    model = make()
    backbone = FeatureMaps(model).eval()
    assert [type(backbone.get_submodule(f"norm{i}")) for i in range(4)] == [LayerNorm2d] * 4
    maps, x = backbone(image()), model.forward_maps(image())
    for i, (given, plain) in enumerate(zip(maps, x, strict=True)):
        mean, var = plain.mean(1, keepdim=True), plain.var(1, correction=0, keepdim=True)
        assert difference(given, (plain - mean) / (var + 1e-6).sqrt()) < 1e-5
        backbone.get_submodule(f"norm{i}").weight.fill_(i + 2.0)  # type: ignore[union-attr]
    assert [difference(m, (i + 2.0) * n) < 1e-6 for i, (m, n) in enumerate(zip(backbone(image()), maps, strict=True))]


@torch.no_grad()
def test_each_norm_is_of_the_model_s_kind():
    backbone = FeatureMaps(make(ZEPTO)).eval()
    assert [type(backbone.get_submodule(f"norm{i}")) for i in range(4)] == [SimpleNorm2d] * 4
    for given, plain in zip(backbone(image()), make(ZEPTO).forward_maps(image()), strict=True):
        assert difference(given, plain / (plain.var(1, keepdim=True) + 1e-6).sqrt()) < 1e-5


@torch.no_grad()
def test_dilation_sees_what_shrinking_sees():
    """Dilated, a stage computes on a finer grid what the shrinking one computes on the coarse grid.

    So every other column and row of the dilated map is the shrinking one's, away from the border. (Not so for V2,
    whose GRN takes its mean over the whole map.)
    """
    x = image(1, 3, 512)
    small, large = make().forward_maps(x), make(output_stride=16).forward_maps(x)
    assert torch.equal(small[2], large[2])
    inner = slice(4, -4)  # one 7x7 convolution sees three pixels to each side
    assert difference(large[3][..., ::2, ::2][..., inner, inner], small[3][..., inner, inner]) < 1e-5


def test_official_names():
    """`backbone.` of the official detection checkpoints, less the prefix: no norm, no head, norm0 to norm3 instead."""
    model = make()
    names = set(FeatureMaps(model).state_dict())
    classifier = set(model.state_dict())
    assert classifier - names == {"norm.weight", "norm.bias", "head.weight", "head.bias"}
    assert names - classifier == {f"norm{i}.{part}" for i in range(4) for part in ("weight", "bias")}


def test_layers_are_shared_and_later_stages_left_out():
    model = make()
    backbone = FeatureMaps(model, stages=(0, 2))
    assert backbone.stages[0] is model.stages[0]
    assert len(backbone.stages) == len(backbone.downsample_layers) == 3
    assert not [name for name in backbone.state_dict() if name.startswith(("stages.3", "norm1", "norm3"))]


def test_every_parameter_gets_a_gradient():
    backbone = FeatureMaps(make(V2), stages=(0, 1, 2, 3)).train()
    sum((m * image(2, m.shape[1], m.shape[2], seed=i)).sum() for i, m in enumerate(backbone(image()))).backward()  # type: ignore[union-attr]
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@torch.no_grad()
def test_odd_sizes():
    backbone = FeatureMaps(make()).eval()
    for height, width in ((33, 65), (47, 32), (224, 160)):
        shapes = [tuple(m.shape[2:]) for m in backbone(image(1, 3, height, width))]
        assert shapes == [(height // s, width // s) for s in (4, 8, 16, 32)]
    shapes = [tuple(m.shape[2:]) for m in FeatureMaps(make(OVERLAP)).eval()(image(1, 3, 33, 65))]
    assert shapes == [(9, 17), (4, 8), (2, 4), (1, 2)]  # an overlapping stem rounds up, what follows rounds down


@pytest.mark.parametrize("stages", [(), (1, 0), (0, 0), (0, 4), (-1,)])
def test_wrong_stages(stages):
    with pytest.raises(ValueError, match="ascending"):
        FeatureMaps(make(), stages=stages)


def test_without_norm_nothing_is_added():
    assert not any(
        isinstance(m, nn.LayerNorm) for n, m in FeatureMaps(make(), norm=False).named_children() if "norm" in n
    )
