"""What every segmenter keeps, whatever its head and backbone. B images, K classes, H W space."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.models.config import ModelConfig
from convnext.models.fuse import fuse
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SEGMENTERS, SegmenterConfig, segmenter_config
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.models.segmentation.linear_head import LinearHead
from convnext.models.segmentation.mlp_head import MLPHead
from convnext.ops.losses import IGNORE_INDEX, class_weights, pixel_cross_entropy
from convnext.training.config import OptimConfig
from convnext.training.optim import parameter_groups

K = 4
V1 = ModelConfig("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
V2 = ModelConfig("convnextv2_atto", depths=(1, 1, 1, 1), dims=(8, 16, 24, 32))
BACKBONES = {"v1": V1, "v2": V2, "resnet": ModelConfig("resnet50")}
HEADS = {
    "upernet": {"head": "upernet", "width": 16, "auxiliary_width": 8},
    "mlp": {"head": "mlp", "width": 16, "auxiliary_width": 0},
    "mlp with auxiliary": {"head": "mlp", "width": 16, "auxiliary_width": 8},
    "linear": {"head": "linear", "auxiliary_width": 0},
    "linear, frozen": {"head": "linear", "auxiliary_width": 0, "frozen": True},
}
every = pytest.mark.parametrize("head", HEADS)
pairs = pytest.mark.parametrize(
    ("backbone", "head"), [(b, h) for b in ("v1", "v2") for h in HEADS] + [("resnet", "upernet")]
)


def build(backbone: str, head: str) -> EncoderDecoder:
    torch.manual_seed(0)
    settings: dict[str, Any] = HEADS[head]
    return build_segmenter(SegmenterConfig(BACKBONES[backbone], num_classes=K, **settings))


def randomised(model: nn.Module) -> nn.Module:
    """Every tensor random, norms and statistics too."""
    torch.manual_seed(1)
    for name, value in model.state_dict().items():
        if name.endswith("running_var") or (value.ndim == 1 and name.endswith("weight")):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.normal_(0, 0.2)
    return model


def given(height: int = 64, width: int = 64) -> tuple[Tensor, Tensor]:
    torch.manual_seed(2)
    targets = torch.randint(0, K, (2, height, width))
    targets[:, :2] = IGNORE_INDEX
    return torch.randn(2, 3, height, width), targets


@pairs
@pytest.mark.parametrize("size", [(64, 96), (70, 33)])
def test_logits_as_large_as_the_image(backbone: str, head: str, size: tuple[int, int]) -> None:
    with torch.no_grad():
        assert build(backbone, head).eval()(given(*size)[0]).shape == (2, K, *size)


@pairs
def test_losses_reach_every_parameter_that_learns(backbone: str, head: str) -> None:
    model = build(backbone, head).train()
    losses = model(*given())
    assert set(losses) == {"pixel", "auxiliary"} if HEADS[head]["auxiliary_width"] else {"pixel"}
    torch.stack(list(losses.values())).sum().backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum()]
    assert without == [name for name, _ in model.named_parameters() if model.frozen and name.startswith("backbone.")]


@every
def test_the_loss_is_that_of_the_logits(head: str) -> None:
    model, (images, targets) = build("v1", head).eval(), given()
    weights = torch.rand(K)
    with torch.no_grad():
        logits, losses = model(images), model(images, targets, weights)
    by_hand = F.cross_entropy(logits, targets, weights, ignore_index=IGNORE_INDEX, reduction="sum") / targets.numel()
    torch.testing.assert_close(losses["pixel"], by_hand)
    torch.testing.assert_close(
        pixel_cross_entropy(logits, targets), F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX) * 62 / 64
    )


def test_a_frozen_backbone_stays_as_it_is() -> None:
    model = build_segmenter(
        SegmenterConfig(BACKBONES["resnet"], K, head="linear", auxiliary_width=0, frozen=True)
    ).train()
    before = copy.deepcopy(model.state_dict())
    groups = parameter_groups(model, OptimConfig(layer_decay=0.9, blocks_per_group=0))
    assert all(name.startswith("decode_head.") for group in groups for name in group["names"])
    optimizer = torch.optim.AdamW(groups, lr=0.1)
    torch.stack(list(model(*given()).values())).sum().backward()
    optimizer.step()
    after = model.state_dict()
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all(name.startswith("decode_head.") for name in changed)
    assert model.decode_head.training
    assert not model.backbone.training


@every
def test_another_of_its_kind_takes_its_weights(head: str) -> None:
    one, other = randomised(build("v1", head)).eval(), build("v1", head).eval()
    other.load_state_dict(one.state_dict())
    with torch.no_grad():
        assert torch.equal(one(given()[0]), other(given()[0]))


@pairs
def test_folding_changes_nothing_but_rounding(backbone: str, head: str) -> None:
    model = randomised(build(backbone, head)).eval()
    before = copy.deepcopy(model.state_dict())
    folded = fuse(model)  # type: ignore[type-var]
    with torch.no_grad():
        expected, found = model(given()[0]), folded(given()[0])
    assert float((found - expected).abs().max() / expected.abs().max()) < 2e-5
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    norms = [name for name, m in folded.named_modules() if isinstance(m, nn.BatchNorm2d) and name.endswith(".bn")]
    assert norms == (["decode_head.bn"] if head.startswith("mlp") else [])


@every
def test_it_is_compiled_by_blocks(head: str) -> None:
    model = build("v1", head).eval()
    with torch.no_grad():
        expected = model(given()[0])
        for block in model.block_list():
            block.compile(backend="eager")
        torch.testing.assert_close(model(given()[0]), expected)


def maps() -> list[Tensor]:
    torch.manual_seed(3)
    return [torch.randn(2, c, s, s + 1) for c, s in ((8, 16), (16, 8), (24, 4), (32, 2))]


def test_the_mlp_head_is_segformers() -> None:
    """Resized, concatenated, then convolved, as the literature has it: the same where sizes are whole multiples."""
    head = randomised(MLPHead([8, 16, 24, 32], K, width=12)).eval()
    assert isinstance(head, MLPHead)
    small = [torch.randn(2, c, s, s) for c, s in ((8, 16), (16, 8))]
    two = randomised(MLPHead([8, 16], K, width=12)).eval()
    assert isinstance(two, MLPHead)
    large = [F.interpolate(x, size=(16, 16), mode="bilinear", align_corners=False) for x in small]
    weight = torch.cat([conv.weight for conv in two.convs], dim=1)  # type: ignore[arg-type]
    expected = two.conv_seg(F.relu(two.bn(F.conv2d(torch.cat(large, dim=1), weight))))
    torch.testing.assert_close(two(small), expected, rtol=1e-4, atol=1e-4)
    assert head(maps()).shape == (2, K, 16, 17)


def test_the_linear_head_is_linear() -> None:
    head = randomised(LinearHead([8, 16, 24, 32], K)).eval()
    one, other = maps(), [x * 3 for x in maps()]
    zero = [torch.zeros_like(x) for x in one]
    both = [a + b for a, b in zip(one, other, strict=True)]
    with torch.no_grad():
        torch.testing.assert_close(
            head(both) - head(zero), head(one) + head(other) - 2 * head(zero), rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("head", [MLPHead([4, 8], K, width=8), LinearHead([4, 8], K)])
def test_every_value_of_a_head_begins_somewhere(head: nn.Module) -> None:
    with torch.no_grad():
        for value in (*head.parameters(), *(b for b in head.buffers() if b.is_floating_point())):
            value.fill_(float("nan"))
    if isinstance(head, LinearHead):
        head.init_weights()
    else:
        from convnext.models.segmentation.upernet import init_segmentation_head

        init_segmentation_head(head)
    assert all(torch.isfinite(value).all() for value in head.state_dict().values())


@pytest.mark.parametrize(("size", "deepest"), [("tiny", 7), ("small", 13), ("base", 13), ("large", 13), ("xlarge", 13)])
def test_the_official_stage_wise_decay(size: str, deepest: int) -> None:
    """Scales of the learning rate: 0.9 to the power of layers + 1 - id (official constructor, "stage_wise")."""
    with torch.device("meta"):
        model = build_segmenter(segmenter_config(f"upernet_convnext_{size}", num_classes=150))
    depths = model.depth_ids(blocks_per_group=0)
    for name, depth in depths.items():
        inner = name.removeprefix("backbone.")
        if inner.startswith("downsample_layers."):
            expected = 0
        elif inner.startswith("stages."):
            expected = int(inner.split(".")[1]) + 1
        else:
            expected = deepest
        assert depth == expected, name
    scales = {g["lr_scale"] for g in parameter_groups(model, OptimConfig(layer_decay=0.9, blocks_per_group=0))}
    assert sorted(scales) == pytest.approx(sorted(0.9 ** (deepest - i) for i in (0, 1, 2, 3, 4, deepest)))


def test_names_of_segmenters() -> None:
    assert set(SEGMENTERS) == {"upernet", "mlp", "linear"}
    assert segmenter_config("linear_convnext_tiny", num_classes=3).frozen
    with pytest.raises(ValueError, match="upernet, mlp, linear"):
        segmenter_config("deeplab_convnext_tiny", num_classes=3)


def test_balance_by_hand() -> None:
    """Shares 1/4 and 3/4, and a class that is nowhere: at power 1 both have the same say, the mean over pixels is 1."""
    weights = class_weights(torch.tensor([100, 300, 0]), 1.0)
    assert weights.tolist() == pytest.approx([2, 2 / 3, 2])
    assert class_weights(torch.tensor([100, 300]), 0.0).tolist() == [1, 1]
    half = class_weights(torch.tensor([100, 300]), 0.5)
    assert float(half[0] / half[1]) == pytest.approx(3**0.5)
    assert float((half * torch.tensor([0.25, 0.75])).sum()) == pytest.approx(1)
