"""Swin and ViT are the libraries' own in everything but the interface. B batch, C channels, H W space."""

from __future__ import annotations

import pytest
import timm
import torch
import torchvision
from kinds import difference, image, randomise

from convnext.models.create import count_macs, count_parameters, create_model
from convnext.training.optim import is_decayed


def on_meta(name: str):
    with torch.device("meta"):
        return create_model(name)


@pytest.mark.parametrize(
    ("name", "theirs", "params_m", "gmacs"),
    [  # paper Table 1 and Swin's Table 1; DeiT's Table 5 and ViT's Table 1
        ("swin_tiny", "swin_tiny_patch4_window7_224", 28.3, 4.5),
        ("swin_small", "swin_small_patch4_window7_224", 49.6, 8.7),
        ("swin_base", "swin_base_patch4_window7_224", 87.8, 15.4),
        ("swin_large", "swin_large_patch4_window7_224", 196.5, 34.5),
        ("vit_small", "deit_small_patch16_224", 22.1, 4.6),
        ("vit_base", "deit_base_patch16_224", 86.6, 17.6),
        ("vit_large", "vit_large_patch16_224", 304.3, 61.6),
    ],
)
def test_size_and_cost(name, theirs, params_m, gmacs):
    model = on_meta(name)
    with torch.device("meta"):
        reference = timm.create_model(theirs)
    assert count_parameters(model) == count_parameters(reference)
    assert count_parameters(model) / 1e6 == pytest.approx(params_m, abs=0.06)
    assert count_macs(model, 224) / 1e9 == pytest.approx(gmacs, abs=0.06)


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.parametrize(("name", "theirs"), [("swin_tiny", "swin_t"), ("swin_base", "swin_b")])
def test_swin_is_torchvisions(name, theirs):
    """Under its own names, with every tensor at random."""
    reference = torchvision.models.get_model(theirs, weights=None).eval()
    randomise(reference)  # type: ignore[arg-type]
    model = create_model(name).eval()
    model.load_state_dict(reference.state_dict())
    for shape in ((224, 224), (64, 100)):
        assert difference(model(image(1, 3, *shape)), reference(image(1, 3, *shape))) < 1e-5
    x = image(1, 3, 64)
    last = model.forward_maps(x)[-1].permute(0, 2, 3, 1)
    assert difference(last, reference.features(x)) < 1e-5  # type: ignore[operator]


@pytest.mark.slow
@torch.no_grad()
def test_vit_is_torchvisions():
    reference = torchvision.models.vit_b_16(weights=None).eval()
    randomise(reference)  # type: ignore[arg-type]
    model = create_model("vit_base").eval()
    model.load_state_dict({name.replace("heads.head.", "head."): v for name, v in reference.state_dict().items()})
    x = image(1, 3, 224)
    assert difference(model(x), reference(x)) < 1e-5


@torch.no_grad()
def test_vit_positions_of_other_sizes():
    """At 224 pixels those that were learned; elsewhere interpolated, so that a constant stays one."""
    model = create_model("vit_small").eval()
    assert torch.equal(model._positions(14, 14), model.encoder.pos_embedding)
    model.encoder.pos_embedding.copy_(torch.arange(384.0).expand(1, 197, 384))
    for height, width in ((7, 7), (20, 9)):
        places = model._positions(height, width)
        assert places.shape == (1, 1 + height * width, 384)
        torch.testing.assert_close(places, torch.arange(384.0).expand_as(places), rtol=1e-5, atol=1e-4)


def test_places_are_not_decayed():
    """Swin's official code leaves its tables alone, DeiT's positions and class token."""
    kept = {name for name, value in on_meta("swin_tiny").named_parameters() if not is_decayed(name, value)}
    assert "features.1.0.attn.relative_position_bias_table" in kept
    assert "features.1.0.attn.qkv.weight" not in kept
    kept = {name for name, value in on_meta("vit_small").named_parameters() if not is_decayed(name, value)}
    assert {"class_token", "encoder.pos_embedding"} <= kept
    assert "encoder.layers.encoder_layer_0.self_attention.in_proj_weight" not in kept
