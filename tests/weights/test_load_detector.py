"""Detectors from files: ours, the official layout, the published names; weights to start from; refusals in words."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from convnext.core.errors import UserError
from convnext.core.network import NotReached
from convnext.data.config import InputConfig
from convnext.data.detection.config import DetectionInputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import (
    CASCADE_ROI,
    DetectorConfig,
    RoIConfig,
    RPNConfig,
    cascade_mask_rcnn,
    detector_config,
)
from convnext.models.detection.rcnn import RCNN
from convnext.tasks.choose import find_weights, read_metadata
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.verify import verify
from convnext.tasks.classification.weights import load_model
from convnext.tasks.detection.published import coco_categories, published
from convnext.tasks.detection.recipe import DetectionMetadata
from convnext.tasks.detection.spec import DETECTION
from convnext.tasks.detection.weights import (
    describe_detector,
    find_detector_file,
    holds_detector,
    load_detector,
    load_initial_detector,
    recognise_detector,
)
from convnext.tasks.segmentation.weights import load_segmenter
from convnext.weights import locate as locating
from convnext.weights.files import save_model
from painted import INPUT, SMALL

CARD = DetectionMetadata(SMALL, INPUT, ("box", "Größe"), (3, 7), note='{"box_AP": 0.5}')
ATTO = ModelConfig("convnext_atto")
KINDS = {
    "mask": DetectorConfig(ATTO, num_classes=5, width=16, roi=RoIConfig(width=16, mask_convs=2)),
    "boxes": DetectorConfig(ATTO, num_classes=5, width=16, masks=False, roi=RoIConfig(width=16)),
    "cascade": replace(
        cascade_mask_rcnn(ModelConfig("convnextv2_atto"), num_classes=5),
        width=16,
        roi=replace(CASCADE_ROI, width=16, convs=2, mask_convs=1),
    ),
    "cascade of one box a region": replace(
        cascade_mask_rcnn(ATTO, num_classes=5),
        width=16,
        roi=replace(CASCADE_ROI, width=16, class_agnostic=True, convs=1, mask_convs=1),
    ),
    "cascade of boxes": replace(
        cascade_mask_rcnn(ATTO, num_classes=80), width=16, masks=False, roi=replace(CASCADE_ROI, width=16)
    ),
}
"""Detectors whose settings can be told from their weights."""


def config_of(source: str | Path) -> DetectorConfig:
    return describe_detector(find_detector_file(source))[0].model


def made(config: DetectorConfig, *, seed: int = 0) -> RCNN:
    """A detector with no two tensors alike."""
    torch.manual_seed(seed)
    model = build_detector(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.add_(0.02 * torch.randn_like(value))
        for head in model.roi_head.box_stages:
            head.fc_cls.weight.normal_(std=3)  # some scores must be high enough to be shown
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(one: dict[str, Tensor], two: dict[str, Tensor]) -> bool:
    return set(one) == set(two) and all(torch.equal(one[name], two[name]) for name in one)


@torch.inference_mode()
def answers(model: RCNN) -> list[Tensor]:
    images = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(5))
    (found,) = model(images, [(64, 90)])
    assert len(found.boxes) > 0
    return [value for value in found if value is not None]


def official_file(path: Path, state: dict[str, Tensor]) -> Path:
    """As mmdetection saves: with what it was made by, beside the weights."""
    meta = {"mmdet_version": "2.11.0", "config": "model = dict(type='MaskRCNN')", "CLASSES": ("a", "b"), "epoch": 36}
    torch.save({"state_dict": state, "meta": meta, "optimizer": {"param_groups": []}}, path)
    return path


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("run") / "best.safetensors"
    save_model(path, made(SMALL).state_dict(), CARD)
    return path


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the small detector's backbone."""
    config = replace(SMALL.backbone, num_classes=4)
    path = tmp_path_factory.mktemp("classifier") / "model.safetensors"
    save_model(path, from_config(config).state_dict(), ClassificationMetadata(config, InputConfig(size=64)))
    return path


@pytest.fixture(scope="module")
def mask_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return official_file(tmp_path_factory.mktemp("official") / "mask.pth", weights(made(KINDS["mask"])))


# Reading


