"""The roadmap: every step costs what the paper says, the first is torchvision's ResNet-50, the last is ConvNeXt.

B batch, C channels, H W space.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from kinds import block_outputs, difference, image, randomise

from convnext.core.errors import UserError
from convnext.models.config import ModelConfig
from convnext.models.convnext import Block, ConvNeXt, ConvNeXtConfig
from convnext.models.create import count_macs, count_parameters, create_model, from_config, roadmap_step
from convnext.models.resnet import CONFIGS, Design, ResidualBlock, ResNet
from convnext.models.roadmap import ARRIVAL, MODEL_NAMES, REGIMES, STEPS, name_of, split
from convnext.roadmap.costs import PUBLISHED, SHIFTED, rows
from convnext.tasks.classification.weights import load_model
from convnext.weights.backbone import backbone_config

GOLDEN: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("roadmap.json").read_text())
SHARED = Path(os.environ.get("CONVNEXT_TEST_DATA", Path(__file__).parents[3] / "shared" / "data"))
FACTS = SHARED.parent / "facts" / "roadmap.yaml"
CELLS = [(regime, step) for regime in ("resnet50", "resnet200") for step in GOLDEN[regime]]


def on_meta(name: str, **options):
    with torch.device("meta"):
        return create_model(name, **options)


# ----- the table


def test_steps_are_the_papers_in_its_order():
    assert [step.name for step in STEPS] == list(GOLDEN["resnet50"]) == list(GOLDEN["resnet200"])
    assert [step.name for step in STEPS if not step.adopted] == ["k9", "k11"]
    assert list(MODEL_NAMES) == [f"roadmap_{regime}_{step.name}" for regime in REGIMES for step in STEPS]
    assert all(name_of(*split(name)) == name for name in MODEL_NAMES)


@pytest.mark.parametrize(("regime", "step"), CELLS)
def test_cost_of_every_step(regime, step):
    """Multiply-accumulates to the four digits that were reconstructed, parameters exactly, and the printed figure."""
    golden, model = GOLDEN[regime][step], on_meta(name_of(regime, step))
    gmacs = count_macs(model, 224) / 1e9
    assert f"{gmacs:.4f}" == f"{golden['gmacs']:.4f}"
    scale = sum(value.numel() for name, value in model.named_parameters() if name.endswith(".gamma"))
    assert count_parameters(model) - scale == golden["params"]
    assert (scale > 0) == (step == ARRIVAL)
    if golden["matches"]:
        assert abs(gmacs - golden["gflops"]) < 0.00501  # its two decimals, a rounding at .005 either way
    else:
        assert (regime, step) in SHIFTED


def test_table_holds_what_was_published():
    for regime, step in CELLS:
        row, golden = PUBLISHED[regime][step], GOLDEN[regime][step]
        assert (row.accuracy, row.deviation, row.gmacs) == (golden["accuracy"], golden["deviation"], golden["gflops"])
    assert {(r, s) for r, s in CELLS if not GOLDEN[r][s]["matches"]} == SHIFTED


@pytest.mark.slow
@pytest.mark.parametrize("regime", REGIMES)
def test_every_cell_of_the_table_is_computed(regime):
    for row in rows(regime):
        model = on_meta(row["model"])
        assert row["parameters"] == count_parameters(model) > 0
        assert row["gmacs"] == count_macs(model, 224) / 1e9
        assert (row["accuracy_published"] is None) == (regime == "small")


@pytest.mark.skipif(not FACTS.is_file(), reason=f"no facts at {FACTS}")
def test_golden_file_agrees_with_the_facts():
    import yaml

    facts = yaml.safe_load(FACTS.read_text())
    for regime, key in (("resnet50", "resnet50_to_convnext_t"), ("resnet200", "resnet200_to_convnext_b")):
        for fact in facts[key]["steps"]:
            golden = GOLDEN[regime][fact["step"]]
            assert golden["gmacs"] == fact["gflops_computed"]["conv_linear"]
            assert golden["params"] == fact["params"]["value"]
            assert golden["gflops"] == fact["gflops_published"]["value"]
            assert (golden["accuracy"], golden["deviation"]) == (fact["accuracy"]["mean"], fact["accuracy"]["std"])
            design, told = roadmap_step(name_of(regime, fact["step"])), fact["architecture"]
            assert list(design.depths) == told["depths"]
            assert list(design.dims) == told["stage_out"]
            assert design.kernel_size == told["kernel"]
            assert step_is_adopted(fact["step"]) == fact["adopted"]
        swin = facts[key]["reference_rows"][1]
        name = "swin_tiny" if regime == "resnet50" else "swin_base"
        assert f"{count_macs(on_meta(name), 224) / 1e9:.4f}" == f"{swin['computed_conv_linear_matmul']:.4f}"


def step_is_adopted(name: str) -> bool:
    return next(step.adopted for step in STEPS if step.name == name)


# ----- one change a step


@pytest.mark.parametrize("regime", REGIMES)
def test_each_step_changes_one_thing(regime):
    """Fields that differ from the last adopted step; depths and width change together in the larger regime alone."""
    before, changes = Design(), {}
    for step in STEPS[:-1]:
        design = roadmap_step(name_of(regime, step.name))
        assert isinstance(design, Design)
        changes[step.name] = {
            field.name
            for field in dataclasses.fields(Design)
            if getattr(design, field.name) != getattr(before, field.name)
        }
        if step.adopted:
            before = design
    assert changes.pop("baseline") <= {"depths", "width"}
    assert changes.pop("stage_ratio") == ({"depths", "width"} if regime == "resnet200" else {"depths"})
    assert [changed for changed in changes.values() if len(changed) != 1] == []
    arrival = roadmap_step(name_of(regime, ARRIVAL))
    assert isinstance(arrival, ConvNeXtConfig)
    assert (arrival.depths, arrival.dims, arrival.kernel_size) == (before.depths, before.dims, before.kernel_size)


@pytest.mark.parametrize("name", [name for name in MODEL_NAMES if "small" in name])
def test_every_step_trains_at_small_size(name):
    torch.manual_seed(0)
    model = create_model(name, num_classes=5, stem_stride=2).train()
    torch.nn.functional.cross_entropy(model(image(4, height=32)), torch.arange(4)).backward()
    assert all(bool(value.grad.abs().max() > 0) for value in model.parameters())
    assert [tuple(m.shape[2:]) for m in model.forward_maps(image(1, height=32))] == [(16, 16), (8, 8), (4, 4), (2, 2)]


@torch.no_grad()
def test_one_step_before_arrival_has_convnexts_block():
    """The block of the last step but one, given the same weights, computes what ConvNeXt's does."""
    design = roadmap_step(name_of("small", STEPS[-2].name))
    assert isinstance(design, Design)
    ours = Block(8, layer_scale_init_value=0.0).eval()
    for name, value in ours.named_parameters():
        value.copy_(torch.randn(value.shape) / max(value[0].numel(), 1) ** 0.5)
        if name in ("dwconv.bias", "pwconv1.bias", "pwconv2.bias"):
            value.zero_()  # biases come with the last step
    theirs = ResidualBlock(design, 8, 8).eval()
    state = ours.state_dict()
    theirs.load_state_dict(
        {
            "body.dwconv.weight": state["dwconv.weight"],
            "body.dwconv_norm.weight": state["norm.weight"],
            "body.dwconv_norm.bias": state["norm.bias"],
            "body.pwconv1.weight": state["pwconv1.weight"][:, :, None, None],
            "body.pwconv2.weight": state["pwconv2.weight"][:, :, None, None],
        }
    )
    x = torch.randn(2, 8, 12, 9)
    assert difference(theirs(x), ours(x)) < 1e-5


