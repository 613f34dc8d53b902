"""Every layout, both ways, against the libraries themselves: names and shapes of every model, outputs of small ones.

B batch, C channels, H W space, o i outputs and inputs of a linear layer, k kernel size.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import timm
import torch
import transformers
from torch import Tensor, nn
from torchvision.models import convnext as tv

from convnext.core.errors import UserError
from convnext.models.config import ModelConfig
from convnext.models.convnext import CONFIGS
from convnext.models.create import from_config
from convnext.models.isotropic import CONFIGS as ISOTROPIC_SIZES
from convnext.tasks.classification.export import state_in
from convnext.weights.containers import contents
from convnext.weights.formats import official
from convnext.weights.recognise import recognise

DEPTHS, DIMS = (2, 1, 3, 1), (8, 12, 20, 16)  # all different, so that one stage taken for another is noticed
FACTS = Path(os.environ.get("CONVNEXT_TEST_FACTS", Path(__file__).parents[2].parent / "shared" / "facts"))


@torch.no_grad()
def randomised(model: nn.Module) -> nn.Module:
    """Every tensor at random, of order 1 in its effect: a layer scale of 1e-6 would hide a wrong block."""
    generator = torch.Generator().manual_seed(0)
    for value in model.parameters():
        value.copy_(torch.randn(value.shape, generator=generator))
        if value.ndim > 1 and value.shape[0] > 1 and value[0].numel() > 1:
            value.div_(value[0].numel() ** 0.5)
        else:
            value.mul_(0.3).add_(0.7)
    return model.eval()


def small(name: str, **changes: object) -> ModelConfig:
    return ModelConfig(name, num_classes=7, depths=DEPTHS, dims=DIMS, **changes)  # type: ignore[arg-type]


def timm_small(name: str) -> nn.Module:
    return timm.create_model(name, depths=DEPTHS, dims=DIMS, num_classes=7)


def torchvision_small(name: str) -> nn.Module:
    outs = (*DIMS[1:], None)
    blocks = [tv.CNBlockConfig(*shape) for shape in zip(DIMS, outs, DEPTHS, strict=True)]
    return tv.ConvNeXt(blocks, num_classes=7)


class Logits(nn.Module):
    """A transformers model that takes and gives tensors."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return self.model(x).logits


def transformers_small(name: str) -> nn.Module:
    family = "ConvNextV2" if "v2" in name else "ConvNext"
    shape = {"depths": list(DEPTHS), "hidden_sizes": list(DIMS), "layer_norm_eps": 1e-6}
    config = getattr(transformers, f"{family}Config")(**shape, num_labels=7)
    return getattr(transformers, f"{family}ForImageClassification")(config)


def timm_maps(model: nn.Module, x: Tensor) -> list[Tensor]:
    return model.forward_intermediates(x, intermediates_only=True)  # type: ignore[operator]


def torchvision_maps(model: nn.Module, x: Tensor) -> list[Tensor]:
    maps = []
    for i, layer in enumerate(model.features):  # type: ignore[arg-type]
        x = layer(x)
        maps += [x] if i % 2 else []
    return maps


def transformers_maps(model: nn.Module, x: Tensor) -> list[Tensor]:
    return list(model(x, output_hidden_states=True).hidden_states)[1:]


Maps = Callable[[nn.Module, Tensor], list[Tensor]]
PEERS: dict[str, tuple[Callable[[str], nn.Module], Maps, list[str]]] = {
    "timm": (
        timm_small,
        timm_maps,
        # linear layers and convolutions in their place, an odd stem, another norm, another place of it, CLIP's head, V2
        [
            "convnext_tiny",
            "convnext_atto",
            "convnext_atto_ols",
            "convnext_zepto_rms_ols",
            "convnext_tiny_hnf",
            "convnext_large_mlp",
            "convnextv2_atto",
            "convnextv2_tiny",
        ],
    ),
    "torchvision": (torchvision_small, torchvision_maps, ["convnext_tiny"]),
    "transformers": (transformers_small, transformers_maps, ["convnext_tiny", "convnextv2_tiny"]),
}
CASES = [(library, name) for library, (_, _, names) in PEERS.items() for name in names]


def difference(given: Tensor, expected: Tensor) -> float:
    assert given.shape == expected.shape
    return ((given - expected).abs().max() / expected.abs().max()).item()


@torch.inference_mode()
def agree(ours: nn.Module, theirs: nn.Module, library: str) -> None:
    x = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
    logits = Logits(theirs) if library == "transformers" else theirs
    assert difference(ours(x), logits(x)) < 1e-5
    maps = ours.forward_maps(x)  # type: ignore[operator]
    expected = PEERS[library][1](theirs, x)
    assert len(maps) == len(expected) == 4
    assert all(difference(given, wanted) < 1e-5 for given, wanted in zip(maps, expected, strict=True))


