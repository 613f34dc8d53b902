"""Detectors of the published sizes: names, shapes, parameters, multiply-accumulates and depths. Nothing has values.

Sources: the official configurations (object_detection/configs/convnext), the names in the published checkpoints, the
paper's Table 3.
"""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
import torch

from convnext.core.errors import UserError
from convnext.models.config import ModelConfig, dense_backbone
from convnext.models.create import count_parameters
from convnext.models.detection.build import build_detector, count_detector_macs, create_detector
from convnext.models.detection.config import (
    CASCADE_ROI,
    CASCADE_RPN,
    DetectorConfig,
    RoIConfig,
    RPNConfig,
    cascade_mask_rcnn,
    detector_config,
    mask_rcnn,
)
from convnext.models.detection.rcnn import RCNN

Shapes = dict[str, tuple[int, ...]]

KINDS = {"mask_rcnn": mask_rcnn, "cascade_mask_rcnn": cascade_mask_rcnn}


def make(name: str) -> RCNN:
    """With COCO's 80 classes, on the meta device."""
    with torch.device("meta"):
        return build_detector(detector_config(name, num_classes=80))


def both(name: str, weight: tuple[int, ...]) -> Shapes:
    """A layer with a bias."""
    return {f"{name}.weight": weight, f"{name}.bias": weight[:1]}


# ConvNeXt-T: 3, 3, 9, 3 blocks of 9 tensors each
BLOCKS = {
    (stage, j): dim for stage, (depth, dim) in enumerate([(3, 96), (3, 192), (9, 384), (3, 768)]) for j in range(depth)
}


def backbone() -> Shapes:
    dims = [96, 192, 384, 768]
    shapes = both("downsample_layers.0.0", (96, 3, 4, 4)) | both("downsample_layers.0.1", (96,))
    for i in (1, 2, 3):
        shapes |= both(f"downsample_layers.{i}.0", (dims[i - 1],))
        shapes |= both(f"downsample_layers.{i}.1", (dims[i], dims[i - 1], 2, 2))
    for (stage, j), dim in BLOCKS.items():
        block = f"stages.{stage}.{j}"
        shapes |= both(f"{block}.dwconv", (dim, 1, 7, 7)) | both(f"{block}.norm", (dim,)) | {f"{block}.gamma": (dim,)}
        shapes |= both(f"{block}.pwconv1", (4 * dim, dim)) | both(f"{block}.pwconv2", (dim, 4 * dim))
    for i, dim in enumerate(dims):
        shapes |= both(f"norm{i}", (dim,))
    return {f"backbone.{name}": shape for name, shape in shapes.items()}


def pyramid_and_proposals() -> Shapes:
    shapes: Shapes = {}
    for i, dim in enumerate((96, 192, 384, 768)):
        shapes |= both(f"neck.lateral_convs.{i}.conv", (256, dim, 1, 1))
        shapes |= both(f"neck.fpn_convs.{i}.conv", (256, 256, 3, 3))
    shapes |= both("rpn_head.rpn_conv", (256, 256, 3, 3))
    return shapes | both("rpn_head.rpn_cls", (3, 256, 1, 1)) | both("rpn_head.rpn_reg", (12, 256, 1, 1))


def region_heads(box: str, mask: str, *, convs: int, fcs: int) -> Shapes:
    shapes: Shapes = {}
    for i in range(convs):
        shapes |= {f"{box}.shared_convs.{i}.conv.weight": (256, 256, 3, 3)}
        shapes |= {
            f"{box}.shared_convs.{i}.bn.{part}": (256,) for part in ("weight", "bias", "running_mean", "running_var")
        }
        shapes |= {f"{box}.shared_convs.{i}.bn.num_batches_tracked": ()}
    for i in range(fcs):
        shapes |= both(f"{box}.shared_fcs.{i}", (1024, 256 * 7 * 7 if i == 0 else 1024))
    shapes |= both(f"{box}.fc_cls", (81, 1024)) | both(f"{box}.fc_reg", (320, 1024))
    for i in range(4):
        shapes |= both(f"{mask}.convs.{i}.conv", (256, 256, 3, 3))
    return shapes | both(f"{mask}.upsample", (256, 256, 2, 2)) | both(f"{mask}.conv_logits", (80, 256, 1, 1))


def mask_rcnn_shapes() -> Shapes:
    heads = region_heads("roi_head.bbox_head", "roi_head.mask_head", convs=0, fcs=2)
    return backbone() | pyramid_and_proposals() | heads


