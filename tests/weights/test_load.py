"""One name, path or hub id is enough: whoever saved the weights, the model comes out, and what was assumed is said."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from convnext.core.errors import UserError
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.tasks.classification.export import save_as, state_in
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.weights import load_initial, load_model
from convnext.weights import hub
from convnext.weights import locate as published
from convnext.weights.backbone import backbone_config
from convnext.weights.catalog import find
from convnext.weights.imagenet import imagenet_classes
from convnext.weights.locate import locate

ATTO = ModelConfig("convnext_atto", num_classes=1000)


@pytest.fixture(scope="module")
def atto() -> nn.Module:
    torch.manual_seed(0)
    model = from_config(ATTO).eval()
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=0.1)
    return model


def weights(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def equal(model: nn.Module, state: dict[str, Tensor]) -> bool:
    given = model.state_dict()
    return set(given) == set(state) and all(torch.equal(given[name], state[name]) for name in state)


def test_an_official_training_checkpoint(atto: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its arguments are an argparse.Namespace; the weights without averaging are under `model`."""
    path = tmp_path / "checkpoint-best.pth"
    args = argparse.Namespace(lr=4e-3, output_dir="x")
    torch.save({"model": weights(atto), "model_ema": {}, "optimizer": {}, "epoch": 3, "args": args}, path)
    model, metadata = load_model(path)
    assert equal(model, weights(atto))
    assert not model.training
    assert metadata.model == ATTO
    assert metadata.input == InputConfig()
    assert metadata.classes == imagenet_classes().names
    said = capsys.readouterr().err
    assert "does not say its preprocessing" in said
    assert "does not name its 1,000 classes: ImageNet-1K's are taken" in said


def test_a_published_files_name_tells_its_preprocessing(atto: nn.Module, tmp_path: Path) -> None:
    """Whatever folder it was downloaded to."""
    with torch.device("meta"):
        shapes = from_config(ModelConfig("convnext_tiny", num_classes=1000)).state_dict()
    state = {name: torch.zeros(value.shape) for name, value in shapes.items()}
    path = tmp_path / "convnext_tiny_22k_1k_384.pth"
    torch.save({"model": state}, path)
    metadata = load_model(path).metadata
    assert metadata.input == find("convnext_tiny.fb_in22k_ft_in1k_384").input
    assert metadata.source == "convnext_tiny.fb_in22k_ft_in1k_384 (MIT)"


def test_a_name_downloads_and_says_its_licence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """V2's encoder: not for commercial use, without final norm and classifier; sparse names or dense."""
    torch.manual_seed(0)
    encoder = from_config(ModelConfig("convnextv2_atto"))
    state = {name: value for name, value in weights(encoder).items() if not name.startswith("norm.")}
    torch.save({"model": state}, tmp_path / "x.pt")
    asked = []

    def download(url: str, *, sha256: str = "") -> Path:
        asked.append((url, sha256))
        return tmp_path / "x.pt"

    monkeypatch.setattr(published, "download", download)
    model, metadata = load_model("convnextv2_atto.fcmae")
    row = find("convnextv2_atto.fcmae")
    assert asked == [(row.location, "")]
    assert metadata.input == row.input
    assert metadata.classes == ()
    assert equal(model, {**state, "norm.weight": torch.ones(320), "norm.bias": torch.zeros(320)})
    said = capsys.readouterr().err.splitlines()
    assert "- convnextv2_atto.fcmae: licence CC-BY-NC-4.0, not for commercial use" in said
    assert len([line for line in said if "commercial" in line]) == 1
    assert any("encoder without final norm and classifier" in line for line in said)
    with pytest.raises(UserError, match=r"file does not|x\.pt|convnext_tiny\.tv_in1k"):
        load_model("convnext_tiny.tv_in1k")  # another file than the name says
    assert asked[-1][1] == "983f1562"  # torchvision's file names end in the digest's first digits