# ----- the two ends


@pytest.mark.slow
@pytest.mark.parametrize(("regime", "name"), [("resnet50", "convnext_tiny"), ("resnet200", "convnext_base")])
@torch.no_grad()
def test_last_step_is_convnext(regime, name):
    last, published = create_model(name_of(regime, ARRIVAL)).eval(), create_model(name).eval()
    assert isinstance(last, ConvNeXt)
    randomise(published)  # type: ignore[arg-type]
    last.load_state_dict(published.state_dict())  # the same names and shapes, or this raises
    assert list(last.state_dict()) == list(published.state_dict())
    assert torch.equal(last(image(2)), published(image(2)))


def torchvision_resnet(name: str, depths: tuple[int, ...], classes: int = 1000) -> torch.nn.Module:
    if name == "resnet200":  # torchvision has its blocks, and no name for it
        bottleneck = torchvision.models.resnet.Bottleneck
        return torchvision.models.ResNet(bottleneck, list(depths), num_classes=classes)
    return torchvision.models.get_model(name, weights=None, num_classes=classes)


def save_resnet(folder: Path, name: str = "resnet50", classes: int = 1000) -> tuple[torch.nn.Module, Path]:
    """torchvision's model with every tensor at random, running statistics too, and its file."""
    torch.manual_seed(0)
    theirs = torchvision_resnet(name, CONFIGS[name].depths, classes).eval()
    randomise(theirs)  # type: ignore[arg-type]
    file = folder / f"{name}.pth"
    torch.save(theirs.state_dict(), file)
    return theirs, file