def cascade_shapes() -> Shapes:
    shapes = backbone() | pyramid_and_proposals()
    for i in range(3):
        shapes |= region_heads(f"roi_head.bbox_head.{i}", f"roi_head.mask_head.{i}", convs=4, fcs=1)
    return shapes


@pytest.mark.parametrize(
    ("name", "expected", "count"),
    [("mask_rcnn", mask_rcnn_shapes(), 228), ("cascade_mask_rcnn", cascade_shapes(), 334)],
)
def test_official_names_and_shapes(name, expected, count):
    """228 and 334 tensors are in the published checkpoints' `state_dict`."""
    assert len(expected) == count
    assert {key: tuple(value.shape) for key, value in make(f"{name}_convnext_tiny").state_dict().items()} == expected


@pytest.mark.parametrize(
    ("name", "parameters", "published"),
    [
        ("mask_rcnn_convnext_tiny", 48_095_376, 262),
        ("cascade_mask_rcnn_convnext_tiny", 85_930_578, 741),
        ("cascade_mask_rcnn_convnext_small", 107_565_138, 827),
        ("cascade_mask_rcnn_convnext_base", 145_800_242, 964),
        ("cascade_mask_rcnn_convnext_large", 254_710_770, 1354),
        ("cascade_mask_rcnn_convnext_xlarge", 406_875_058, 1898),
    ],
)
def test_published_cost(name, parameters, published):
    """Parameters exactly; multiply-accumulates, in G at 800 x 1280, within half a percent of the paper's."""
    detector = make(name)
    assert count_parameters(detector) == parameters
    assert count_detector_macs(detector) / 1e9 == pytest.approx(published, rel=0.005)


# Cost

SMALL = ModelConfig("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))


def small(*, masks: bool = True, kind: str = "mask_rcnn") -> RCNN:
    config = KINDS[kind](SMALL, num_classes=3)
    return build_detector(replace(config, width=16, masks=masks, roi=replace(config.roi, width=32)))


def test_cost_of_heads_by_hand():
    """Each proposal costs the linear layers of the box head, each drawn object the mask head's convolutions."""
    detector = small()
    base = count_detector_macs(detector, (64, 96), proposals=0, masks=0)
    box = 16 * 49 * 32 + 32 * 32 + 32 * 4 + 32 * 12
    mask = 14 * 14 * 4 * 9 * 16 * 16 + 28 * 28 * (16 * 16 + 16 * 3)
    assert count_detector_macs(detector, (64, 96), proposals=7, masks=0) - base == 7 * box
    assert count_detector_macs(detector, (64, 96), proposals=0, masks=5) - base == 5 * mask
    assert count_detector_macs(small(masks=False), (64, 96), proposals=7, masks=5) - base == 7 * box
    cascade = small(kind="cascade_mask_rcnn")
    base = count_detector_macs(cascade, (64, 96), proposals=0, masks=0)
    assert count_detector_macs(cascade, (64, 96), proposals=0, masks=5) - base == 3 * 5 * mask


def test_counting_leaves_the_detector_alone():
    detector = small(kind="cascade_mask_rcnn").train()
    before = copy.deepcopy(detector.state_dict())
    count_detector_macs(detector, (64, 64), proposals=2, masks=2)
    assert all(module.training for module in detector.modules())
    assert {value.device.type for value in detector.state_dict().values()} == {"cpu"}
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())
    assert all(parameter.requires_grad for parameter in detector.parameters())


# Depths


