"""Outputs of weights to start from: kept where the classes are the data's by name, in any order; else new."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convnext.core.errors import UserError
from convnext.data.config import InputConfig
from convnext.data.detection.config import DetectionInputConfig
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.models.detection.build import build_detector
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.weights import load_initial, load_model
from convnext.tasks.detection.recipe import DetectionMetadata
from convnext.tasks.detection.weights import load_initial_detector
from convnext.tasks.heads import class_order, in_order
from convnext.tasks.segmentation.recipe import SegmentationMetadata
from convnext.tasks.segmentation.weights import load_initial_segmenter
from convnext.weights.files import save_model
from painted import SMALL

CLASSES = ("cat", "dog", "emu")
WHOLE = ModelConfig("convnextv2_atto", num_classes=3)
TINY = ModelConfig("convnextv2_atto", num_classes=3, depths=(1, 1, 1, 1), dims=(4, 4, 8, 8))


def test_orders() -> None:
    assert class_order(CLASSES, ("emu", "cat", "dog")) == [2, 0, 1]
    assert class_order(CLASSES, ("emu", "cat", "cow")) is None
    assert class_order((), ()) is None
    assert class_order(("a", "a"), ("a", "a")) is None
    assert in_order(torch.arange(6), [1, 0, 2]).tolist() == [2, 3, 0, 1, 4, 5]
    assert in_order(torch.arange(4), [1, 0, 2]).tolist() == [1, 0, 2, 3]


def randomised(model: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.normal_()
    return model


@pytest.fixture
def classifier(tmp_path: Path) -> Path:
    path = tmp_path / "classifier.safetensors"
    metadata = ClassificationMetadata(TINY, InputConfig(size=32), CLASSES)
    save_model(path, randomised(from_config(TINY)).state_dict(), metadata)
    return path


def test_a_classifier(classifier: Path, capsys: pytest.CaptureFixture[str]) -> None:
    saved = randomised(from_config(TINY)).state_dict()
    model = from_config(TINY)
    assert load_initial(model, classifier, classes=("emu", "cat", "dog")) == []
    assert torch.equal(model.state_dict()["head.weight"], saved["head.weight"][[2, 0, 1]])
    assert "the outputs of its 3 classes are kept: they are the data's, in another order" in capsys.readouterr().err
    model = from_config(TINY)
    assert sorted(load_initial(model, classifier, classes=("emu", "cat", "cow"))) == ["head.bias", "head.weight"]
    assert not torch.equal(model.state_dict()["head.weight"], saved["head.weight"])
    assert torch.equal(model.state_dict()["norm.weight"], saved["norm.weight"])


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_a_stem_of_other_channels(classifier: Path, channels: int, capsys: pytest.CaptureFixture[str]) -> None:
    model = from_config(replace(TINY, in_chans=channels))
    assert load_initial(model, classifier, classes=CLASSES) == []
    assert f"the first layer takes 3 channels; it is adapted to {channels}" in capsys.readouterr().err
    first = randomised(from_config(TINY)).state_dict()["downsample_layers.0.0.weight"]
    adapted = model.state_dict()["downsample_layers.0.0.weight"]
    grey = torch.ones(1, channels, 4, 4) * 0.5
    if channels != 1:
        expected = torch.stack([first[:, i % 3] for i in range(channels)], 1) * (3 / channels)
        torch.testing.assert_close(adapted, expected)
    else:  # a grey image gives what it gave as three equal channels
        before = torch.nn.functional.conv2d(torch.ones(1, 3, 4, 4) * 0.5, first)
        torch.testing.assert_close(torch.nn.functional.conv2d(grey, adapted), before)


def test_a_detector(tmp_path: Path) -> None:
    model = randomised(build_detector(SMALL))
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    path = tmp_path / "d.safetensors"
    save_model(path, saved, DetectionMetadata(SMALL, DetectionInputConfig(), ("box", "disc"), (3, 7)))
    turned = build_detector(SMALL)
    assert load_initial_detector(turned, path, classes=("disc", "box")) == []
    state = turned.state_dict()
    head = "roi_head.bbox_head."
    assert torch.equal(state[f"{head}fc_cls.weight"], saved[f"{head}fc_cls.weight"][[1, 0, 2]])
    assert torch.equal(state[f"{head}fc_reg.bias"], saved[f"{head}fc_reg.bias"][[4, 5, 6, 7, 0, 1, 2, 3]])
    mask = "roi_head.mask_head.conv_logits.weight"
    assert torch.equal(state[mask], saved[mask][[1, 0]])
    other = build_detector(SMALL)
    (words,) = load_initial_detector(other, path, classes=("disc", "ring"))
    assert "every output that depends on the classes" in words
    assert not torch.equal(other.state_dict()[mask], saved[mask])
    assert torch.equal(other.state_dict()[f"{head}shared_fcs.0.weight"], saved[f"{head}shared_fcs.0.weight"])


@pytest.mark.parametrize("head", ["mlp", "linear", "upernet"])
def test_a_segmenter(tmp_path: Path, head: str) -> None:
    config = SegmenterConfig(
        ModelConfig("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16)), 3, head=head, width=3, auxiliary_width=0
    )
    model = randomised(build_segmenter(config))
    saved = {name: value.clone() for name, value in model.state_dict().items()}
    path = tmp_path / "s.safetensors"
    save_model(path, saved, SegmentationMetadata(config, SegmentationInputConfig(), CLASSES))
    turned, other = build_segmenter(config), build_segmenter(config)
    assert load_initial_segmenter(turned, path, classes=("emu", "cat", "dog")) == []
    name = "decode_head.bias" if head == "linear" else "decode_head.conv_seg.weight"
    assert torch.equal(turned.state_dict()[name], saved[name][[2, 0, 1]])
    (words,) = load_initial_segmenter(other, path, classes=("emu", "cat", "cow"))
    assert "the classifier of the head" in words
    if head == "mlp":
        assert torch.equal(other.state_dict()["decode_head.convs.0.weight"], saved["decode_head.convs.0.weight"])
    assert not torch.equal(other.state_dict()[name], saved[name])


def test_names_in_another_unicode_form() -> None:
    assert class_order(("café", "tea"), ("tea", "cafe\u0301")) == [1, 0]


def test_outputs_that_do_not_fit_their_classes() -> None:
    for value in (torch.tensor(1.0), torch.ones(5), torch.ones(0), torch.ones(7)):
        with pytest.raises(UserError, match="outputs of 3 classes and a tensor of"):
            in_order(value, [1, 0, 2])


def test_one_box_for_all_classes_is_not_turned(tmp_path: Path) -> None:
    """Of four classes, a regressor that all share has four rows too: they are coordinates."""
    config = replace(SMALL, num_classes=4, roi=replace(SMALL.roi, class_agnostic=True))
    saved = {name: value.clone() for name, value in randomised(build_detector(config)).state_dict().items()}
    save_model(tmp_path / "d.safetensors", saved, DetectionMetadata(config, DetectionInputConfig(), tuple("abcd")))
    model = build_detector(config)
    assert load_initial_detector(model, tmp_path / "d.safetensors", classes=tuple("dbca")) == []
    state = model.state_dict()
    assert torch.equal(state["roi_head.bbox_head.fc_reg.weight"], saved["roi_head.bbox_head.fc_reg.weight"])
    assert torch.equal(
        state["roi_head.bbox_head.fc_cls.bias"], saved["roi_head.bbox_head.fc_cls.bias"][[3, 1, 2, 0, 4]]
    )


@pytest.mark.parametrize(
    "beside",
    [
        {"class_to_idx": {"emu": 2, "cat": 0, "dog": 1}},
        {"idx_to_class": {"2": "emu", "0": "cat", "1": "dog"}},
        {"classes": list(CLASSES)},
        {"meta": {"CLASSES": CLASSES}},
        {"meta": {"dataset_meta": {"classes": CLASSES}}},
        {"hyper_parameters": {"class_names": list(CLASSES)}},
    ],
)
def test_names_beside_the_weights_of_others(tmp_path: Path, beside: dict[str, object]) -> None:
    saved = randomised(from_config(TINY)).state_dict()
    torch.save({"state_dict": saved, **beside}, tmp_path / "c.pth")
    model = from_config(TINY)
    assert load_initial(model, tmp_path / "c.pth", classes=("emu", "cat", "dog")) == []
    assert torch.equal(model.state_dict()["head.bias"], saved["head.bias"][[2, 0, 1]])


@pytest.mark.parametrize(
    "beside",
    [
        {},
        {"classes": ["a", "b"]},
        {"classes": ["a", "b", "b"]},
        {"classes": [1, 2, 3]},
        {"class_to_idx": {"a": 1, "b": 2, "c": 3}},
        {"class_to_idx": 3},
        {"meta": None},
    ],
)
def test_weights_that_do_not_name_as_many_classes(
    tmp_path: Path, beside: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"state_dict": randomised(from_config(TINY)).state_dict(), **beside}, tmp_path / "c.pth")
    assert sorted(load_initial(from_config(TINY), tmp_path / "c.pth", classes=CLASSES)) == ["head.bias", "head.weight"]
    assert "its classifier is not taken: it is of classes which the weights do not name" in capsys.readouterr().err


def test_names_beside_the_weights_are_a_models_classes(tmp_path: Path) -> None:
    torch.save({"state_dict": from_config(WHOLE).state_dict(), "classes": list(CLASSES)}, tmp_path / "c.pth")
    assert load_model(tmp_path / "c.pth").metadata.classes == CLASSES