@torch.no_grad()
def test_first_step_is_torchvisions_resnet50(tmp_path):
    """Its file loads, every tensor is used, and logits and maps are equal."""
    theirs, file = save_resnet(tmp_path)
    ours, metadata = load_model(file)
    assert metadata.model.name == "resnet50"
    first = create_model(name_of("resnet50", "baseline")).eval()
    first.load_state_dict(ours.state_dict())
    x = image(2, height=96, width=128)
    assert difference(first(x), theirs(x)) < 1e-5
    maps = []
    y = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(x))))  # type: ignore[operator]
    for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
        y = layer(y)  # type: ignore[operator]
        maps.append(y)
    for given, expected in zip(first.forward_maps(x), maps, strict=True):
        assert difference(given, expected) < 1e-5
    assert len(block_outputs(first, x)) == 16


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in CONFIGS if name != "resnet50"])
def test_other_resnets_are_torchvisions(tmp_path, name):
    theirs, file = save_resnet(tmp_path, name, classes=7)
    ours, metadata = load_model(file)
    assert (metadata.model.name, metadata.model.num_classes) == (name, 7)
    assert difference(ours(image(1)), theirs(image(1))) < 1e-5
    assert backbone_config(file) == metadata.model


@pytest.mark.slow
def test_gradients_are_torchvisions(tmp_path):
    """In training mode, with statistics of the batch."""
    theirs, file = save_resnet(tmp_path, classes=4)
    ours = load_model(file).model.double().train()  # in float32, rounding grows over 50 layers of batch statistics
    theirs.double().train()
    x, targets = image(4, height=64).double(), torch.arange(4)
    for model in (ours, theirs):
        torch.nn.functional.cross_entropy(model(x), targets).backward()
    pairs = [(ours.downsample_layers[0][0], theirs.conv1), (ours.head, theirs.fc)]  # type: ignore[index, union-attr]
    pairs.append((ours.stages[1][0].body.dwconv, theirs.layer2[0].conv2))  # type: ignore[index, union-attr]
    for mine, other in pairs:
        assert (mine.weight.grad - other.weight.grad).norm() / other.weight.grad.norm() < 1e-8  # type: ignore[union-attr]
    given, expected = ours.stages[0][0].body.dwconv_norm, theirs.layer1[0].bn2  # type: ignore[index, union-attr]
    torch.testing.assert_close(given.running_var, expected.running_var, rtol=1e-8, atol=1e-10)


# ----- mistakes


@pytest.mark.parametrize(
    ("regime", "step", "words"),
    [
        ("resnet50", "k8", r"no step 'k8'.*k7.*baseline, stage_ratio, patchify"),
        ("resnet50", "gelus", "Did you mean.*gelu"),
        ("resnet5", "k7", r"no regime 'resnet5'.*resnet50.*resnet200.*small"),
    ],
)
def test_unknown_names_their_neighbours(regime, step, words):
    with pytest.raises(UserError, match=words):
        name_of(regime, step)


@pytest.mark.parametrize(
    ("name", "settings", "words"),
    [
        ("roadmap_resnet50_k7", {"depths": (1, 1, 1, 1)}, "leave depths unset"),
        ("roadmap_resnet50_sep_ds", {"output_stride": 16}, "leave output_stride unset"),
        ("resnet50", {"output_stride": 8}, "leave output_stride unset"),
        ("resnet50", {"depths": (1, 1)}, "four stages"),
        ("resnet50", {"stem_stride": 3}, "stem stride of 1, 2 or 4"),
        ("swin_tiny", {"stem_stride": 2}, "leave stem_stride unset"),
        ("vit_small", {"output_stride": 8}, "leave output_stride unset"),
        ("roadmap_resnet50_k8", {}, "Did you mean.*roadmap_resnet50_k"),
    ],
)
def test_settings_that_a_model_does_not_have(name, settings, words):
    with pytest.raises(UserError, match=words):
        create_model(name, **settings)
    with pytest.raises(UserError, match="leave layer_scale_init_value unset"):
        from_config(ModelConfig("roadmap_resnet50_k7", layer_scale_init_value=0.1))


def test_a_resnet_of_unknown_depths(tmp_path):
    theirs = torchvision_resnet("resnet200", (1, 2, 1, 1), 3)
    torch.save(theirs.state_dict(), tmp_path / "odd.pth")
    with pytest.raises(UserError, match=r"ResNet of depths \(1, 2, 1, 1\).*resnet50"):
        load_model(tmp_path / "odd.pth")


def test_resnets_of_a_design():
    with pytest.raises(ValueError, match="four stages"):
        ResNet(Design((1, 2, 3)))
    with pytest.raises(ValueError, match="odd filters"):
        ResNet(Design(kernel_size=4))