def test_a_file_of_ours_comes_back_whole(ours: Path) -> None:
    model = made(SMALL)
    for source in (ours, str(ours), ours.parent):
        loaded = load_detector(source)
        assert loaded.metadata == read_metadata(ours) == CARD
        assert equal(weights(loaded.model), weights(model))
        assert not loaded.model.training
    assert all(torch.equal(one, two) for one, two in zip(answers(loaded.model), answers(model), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_in_the_official_layout_is_recognised(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, config = made(KINDS[kind]), KINDS[kind]
    path = official_file(tmp_path / "epoch_36.pth", weights(model))
    loaded = load_detector(path)
    assert loaded.metadata.model == config == config_of(path)
    assert loaded.metadata.input == DetectionInputConfig()
    assert equal(weights(loaded.model), weights(model))
    assert all(torch.equal(one, two) for one, two in zip(answers(loaded.model), answers(model), strict=True))
    said = capsys.readouterr().err
    if config.num_classes == 80:
        assert (loaded.metadata.classes, loaded.metadata.category_ids) == coco_categories()
        assert "does not name its 80 classes: COCO's are taken" in said
    else:
        assert loaded.metadata.classes == loaded.metadata.category_ids == ()
        assert said == ""


def test_weights_alone_will_do(mask_file: Path, tmp_path: Path) -> None:
    torch.save(weights(made(KINDS["mask"])), tmp_path / "bare.pth")
    assert equal(weights(load_detector(tmp_path / "bare.pth").model), weights(load_detector(mask_file).model))


# The published seven

ROWS = [
    ("mask_rcnn_convnext_tiny.fb_coco", 46.2, 41.7),
    ("cascade_mask_rcnn_convnext_tiny.fb_coco", 50.4, 43.7),
    ("cascade_mask_rcnn_convnext_small.fb_coco", 51.9, 45.0),
    ("cascade_mask_rcnn_convnext_base.fb_coco", 52.7, 45.6),
    ("cascade_mask_rcnn_convnext_base_22k.fb_coco", 54.0, 46.9),
    ("cascade_mask_rcnn_convnext_large_22k.fb_coco", 54.8, 47.6),
    ("cascade_mask_rcnn_convnext_xlarge_22k.fb_coco", 55.2, 47.7),
]


def test_the_published_rows() -> None:
    """Table 3 of the paper."""
    rows = list(published().values())
    assert [(row.name, row.box_ap, row.mask_ap) for row in rows] == ROWS
    assert len({row.location for row in rows}) == 7
    for row in rows:
        assert row.location.startswith("https://dl.fbaipublicfiles.com/convnext/coco/")
        kind, size = row.name.removesuffix(".fb_coco").split("_convnext_")
        assert Path(row.location).name.startswith(f"{kind}_convnext_{size.removesuffix('_22k')}")
        assert (row.pretrained_on == "ImageNet-22K") == ("22k" in row.location) == ("22k" in row.name)
        assert row.config == detector_config(f"{kind}_convnext_{size.removesuffix('_22k')}", num_classes=80)
        assert re.fullmatch(DETECTION.name_pattern, row.name)
        assert detector_of_name(row.name) == row.config


def detector_of_name(name: str) -> DetectorConfig:
    return published()[name].config


def test_cocos_categories() -> None:
    names, numbers = coco_categories()
    assert len(names) == len(set(names)) == len(numbers) == 80
    assert list(numbers) == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (1, 90)
    assert set(range(1, 91)) - set(numbers) == {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}
    known = dict(zip(numbers, names, strict=True))
    assert [known[i] for i in (1, 3, 18, 44, 62, 90)] == ["person", "car", "dog", "bottle", "chair", "toothbrush"]


def test_a_published_name_downloads_and_says_where_it_is_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = published()["mask_rcnn_convnext_tiny.fb_coco"]
    with torch.device("meta"):
        shapes = build_detector(row.config).state_dict()
    state = {name: torch.zeros(()).expand(value.shape) for name, value in shapes.items()}
    path, asked = official_file(tmp_path / "mask_rcnn_convnext_tiny_1k_3x.pth", state), []

    def download(url: str, *, sha256: str) -> Path:
        asked.append(url)
        return path

    monkeypatch.setattr(locating, "download", download)
    loaded = load_detector(row.name)
    assert asked == [row.location]
    assert loaded.metadata.source == "mask_rcnn_convnext_tiny.fb_coco (MIT)"
    assert (loaded.metadata.classes, loaded.metadata.category_ids) == coco_categories()
    assert config_of(row.name) == row.config
    with pytest.raises(UserError, match=r"does not fit the model: unexpected roi_head\.bbox_head\."):
        load_detector("cascade_mask_rcnn_convnext_tiny.fb_coco")  # another file than the name says


# Which is which


def test_detectors_and_classifiers_are_told_apart(
    ours: Path, classifier: Path, mask_file: Path, tmp_path: Path
) -> None:
    torch.save({"model": from_config(replace(ATTO, num_classes=3)).state_dict()}, tmp_path / "c.pth")
    assert all(find_weights(source)[0].name == "detect" for source in (ours, ours.parent, mask_file))
    others = (classifier, classifier.parent, tmp_path / "c.pth")
    assert all(find_weights(source)[0].name == "classify" for source in others)
    assert config_of(ours) == SMALL
    assert not holds_detector(find_detector_file(classifier))
    for nothing in ("no/run", "mask_rcnn_convnext_tinny.fb_coco", tmp_path):
        with pytest.raises(UserError):
            find_weights(nothing)


def test_the_wrong_kind_is_refused_in_words(ours: Path, classifier: Path, mask_file: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"best\.safetensors holds no classifier: `convnext\.load` loads"):
        load_model(ours)
    with pytest.raises(UserError, match=r"model\.safetensors holds no detector: `convnext\.load` loads"):
        load_detector(classifier)
    torch.save({"model": from_config(replace(ATTO, num_classes=3)).state_dict()}, tmp_path / "c.pth")
    with pytest.raises(UserError, match=r"c\.pth holds no Mask R-CNN or Cascade Mask R-CNN"):
        load_detector(tmp_path / "c.pth")


# What does not fit is named


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"neck.fpn_convs.2.conv.weight": None}, r"neck\.fpn_convs\.2\.conv\.weight"),
        ({"backbone.norm1.bias": None}, r"backbone\.norm1\.bias"),
        ({"roi_head.mask_head.upsample.weight": None}, r"roi_head\.mask_head\.upsample\.weight"),
        ({"roi_head.bbox_head.shared_fcs.2.weight": torch.zeros(4, 4)}, r"shared_fcs\.2"),
        ({"roi_head.semantic_head.weight": torch.zeros(4)}, r"roi_head\.semantic_head\.weight"),
        ({"rpn_head.rpn_reg.weight": torch.zeros(12, 16, 3, 3)}, r"rpn_head\.rpn_reg\.weight"),
        ({"rpn_head.rpn_conv.weight": torch.zeros(3)}, r"rpn_head\.rpn_conv\.weight"),
        ({"roi_head.bbox_head.fc_cls.weight": torch.zeros(16)}, r"roi_head\.bbox_head\.fc_cls\.weight"),
        ({"roi_head.bbox_head.fc_cls.weight": None}, r"no roi_head\.bbox_head\.fc_cls\.weight"),
        ({"neck.lateral_convs.0.conv.weight": torch.zeros(())}, r"no neck\.lateral_convs\.0\.conv\.weight"),
        ({"roi_head.bbox_head.shared_fcs.0.weight": None}, r"no roi_head\.bbox_head\.shared_fcs\.0\.weight"),
        ({"rpn_head.rpn_conv.weight": None}, r"there is no rpn_head\.rpn_conv\.weight"),
        ({"backbone.stages.2.5.gamma": None}, r"backbone\.stages\.2\.5\.gamma"),
        ({"backbone.downsample_layers.2.1.weight": None}, r"downsample_layers\.2\.1\.weight"),
    ],
)
def test_what_is_missing_too_much_or_misshapen_is_named(
    change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    state = {**weights(made(KINDS["mask"])), **change}
    path = official_file(tmp_path / "odd.pth", {name: v for name, v in state.items() if v is not None})
    with pytest.raises(UserError, match=message) as error:
        load_detector(path)
    assert "odd.pth" in str(error.value)


@pytest.mark.parametrize("shape", [(0, 16), (1, 16), (10**9, 16)])
def test_impossible_numbers_of_classes_are_refused(shape: tuple[int, int], tmp_path: Path) -> None:
    state = weights(made(KINDS["boxes"]))
    state["roi_head.bbox_head.fc_cls.weight"] = torch.zeros(()).expand(shape)
    with pytest.raises(UserError):
        load_detector(official_file(tmp_path / "odd.pth", state))


# To start from


def test_a_detector_of_the_same_classes_is_taken_whole(ours: Path) -> None:
    model = made(SMALL, seed=1)
    assert load_initial_detector(model, ours) == []
    assert equal(weights(model), weights(made(SMALL)))


@pytest.mark.parametrize("classes", [1, 3])
def test_outputs_start_fresh_where_the_classes_are_others(ours: Path, classes: int) -> None:
    model = made(replace(SMALL, num_classes=classes), seed=1)
    before, given = weights(model), weights(made(SMALL))
    (said,) = load_initial_detector(model, ours)
    assert "depends on the classes" in said
    after = weights(model)
    outputs = {f"roi_head.{part}.{end}" for part in PARTS_OF_CLASSES for end in ("weight", "bias")}
    assert all(torch.equal(after[name], before[name]) for name in outputs)
    assert all(torch.equal(after[name], given[name]) for name in set(after) - outputs)


PARTS_OF_CLASSES = ("bbox_head.fc_cls", "bbox_head.fc_reg", "mask_head.conv_logits")


def test_masks_can_be_left_off_or_begun(ours: Path, tmp_path: Path) -> None:
    """Data with boxes alone, from a detector with masks; and the other way about."""
    boxes = made(replace(SMALL, masks=False), seed=1)
    assert load_initial_detector(boxes, ours) == []
    given = weights(made(SMALL))
    assert equal(weights(boxes), {name: value for name, value in given.items() if ".mask_head." not in name})
    save_model(tmp_path / "boxes.safetensors", boxes.state_dict(), replace(CARD, model=replace(SMALL, masks=False)))
    model = made(SMALL, seed=2)
    before = weights(model)
    assert load_initial_detector(model, tmp_path / "boxes.safetensors") == ["the mask head"]
    expected = {name: (before if ".mask_head." in name else given)[name] for name in before}
    assert equal(weights(model), expected)


def test_a_classifier_becomes_the_backbone(classifier: Path, tmp_path: Path) -> None:
    model = made(SMALL, seed=1)
    before, given = weights(model), weights(load_model(classifier).model)
    assert load_initial_detector(model, classifier) == ["everything behind the backbone"]
    for name, value in weights(model).items():
        inner = name.removeprefix("backbone.")
        assert torch.equal(value, given[inner] if inner in given else before[name]), name
    taken = {name for name in given if not name.startswith(("norm.", "head."))}
    assert taken == {n.removeprefix("backbone.") for n in before if "backbone." in n and "backbone.norm" not in n}


def test_weights_of_another_detector_or_backbone_are_refused(ours: Path, classifier: Path, mask_file: Path) -> None:
    with pytest.raises(UserError, match=r"mask\.pth does not fit"):
        load_initial_detector(made(SMALL), mask_file)
    deeper = replace(SMALL, backbone=replace(SMALL.backbone, depths=(1, 1, 2, 1)))
    for source in (ours, classifier):
        with pytest.raises(UserError, match=r"stages\.2\.1\."):
            load_initial_detector(build_detector(deeper), source)
    cascade = replace(SMALL, roi=replace(CASCADE_ROI, width=16, convs=0, fcs=2, mask_convs=1))
    with pytest.raises(UserError, match=r"bbox_head\."):
        load_initial_detector(build_detector(cascade), ours)


def test_settings_that_weights_do_not_show_are_the_official_ones() -> None:
    with torch.device("meta"):
        state = build_detector(KINDS["mask"]).state_dict()
    found = recognise_detector(state, "x")
    assert (found.rpn, found.roi.score, found.roi.nms_iou) == (RPNConfig(), 0.05, 0.5)


def test_names_that_another_loader_knows_are_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before anything is fetched; "there are no published weights" would not be true of them."""
    monkeypatch.setenv("CONVNEXT_OFFLINE", "1")
    detector, segmenter = "mask_rcnn_convnext_tiny.fb_coco", "upernet_convnext_tiny.fb_ade20k"
    for load, name, kind in (
        (load_model, detector, "detector"),
        (load_model, segmenter, "segmenter"),
        (load_detector, segmenter, "segmenter"),
        (load_segmenter, detector, "detector"),
    ):
        with pytest.raises(UserError, match=f"^{name} is a published {kind}: `convnext.load` knows"):
            load(name)
    with pytest.raises(UserError, match=f"^{detector} is a published detector: classifiers alone are verified"):
        verify(detector, data="x")
    with pytest.raises(NotReached, match=r"A file of weights that is on this machine .* CONVNEXT_MIRROR"):
        find_weights(detector)
