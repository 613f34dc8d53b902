"""FCMAE: what masking must mean. B batch, C channels, H W space, h w cells."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from kinds import randomise

from convnext.core.errors import UserError
from convnext.data.pretraining.batch import Masking, mask_of
from convnext.models.config import FCMAEConfig, ModelConfig
from convnext.models.convnext import Block
from convnext.models.fcmae import FCMAE, cells_of, images_of, normalised, places_of

SMALL = ModelConfig("convnextv2_atto", depths=(1, 2, 2, 1), dims=(8, 12, 16, 20), stem_stride=2, output_stride=16)
V1 = replace(SMALL, name="convnext_atto", layer_scale_init_value=0.5)
DILATED = replace(SMALL, output_stride=8)
KINDS = pytest.mark.parametrize("backbone", [SMALL, V1, DILATED], ids=["v2", "v1", "dilated"])


def autoencoder(backbone: ModelConfig = SMALL, **changed) -> FCMAE:
    """With every tensor at random, so that a bias that leaks is seen."""
    torch.manual_seed(0)
    model = FCMAE(FCMAEConfig(backbone, decoder_dim=16, **changed))
    randomise(model)  # type: ignore[arg-type]
    return model.double().eval()


def inputs(model: FCMAE, batch: int = 3, cells: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    chance = torch.Generator().manual_seed(1)
    side = cells * model.cell
    images = torch.randn(batch, 3, side, side, generator=chance, dtype=torch.float64)
    masking = Masking(model.cell, 0.6, seed=1)
    mask = torch.stack([mask_of(i, epoch=0, size=side, masking=masking) for i in range(batch)])
    return images, mask


def dense(model: FCMAE, images: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    """The definition: dense layers everywhere, masked places set to zero before and after each; GRN over the visible
    places alone. The map after every block."""
    x, maps = images, []
    for downsample, stage, stride in zip(
        model.encoder.downsample_layers, model.encoder.stages, model.encoder.strides, strict=True
    ):
        times = model.cell // stride
        keep = (~mask).repeat_interleave(times, 1).repeat_interleave(times, 2).unsqueeze(1).double()
        x = downsample(x) * keep
        for block in stage.children():
            y = (block.dwconv(x * keep) * keep).permute(0, 2, 3, 1)
            last = keep.permute(0, 2, 3, 1)
            y = block.act(block.pwconv1(block.norm(y))) * last
            y = block.pwconv2(block.grn(y) * last)
            y = y if block.gamma is None else block.gamma * y
            x = x + y.permute(0, 3, 1, 2) * keep
            maps.append(x)
    return maps


@KINDS
@torch.no_grad()
def test_masked_places_are_zero_after_every_block(backbone, monkeypatch):
    """And every map equals the dense definition's: computing at the visible places alone changes nothing."""
    model = autoencoder(backbone)
    images, mask = inputs(model)
    maps: list[torch.Tensor] = []
    for block in model.encoder.block_list():
        block.register_forward_hook(lambda _, __, output: maps.append(output))
    last = model.encode(images, mask)
    expected = dense(model, images, mask)
    assert len(maps) == len(expected) == sum(backbone.depths or ())
    for found, wanted in zip(maps, expected, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
        times = found.shape[-1] // mask.shape[-1]
        hidden = mask.repeat_interleave(times, 1).repeat_interleave(times, 2)
        assert (found.permute(0, 2, 3, 1)[hidden] == 0).all()
        assert (found.permute(0, 2, 3, 1)[~hidden] != 0).any(dim=-1).all()
    assert torch.equal(last, maps[-1])


@KINDS
@torch.no_grad()
def test_what_is_masked_is_not_seen(backbone):
    """Other pixels in masked cells: the same features and predictions, to the bit; and other ones in visible cells do
    change them."""
    model = autoencoder(backbone)
    images, mask = inputs(model)
    hidden = mask.repeat_interleave(model.cell, 1).repeat_interleave(model.cell, 2).unsqueeze(1)
    other = torch.where(hidden, torch.randn_like(images) * 5, images)
    assert torch.equal(model.encode(images, mask), model.encode(other, mask))
    assert torch.equal(model(images, mask).predicted, model(other, mask).predicted)
    seen = torch.where(hidden, images, torch.randn_like(images))
    assert not torch.allclose(model.encode(images, mask), model.encode(seen, mask))


def test_the_loss_ignores_visible_cells():
    """Its value is the mean over masked cells of the mean over their pixels, and visible pixels have no gradient from
    the target; a wrong prediction there costs nothing."""
    model = autoencoder()
    images, mask = inputs(model)
    found = model(images, mask)
    by_hand = []
    for b in range(len(images)):
        for i, j in mask[b].nonzero().tolist():
            side = model.cell
            pixels = images[b, :, i * side : (i + 1) * side, j * side : (j + 1) * side].permute(1, 2, 0).flatten()
            pixels = (pixels - pixels.mean()) / (pixels.var() + 1e-6).sqrt()
            by_hand.append((found.predicted[b, i * mask.shape[2] + j] - pixels).square().mean())
    assert float(found.losses.detach().sum()) == pytest.approx(float(torch.stack(by_hand).detach().sum()), rel=1e-5)
    assert (found.losses[~mask.flatten(1)] == 0).all()
    (gradient,) = torch.autograd.grad(found.losses.sum(), found.predicted)
    assert (gradient[~mask.flatten(1)] == 0).all()
    assert (gradient[mask.flatten(1)] != 0).any(dim=-1).all()


@torch.no_grad()
def test_targets_without_normalisation():
    model = autoencoder(norm_pix=False)
    images, mask = inputs(model)
    assert torch.equal(images_of(model(images, mask).target, model.cell, images.shape[2]), images)


def test_cells_there_and_back():
    """Row by row, the channels of a pixel together: as the official patchify has them."""
    images = torch.arange(2 * 3 * 4 * 6).view(2, 3, 4, 6)
    cells = cells_of(images, 2)
    assert cells.shape == (2, 6, 12)
    assert cells[0, 1].tolist() == [images[0, c, y, x].item() for y in (0, 1) for x in (2, 3) for c in range(3)]
    assert torch.equal(images_of(cells, 2, 4), images)


def test_normalised_cells():
    """The unbiased variance, plus 1e-6: a flat cell becomes zeros, not NaN."""
    cells = torch.tensor([[[1.0, 3.0], [2.0, 2.0]]])
    expected = 1 / (2 + 1e-6) ** 0.5
    torch.testing.assert_close(normalised(cells), torch.tensor([[[-expected, expected], [0.0, 0.0]]]))


def test_places():
    keep = torch.tensor([[[True, False], [False, True]], [[False, True], [True, False]]])
    assert places_of(keep).tolist() == [[0, 3], [1, 2]]


@torch.no_grad()
def test_an_encoder_is_a_convnext():
    """Without a mask its layers are those of the classifier; a block that sees all places is an ordinary one."""
    model = autoencoder()
    images, _ = inputs(model)
    everything = torch.zeros(len(images), 4, 4, dtype=torch.bool)
    expected = model.encoder.forward_maps(images)[-1]
    torch.testing.assert_close(model.encode(images, everything), expected, rtol=1e-10, atol=1e-10)


def test_names_and_depths():
    """The official names; every parameter has a depth, the decoder's beyond the encoder's; it learns everything."""
    model = FCMAE(FCMAEConfig(SMALL, decoder_dim=16))
    names = dict(model.named_parameters())
    for name in ("encoder.downsample_layers.0.0.weight", "encoder.stages.0.0.grn.gamma", "proj.weight", "mask_token"):
        assert name in names
    assert {"decoder.0.dwconv.weight", "pred.bias"} <= set(names)
    assert names["mask_token"].shape == (1, 16, 1, 1)
    assert names["pred.weight"].shape == (3 * 16 * 16, 16, 1, 1)
    depths = model.depth_ids()
    assert set(depths) == set(names)
    assert depths["pred.bias"] > max(depth for name, depth in depths.items() if name.startswith("encoder."))
    assert len(model.block_list()) == 7
    assert all(isinstance(block, Block) for block in model.block_list())
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    images, mask = inputs(model)
    model(images.float(), mask).losses.sum().backward()
    assert [name for name, parameter in names.items() if parameter.grad is None or not parameter.grad.any()] == []


def test_initial_values():
    """Of 0.02, not 1 (the slip of the official code), and a GRN that begins as nothing."""
    model = FCMAE(FCMAEConfig(ModelConfig("convnextv2_atto")))
    for name in ("encoder.stages.1.0.pwconv1.weight", "proj.weight", "decoder.0.pwconv2.weight", "pred.weight"):
        assert model.get_parameter(name).std().item() == pytest.approx(0.02, rel=0.15)
    assert not model.get_parameter("decoder.0.grn.gamma").any()
    assert model.mask_token.abs().max() > 0


@pytest.mark.parametrize("name", ["resnet50", "convnext_atto_ols", "convnext_isotropic_small", "vit_small"])
def test_encoders_that_cannot_be_masked(name):
    with torch.device("meta"), pytest.raises(UserError, match="stem of patches"):
        FCMAE(FCMAEConfig(ModelConfig(name)))


def test_shapes_that_do_not_fit():
    model = FCMAE(FCMAEConfig(SMALL, decoder_dim=16))
    with pytest.raises(ValueError, match="multiples of 16 pixels, not 40 x 32"):
        model(torch.zeros(1, 3, 40, 32), torch.ones(1, 2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="a value for each"):
        model(torch.zeros(1, 3, 32, 32), torch.ones(1, 3, 3, dtype=torch.bool))