@pytest.mark.parametrize(("library", "name"), CASES)
def test_their_weights_in_our_model(library: str, name: str) -> None:
    theirs = randomised(PEERS[library][0](name))
    given = official(theirs.state_dict())
    assert given.layout == library
    assert given.left == ()
    assert given.norm_first == (name == "convnext_tiny_hnf")
    hidden = {"convnext_large_mlp": CONFIGS["convnext_large_mlp"].head_hidden}
    ours = from_config(small(name)).eval()
    if name in hidden:  # timm's hidden layer is as wide as its widest map was to be
        assert given.state["pre_logits.fc.weight"].shape[0] == hidden[name]
    ours.load_state_dict(given.state, strict=True)
    agree(ours, theirs, library)


@pytest.mark.parametrize(("library", "name"), CASES)
def test_our_weights_in_their_model(library: str, name: str) -> None:
    config = small(name)
    ours = randomised(from_config(config))
    theirs = PEERS[library][0](name)
    theirs.load_state_dict(state_in(library, ours.state_dict(), config), strict=True)  # type: ignore[arg-type]
    agree(ours, theirs.eval(), library)


def their_names(library: str, name: str) -> Mapping[str, Tensor] | None:
    """Names and shapes of the library's own model of that architecture; None where it has none."""
    plain = name.removeprefix("dinov3_")
    with torch.device("meta"):
        if library == "timm":
            if not timm.is_model(plain):
                return None
            return timm.create_model(plain, num_classes=0 if plain != name else 1000).state_dict()
        size = CONFIGS.get(name)
        if size is None or size.stem != "patch" or size.norm != "layer" or size.head_norm_first or size.head_hidden:
            return None
        if size.norm_eps != 1e-6:
            return None
        if library == "torchvision":
            if size.use_grn or plain != name:
                return None
            shapes = zip(size.dims, (*size.dims[1:], None), size.depths, strict=True)
            return tv.ConvNeXt([tv.CNBlockConfig(*shape) for shape in shapes]).state_dict()
        shape = {"depths": list(size.depths), "hidden_sizes": list(size.dims)}
        if plain != name:
            return transformers.DINOv3ConvNextModel(transformers.DINOv3ConvNextConfig(**shape)).state_dict()
        family = "ConvNextV2" if size.use_grn else "ConvNext"
        config = getattr(transformers, f"{family}Config")(**shape)
        config.num_labels = 1000
        return getattr(transformers, f"{family}ForImageClassification")(config).state_dict()


@pytest.mark.parametrize("library", PEERS)
@pytest.mark.parametrize("name", [*CONFIGS, *ISOTROPIC_SIZES])
def test_names_and_shapes_of_every_model(library: str, name: str) -> None:
    """Both ways, exactly; and a library that lacks a model is not offered one."""
    config = ModelConfig(name, num_classes=0 if name.startswith("dinov3_") else 1000)
    with torch.device("meta"):
        ours = from_config(config).state_dict()
    theirs = their_names(library, name)
    if theirs is None:
        with pytest.raises(UserError, match=f"{name} of this shape cannot be saved for {library}: it"):
            state_in(library, ours, config)  # type: ignore[arg-type]
        return
    written = state_in(library, ours, config)  # type: ignore[arg-type]
    assert {n: v.shape for n, v in written.items()} == {n: v.shape for n, v in theirs.items()}
    given = official(theirs)
    assert {n: v.shape for n, v in given.state.items()} == {n: v.shape for n, v in ours.items()}
    found = recognise(given.state, "file", norm_first=given.norm_first)
    assert found == ModelConfig(name.removeprefix("dinov3_"), num_classes=config.num_classes)


def state_of(name: str, **options: object) -> dict[str, Tensor]:
    with torch.device("meta"):
        return dict(from_config(ModelConfig(name, **options)).state_dict())  # type: ignore[arg-type]


def test_openclips_image_tower() -> None:
    """Its projection becomes the classifier, without a bias; the text tower is left, and named."""
    config = small("convnext_base")
    ours = randomised(from_config(config))
    trunk = state_in("timm", ours.state_dict(), config)
    tower = {f"visual.trunk.{name}": value for name, value in trunk.items() if not name.startswith("head.fc.")}
    tower["visual.head.proj.weight"] = trunk["head.fc.weight"]
    given = official({**tower, "text.token_embedding.weight": torch.ones(3, 2), "logit_scale": torch.ones(())})
    assert given.layout == "openclip"
    assert given.left == ("text.token_embedding.weight", "logit_scale")
    expected = {**ours.state_dict(), "head.bias": torch.zeros(7)}
    assert set(given.state) == set(expected)
    assert all(torch.equal(given.state[name], value) for name, value in expected.items())


def test_openclips_hidden_head() -> None:
    config = small("convnext_large_mlp")
    ours = randomised(from_config(config)).state_dict()
    trunk = state_in("timm", ours, config)
    tower = {f"visual.trunk.{name}": value for name, value in trunk.items() if not name.startswith("head.f")}
    tower = {name: value for name, value in tower.items() if "pre_logits" not in name}
    tower |= {f"visual.head.mlp.fc1.{part}": ours[f"pre_logits.fc.{part}"] for part in ("weight", "bias")}
    tower["visual.head.mlp.fc2.weight"] = ours["head.weight"]
    given = official(tower).state
    expected = {**ours, "head.bias": torch.zeros(7)}
    assert set(given) == set(expected)
    assert all(torch.equal(given[name], value) for name, value in expected.items())