def official_depth(name: str, depths: tuple[int, ...], last: int) -> int:
    """The "layer_wise" table of the official layer_decay_optimizer_constructor.py; last: 6 for T, 12 for others."""
    inner = name.removeprefix("backbone.")
    if inner.startswith("downsample_layers"):
        return (0, 2, 3, last)[int(inner.split(".")[1])]
    if inner.startswith("stages"):
        stage, block = (int(part) for part in inner.split(".")[1:3])
        assert block < depths[stage]
        return (1, 2, 3 + block // 3, last)[stage]
    return last + 1


@pytest.mark.parametrize(
    ("size", "depths", "last"), [("tiny", (3, 3, 9, 3), 6), ("small", (3, 3, 27, 3), 12), ("xlarge", (3, 3, 27, 3), 12)]
)
@pytest.mark.parametrize("kind", KINDS)
def test_official_depths(kind, size, depths, last):
    detector = make(f"{kind}_convnext_{size}")
    expected = {name: official_depth(name, depths, last) for name, _ in detector.named_parameters()}
    assert detector.depth_ids() == expected
    if size == "tiny" and kind == "mask_rcnn":  # how many tensors of each depth, counted by hand
        counts = [list(expected.values()).count(depth) for depth in range(8)]
        # stem 4; 3 blocks of 9; with 4 of a downsampling layer: stage 1, the first third of stage 2, stage 3
        assert counts == [4, 27, 31, 31, 27, 27, 31, 8 + 42]  # 4 norms; pyramid 16, proposals 6, regions 8 + 12


# Configurations


def test_configurations_of_kinds():
    one, cascade = (detector_config(f"{kind}_convnext_tiny", num_classes=80) for kind in KINDS)
    assert (one.rpn, one.roi) == (RPNConfig(), RoIConfig())
    assert (cascade.rpn, cascade.roi) == (CASCADE_RPN, CASCADE_ROI)
    for config in (one, cascade):
        assert config.backbone == ModelConfig("convnext_tiny", layer_scale_init_value=1.0)
        assert (config.num_classes, config.width, config.masks) == (80, 256, True)
    assert detector_config("cascade_mask_rcnn_resnet50", num_classes=3).backbone.name == "resnet50"


def test_configured_settings_arrive():
    detector = small(masks=False, kind="cascade_mask_rcnn")
    assert detector.num_classes == 3
    assert detector.neck.width == 16
    assert detector.rpn_head.config == CASCADE_RPN
    assert detector.roi_head.config == replace(CASCADE_ROI, width=32)
    assert detector.roi_head.mask_stages == []
    assert detector.rpn_head.strides == [4, 8, 16, 32, 64]
    assert detector.roi_head.strides == [4, 8, 16, 32]


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        ("convnext_base", 1.0),
        ("dinov3_convnext_tiny", 1.0),
        ("convnextv2_tiny", None),
        ("resnet50", None),
        ("swin_tiny", None),
    ],
)
def test_dense_backbone(name, scale):
    """Layer scale begins at 1, as in the official configurations, where there is one."""
    assert dense_backbone(name, drop_path_rate=0.4) == ModelConfig(
        name, drop_path_rate=0.4, layer_scale_init_value=scale
    )


@pytest.mark.parametrize("name", ["convnext_tiny", "mask_rcnn", "rcnn_convnext_tiny", "mask_rcnnconvnext_tiny"])
def test_names_that_are_no_detector_s(name):
    with pytest.raises(ValueError, match=f"begins with one of mask_rcnn, cascade_mask_rcnn.* not {name}"):
        detector_config(name, num_classes=3)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (DetectorConfig(SMALL), "num_classes is 1 or more"),
        (mask_rcnn(ModelConfig("convnext_tinny"), num_classes=3), "no model 'convnext_tinny'"),
        (mask_rcnn(ModelConfig("vit_small"), num_classes=3), "vit_small has no four maps"),
        (
            mask_rcnn(ModelConfig("convnext_isotropic_small"), num_classes=3),
            "convnext_isotropic_small has no four maps",
        ),
        (mask_rcnn(ModelConfig("resnet50", kernel_size=5), num_classes=3), "leave kernel_size unset"),
        (
            replace(mask_rcnn(SMALL, num_classes=3), roi=RoIConfig(ious=(0.5, 0.6))),
            "ious, stds and weights have one entry for each stage",
        ),
    ],
)
def test_errors(config, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        build_detector(config)


# By name


@pytest.mark.parametrize(
    ("name", "stages", "masks"),
    [
        ("mask_rcnn_convnext_tiny", 1, True),
        ("cascade_mask_rcnn_convnext_small", 3, True),
        ("faster_rcnn_convnextv2_atto", 1, False),
        ("faster_rcnn_swin_tiny", 1, False),
        ("mask_rcnn_resnet50", 1, True),
    ],
)
def test_create_detector(name, stages, masks):
    with torch.device("meta"):
        model = create_detector(name, num_classes=7, drop_path_rate=0.2)
    assert (model.num_classes, len(model.roi_head.box_stages)) == (7, stages)
    assert len(model.roi_head.mask_stages) == (stages if masks else 0)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("mask_rcnn_convnext_tinny", "no detector 'mask_rcnn_convnext_tinny'. Did you mean 'mask_rcnn_convnext_tiny'"),
        ("convnext_tiny", r"no detector 'convnext_tiny'.*head \(mask_rcnn, cascade_mask_rcnn, faster_rcnn\)"),
        ("mask_rcnn_vit_small", "no detector"),
    ],
)
def test_unknown_detectors(name, message):
    with pytest.raises(UserError, match=message):
        create_detector(name, num_classes=7)


def test_a_detector_without_classes_is_refused():
    with pytest.raises(UserError, match="num_classes is 1 or more"):
        create_detector("mask_rcnn_convnext_tiny", num_classes=0)
