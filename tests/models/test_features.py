"""Feature maps for dense tasks. B batch, C channels, H W space."""

from __future__ import annotations

import pytest
import torch
from kinds import (
    DEPTHS,
    DIMS,
    INVERTED,
    NEARLY,
    OVERLAP,
    RESNET,
    SWIN,
    V1,
    V2,
    ZEPTO,
    build,
    difference,
    image,
    randomise,
)
from torch import nn

from convnext.core.errors import UserError
from convnext.models.backbone import build_backbone
from convnext.models.baselines import Swin
from convnext.models.config import ModelConfig
from convnext.models.convnext import ConvNeXt
from convnext.models.features import FeatureMaps
from convnext.models.layers import DropPath
from convnext.models.resnet import ResNet
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


# Every kind of model with four stages


KINDS = {"v1": V1, "v2": V2, "resnet": RESNET, "inverted": INVERTED, "nearly": NEARLY, "swin": SWIN}


def staged(kind: str) -> ConvNeXt | ResNet | Swin:
    model = randomise(build(KINDS[kind]))
    assert isinstance(model, (ConvNeXt, ResNet, Swin))
    return model


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("stages", [(0, 1, 2, 3), (0,), (1, 2)])
def test_maps_of_every_kind(kind, stages):
    model, x = staged(kind), image(2, 3, 64, 96)
    backbone = FeatureMaps(model, stages=stages, norm=False).eval()
    assert backbone.channels == [model.dims[i] for i in stages]
    assert backbone.strides == [4 * 2**i for i in stages]
    maps, whole = backbone(x), model.forward_maps(x)
    for given, i in zip(maps, stages, strict=True):
        assert given.shape == (2, model.dims[i], 64 >> (2 + i), 96 >> (2 + i))
        assert torch.equal(given, whole[i])
    kept = {name for name, _ in model.named_parameters()} & {name for name, _ in backbone.named_parameters()}
    assert {name for name, _ in backbone.named_parameters()} == kept  # no norm, no head, and no stage that is not used
    assert len(backbone.block_list()) == sum(DEPTHS[: stages[-1] + 1])


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_norms_of_every_kind(kind):
    """A ConvNeXt's has its epsilon, 1e-6; Swin's is torch's, 1e-5."""
    model, x = staged(kind), image()
    backbone = FeatureMaps(model).eval()
    eps = 1e-6 if isinstance(model, ConvNeXt) else 1e-5
    for i, (given, plain) in enumerate(zip(backbone(x), model.forward_maps(x), strict=True)):
        norm = backbone.get_submodule(f"norm{i}")
        assert isinstance(norm, LayerNorm2d)
        assert norm.eps == eps
        mean, var = plain.mean(1, keepdim=True), plain.var(1, correction=0, keepdim=True)
        assert difference(given, (plain - mean) / (var + eps).sqrt()) < 1e-5


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("norm", [True, False])
def test_gradients_of_every_kind(kind, norm):
    backbone = FeatureMaps(staged(kind), norm=norm).train()
    sum((m * image(4, m.shape[1], m.shape[2], seed=i)).sum() for i, m in enumerate(backbone(image(4)))).backward()  # type: ignore[union-attr]
    for name, parameter in backbone.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
        assert parameter.grad.abs().max() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_blocks_are_the_model_s(kind):
    model = staged(kind)
    blocks = model.block_list()
    assert [id(block) for block in FeatureMaps(model).block_list()] == [id(block) for block in blocks]
    assert [id(block) for block in FeatureMaps(model, stages=(0, 2)).block_list()] == [id(b) for b in blocks[:6]]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blocks_per_group", [1, 2, 3])
