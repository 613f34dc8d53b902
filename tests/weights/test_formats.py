"""Wrappers, prefixes and aliases of published checkpoints; what does not fit is named; which architecture it is."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import nn

from convnext.core.errors import UserError
from convnext.models import convnext, isotropic, resnet
from convnext.models.config import ModelConfig
from convnext.models.create import create_model, from_config
from convnext.tasks.classification.weights import load_initial
from convnext.weights.containers import contents
from convnext.weights.files import load_strictly, read_state
from convnext.weights.formats import check_keys, official
from convnext.weights.recognise import recognise

STATE = {"norm.weight": torch.ones(2), "norm.bias": torch.zeros(2)}


@pytest.mark.parametrize(
    "loaded",
    [
        STATE,
        {"model": STATE},
        {"model_ema": STATE, "model": {"norm.weight": torch.zeros(2)}, "epoch": 3, "args": None},
        {"state_dict": STATE, "meta": {"epoch": 12}, "optimizer": {}},
        {"model_state_dict": STATE},
        {f"module.{name}": value for name, value in STATE.items()},
        {"model": {f"module.{name}": value for name, value in STATE.items()}},
        {f"_orig_mod.{name}": value for name, value in STATE.items()},
        {f"module._orig_mod.{name}": value for name, value in STATE.items()},
        {f"_orig_mod.module.{name}": value for name, value in STATE.items()},
        {**STATE, "norms.3.weight": torch.ones(2), "norms.3.bias": torch.zeros(2)},  # DINOv3's alias
    ],
)
def test_unwrapped(loaded):
    state = official(contents(loaded, "file").state).state
    assert list(state) == list(STATE)
    assert all(torch.equal(value, STATE[name]) for name, value in state.items())


def test_names_that_only_resemble_a_prefix():
    names = ["modules.0.weight", "normsx.weight", "stages.0.module.weight", "norm3.weight"]
    assert list(official(dict.fromkeys(names, torch.ones(1))).state) == names


@pytest.mark.parametrize(
    "loaded",
    [
        None,
        3,
        [],
        {},
        torch.ones(3),
        {"model": {}},
        {"model": torch.ones(3), "epoch": 3},
        {"a": torch.ones(1), "b": 2},
        "x",
    ],
)
def test_no_weights(loaded):
    with pytest.raises(UserError, match=r"^file\.pth holds no model weights: .*model, state_dict"):
        contents(loaded, "file.pth")


# ----- what fits


def test_check_keys():
    check_keys(STATE, dict(reversed(STATE.items())), "file")
    with pytest.raises(UserError, match=r"^file does not fit the model: unexpected extra\.$"):
        check_keys(STATE, {**STATE, "extra": torch.ones(1)}, "file")
    with pytest.raises(UserError, match=r"missing norm\.bias\.$"):
        check_keys(STATE, {"norm.weight": torch.ones(2)}, "file")
    with pytest.raises(UserError, match=r"norm\.bias has shape \(3,\), not \(2,\)\.$"):
        check_keys(STATE, {**STATE, "norm.bias": torch.zeros(3)}, "file")
    others = {f"other{i}": torch.ones(1) for i in range(9)}
    with pytest.raises(UserError, match=r"unexpected other0; .*unexpected other3 and 7 more\.$"):
        check_keys(STATE, others, "file")


def test_load_strictly(model, state):
    other = {name: value + 1 for name, value in state.items()}
    load_strictly(model, other, "file")
    assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())
    with pytest.raises(UserError, match=r"file does not fit the model: missing head\.bias"):
        load_strictly(model, {name: value for name, value in state.items() if name != "head.bias"}, "file")
    assert all(torch.equal(value, other[name]) for name, value in model.state_dict().items())  # nothing was changed


# ----- weights to start from


def fresh_copy(metadata, **changes):
    torch.manual_seed(9)
    model = from_config(dataclasses.replace(metadata.model, **changes))
    return model, {name: value.clone() for name, value in model.state_dict().items()}


def check_started(model, before, given, fresh):
    """Exactly the tensors in `fresh` are as before, all others are those given."""
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name] if name in fresh else given[name]), name


def test_same_classes_take_the_head_too(tmp_path, state, metadata):
    torch.save({"model": state}, tmp_path / "file.pth")
    model, before = fresh_copy(metadata)
    assert load_initial(model, tmp_path / "file.pth") == []
    check_started(model, before, state, [])


def test_other_classes_keep_a_fresh_head(saved, state, metadata):
    model, before = fresh_copy(metadata, num_classes=5)
    fresh = load_initial(model, saved)
    assert sorted(fresh) == ["head.bias", "head.weight"]
    check_started(model, before, state, fresh)


def test_no_classes_take_no_head(saved, state, metadata):
    model, before = fresh_copy(metadata, num_classes=0)
    assert load_initial(model, saved) == []
    check_started(model, before, state, [])


@pytest.mark.parametrize("dropped", [("head.",), ("head.", "norm.")])
def test_headless_encoder(tmp_path, state, metadata, dropped):
    """DINOv3's weights have no head, FCMAE's no final norm either."""
    encoder = {name: value for name, value in state.items() if not name.startswith(dropped)}
    torch.save(encoder, tmp_path / "file.pth")
    model, before = fresh_copy(metadata, num_classes=5)
    fresh = load_initial(model, tmp_path / "file.pth")
    assert sorted(fresh) == sorted(name for name in before if name.startswith(dropped))
    check_started(model, before, state, fresh)


def test_anything_else_must_fit(tmp_path, state, metadata):
    path = tmp_path / "file.pth"
    for content, message in (
        ({**state, "stages.0.0.gamma": torch.ones(4)}, r"unexpected stages\.0\.0\.gamma"),
        ({name: value for name, value in state.items() if "grn" not in name}, r"missing stages\.0\.0\.grn\.gamma"),
        ({**state, "norm.weight": torch.ones(9)}, r"norm\.weight has shape \(9,\), not \(8,\)"),
    ):
        torch.save(content, path)
        model, before = fresh_copy(metadata)
        with pytest.raises(UserError, match=rf"file\.pth does not fit the model: {message}"):
            load_initial(model, path)
        check_started(model, before, state, list(before))
    torch.save(state, path)
    model, _ = fresh_copy(metadata, in_chans=1)
    load_initial(model, path)  # a stem of other channels is adapted
    summed = state["downsample_layers.0.0.weight"].sum(dim=1, keepdim=True)
    assert torch.equal(model.state_dict()["downsample_layers.0.0.weight"], summed)


# ----- which model it is


@pytest.mark.parametrize("name", [*convnext.CONFIGS, *isotropic.CONFIGS, *resnet.CONFIGS])
def test_recognise(name):
    """By its layers, with any classifier or none."""
    with torch.device("meta"):
        state = create_model(name, num_classes=21841).state_dict()
    headless = {n: value for n, value in state.items() if not n.startswith("head.")}
    for given, classes in ((state, 21841), (headless, 0)):
        # DINOv3's backbones are ConvNeXts without a head: the same layers, so the same name
        found = recognise(given, "file", norm_first=name == "convnext_tiny_hnf")
        assert found == ModelConfig(name.removeprefix("dinov3_"), num_classes=classes)


def test_dinov3_file(tmp_path):
    """With its alias, through the reader, to the name."""
    model = create_model("dinov3_convnext_tiny", dims=(4, 4, 4, 4))
    state = {
        **model.state_dict(),
        "norms.3.weight": model.norm.weight.detach(),
        "norms.3.bias": model.norm.bias.detach(),
    }
    torch.save(state, tmp_path / "dinov3.pth")
    given = read_state(tmp_path / "dinov3.pth")
    assert list(given) == list(model.state_dict())
    load_strictly(model, given, "dinov3")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({}, "does not hold a ConvNeXt in a layout known here"),
        (STATE, r"there is no downsample_layers\.0\.0\.weight"),
        ({"stem.weight": torch.ones(3)}, "does not hold a ConvNeXt"),
        (
            {"stem.weight": torch.tensor(1.0), "downsample_layers.0.0.weight": torch.tensor(1.0)},
            "does not hold a ConvNeXt",
        ),
        ({"downsample_layers.0.0.weight": torch.ones(4, 3, 4, 4)}, r"there is no downsample_layers\.1\.1\.weight"),
        (nn.Linear(2, 2).state_dict(), "does not hold a ConvNeXt"),
    ],
)
def test_another_recognise(state, message):
    with pytest.raises(UserError, match=rf"^file\.pth .*{message}"):
        recognise(state, "file.pth")


def test_unknown_sizes(state):
    with pytest.raises(UserError, match=r"depths \(1, 1, 1, 1\) and dims \(4, 4, 8, 8\), which is none of the known"):
        recognise(state, "file.pth")
    with torch.device("meta"):
        isotropic = create_model("convnext_isotropic_small").state_dict()
    isotropic = {name: value for name, value in isotropic.items() if not name.startswith("blocks.17.")}
    with pytest.raises(UserError, match="isotropic ConvNeXt of depth 17 and width 384"):
        recognise(isotropic, "file.pth")


def test_default_configuration_is_a_known_model():
    with torch.device("meta"):
        assert recognise(from_config(ModelConfig()).state_dict(), "x") == ModelConfig()
