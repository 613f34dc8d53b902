"""Segmenters from files of every layout: recognised, every tensor accounted for."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.data.config import InputConfig
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.tasks.choose import find_weights
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.weights import load_model
from convnext.tasks.detection.weights import load_detector
from convnext.tasks.segmentation.export import save_as as save_dense
from convnext.tasks.segmentation.published import published
from convnext.tasks.segmentation.recipe import SegmentationMetadata
from convnext.tasks.segmentation.spec import SEGMENTATION
from convnext.tasks.segmentation.weights import (
    describe_segmenter,
    find_segmenter_file,
    load_initial_segmenter,
    load_segmenter,
    recognise_segmenter,
    with_official_names,
)
from convnext.weights.files import save_model
from convnext.weights.layouts import MMPRETRAIN, translate

KEYS = Path(__file__).parents[3] / "shared" / "facts" / "keys_upernet_t.json"
TINY = ModelConfig("convnext_atto", layer_scale_init_value=1.0)
CONFIGS = {
    "upernet": SegmenterConfig(TINY, 5, width=16, auxiliary_width=8),
    "no auxiliary": SegmenterConfig(TINY, 5, width=16, auxiliary_width=0),
    "mlp": SegmenterConfig(TINY, 5, head="mlp", width=16, auxiliary_width=0),
    "linear": SegmenterConfig(TINY, 5, head="linear", auxiliary_width=0),
}


def weights(config: SegmenterConfig, seed: int = 0) -> dict[str, Tensor]:
    """Every tensor random."""
    torch.manual_seed(seed)
    state = build_segmenter(config).state_dict()
    return {n: torch.rand_like(v) + 0.5 if v.is_floating_point() else v for n, v in state.items()}


def assert_same(model: torch.nn.Module, state: dict[str, Tensor]) -> None:
    loaded = model.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[name], value) for name, value in state.items())


@pytest.mark.parametrize("name", CONFIGS)
def test_a_file_of_ours(name: str, tmp_path: Path) -> None:
    config, file = CONFIGS[name], tmp_path / "a.safetensors"
    metadata = SegmentationMetadata(
        config, SegmentationInputConfig(short=64), ("a", "b", "c", "d", "e"), ((1, 2, 3),) * 5, (0, 1, 2, 3, 7)
    )
    save_dense(file, weights(config), metadata, layout="convnext")
    assert find_weights(file)[0].name == "segment"
    loaded = load_segmenter(file)
    assert loaded.metadata == metadata
    assert not loaded.model.training
    assert_same(loaded.model, weights(config))
    assert describe_segmenter(find_segmenter_file(file))[1].model == config


@pytest.mark.parametrize("name", CONFIGS)
def test_the_official_layout_is_recognised(name: str, tmp_path: Path) -> None:
    config, file = CONFIGS[name], tmp_path / "a.pth"
    state = weights(config)
    save_dense(
        file,
        state,
        SegmentationMetadata(config, SegmentationInputConfig(), ("a", "b", "c", "d", "e")),
        layout="official",
    )
    loaded = load_segmenter(file)
    assert_same(loaded.model, state)
    known = loaded.metadata.model
    assert (known.head, known.auxiliary_width, known.num_classes) == (config.head, config.auxiliary_width, 5)
    assert loaded.metadata.classes == ("a", "b", "c", "d", "e")


def test_mmsegmentations_own_names(tmp_path: Path) -> None:
    """Its backbones are mmpretrain's; norms of maps and heads are named as officially."""
    config = CONFIGS["upernet"]
    state = weights(config)
    inner = {n.removeprefix("backbone."): v for n, v in state.items() if n.startswith("backbone.")}
    norms = {f"backbone.{n}": v for n, v in inner.items() if n.startswith("norm")}
    layers = translate({n: v for n, v in inner.items() if not n.startswith("norm")}, MMPRETRAIN)
    heads = {n: v for n, v in state.items() if not n.startswith("backbone.")}
    assert any("depthwise_conv" in name for name in layers)
    torch.save({"meta": {}, "state_dict": {**layers, **norms, **heads}}, tmp_path / "a.pth")
    assert_same(load_segmenter(tmp_path / "a.pth").model, state)


