"""Work done here leaves without us: each library loads, by its own means, what was saved for it, and agrees."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torchvision
import transformers
from torch import Tensor, nn

from convnext.core.errors import UserError
from convnext.data.config import InputConfig
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.models.segmentation.config import SegmenterConfig
from convnext.tasks.classification.export import save_as
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.weights import load_model
from convnext.tasks.segmentation.export import save_as as save_segmenter
from convnext.tasks.segmentation.recipe import SegmentationMetadata
from convnext.weights.writing import own_memory, save_pickle

SUFFIX = {"convnext": ".safetensors", "official": ".pth", "torchvision": ".pth"}
DEPTHS, DIMS = (1, 2, 1, 1), (8, 12, 16, 20)
IMAGE = InputConfig(96, "crop", 0.9, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def config(name: str, **changes: Any) -> ModelConfig:
    return ModelConfig(name, **{"num_classes": 3, "depths": DEPTHS, "dims": DIMS, **changes})


def random_model(config: ModelConfig) -> nn.Module:
    torch.manual_seed(0)
    model = from_config(config).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=value[0].numel() ** -0.5 if value.ndim > 1 and value.shape[0] > 1 else 0.5)
    return model


def metadata(config: ModelConfig) -> ClassificationMetadata:
    return ClassificationMetadata(config, IMAGE, ("cat", "Größe", "犬")[: config.num_classes])


@torch.inference_mode()
def same(ours: nn.Module, theirs: Tensor, x: Tensor) -> bool:
    expected = ours(x)
    return theirs.shape == expected.shape and bool((theirs - expected).abs().max() < 1e-5 * expected.abs().max())


X = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    "changes",
    [
        config("convnext_tiny"),
        config("convnext_atto", layer_scale_init_value=0.0),  # no layer scale; linear layers are convolutions there
        config("convnext_tiny", in_chans=3, kernel_size=3),
        config("convnextv2_tiny"),
        config("convnext_pico_ols"),
        config("convnext_tiny_hnf"),
        config("dinov3_convnext_tiny", num_classes=0),
    ],
    ids=lambda config: f"{config.name}-{config.kernel_size}",
)
def test_timm_loads_the_folder(changes: ModelConfig, tmp_path: Path) -> None:
    model = random_model(changes)
    how = save_as(tmp_path / "out", model.state_dict(), metadata(changes), layout="timm")
    theirs = eval(how, {"timm": timm}).eval()  # noqa: S307 - the very line that users are told
    with torch.inference_mode():
        assert same(model, theirs(X), X)
    told = timm.data.resolve_model_data_config(theirs)
    assert (tuple(told["input_size"]), told["crop_pct"], told["crop_mode"]) == ((3, 96, 96), 0.9, "center")
    assert (tuple(told["mean"]), tuple(told["std"]), told["interpolation"]) == (IMAGE.mean, IMAGE.std, "bilinear")


@pytest.mark.parametrize(
    ("name", "classes"),
    [
        ("convnext_tiny", 3),
        ("convnext_tiny", 0),
        ("convnextv2_tiny", 3),
        ("convnextv2_tiny", 0),
        ("dinov3_convnext_tiny", 0),
    ],
)
def test_transformers_loads_the_folder(name: str, classes: int, tmp_path: Path) -> None:
    changes = config(name, num_classes=classes, stem_stride=4 if name.startswith("dinov3") else 2)
    model = random_model(changes)
    how = save_as(tmp_path / "out", model.state_dict(), metadata(changes), layout="transformers")
    theirs = eval(how, {"transformers": transformers}).eval()  # noqa: S307
    with torch.inference_mode():
        output = theirs(X)
    assert same(model, output.logits if classes else output.pooler_output, X)
    if classes:
        assert list(theirs.config.id2label.values()) == ["cat", "Größe", "犬"]
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path / "out")
    assert processor.size["shortest_edge"] == 96
    assert processor.crop_pct == 0.9


@pytest.mark.parametrize(
    "changes",
    [ModelConfig("convnext_tiny", num_classes=3), config("convnext_atto", layer_scale_init_value=0.0)],
    ids=["by name", "by its blocks"],
)
def test_torchvision_loads_the_file(changes: ModelConfig, tmp_path: Path) -> None:
    model = random_model(changes)
    how = save_as(tmp_path / "out.pth", model.state_dict(), metadata(changes), layout="torchvision")
    builder, _, loading = how.partition(".load_state_dict(")
    names = {"torchvision": torchvision, "torch": torch, "CNBlockConfig": torchvision.models.convnext.CNBlockConfig}
    theirs = eval(builder, names)  # noqa: S307
    theirs.load_state_dict(eval(loading.removesuffix(")"), names))  # noqa: S307
    with torch.inference_mode():
        assert same(model, theirs.eval()(X), X)


@pytest.mark.parametrize("layout", ["convnext", "official", "timm", "torchvision", "transformers"])
def test_and_comes_back(layout: Any, tmp_path: Path) -> None:
    changes = ModelConfig("convnext_atto", num_classes=3)
    model = random_model(changes)
    suffix = {"convnext": ".safetensors", "official": ".pth", "torchvision": ".pth"}.get(layout, "")
    out = tmp_path / f"out{suffix}"
    save_as(out, model.state_dict(), metadata(changes), layout=layout)
    loaded = load_model(out)
    state = loaded.model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    if layout in ("convnext", "timm", "transformers"):
        assert (loaded.metadata.input, loaded.metadata.classes) == (IMAGE, ("cat", "Größe", "犬"))


@pytest.mark.parametrize(
    ("name", "layout", "out", "message"),
    [
        ("convnext_isotropic_small", "timm", "out", "it is no ConvNeXt of four stages"),
        ("convnextv2_tiny", "torchvision", "out.pth", "it has no V2"),
        ("convnext_tiny_hnf", "transformers", "out", "it has no such stem, norm, kernel size or head"),
        ("convnext_tiny", "timm", "out.pth", "The layout timm is a folder"),
        ("convnext_tiny", "official", "out", r"The layout official is a \.pth file: out\.pth, for one"),
        ("convnext_tiny", "convnext", "out.pth", r"The layout convnext is a \.safetensors file"),
    ],
)
def test_what_a_library_cannot_hold_is_refused(
    name: str, layout: Any, out: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with torch.device("meta"):
        state = from_config(ModelConfig(name, num_classes=3)).state_dict()
    with pytest.raises(UserError, match=message):
        save_as(Path(out), state, ClassificationMetadata(ModelConfig(name, num_classes=3), IMAGE), layout=layout)
    assert not list(tmp_path.iterdir())


def test_a_stem_without_stride_is_refused(tmp_path: Path) -> None:
    changes = config("convnext_tiny", stem_stride=1)
    with pytest.raises(UserError, match="its stems have other strides"):
        save_as(tmp_path / "out", random_model(changes).state_dict(), metadata(changes), layout="timm")


def test_pickles_hold_the_weights_alone(tmp_path: Path) -> None:
    """Tensors of a mapped file are views of all of it, and torch.save writes what a view belongs to."""
    changes = ModelConfig("convnext_atto", num_classes=3)
    save_as(tmp_path / "a.safetensors", random_model(changes).state_dict(), metadata(changes), layout="convnext")
    loaded = load_model(tmp_path / "a.safetensors", num_classes=0)
    part = {"norm.weight": loaded.model.state_dict()["norm.weight"]}
    save_pickle(tmp_path / "b.pth", {"model": own_memory(part)})
    assert (tmp_path / "b.pth").stat().st_size < 5000


def test_json_is_what_people_can_read(tmp_path: Path) -> None:
    changes = config("convnext_tiny")
    save_as(tmp_path, random_model(changes).state_dict(), metadata(changes), layout="timm")
    assert json.loads((tmp_path / "config.json").read_text())["label_names"] == ["cat", "Größe", "犬"]
    assert "Größe" in (tmp_path / "config.json").read_text()


# ----- what is refused


@pytest.mark.parametrize("layout", ["keras", "", "Convnext", "\x1b[31m"])
def test_unknown_layouts(layout: Any, tmp_path: Path) -> None:
    model = config("convnext_tiny")
    with pytest.raises(
        UserError, match=r"is no layout that is known here: a classifier is saved with --layout conv.*"
    ) as caught:
        save_as(tmp_path / "x", random_model(model).state_dict(), metadata(model), layout)
    assert str(caught.value).isprintable()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("layout", ["convnext", "official", "timm", "torchvision", "transformers"])
def test_a_state_that_does_not_fit_its_metadata(layout: Any, tmp_path: Path) -> None:
    model = config("convnext_tiny")
    state, out = dict(random_model(model).state_dict()), tmp_path / f"x{SUFFIX.get(layout, '')}"
    for wrong, says in (
        ({**state, "extra": torch.ones(1)}, "unexpected extra"),
        ({name: value for name, value in state.items() if name != "head.bias"}, r"missing head\.bias"),
        ({**state, "head.bias": torch.ones(9)}, r"head\.bias has shape \(9,\)"),
        ({**state, "head.bias": None}, r"holds a NoneType as head\.bias"),
        ({}, "missing downsample"),
    ):
        with pytest.raises(UserError, match=says):
            save_as(out, wrong, metadata(model), layout)  # pyright: ignore[reportArgumentType]
    with pytest.raises(UserError, match="names 2 classes, and its model gives 3"):
        save_as(out, state, ClassificationMetadata(model, IMAGE, ("a", "b")), layout)
    assert not list(tmp_path.iterdir())


def test_the_metadata_of_another_task(tmp_path: Path) -> None:
    other = SegmentationMetadata(SegmenterConfig(config("convnext_tiny"), 3, head="mlp"), SegmentationInputConfig())
    with pytest.raises(UserError, match=r"The metadata is not that of a classifier|does not fit"):
        save_as(tmp_path / "x.pth", {}, other, "official")  # pyright: ignore[reportArgumentType]
    with pytest.raises(
        UserError, match=r"timm has no segmenters: a segmenter is saved with --layout convnext, official or"
    ):
        save_segmenter(tmp_path / "x", {}, other, "timm")
    with pytest.raises(UserError, match="The state to be saved, with metadata of a segmenter, does not fit"):
        save_segmenter(tmp_path / "x.pth", {}, other, "official")
