"""Models by name: what is accepted, and what is said where it is not."""

from __future__ import annotations

import dataclasses

import pytest
import torch

import convnext
from convnext.core.errors import UserError
from convnext.models.config import ModelConfig
from convnext.models.create import MODEL_NAMES, count_macs, create_model, from_config, match_names
from convnext.models.features import FeatureMaps
from convnext.models.isotropic import IsotropicConvNeXt


def test_unknown_name_offers_the_nearest():
    with pytest.raises(UserError, match=r"no model 'convnext_tinny'\. Did you mean 'convnext_tiny'"):
        create_model("convnext_tinny")
    with pytest.raises(UserError, match="`convnext models` lists them all"):
        create_model("resnet18")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("convnext_atto", {"stem_stride": 3}, "stem_stride is 1, 2 or 4"),
        ("convnext_atto", {"output_stride": 4}, "output_stride 8, 16 or 32"),
        ("convnext_atto", {"depths": (1, 1)}, "four stages"),
        ("convnext_atto", {"dims": ()}, "four stages"),
        ("convnext_atto", {"drop_path_rate": 1.0}, "drop path rate"),
        ("convnext_isotropic_small", {"drop_path_rate": -0.5}, "drop path rate"),
        (
            "convnext_isotropic_small",
            {"stem_stride": 2},
            "as published beside depths, dims, layer_scale_init_value, patch_size: leave stem_stride unset",
        ),
        ("convnext_isotropic_small", {"depths": (1, 1, 1, 1)}, "has one stage: depths is one number"),
        ("vit_small", {"dims": (64, 128)}, "has one stage: dims is one number"),
        ("vit_small", {"dims": (80,)}, "a multiple of 32, not 80"),
        ("swin_tiny", {"dims": (32, 64, 128, 200)}, "doubles from stage to stage"),
        ("swin_tiny", {"dims": (40, 80, 160, 320)}, "a multiple of 16"),
        ("swin_tiny", {"depths": (2, 2)}, "four stages"),
        ("resnet50", {"dims": (64, 128, 256, 500)}, "double from stage to stage"),
        ("resnet50", {"dims": (62, 124, 248, 496)}, "multiple of 4"),
        ("roadmap_small_k7", {"dims": (8, 16, 32, 64)}, "leave dims unset"),
    ],
)
def test_settings_that_do_not_exist(name, options, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        create_model(name, **options)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("vit_small", {"patch_size": 4, "img_size": 30}, "a multiple of the patch's 4 pixels, not 30"),
        ("convnext_atto", {"patch_size": 4}, "leave patch_size unset"),
        ("vit_small", {"window_size": 4}, "leave window_size unset"),
        ("swin_tiny", {"img_size": 32}, "leave img_size unset"),
    ],
)
def test_settings_of_baselines_that_do_not_exist(name, options, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        from_config(ModelConfig(name, **options))


@torch.no_grad()
@pytest.mark.parametrize(
    ("config", "shape", "strides"),
    [
        (ModelConfig("convnext_isotropic_small", depths=(3,), dims=(48,), patch_size=4), (48, 3, 4, 4), [4]),
        (ModelConfig("vit_small", depths=(3,), dims=(96,), patch_size=4, img_size=32), (96, 3, 4, 4), [4]),
        (
            ModelConfig("swin_tiny", depths=(1, 1, 2, 1), dims=(32, 64, 128, 256), patch_size=2, window_size=4),
            (32, 3, 2, 2),
            [2, 4, 8, 16],
        ),
        (ModelConfig("resnet50", depths=(1, 1, 1, 1), dims=(64, 128, 256, 512), stem_stride=2), (16, 3, 7, 7), None),
    ],
)
def test_reduced_baselines(config, shape, strides):
    """Every family has small members, for small images: their patches, and as many blocks and channels as asked."""
    model = from_config(dataclasses.replace(config, num_classes=5)).eval()
    assert next(value for value in model.parameters() if value.ndim == 4).shape == shape
    assert len(model.block_list()) == sum(config.depths or ())
    assert model.dims == config.dims
    assert strides is None or model.strides == strides
    image = torch.randn(2, 3, 32, 32)
    assert model(image).shape == (2, 5)
    assert model.forward_maps(image)[-1].shape[1:] == (config.dims[-1], *[32 // model.strides[-1]] * 2)  # type: ignore[index]


def test_heads_and_positions_of_a_reduced_vit():
    """64 channels a head, 32 where the dim is no multiple of 64; positions of the images that were asked for."""
    for dim, heads in ((64, 1), (96, 3), (192, 3), (384, 6)):
        vit = from_config(ModelConfig("vit_small", dims=(dim,), depths=(1,), patch_size=4, img_size=32))
        assert vit.block_list()[0].self_attention.num_heads == heads
        assert vit.encoder.pos_embedding.shape == (1, 65, dim)


def test_window_reaches_swin():
    swin = from_config(ModelConfig("swin_tiny", depths=(1, 1, 1, 1), dims=(48, 96, 192, 384), window_size=4))
    assert {tuple(block.attn.window_size) for block in swin.block_list()} == {(4, 4)}
    assert [block.attn.num_heads for block in swin.block_list()] == [3, 6, 12, 24]  # of 16 channels: 48 is no 32s


def test_depths_and_dims():
    model = create_model("convnextv2_atto", depths=(1, 2, 1, 1), dims=(8, 8, 16, 16), num_classes=3)
    assert [len(stage) for stage in model.stages] == [1, 2, 1, 1]  # type: ignore[arg-type]
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    assert "stages.0.0.grn.gamma" in model.state_dict()


@pytest.mark.parametrize(
    "name",
    [name for name in MODEL_NAMES if name.endswith(("_atto", "_tiny", "_mlp", "_small", "_ols", "_rms", "_hnf"))],
)
def test_config_builds_every_family(name):
    """A configuration's zero classes mean features, whatever the name's own number."""
    with torch.device("meta"):
        features = from_config(ModelConfig(name=name))
        classes = from_config(ModelConfig(name=name, num_classes=5, in_chans=1))
    assert features.num_classes == 0
    assert "head.weight" not in features.state_dict()
    assert classes.state_dict()["head.weight"].shape == (5, classes.num_features)
    stem = next(value for value in classes.state_dict().values() if value.ndim == 4)
    assert stem.shape[1] == 1
    assert isinstance(features, IsotropicConvNeXt) == ("isotropic" in name)


def test_every_setting_reaches_the_model():
    """Each field of ModelConfig changes something: none is dropped on the way."""
    base = ModelConfig(name="convnext_atto", num_classes=3, depths=(1, 1, 1, 1), dims=(4, 4, 4, 4))
    others = {
        "name": "convnextv2_atto",
        "num_classes": 4,
        "in_chans": 1,
        "drop_path_rate": 0.5,
        "layer_scale_init_value": 0.5,
        "head_init_scale": 0.1,
        "init_std": 0.08,
        "stem_stride": 2,
        "output_stride": 8,
        "depths": (1, 1, 1, 2),
        "dims": (4, 4, 4, 8),
        "kernel_size": 3,
    }
    of_baselines = {"patch_size", "window_size", "img_size"}  # test_reduced_baselines and the tests after it
    assert set(others) | of_baselines == {field.name for field in dataclasses.fields(ModelConfig)}

    def described(config):
        torch.manual_seed(0)
        model = from_config(config)
        rates = [block.drop_path.rate for block in model.block_list()]
        sums = {name: (tuple(value.shape), value.sum().item()) for name, value in model.state_dict().items()}
        return repr((sums, rates, model.strides))

    assert described(base) == described(base)
    for field, value in others.items():
        assert described(dataclasses.replace(base, **{field: value})) != described(base), field


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*", ["A_9", "a_10", "b", "b_1x"]),
        ("a*", ["A_9", "a_10"]),
        ("A_*", ["A_9", "a_10"]),
        ("b", ["b"]),
        (["b*", "*_9", "b"], ["A_9", "b", "b_1x"]),
        ("?_1[0x]", ["a_10", "b_1x"]),
        ("c", []),
        ([], []),
    ],
)
def test_match_names(pattern, expected):
    assert match_names(pattern, ["b_1x", "a_10", "b", "A_9", "b"]) == expected


def test_features_only():
    torch.manual_seed(0)
    whole = create_model("convnext_atto", depths=(1, 1, 1, 1), num_classes=3)
    torch.manual_seed(0)
    maps = create_model("convnext_atto", depths=(1, 1, 1, 1), features_only=True, out_indices=(1, -1))
    assert isinstance(maps, FeatureMaps)
    assert maps.feature_info.channels() == maps.channels == [80, 320]
    assert maps.feature_info.reduction() == maps.strides == [8, 32]
    assert maps.feature_info.module_name() == ["stages.1", "stages.3"]
    assert set(maps.state_dict()) <= set(whole.state_dict())  # the same names, so that the same weights fit
    maps.load_state_dict({name: whole.state_dict()[name] for name in maps.state_dict()})
    x = torch.randn(1, 3, 64, 96)
    for given, expected in zip(maps(x), whole.forward_intermediates(x, (1, 3))[1], strict=True):
        assert torch.equal(given, expected)


@torch.no_grad()
def test_features_of_shallow_stages_take_smaller_images():
    maps = create_model("convnext_atto", features_only=True, out_indices=(0, 1))
    assert maps(torch.zeros(1, 3, 8, 8))[1].shape == (1, 80, 1, 1)
    with pytest.raises(ValueError, match="at least 8 x 8"):
        maps(torch.zeros(1, 3, 7, 8))


@pytest.mark.parametrize(
    ("name", "indices", "message"),
    [
        ("vit_small", (0,), "has no stages: take `forward_intermediates`"),
        ("convnext_atto", (), "stages are ascending"),
        ("convnext_atto", (1, 4), r"out_indices=\(1, 4\)"),
        ("convnext_atto", (1, 1), "ascending"),
    ],
)
def test_features_that_do_not_exist(name, indices, message):
    with torch.device("meta"), pytest.raises(UserError, match=message):
        create_model(name, features_only=True, out_indices=indices)


def test_public_names():
    assert set(convnext.list_models()) == set(MODEL_NAMES)
    assert all(hasattr(convnext, name) for name in convnext.__all__)
    assert convnext.create_model is create_model
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = convnext.nothing


def test_counting_leaves_every_mode_as_it_is():
    """A model that trains but for one part, as where a part is frozen; and its statistics stay."""
    model = create_model("roadmap_small_baseline", num_classes=2).train()
    frozen = model.stages[0]
    frozen.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    assert count_macs(model, 32) > 0
    assert not any(module.training for module in frozen.modules())
    assert model.training
    assert model.stages[1].training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
