"""The region proposal network: anchors, proposals and losses by hand. A anchors at a place, H W space."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from convnext.models.detection.config import RPNConfig
from convnext.models.detection.rpn import RPNHead
from convnext.ops.instances import Instances

HALF, WIDE = 16.0, 16 * math.sqrt(2)  # half the sides of anchors of 32 x 32 pixels, and of those twice as wide as high
NARROW = WIDE / 2


def head(*strides: int, channels: int = 2, **options) -> RPNHead:
    return RPNHead(channels, strides, replace(RPNConfig(), **options))


def objects(*boxes: list[float]) -> Instances:
    return Instances(torch.tensor(boxes).view(-1, 4), torch.zeros(len(boxes), dtype=torch.int64))


def loss(value: float, truth: int) -> float:
    """Binary cross-entropy of a logit."""
    return math.log(1 + math.exp(-value if truth else value))


# Anchors


def test_anchors_by_hand():
    """2 x 3 places at stride 4: rows of places, and at each place flat, square and tall."""
    (given,) = head(4).anchors([torch.zeros(1, 2, 2, 3)])
    expected = []
    for y in (0, 4):
        for x in (0, 4, 8):
            for w, h in ((WIDE, NARROW), (HALF, HALF), (NARROW, WIDE)):
                expected.append([x - w, y - h, x + w, y + h])
    assert given.shape == (18, 4)
    assert torch.allclose(given, torch.tensor(expected), atol=1e-5)
    assert given[1].tolist() == [-16, -16, 16, 16]
    assert given[16].tolist() == [-8, -12, 24, 20]  # the square one at (8, 4)


def test_anchors_of_levels():
    given = head(4, 8).anchors([torch.zeros(1, 2, 3, 5), torch.zeros(1, 2, 2, 2)])
    assert [len(of_level) for of_level in given] == [45, 12]
    sides = [(of_level[:, 2:] - of_level[:, :2]).prod(1) for of_level in given]
    assert torch.allclose(sides[0], torch.tensor(32.0**2))  # of every ratio the area is the same
    assert torch.allclose(sides[1], torch.tensor(64.0**2))
    assert given[1][10].tolist() == [8 - 32, 8 - 32, 8 + 32, 8 + 32]
    (other,) = head(4, anchor_scale=1.0, ratios=(4.0,)).anchors([torch.zeros(1, 2, 1, 1)])
    assert other.tolist() == [[-1, -4, 1, 4]]  # four times as high as wide


# Forward


@torch.no_grad()
def test_logits_and_offsets_lie_as_the_anchors_do():
    """Place by place and, at each, anchor by anchor."""
    rpn = head(4, channels=1)
    rpn.rpn_conv.weight.zero_()[..., 1, 1] = 1
    rpn.rpn_cls.weight.fill_(1)
    rpn.rpn_cls.bias = nn.Parameter(torch.tensor([0.1, 0.2, 0.3]))
    rpn.rpn_reg.weight.fill_(1)
    rpn.rpn_reg.bias = nn.Parameter(torch.arange(12) * 0.01)
    places = torch.arange(6).float().view(1, 1, 2, 3)
    (logits,), (offsets,) = rpn([torch.cat([places, 10 + places])])
    expected = torch.arange(6).view(6, 1) + torch.tensor([0.1, 0.2, 0.3])
    assert torch.allclose(logits, torch.stack([expected, 10 + expected]).view(2, 18))
    expected = torch.arange(6).view(6, 1) + torch.arange(12) * 0.01
    assert torch.allclose(offsets, torch.stack([expected, 10 + expected]).view(2, 18, 4))


@torch.no_grad()
def test_one_head_for_all_levels():
    rpn = head(4, 8)
    x = torch.randn(2, 2, 4, 6)
    logits, offsets = rpn([x, x])
    assert torch.equal(logits[0], logits[1])
    assert torch.equal(offsets[0], offsets[1])
    assert (logits[0].shape, offsets[0].shape) == ((2, 72), (2, 72, 4))
    rpn.bfloat16()
    assert {each.dtype for part in rpn([x.bfloat16()]) for each in part} == {torch.float32}


@torch.no_grad()
def test_init_weights_forgets_nothing():
    rpn = head(4, channels=64)
    for value in rpn.parameters():
        value.fill_(float("nan"))
    rpn.init_weights()
    for name, value in rpn.named_parameters():
        if name.endswith("bias"):
            assert (value == 0).all(), name
        else:
            assert value.std().item() == pytest.approx(0.01, rel=0.2), name


# Proposals

A, B, C = [0.0, 0, 10, 10], [0.0, 0, 10, 9], [20.0, 20, 30, 30]  # A and B overlap by 0.9


def propose(rpn: RPNHead, levels: list[tuple[list[list[float]], list[float]]], size=(100, 100)) -> list[list[float]]:
    """Proposals of an image whose levels have those anchors and logits, and offsets of zero."""
    anchors = [torch.tensor(boxes) for boxes, _ in levels]
    logits = [torch.tensor([values]) for _, values in levels]
    (given,) = rpn.propose(logits, [torch.zeros(1, len(a), 4) for a in anchors], anchors, [size])
    return given.tolist()


def test_the_likeliest_first_and_no_doubles():
    rpn = head(4, 8)
    assert propose(rpn, [([A, B, C], [2.0, 3.0, 0.0])]) == [B, C]
    assert propose(rpn, [([A, B, C], [3.0, 2.0, 4.0])]) == [C, A]
    assert propose(head(4, nms_iou=0.95), [([A, B, C], [2.0, 3.0, 0.0])]) == [B, A, C]


def test_levels_do_not_suppress_each_other():
    assert propose(head(4, 8), [([A, B, C], [2.0, 3.0, 0.0]), ([A], [1.0])]) == [B, A, C]


def test_counts_before_and_after_suppression():
    """Before: of each level; after: of the image. In training, the first number of each."""
    levels = [([A, B, C], [2.0, 3.0, 0.0]), ([C], [-1.0])]
    rpn = head(4, 8, before_nms=(2, 3), after_nms=(100, 2))
    assert propose(rpn.train(), levels) == [B, C]  # C of the second level: of the first there are A and B alone
    assert propose(head(4, 8, before_nms=(2, 3), after_nms=(1, 2)).train(), levels) == [B]
    assert propose(rpn.eval(), levels) == [B, C]
    assert propose(head(4, 8, after_nms=(100, 3)).eval(), levels) == [B, C, C]


def test_within_the_image_and_not_empty():
    beyond, flat, crossing = [60.0, 10, 70, 20], [5.0, 5, 20, 5], [40.0, -10, 60, 10]
    given = propose(head(4), [([beyond, flat, crossing, A], [5.0, 4.0, 3.0, 2.0])], size=(40, 50))
    assert given == [[40, 0, 50, 10], A]
    assert propose(head(4), [([beyond], [5.0])], size=(40, 50)) == []


def test_each_image_for_itself():
    """Its own logits, its own offsets and its own borders."""
    anchors, logits = torch.tensor([A, C]), torch.tensor([[1.0, 2.0], [2.0, 1.0]])
    offsets = torch.zeros(2, 2, 4)
    offsets[1, 0] = torch.tensor([0.5, 0.0, 0.0, math.log(2)])  # A moves by 5 pixels and becomes 20 high
    first, second = head(4).propose([logits], [offsets], [anchors], [(25, 100), (100, 26)])
    assert first.tolist() == [[20, 20, 30, 25], A]
    assert torch.allclose(second, torch.tensor([[5.0, 0, 15, 15], [20, 20, 26, 30]]))


def test_proposals_are_no_part_of_the_graph():
    logits = torch.tensor([[1.0, 2.0]], requires_grad=True)
    offsets = torch.zeros(1, 2, 4, requires_grad=True)
    (given,) = head(4).propose([logits], [offsets], [torch.tensor([A, C])], [(50, 50)])
    assert not given.requires_grad


# Losses

PLACES = [[0.0, 0, 32, 32], [40.0, 40, 60, 60], [0.0, 0, 32, 44]]
TARGET = [0.0, 0, 32, 16]  # overlaps them by 0.5, which is its best, by 0, and by 0.36: an object, background, neither
SHIFT, GROWTH = 8 / 32, math.log(2)  # the target's centre is 8 pixels above, and its height the half


def losses(rpn: RPNHead, values: list[list[float]], given: list[list[float]], *targets: Instances, size=(64, 64)):
    """Of images with those logits each, and first anchors' offsets; other anchors' offsets are large."""
    offsets = torch.full((len(targets), 3, 4), 50.0)
    offsets[:, 0] = torch.tensor(given)
    sizes = [size] * len(targets)
    return rpn.losses([torch.tensor(values)], [offsets], [torch.tensor(PLACES)], sizes, targets)


def test_losses_by_hand():
    found = losses(head(4), [[1.0, -2.0, 5.0]], [[0.1, 0, 0, 0]], objects(TARGET))
    assert found["rpn_class"].item() == pytest.approx((loss(1, 1) + loss(-2, 0)) / 2)
    assert found["rpn_box"].item() == pytest.approx((0.1 + SHIFT + GROWTH) / 2)
    exact = losses(head(4), [[1.0, -2.0, 5.0]], [[0, -SHIFT, 0, -GROWTH]], objects(TARGET))
    assert exact["rpn_box"].item() == pytest.approx(0, abs=1e-6)


def test_smooth_losses_by_hand():
    """Up to 1/9 quadratic, beyond it straight: 0.1 ** 2 / 2 * 9, and a ninth's half less."""
    found = losses(head(4, smooth=1 / 9), [[1.0, -2.0, 5.0]], [[0.1, 0, 0, 0]], objects(TARGET))
    assert found["rpn_box"].item() == pytest.approx((0.045 + SHIFT - 1 / 18 + GROWTH - 1 / 18) / 2)


