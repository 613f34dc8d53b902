"""The heads for boxes and for masks, each for itself, by hand. K classes, R regions, S side of a region's map."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from convnext.models.detection.box_head import BoxHead
from convnext.models.detection.config import CASCADE_ROI, RoIConfig
from convnext.models.detection.mask_head import MaskHead, mask_loss, mean_probability

STDS = (0.1, 0.1, 0.2, 0.2)


def box_head(*, num_classes: int = 2, **options) -> BoxHead:
    return BoxHead(2, num_classes, replace(RoIConfig(width=8), **options), STDS)


def log_softmax(logits: list[float], label: int) -> float:
    return logits[label] - math.log(sum(math.exp(value) for value in logits))


# The box head


def test_box_losses_by_hand():
    """Region 0 is of class 1 and 1 pixel off, a tenth of its width, so 1 unit; region 1 is background."""
    logits = torch.tensor([[0.5, 1.0, -1.0], [0.0, 0.25, 2.0]])
    offsets = torch.full((2, 2, 4), 9.0)  # other classes' and background's do not matter
    offsets[0, 1] = torch.tensor([0.5, 0.0, 0.0, -0.25])
    boxes, targets = torch.tensor([[0.0, 0, 10, 20], [5, 5, 6, 6]]), torch.tensor([[1.0, 0, 11, 20]])
    found = box_head().losses(logits, offsets, torch.tensor([1, 2]), boxes, targets)
    class_loss = -(log_softmax([0.5, 1, -1], 1) + log_softmax([0, 0.25, 2], 2)) / 2
    assert found["class"].item() == pytest.approx(class_loss)
    assert found["box"].item() == pytest.approx((0.5 + 0.25) / 2)  # over both regions


@pytest.mark.parametrize(
    ("target", "giou"),
    [
        ([0.0, 0, 10, 10], 1.0),
        ([5.0, 0, 15, 10], 50 / 150),  # the hull is the union
        ([5.0, 5, 15, 15], 25 / 175 - 50 / 225),
        ([20.0, 0, 30, 10], 0 - 100 / 300),
    ],
)
def test_giou_by_hand(target, giou):
    """Of the moved box, not of its offsets: here it moves by half its width and back."""
    offsets, boxes = torch.full((2, 2, 4), 9.0), torch.tensor([[3.0, 3, 4, 4], [-5.0, 0, 5, 10]])
    offsets[1, 1] = torch.tensor([5.0, 0, 0, 0])  # units of a tenth
    found = box_head(giou=True).losses(torch.zeros(2, 3), offsets, torch.tensor([2, 1]), boxes, torch.tensor([target]))
    assert found["box"].item() == pytest.approx(10 * (1 - giou) / 2, abs=1e-5)


@pytest.mark.parametrize("giou", [False, True])
def test_box_losses_without_objects(giou):
    head = box_head(giou=giou)
    for count in (3, 0):
        logits, offsets = head(torch.randn(count, 2, 7, 7))
        found = head.losses(logits, offsets, torch.full((count,), 2), torch.rand(count, 4), torch.zeros(0, 4))
        assert found["box"].item() == 0
        assert torch.isfinite(found["class"])
        (found["class"] + found["box"]).backward()
        assert all(value.grad is not None for value in head.parameters())


def test_moved_by_the_offsets_of_a_class():
    offsets = torch.zeros(2, 2, 4)
    offsets[0, 1, 0], offsets[1, 0, 3], offsets[1, 1, 0] = 5, math.log(2) / 0.2, 99
    boxes, labels = torch.tensor([[0.0, 0, 10, 10], [10, 10, 20, 20]]), torch.tensor([1, 0])
    moved = box_head().decode_boxes(boxes, offsets, labels)
    assert torch.allclose(moved, torch.tensor([[5.0, 0, 15, 10], [10, 5, 20, 25]]))
    assert torch.allclose(
        box_head().decode_boxes(boxes, offsets, labels, (24, 12)), torch.tensor([[5.0, 0, 12, 10], [10, 5, 12, 24]])
    )


def test_box_head_layers():
    """As many convolutions with a norm, and linear layers, as the configuration says."""
    assert list(box_head(fcs=2).state_dict()) == [
        f"{name}.{part}" for name in ("shared_fcs.0", "shared_fcs.1", "fc_cls", "fc_reg") for part in ("weight", "bias")
    ]
    head = box_head(convs=1, fcs=1)
    shapes = {name: tuple(value.shape) for name, value in head.state_dict().items()}
    assert shapes["shared_convs.0.conv.weight"] == (2, 2, 3, 3)
    assert "shared_convs.0.conv.bias" not in shapes
    assert shapes["shared_fcs.0.weight"] == (8, 2 * 49)
    assert shapes["fc_cls.weight"] == (3, 8)
    assert shapes["fc_reg.weight"] == (8, 8)
    logits, offsets = head(torch.randn(5, 2, 7, 7))
    assert (logits.shape, offsets.shape) == ((5, 3), (5, 2, 4))
    logits, offsets = head.bfloat16()(torch.randn(5, 2, 7, 7).bfloat16())
    assert logits.dtype == offsets.dtype == torch.float32


@torch.no_grad()
def test_init_weights_forgets_nothing():
    """Filled with NaN, running statistics too, and initialised again."""
    box, mask = BoxHead(32, 40, replace(CASCADE_ROI, width=64), STDS), MaskHead(32, 40, convs=2)
    for module in (box, mask):
        for value in module.state_dict().values():
            value.fill_(float("nan") if value.is_floating_point() else 7)
        module.init_weights()
        forgotten = [name for name, value in module.state_dict().items() if not torch.isfinite(value).all()]
        assert forgotten == []
    state = box.state_dict()
    assert state["shared_convs.0.bn.num_batches_tracked"] == 0
    assert all((value == 0).all() for name, value in state.items() if name.endswith(("bias", "running_mean")))
    assert all((value == 1).all() for name, value in state.items() if name.endswith(("bn.weight", "running_var")))
    assert state["fc_cls.weight"].std().item() == pytest.approx(0.01, rel=0.1)
    assert state["fc_reg.weight"].std().item() == pytest.approx(0.001, rel=0.1)
    assert state["shared_fcs.0.weight"].abs().max().item() == pytest.approx((6 / (32 * 49 + 64)) ** 0.5, rel=0.01)
    kaiming = (2 / (32 * 9)) ** 0.5
    for value in (state["shared_convs.3.conv.weight"], mask.state_dict()["convs.1.conv.weight"]):
        assert value.std().item() == pytest.approx(kaiming, rel=0.1)
    assert all((value == 0).all() for name, value in mask.state_dict().items() if name.endswith("bias"))


# The mask head


def test_mask_loss_by_hand():
    logits = torch.tensor([[[0.0, 1.0], [-1.0, 2.0]]], requires_grad=True)
    wanted = torch.tensor([[[True, True], [False, False]]])
    softplus = [math.log(2), math.log(1 + math.exp(-1)), math.log(1 + math.exp(-1)), math.log(1 + math.exp(2))]
    assert mask_loss(logits, wanted).item() == pytest.approx(sum(softplus) / 4)
    nothing = mask_loss(logits[:0], wanted[:0])
    nothing.backward()
    assert nothing.item() == 0
    assert logits.grad is not None


def test_mean_of_probabilities():
    """Of 0.5 and 0.75, not of their logits."""
    assert mean_probability([torch.zeros(1, 2, 2), torch.full((1, 2, 2), math.log(3))]).unique().item() == 0.625
    assert mean_probability([torch.zeros(1, 2, 2)]).unique().item() == 0.5


@torch.no_grad()
def test_mask_of_a_region_s_class():
    head = MaskHead(2, 3, convs=4)
    x, labels = torch.randn(4, 2, 14, 14), torch.tensor([2, 0, 1, 2])
    given = head(x, labels)
    assert given.shape == (4, 28, 28)
    every = torch.stack([head(x, torch.full((4,), kind)) for kind in range(3)], dim=1)
    assert torch.equal(given, every[torch.arange(4), labels])
    assert not torch.equal(every[:, 0], every[:, 1])
    assert head(x[:0], labels[:0]).shape == (0, 28, 28)
    assert head.bfloat16()(x.bfloat16(), labels).dtype == torch.float32
