"""The same weights give the same outputs in timm. B batch, C channels, H W space."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from kinds import DEPTHS, DIMS, V1, V2, build, difference, image, randomise
from peers import TIMM, agree, lend, timm_rules
from timm.models.convnext import ConvNeXt as TimmConvNeXt
from torch.utils.flop_counter import FlopCounterMode

from convnext.models.convnext import CONFIGS, ConvNeXt
from convnext.models.create import count_macs, count_parameters, create_model
from convnext.models.features import FeatureMaps

SHARED = [name for name in CONFIGS if not name.startswith("dinov3")]  # timm has DINOv3's under convnext_*
OTHERS = [name for name in CONFIGS if name.endswith(("_rms", "_ols", "_hnf"))]  # timm's own stems, norms and head


def pair(name, **options):
    """Our small model under a published name, and timm's builder of that name with the same weights."""
    ours = randomise(create_model(name, depths=DEPTHS, dims=DIMS, num_classes=7)).eval()
    theirs = timm.create_model(name, depths=DEPTHS, dims=DIMS, num_classes=7, **options)
    lend(ours.state_dict(), theirs, timm_rules(CONFIGS[name]))
    return ours, theirs


@pytest.mark.parametrize("name", SHARED)
def test_every_name(name):
    """timm's builder says what the name means: epsilon, layer scale, GRN, 1x1 convolutions or linear layers, head."""
    single, double = agree(*pair(name), image(2, 3, 64, 96))
    assert single < 1e-5
    assert double < 1e-12


@pytest.mark.parametrize(
    "name", ["convnext_atto", "convnext_xxlarge", "convnext_large_mlp", "convnextv2_tiny", *OTHERS]
)
def test_whole_size(name):
    """At full depth and width, on the meta device: the same parameters and multiply-accumulates."""
    with torch.device("meta"):
        ours, theirs = create_model(name), timm.create_model(name).eval()
    assert count_parameters(ours) == count_parameters(theirs)
    lend(ours.state_dict(), theirs, timm_rules(CONFIGS[name]))
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        theirs(torch.empty(1, 3, 224, 224, device="meta"))
    assert count_macs(ours, 224) == counter.get_total_flops() // 2


def test_another_epsilon_shows():
    """xxlarge's norms have an epsilon of 1e-5: with 1e-6 the figures differ, so the test above sees it."""
    ours, _ = pair("convnext_xxlarge")
    _, theirs = pair("convnext_xxlarge", norm_eps=1e-6)
    assert agree(ours, theirs, image())[1] > 1e-9


@torch.no_grad()
@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_atto", "convnext_large_mlp", *OTHERS])
def test_every_tensor_matters(name):
    """Had any one tensor gone to the wrong place, the comparison would show it."""
    ours, theirs = pair(name)
    ours, theirs, x = ours.double(), theirs.double(), image().double()
    expected = theirs(x)
    for tensor_name, value in ours.named_parameters():
        kept = value.clone()
        value.copy_(kept.flip(-1) * 1.1)
        assert difference(ours(x), expected) > 1e-7, tensor_name
        value.copy_(kept)
    assert difference(ours(x), expected) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("size", [V1, V2])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("conv_mlp", [False, True])
def test_output_stride(size, output_stride, conv_mlp):
    """Dilated where it no longer shrinks: at odd sizes too, where the padding has two different sides."""
    ours = randomise(build(size, output_stride=output_stride))
    theirs = TimmConvNeXt(
        depths=DEPTHS,
        dims=DIMS,
        num_classes=7,
        output_stride=output_stride,
        conv_mlp=conv_mlp,
        use_grn=size.use_grn,
        ls_init_value=size.layer_scale_init_value or None,
    )
    lend(ours.state_dict(), theirs, TIMM)
    assert ours.strides == [entry["reduction"] for entry in theirs.feature_info]
    for height, width in ((64, 96), (92, 70)):
        x = image(2, 3, height, width)
        assert difference(ours(x), theirs(x)) < 1e-5
    single, double = agree(ours, theirs, image(2, 3, 92, 70))
    assert single < 1e-5
    assert double < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("name", ["convnext_tiny", "convnext_nano", "convnextv2_nano", *OTHERS])
@pytest.mark.parametrize("output_stride", [8, 32])
def test_feature_maps(name, output_stride):
    model = randomise(create_model(name, depths=DEPTHS, dims=DIMS, output_stride=output_stride, num_classes=0))
    assert isinstance(model, ConvNeXt)
    whole = timm.create_model(name, depths=DEPTHS, dims=DIMS, output_stride=output_stride, num_classes=0)
    lend(model.state_dict(), whole, timm_rules(CONFIGS[name]))
    theirs = timm.create_model(
        name, depths=DEPTHS, dims=DIMS, output_stride=output_stride, features_only=True, out_indices=(0, 1, 2, 3)
    )
    stages = {n: value for n, value in whole.state_dict().items() if not n.startswith(("head.", "norm_pre."))}
    theirs.load_state_dict({n.replace("stages.", "stages_").replace("stem.", "stem_"): v for n, v in stages.items()})
    theirs.eval()
    ours = FeatureMaps(model, norm=False).eval()
    info: Any = theirs.feature_info
    assert ours.channels == info.channels()
    assert ours.strides == info.reduction()
    x = image(2, 3, 64, 96)
    for given, expected in zip(ours(x), theirs(x), strict=True):
        assert difference(given, expected) < 1e-5
    for given, expected in zip(ours.double()(x.double()), theirs.double()(x.double()), strict=True):
        assert difference(given, expected) < 1e-12


@torch.no_grad()
@pytest.mark.parametrize("name", ["convnext_tiny_hnf", "convnext_zepto_rms_ols"])
@pytest.mark.parametrize("shape", [(64, 96), (92, 70), (65, 127)])
def test_features(name, shape):
    """At odd sizes too; and the tokens of a norm in front of pooling are timm's unpooled features."""
    ours, theirs = pair(name)
    assert isinstance(ours, ConvNeXt)
    ours, theirs, x = ours.double(), theirs.double(), image(2, 3, *shape).double()
    expected: Any = theirs.forward_features(x)
    given = ours.forward_features(x)
    assert difference(given, expected) < 1e-12
    assert difference(ours.forward_head(given, pre_logits=True), theirs.forward_head(expected, pre_logits=True)) < 1e-12
    if ours.size.head_norm_first:
        assert difference(ours.forward_tokens(x)[1], expected.flatten(2).mT) < 1e-12
    assert [dict(info) for info in ours.feature_info] == [dict(info) for info in theirs.feature_info]
    for indices in (None, 2, [1, 3]):
        last, maps = ours.forward_intermediates(x, indices)
        their_last, their_maps = theirs.forward_intermediates(x, indices)
        assert difference(last, their_last) < 1e-12
        for one, other in zip(maps, their_maps, strict=True):
            assert difference(one, other) < 1e-12


def test_drop_path_rates():
    """Training draws from other generators, but every block is dropped at the same rate."""
    ours = build(V1, drop_path_rate=0.4)
    theirs: Any = TimmConvNeXt(depths=DEPTHS, dims=DIMS, drop_path_rate=0.4)
    rates = [getattr(block.drop_path, "drop_prob", 0.0) for stage in theirs.stages for block in stage.blocks]
    assert [block.drop_path.rate for block in ours.block_list()] == pytest.approx(rates)