def test_losses_of_a_batch_by_hand():
    """Means over the anchors of all images: two of the first, all three of the second; its objects, though there are
    none, count as one (mmdetection)."""
    values = [[1.0, -2.0, 5.0], [0.5, 0.25, -1.0]]
    found = losses(head(4), values, [[0, 0, 0, 0], [7, 7, 7, 7]], objects(TARGET), objects())
    background = loss(0.5, 0) + loss(0.25, 0) + loss(-1, 0)
    assert found["rpn_class"].item() == pytest.approx((loss(1, 1) + loss(-2, 0) + background) / 6)
    assert found["rpn_box"].item() == pytest.approx((SHIFT + GROWTH) / 6)


def test_inside_only():
    """The second anchor ends at (60, 60): an image whose last pixel is that has it, one less does not."""
    values, none = [[1.0, -2.0, 0.5]], objects()
    assert losses(head(4), values, [[0] * 4], none)["rpn_class"].item() == pytest.approx(
        (loss(1, 0) + loss(-2, 0) + loss(0.5, 0)) / (3 + 1)
    )
    for size, used in (((61, 61), [1, -2, 0.5]), ((60, 61), [1, 0.5]), ((61, 60), [1, 0.5]), ((33, 61), [1])):
        found = losses(head(4, inside_only=True), values, [[0] * 4], none, size=size)["rpn_class"].item()
        assert found == pytest.approx(sum(loss(value, 0) for value in used) / (len(used) + 1))