def test_sparse_filters_by_hand() -> None:
    """Place x * k + y of a sparse kernel is row y, column x of the filter (official remap_checkpoint_keys)."""
    state = {name: torch.zeros(value.shape) for name, value in state_of("convnextv2_atto").items()}
    depthwise = torch.arange(49 * 40).float().reshape(49, 40)
    downsample = torch.arange(4 * 40 * 80).float().reshape(4, 40, 80)
    sparse = {name: torch.ones(2) for name in ("mask_token", "decoder.0.weight", "pred.bias")}
    for name, value in state.items():
        if name.startswith(("norm.", "head.")):
            continue
        part = name.rpartition(".")[0]
        if name == "stages.0.0.dwconv.weight":
            sparse["encoder.stages.0.0.dwconv.kernel"] = depthwise
        elif name == "downsample_layers.1.1.weight":
            sparse["encoder.downsample_layers.1.1.kernel"] = downsample
        elif name.endswith("dwconv.weight"):
            sparse[f"encoder.{part}.kernel"] = torch.zeros(49, value.shape[0])
        elif name.startswith("downsample_layers.") and name.endswith("1.weight") and value.ndim == 4:
            sparse[f"encoder.{part}.kernel"] = torch.zeros(4, value.shape[1], value.shape[0])
        elif "pwconv" in name:
            sparse[f"encoder.{part}.linear.{name.rpartition('.')[2]}"] = value
        elif ".norm." in name or (name.startswith("downsample_layers.") and value.ndim == 1 and ".0." in name[17:]):
            sparse[f"encoder.{part}.ln.{name.rpartition('.')[2]}"] = value
        elif ".grn." in name:
            sparse[f"encoder.{name}"] = value.reshape(1, -1)
        else:
            sparse[f"encoder.{name}"] = value.reshape(1, -1) if name.endswith("dwconv.bias") else value
    given = official(sparse)
    assert given.layout == "fcmae"
    assert set(given.left) == {"mask_token", "decoder.0.weight", "pred.bias"}
    expected = {name: value.shape for name, value in state.items() if not name.startswith(("norm.", "head."))}
    assert {name: value.shape for name, value in given.state.items()} == expected
    assert recognise(given.state, "file") == ModelConfig("convnextv2_atto")
    weight = given.state["stages.0.0.dwconv.weight"]
    assert weight[5, 0, 2, 6] == depthwise[6 * 7 + 2, 5]
    assert weight[39, 0, 0, 1] == depthwise[7, 39]
    down = given.state["downsample_layers.1.1.weight"]
    assert down[17, 3, 1, 0] == downsample[0 * 2 + 1, 3, 17]
    assert down[79, 39, 0, 1] == downsample[2, 39, 79]


def test_mmpretrains_names() -> None:
    ours = state_of("convnextv2_tiny", num_classes=1000)
    theirs = {}
    for name, value in ours.items():
        renamed = name.replace("dwconv", "depthwise_conv").replace("pwconv", "pointwise_conv")
        if name.startswith("head."):
            theirs[name.replace("head.", "head.fc.")] = value
        else:
            theirs["backbone." + ("norm3." + name[5:] if name.startswith("norm.") else renamed)] = value
    given = official(contents({"module." + name: value for name, value in theirs.items()}, "file").state)
    assert given.layout == "mmpretrain"
    assert set(given.state) == set(ours)


@pytest.mark.parametrize("file", ["keys_mask_rcnn_t.json", "keys_cascade_mask_rcnn_t.json", "keys_upernet_t.json"])
def test_a_detectors_backbone(file: str) -> None:
    """All the tensors of the official COCO and ADE20K files: the backbone is taken, the rest is named."""
    if not (FACTS / file).is_file():
        pytest.skip(f"{FACTS / file} is not here: the published key layouts lie beside the project's root")
    shapes = json.loads((FACTS / file).read_text())
    given = official({name: torch.empty(shape, device="meta") for name, shape in shapes.items()})
    assert given.layout == "detector"
    assert recognise(given.state, file) == ModelConfig("convnext_tiny")
    assert set(given.state) == {n for n in state_of("convnext_tiny") if not n.startswith(("norm.", "head."))}
    assert "backbone.norm0.weight" in given.left
    assert len(given.left) + len(given.state) == len(shapes)


def test_the_older_names_of_dinov3_in_transformers() -> None:
    """The 2025 conversion script wrote no `model.` in front."""
    ours = state_of("dinov3_convnext_tiny")
    theirs = state_in("transformers", ours, ModelConfig("dinov3_convnext_tiny"))
    assert set(official({name.removeprefix("model."): value for name, value in theirs.items()}).state) == set(ours)


def test_names_that_no_rule_knows_are_kept() -> None:
    theirs = {**state_in("timm", state_of("convnext_tiny"), ModelConfig()), "head.fc.extra": torch.ones(1)}
    assert "head.fc.extra" in official(theirs).state
