"""The six published segmenters: names, parameters, costs. H W space."""

from __future__ import annotations

import re

import pytest
import torch

from convnext.core.errors import UserError
from convnext.models.config import dense_backbone
from convnext.models.segmentation.build import build_segmenter, count_segmenter_macs, create_segmenter
from convnext.models.segmentation.config import SegmenterConfig

# Paper, Table 4: multiply-accumulates in G at that size; parameters in M as the released models have them
PUBLISHED = [
    ("tiny", (512, 2048), 939, 60.24),
    ("small", (512, 2048), 1027, 81.88),
    ("base", (512, 2048), 1170, 122.1),
    ("base", (640, 2560), 1828, 122.1),
    ("large", (640, 2560), 2458, 235.0),
    ("xlarge", (640, 2560), 3335, 391.1),
]


def build(size: str):
    with torch.device("meta"):
        return build_segmenter(SegmenterConfig(dense_backbone(f"convnext_{size}"), num_classes=150))


@pytest.mark.parametrize(("size", "pixels", "macs", "parameters"), PUBLISHED)
def test_costs_are_the_published_ones(size, pixels, macs, parameters):
    model = build(size)
    assert count_segmenter_macs(model, pixels) / 1e9 == pytest.approx(macs, rel=0.005)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(parameters, rel=0.005)


def test_names_are_those_of_the_official_checkpoints():
    names = {name: tuple(value.shape) for name, value in build("tiny").state_dict().items()}
    of_heads = [name for name in names if not name.startswith("backbone.")]
    layers = {re.sub(r"\.(weight|bias|running_mean|running_var|num_batches_tracked)$", "", name) for name in of_heads}
    blocks = [f"decode_head.psp_modules.{i}.1" for i in range(4)]
    blocks += [f"decode_head.{kind}_convs.{i}" for kind in ("lateral", "fpn") for i in range(3)]
    blocks += ["decode_head.bottleneck", "decode_head.fpn_bottleneck", "auxiliary_head.convs.0"]
    expected = {f"{block}.{part}" for block in blocks for part in ("conv", "bn")}
    assert layers == expected | {"decode_head.conv_seg", "auxiliary_head.conv_seg"}
    assert len(of_heads) == 6 * len(blocks) + 4
    assert names["decode_head.bottleneck.conv.weight"] == (512, 768 + 4 * 512, 3, 3)
    assert names["decode_head.fpn_bottleneck.conv.weight"] == (512, 2048, 3, 3)
    assert names["auxiliary_head.convs.0.conv.weight"] == (256, 384, 3, 3)
    assert names["decode_head.conv_seg.weight"] == (150, 512, 1, 1)


def test_one_class_is_refused():
    with pytest.raises(UserError, match="2 to 255"):
        build_segmenter(SegmenterConfig(dense_backbone("convnext_tiny"), num_classes=1))


@pytest.mark.parametrize(
    ("name", "head", "auxiliary", "frozen"),
    [
        ("upernet_convnext_tiny", "UPerHead", True, False),
        ("mlp_swin_tiny", "MLPHead", False, False),
        ("linear_convnextv2_atto", "LinearHead", False, True),
    ],
)
def test_create_segmenter(name, head, auxiliary, frozen):
    with torch.device("meta"):
        model = create_segmenter(name, num_classes=7, in_chans=4)
        assert model.eval()(torch.empty(1, 4, 64, 96)).shape == (1, 7, 64, 96)
    assert (type(model.decode_head).__name__, model.auxiliary_head is not None, model.frozen) == (
        head,
        auxiliary,
        frozen,
    )


def test_unknown_segmenters():
    with pytest.raises(UserError, match=r"'uppernet_convnext_tiny'\. Did you mean 'upernet_convnext_tiny'"):
        create_segmenter("uppernet_convnext_tiny", num_classes=7)
    with pytest.raises(UserError, match="2 to 255"):
        create_segmenter("upernet_convnext_tiny", num_classes=1)