def test_transformers_reads_and_is_read(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    config = CONFIGS["upernet"]
    state = weights(config)
    names = ("a", "b", "c", "d", "e")
    how = save_dense(
        tmp_path / "hf", state, SegmentationMetadata(config, SegmentationInputConfig(), names), layout="transformers"
    )
    assert "UperNetForSemanticSegmentation" in how
    theirs = transformers.UperNetForSemanticSegmentation.from_pretrained(tmp_path / "hf").eval()
    assert theirs.config.id2label[4] == "e"
    ours = load_segmenter(tmp_path / "hf" / "model.safetensors")
    assert_same(ours.model, state)
    torch.manual_seed(0)
    images, targets = torch.randn(2, 3, 64, 96), torch.randint(0, 5, (2, 64, 96))
    with torch.no_grad():
        found, expected = ours.model(images), theirs(images, labels=targets)
        losses = ours.model(images, targets)
    assert float((found - expected.logits).abs().max() / expected.logits.abs().max()) < 1e-5
    assert float(losses["pixel"] + losses["auxiliary"]) == pytest.approx(float(expected.loss), rel=1e-5)


def test_the_catalogue() -> None:
    rows = published()
    assert len(rows) == 6
    for row in rows.values():
        assert row.licence
        assert row.location.startswith("https://dl.fbaipublicfiles.com/convnext/ade20k/")
        assert (row.config.num_classes, row.config.head) == (150, "upernet")
        assert row.input.window == row.crop
        assert row.crop == (640 if "22k" in row.name else 512)
        assert row.miou < row.miou_views
        assert find_segmenter_name(row.name)


def find_segmenter_name(name: str) -> bool:
    return re.fullmatch(SEGMENTATION.name_pattern, name) is not None


def test_every_tensor_of_the_official_file_is_accounted_for() -> None:
    """Names and shapes of the official ADE20K file of ConvNeXt-T."""
    if not KEYS.is_file():
        pytest.skip(f"{KEYS} is not here: the published key layouts lie beside the project's root")
    shapes = json.loads(KEYS.read_text())
    state = {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}
    config = recognise_segmenter(with_official_names(state), "the official file")
    with torch.device("meta"):
        expected = build_segmenter(config).state_dict()
    assert {name: list(value.shape) for name, value in expected.items()} == shapes
    assert (config.head, config.num_classes, config.width, config.auxiliary_width) == ("upernet", 150, 512, 256)


def test_every_published_model_is_recognised_from_names_and_shapes() -> None:
    for row in published().values():
        with torch.device("meta"):
            state = build_segmenter(row.config).state_dict()
        found = recognise_segmenter(state, "x")
        backbone = replace(found.backbone, layer_scale_init_value=1.0)  # where it began, weights do not show
        assert replace(found, backbone=backbone) == row.config


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("decode_head.lateral_convs.1.bn.weight"), "missing decode_head.lateral_convs.1.bn.weight"),
        (lambda s: s.update({"decode_head.more": torch.zeros(1)}), "unexpected decode_head.more"),
        (lambda s: s.update({"neck.more": torch.zeros(1)}), "unexpected neck.more"),
        (lambda s: s.update({"backbone.norm2.bias": torch.zeros(1)}), "backbone.norm2.bias has shape"),
        (lambda s: s.pop("backbone.downsample_layers.2.1.weight"), "downsample_layers.2.1.weight"),
        (lambda s: s.update({"decode_head.conv_seg.weight": torch.zeros(5)}), "holds no segmenter known here"),
        (lambda s: s.pop("decode_head.fpn_bottleneck.conv.weight"), "of a kind not known here"),
    ],
)
def test_what_does_not_fit_is_named(change, says: str, tmp_path: Path) -> None:
    state = weights(CONFIGS["upernet"])
    change(state)
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    with pytest.raises(UserError, match=says):
        load_segmenter(tmp_path / "a.pth")