def test_depths_are_the_model_s(kind, blocks_per_group):
    """What is left of the model keeps its depth; the maps' norms have that of its classifier."""
    model = staged(kind)
    backbone, whole = FeatureMaps(model), model.depth_ids(blocks_per_group=blocks_per_group)
    depths = backbone.depth_ids(blocks_per_group=blocks_per_group)
    assert list(depths) == [name for name, _ in backbone.named_parameters()]
    norms = {name for name in depths if name.startswith("norm")}
    assert len(norms) == 8
    assert {depths[name] for name in norms} == {whole["head.weight"]} == {max(whole.values())}
    assert {name: depth for name, depth in depths.items() if name not in norms} == {
        name: depth for name, depth in whole.items() if not name.startswith(("head.", "norm."))
    }


@torch.no_grad()
@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_model_under_its_maps(kind):
    """Whatever was in the layers before, the model's own initialisation leaves none of it."""
    model = staged(kind)
    backbone = FeatureMaps(model)
    norms = [backbone.get_submodule(f"norm{i}") for i in range(4)]
    for value in (*model.parameters(), *model.buffers()):
        value.fill_(float("nan") if value.is_floating_point() else 7)
    model.init_weights()
    assert [name for name, value in backbone.state_dict().items() if not torch.isfinite(value).all()] == []
    assert all((norm.weight == 1).all() and (norm.bias == 0).all() for norm in norms)  # type: ignore[union-attr]
    assert all(torch.isfinite(m).all() for m in backbone(image()))


@torch.no_grad()
@pytest.mark.parametrize("kind", ["resnet", "swin"])
def test_odd_sizes_of_other_kinds(kind):
    """ResNet rounds up everywhere, Swin after its patches."""
    backbone = FeatureMaps(staged(kind)).eval()
    expected = {"resnet": [(9, 17), (5, 9), (3, 5), (2, 3)], "swin": [(8, 16), (4, 8), (2, 4), (1, 2)]}
    assert [tuple(m.shape[2:]) for m in backbone(image(1, 3, 33, 65))] == expected[kind]


# From a configuration


@pytest.mark.parametrize(
    ("config", "dims", "norm"),
    [
        (ModelConfig("convnext_atto", depths=(1, 1, 1, 1)), [40, 80, 160, 320], LayerNorm2d),
        (ModelConfig("convnext_zepto_rms", depths=(1, 1, 1, 1)), [32, 64, 128, 256], SimpleNorm2d),
        (ModelConfig("dinov3_convnext_tiny", depths=(1, 1, 1, 1)), [96, 192, 384, 768], LayerNorm2d),
        (ModelConfig("resnet50", num_classes=10, depths=(1, 1, 1, 1)), [256, 512, 1024, 2048], nn.Identity),
        (ModelConfig("swin_tiny"), [96, 192, 384, 768], LayerNorm2d),
    ],
)
def test_build_backbone(config, dims, norm):
    """Four maps and no classifier, whatever the configuration's classes; ResNet's maps alone have no norm."""
    with torch.device("meta"):
        backbone = build_backbone(config)
    assert (backbone.channels, backbone.strides) == (dims, [4, 8, 16, 32])
    assert [type(backbone.get_submodule(f"norm{i}")) for i in range(4)] == [norm] * 4
    assert not [name for name in backbone.state_dict() if name.startswith(("head", "norm."))]


def test_build_backbone_keeps_settings():
    backbone = build_backbone(
        ModelConfig("convnext_atto", in_chans=4, drop_path_rate=0.3, layer_scale_init_value=0.5, output_stride=16)
    )
    assert backbone.strides == [4, 8, 16, 16]
    assert [m.rate for m in backbone.modules() if isinstance(m, DropPath)][-1] == pytest.approx(0.3)
    gammas = [value for name, value in backbone.named_parameters() if name.endswith("gamma")]
    assert len(gammas) == 12
    assert all((value == 0.5).all() for value in gammas)
    assert backbone(image(1, 4))[3].shape == (1, 320, 4, 4)


@pytest.mark.parametrize("name", ["vit_small", "convnext_isotropic_small"])
def test_no_four_maps(name):
    with (
        torch.device("meta"),
        pytest.raises(UserError, match=f"{name} has no four maps; detectors and segmenters take a ConvNeXt"),
    ):
        build_backbone(ModelConfig(name))
