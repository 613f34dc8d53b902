"""`convnext weights`, and published weights wherever a model is asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.weights import locate as published

Convnext = Callable[..., "Answer"]  # noqa: F821 - conftest's
V2 = "convnextv2_atto.fcmae_ft_in1k"


@pytest.fixture
def tabby(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stands for the published file of V2 atto: whatever it is shown, it sees ImageNet's class 281."""
    torch.manual_seed(0)
    model = from_config(ModelConfig("convnextv2_atto", num_classes=1000))
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()[281] = 5.0
    path = tmp_path / "convnextv2_atto_1k_224_ema.pt"
    torch.save({"model": model.state_dict()}, path)
    monkeypatch.setattr(published, "download", lambda url, *, sha256: path)
    return path


@pytest.fixture
def imagenet(tmp_path: Path) -> Path:
    """Four images in ImageNet's layout, three of them of class 281; a list of names that are not ours beside them."""
    for number, wnid in enumerate(["n02123045"] * 3 + ["n01440764"]):
        folder = tmp_path / "imagenet" / "val" / wnid
        folder.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (64, 48), (number * 40, 90, 30)).save(folder / f"{number}.png")
    (tmp_path / "imagenet" / "classes.csv").write_text("wnid,name\nn02123045,tiger cat of sorts\nn01440764,a fish\n")
    return tmp_path / "imagenet"


def test_list(convnext: Convnext) -> None:
    everything, free = convnext("weights", "list"), convnext("weights", "list", "--commercial")
    assert "convnext_tiny.fb_in22k_ft_in1k " in everything.out
    assert "82.90" in everything.out
    assert "110 checkpoints" in everything.out
    assert V2 in everything.out
    assert V2 not in free.out
    rows = json.loads(convnext("weights", "list", "--model", "convnext_base", "--json").out)
    assert {row["model"] for row in rows} == {"convnext_base"}
    assert rows[0]["location"].startswith("https://")
    assert rows[0]["commercial"] is True


def test_inspect(convnext: Convnext, tabby: Path) -> None:
    answer = convnext("weights", "inspect", V2)
    assert answer.status == 0
    assert "model    convnextv2_atto" in answer.out
    assert "classes  1000: tench, goldfish" in answer.out
    assert "not for commercial use" in answer.out
    facts = json.loads(convnext("weights", "inspect", tabby, "--json").out)
    assert facts["parameters"] == 3708400
    assert facts["layout"] == "official"
    assert facts["published"]["name"] == V2


def test_convert_and_back(convnext: Convnext, tabby: Path, tmp_path: Path) -> None:
    answer = convnext("weights", "convert", tabby, tmp_path / "timm", "--layout", "timm")
    assert answer.status == 0
    assert f'timm.create_model("local-dir:{tmp_path}/timm", pretrained=True)' in answer.out
    again = convnext("weights", "convert", tabby, tmp_path / "timm", "--layout", "timm")
    assert again.status == 1
    assert "--force" in again.err
    assert convnext("weights", "convert", tmp_path / "timm", tmp_path / "ours.safetensors").status == 0
    facts = json.loads(convnext("weights", "inspect", tmp_path / "ours.safetensors", "--json").out)
    assert facts["model"]["name"] == "convnextv2_atto"
    assert facts["classes"][281] == "tabby"
    nowhere = convnext("weights", "convert", tabby, tmp_path / "no" / "x.safetensors")
    assert nowhere.status == 1
    assert "There is no folder" in nowhere.err


def test_verify_agrees_within_its_interval(convnext: Convnext, tabby: Path, imagenet: Path) -> None:
    """Three of four: 75 %, and an interval that holds the published 76.6."""
    answer = convnext("weights", "verify", V2, "--data", imagenet, "--workers", "0")
    assert answer.status == 0, answer.err
    assert "measured    75.000 %" in answer.out
    assert "published   76.644 %" in answer.out
    assert "not the whole validation set" in answer.out
    assert "They agree." in answer.out


def test_verify_says_when_it_does_not(convnext: Convnext, tabby: Path, imagenet: Path) -> None:
    for path in (imagenet / "val" / "n02123045").iterdir():
        path.unlink()
    (imagenet / "val" / "n02123045").rmdir()
    for number in range(20):
        Image.new("RGB", (40, 40), (number, 0, 0)).save(imagenet / "val" / "n01440764" / f"more{number}.png")
    answer = convnext("weights", "verify", V2, "--data", imagenet, "--workers", "0", "--json")
    figures = json.loads(answer.out)
    assert answer.status == 1
    assert figures["agrees"] is False
    assert figures["difference"] == pytest.approx(-76.644)


def test_predict_with_published_weights(convnext: Convnext, tabby: Path, imagenet: Path) -> None:
    answer = convnext("predict", imagenet / "val" / "n01440764", "--model", V2, "--json")
    assert answer.status == 0, answer.err
    assert json.loads(answer.out)[0]["classes"][0]["label"] == "tabby"
    assert "not for commercial use" in answer.err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (("lst",), "no part 'lst': list, inspect, convert, verify. Did you mean 'list'"),
        (("list", "--model", "convnext_tinny"), "Did you mean 'convnext_tiny'"),
        (("inspect", "nothing.pth"), "no model at nothing.pth"),
        (("inspect", "convnext_tiny.fb_in2k"), "no published weights"),
        (("verify", "convnext_tiny.fb_in22k", "--data", "."), "No ImageNet-1K accuracy is published"),
        (("verify", "convnext_tiny", "--data", "."), "is an architecture"),
    ],
)
def test_mistakes(convnext: Convnext, argv: tuple[str, ...], message: str) -> None:
    answer = convnext("weights", *argv)
    assert answer.status == 1
    assert message in answer.err
    assert "Traceback" not in answer.err


def test_predicting_with_an_encoder_is_refused(convnext: Convnext, tmp_path: Path, imagenet: Path) -> None:
    path = tmp_path / "encoder.pth"
    torch.save(from_config(ModelConfig("convnextv2_atto", num_classes=0)).state_dict(), path)
    answer = convnext("predict", imagenet, "--model", path)
    assert answer.status == 1
    assert "has no classifier to predict with" in answer.err


def test_help_and_completion(convnext: Convnext, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "inspect   what a file of weights holds" in convnext("weights").out
    assert "for example:" in convnext("weights", "verify", "--help").out.lower()
    from convnext.cli.completion import words

    assert words(["weights"]) == ["list", "inspect", "convert", "verify"]
    assert {V2, "--layout"} <= set(words(["weights", "convert"]))
    assert "--commercial" in words(["weights", "list"])