@pytest.mark.parametrize("layout", ["timm", "transformers"])
def test_a_hub_id(atto: nn.Module, layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its files tell classes and preprocessing."""
    config = ModelConfig("convnext_atto", num_classes=3)
    image = InputConfig(160, "crop", 0.8, "bilinear", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    state = {**weights(atto), "head.weight": torch.ones(3, 320), "head.bias": torch.zeros(3)}
    save_as(tmp_path, state, ClassificationMetadata(config, image, ("cat", "dog", "犬")), layout=layout)  # type: ignore[arg-type]
    asked = []

    def hub_weights(repo: str, *, revision: str) -> tuple[Path, dict]:
        asked.append((repo, revision))
        return tmp_path / "model.safetensors", json.loads((tmp_path / "config.json").read_text())

    monkeypatch.setattr(published, "hub_weights", hub_weights)
    monkeypatch.setattr(published, "hub_file", lambda repo, file, *, revision: tmp_path / file)
    for source in ("hf-hub:someone/cats@v2", tmp_path):  # a folder that timm or transformers saved is as good
        model, metadata = load_model(source)
        assert equal(model, state)
        assert metadata == ClassificationMetadata(config, image, ("cat", "dog", "犬"))
    assert asked == [("someone/cats", "v2")]
    assert hub.parse_hub_id("hf-hub:someone/cats@v2") == asked[0]


def test_another_number_of_classes_is_said(atto: nn.Module, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "file.pth"
    torch.save(weights(atto), path)
    model, metadata = load_model(path, num_classes=5)
    assert "the classifier is new, of 5 classes, in place of that of 1000 classes" in capsys.readouterr().err
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 5)
    assert metadata.model.num_classes == 5
    assert metadata.classes == metadata.class_dirs == ()
    assert 0.005 < model.head.weight.std() < 0.05  # fresh, as any classifier begins
    features, metadata = load_model(path, num_classes=0)
    assert features(torch.zeros(1, 3, 32, 32)).shape == (1, 320)
    assert "the classifier of 1000 classes is taken off: the model gives 320 features" in capsys.readouterr().err
    assert equal(load_model(path, num_classes=1000).model, weights(atto))
    assert "classifier" not in capsys.readouterr().err


def test_what_does_not_fit_is_named(atto: nn.Module, tmp_path: Path) -> None:
    path = tmp_path / "file.pth"
    state = weights(atto)
    for change, message in (
        ({"extra.weight": torch.ones(1)}, r"unexpected extra\.weight"),
        ({"stages.0.0.dwconv.bias": None}, r"missing stages\.0\.0\.dwconv\.bias"),
        ({"stages.3.1.norm.weight": torch.ones(3)}, r"stages\.3\.1\.norm\.weight has shape \(3,\), not \(320,\)"),
    ):
        changed = {name: value for name, value in {**state, **change}.items() if value is not None}
        torch.save(changed, path)
        with pytest.raises(UserError, match=f"file.pth does not fit the model: {message}"):
            load_model(path)
    torch.save({n: v for n, v in state.items() if not n.startswith("stages.2.5.")}, path)
    with pytest.raises(
        UserError,
        match=r"depths \(2, 2, 5, 2\) and dims \(40, 80, 160, 320\).*closest is convnext_atto of depths \(2, 2, 6, 2\)",
    ):
        load_model(path)
    torch.save({n: v for n, v in state.items() if n != "downsample_layers.2.1.weight"}, path)
    with pytest.raises(UserError, match=r"in a layout known here \(there is no downsample_layers\.2\.1\.weight"):
        load_model(path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("convnext_tiny", r"is an architecture\. Its published weights: convnext_tiny\.fb_in1k"),
        ("convnext_tinny.fb_in1k", r"no published weights 'convnext_tinny\.fb_in1k'.*convnext_tiny\.fb_in1k"),
        ("nowhere.pth", r"no model at nowhere\.pth: give a run's folder, a file of weights"),
        ("runs/nothing", "no model at runs/nothing"),
        ("hf-hub:what", "owner/name"),
        ("http://127.0.0.1:1/x.pth", "no model at|http"),
    ],
)
def test_a_source_that_is_none(source: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_model(source)
    with pytest.raises(UserError, match=message):
        backbone_config(source)


def test_fine_tuning_starts_from_any_layout(atto: nn.Module, tmp_path: Path) -> None:
    """`train --init`: the architecture is recognised, the classifier stays fresh."""
    path = tmp_path / "theirs.pth"
    torch.save(state_in("torchvision", atto.state_dict(), ATTO), path)
    assert backbone_config(path) == ATTO
    torch.manual_seed(1)
    model = from_config(ModelConfig("convnext_atto", num_classes=4))
    head = model.head.weight.detach().clone()
    assert sorted(load_initial(model, path)) == ["head.bias", "head.weight"]
    assert torch.equal(model.head.weight, head)
    expected = {name: value for name, value in weights(atto).items() if not name.startswith("head.")}
    assert equal(model, {**expected, "head.weight": head, "head.bias": torch.zeros(4)})


def test_a_layer_scale_that_the_architecture_lacks_or_has(tmp_path: Path) -> None:
    """The published isotropic L was trained with one although the code's default has none, and others without."""
    for name, scale in (("convnextv2_atto", 1e-6), ("convnext_atto", 0.0)):
        config = ModelConfig(name, num_classes=2, layer_scale_init_value=scale)
        torch.save(from_config(config).state_dict(), tmp_path / "file.pth")
        assert backbone_config(tmp_path / "file.pth") == config


def test_stem_inputs_and_kernels_are_recognised(tmp_path: Path) -> None:
    for changes in ({"stem_stride": 2, "in_chans": 1}, {"stem_stride": 1}, {"kernel_size": 3}, {"in_chans": 12}):
        config = ModelConfig("convnext_pico", num_classes=2, **changes)
        torch.save(from_config(config).state_dict(), tmp_path / "file.pth")
        assert backbone_config(tmp_path / "file.pth") == config


def test_half_precision_files_become_float32(atto: nn.Module, tmp_path: Path) -> None:
    torch.save({name: value.half() for name, value in weights(atto).items()}, tmp_path / "half.pth")
    model = load_model(tmp_path / "half.pth").model
    assert {value.dtype for value in model.parameters()} == {torch.float32}
    assert model.stages[0][0].pwconv1.weight[0, 0] == weights(atto)["stages.0.0.pwconv1.weight"][0, 0].half()


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds no best\.safetensors"):
        locate(tmp_path)


def test_damaged_json_beside_weights(atto: nn.Module, tmp_path: Path) -> None:
    save_as(tmp_path, weights(atto), ClassificationMetadata(ATTO, InputConfig()), layout="timm")
    for text, message in (
        ("{", "cannot be read as JSON"),
        ("[]", "holds no object"),
        ('{"pretrained_cfg": {"input_size": 3}}', "preprocessing beside .* cannot be read"),
        ('{"pretrained_cfg": {"input_size": [3, 64, 64], "mean": [1], "std": [1, 1, 1]}}', "cannot be read"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(UserError, match=message):
            load_model(tmp_path)


def test_weights_are_mapped_not_copied(atto: nn.Module, tmp_path: Path) -> None:
    """A safetensors file costs memory when its tensors are used; training on the model leaves the file alone."""
    path = tmp_path / "model.safetensors"
    save_as(path, weights(atto), ClassificationMetadata(ATTO, InputConfig()), layout="convnext")
    before = path.read_bytes()
    model = load_model(path).model
    if Path("/proc/self/maps").is_file():
        maps = [line.split()[0] for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
        spans = [tuple(int(end, 16) for end in span.split("-")) for span in maps]
        assert spans
        assert all(any(low <= value.data_ptr() < high for low, high in spans) for value in model.parameters())
    with torch.no_grad():
        for value in model.parameters():
            value.zero_()
    assert path.read_bytes() == before
    assert equal(load_model(path).model, weights(atto))