def test_names_that_are_not_there() -> None:
    with pytest.raises(UserError, match="upernet_convnext_base"):
        load_segmenter("upernet_convnext_bas.fb_ade20k")


def test_names_of_another_sort_are_refused() -> None:
    with pytest.raises(UserError, match=r"`convnext\.load` knows those of every task"):
        load_segmenter("mask_rcnn_convnext_tiny.fb_coco")
    with pytest.raises(UserError, match=r"`convnext\.load` knows those of every task"):
        load_detector("upernet_convnext_tiny.fb_ade20k")


def test_a_folder_may_have_the_name_of_another_sort(tmp_path: Path) -> None:
    folder = tmp_path / "mask_rcnn_convnext_tiny"
    folder.mkdir()
    config = CONFIGS["mlp"]
    save_dense(
        folder / "best.safetensors",
        weights(config),
        SegmentationMetadata(config, SegmentationInputConfig()),
        layout="convnext",
    )
    assert find_weights(folder)[0].name == "segment"


def test_cards_are_not_mistaken(tmp_path: Path) -> None:
    config = CONFIGS["mlp"]
    save_dense(
        tmp_path / "s.safetensors",
        weights(config),
        SegmentationMetadata(config, SegmentationInputConfig()),
        layout="convnext",
    )
    model = from_config(ModelConfig("convnext_atto", 2))
    save_model(
        tmp_path / "c.safetensors",
        model.state_dict(),
        ClassificationMetadata(model_config := ModelConfig("convnext_atto", 2), InputConfig()),
    )
    assert model_config.num_classes == 2
    with pytest.raises(UserError, match=r"s\.safetensors holds no classifier: `convnext\.load`"):
        load_model(tmp_path / "s.safetensors")
    with pytest.raises(UserError, match=r"c\.safetensors holds no segmenter: `convnext\.load`"):
        load_segmenter(tmp_path / "c.safetensors")
    assert find_weights(tmp_path / "c.safetensors")[0].name == "classify"


def test_weights_to_start_from(tmp_path: Path) -> None:
    config = CONFIGS["upernet"]
    state = weights(config)
    file = tmp_path / "a.safetensors"
    save_dense(file, state, SegmentationMetadata(config, SegmentationInputConfig()), layout="convnext")
    same = build_segmenter(config)
    assert load_initial_segmenter(same, file) == []
    assert_same(same, state)
    more = build_segmenter(SegmenterConfig(TINY, 9, width=16, auxiliary_width=8))
    notes = load_initial_segmenter(more, file)
    assert [note.split(",")[0] for note in notes] == [
        "the classifier of the head",
        "the classifier of the auxiliary head",
    ]
    assert torch.equal(
        more.state_dict()["decode_head.bottleneck.conv.weight"], state["decode_head.bottleneck.conv.weight"]
    )
    other = build_segmenter(CONFIGS["mlp"])
    notes = load_initial_segmenter(other, file)
    assert notes == ["the head, which is another one there,"]
    assert torch.equal(other.state_dict()["backbone.norm1.weight"], state["backbone.norm1.weight"])
    with_auxiliary = build_segmenter(config)
    plain = tmp_path / "b.safetensors"
    save_dense(
        plain,
        weights(CONFIGS["no auxiliary"]),
        SegmentationMetadata(CONFIGS["no auxiliary"], SegmentationInputConfig()),
        layout="convnext",
    )
    assert load_initial_segmenter(with_auxiliary, plain) == ["the auxiliary head, which is another one there,"]
    assert (tmp_path / "a.safetensors").is_file()
    assert json.loads("[]") == []