def test_no_anchor_to_learn_from():
    rpn = head(4, inside_only=True)
    x = torch.randn(1, 2, 2, 2)
    logits, offsets = rpn([x])
    found = rpn.losses(logits, offsets, rpn.anchors([x]), [(8, 8)], [objects([0, 0, 8, 8])])
    assert {name: value.item() for name, value in found.items()} == {"rpn_class": 0, "rpn_box": 0}
    sum(found.values()).backward()  # type: ignore[union-attr]
    assert all(value.grad is not None and (value.grad == 0).all() for value in rpn.parameters())


def learned(rpn: RPNHead, shapes: list[tuple[int, int]], size: tuple[int, int], target: Instances) -> list[Tensor]:
    """Whether the loss depends on each anchor's logit, by level, as (H, W, A)."""
    maps = [torch.zeros(1, 2, *shape) for shape in shapes]
    logits = [torch.zeros(1, 3 * h * w, requires_grad=True) for h, w in shapes]
    offsets = [torch.zeros(1, 3 * h * w, 4) for h, w in shapes]
    rpn.losses(logits, offsets, rpn.anchors(maps), [size], [target])["rpn_class"].backward()
    return [(each.grad != 0).view(*shape, 3) for each, shape in zip(logits, shapes, strict=True)]  # type: ignore[arg-type]


def test_padding_teaches_nothing():
    """An image of 33 x 60 counts as 64 x 64, in a batch of 128 x 192: at stride 4, 16 places of 32 and 48; at 64, 1."""
    rpn = head(4, 32, 64, samples=10**6)
    fine, coarse, coarsest = learned(rpn, [(32, 48), (4, 6), (2, 3)], (33, 60), objects())
    for of_level, side in ((fine, 16), (coarse, 2), (coarsest, 1)):
        expected = torch.zeros_like(of_level)
        expected[:side, :side] = True
        assert torch.equal(of_level, expected)
    (uneven,) = learned(head(4, samples=10**6), [(32, 48)], (70, 31), objects())  # 96 x 32
    assert uneven.any(-1).sum(0).tolist() == [24] * 8 + [0] * 40


def test_half_of_the_samples_are_objects_at_most():
    torch.manual_seed(0)
    rpn = head(4, samples=16, positive_iou=0.3)
    target = objects([8, 8, 40, 40], [60, 60, 92, 92])
    (drawn,) = learned(rpn, [(24, 24)], (96, 96), target)
    assert drawn.sum() == 16
    logits = torch.zeros(1, 24 * 24 * 3, requires_grad=True)
    anchors = rpn.anchors([torch.zeros(1, 2, 24, 24)])
    rpn.losses([logits], [torch.zeros(1, 24 * 24 * 3, 4)], anchors, [(96, 96)], [target])["rpn_class"].backward()
    assert logits.grad is not None
    assert [(logits.grad < 0).sum().item(), (logits.grad > 0).sum().item()] == [8, 8]  # up for objects, else down


def test_an_object_that_no_anchor_fits():
    """It is still learned: by its best anchors alone, the square ones nearest to it."""
    (given,) = head(4).anchors([torch.zeros(1, 2, 24, 24)])
    target = objects([40.0, 40, 56, 60])
    rpn, logits = head(4), torch.zeros(1, 24 * 24 * 3, requires_grad=True)
    rpn.losses([logits], [torch.zeros(1, 24 * 24 * 3, 4)], [given], [(96, 96)], [target])["rpn_class"].backward()
    assert logits.grad is not None
    up = given[logits.grad[0] < 0]
    inside = (up[:, 0] <= 40) & (up[:, 1] <= 40) & (up[:, 2] >= 56) & (up[:, 3] >= 60)
    assert len(up) > 0
    assert inside.all()
    assert (up[:, 2:] - up[:, :2]).sum(1).tolist() == pytest.approx([64.0] * len(up))
