"""The heads on regions: losses, the cascade and detections by hand. K classes, R regions, S side of a region's map."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from convnext.models.detection.box_head import BoxHead
from convnext.models.detection.config import CASCADE_ROI, RoIConfig
from convnext.models.detection.roi_heads import RoIHeads
from convnext.ops.boxes import BACKGROUND, NEITHER, spared
from convnext.ops.instances import Detections, Instances

SMALL = RoIConfig(width=8)
CASCADE = replace(CASCADE_ROI, width=8)


def heads(config: RoIConfig = SMALL, *, num_classes: int = 2, masks: bool = True, **options) -> RoIHeads:
    return RoIHeads(2, (4, 8), num_classes, replace(config, **options), masks=masks)


def maps(batch: int = 1) -> list[Tensor]:
    """Three levels of an image of 96 x 96; regions come from the first two."""
    torch.manual_seed(0)
    return [torch.randn(batch, 2, 96 // s, 96 // s) for s in (4, 8, 16)]


def objects(*boxes: list[float], labels: list[int] | None = None) -> Instances:
    """Their masks are full."""
    masks = torch.ones(len(boxes), 96, 96, dtype=torch.bool)
    return Instances(torch.tensor(boxes).view(-1, 4), torch.tensor(labels or [0] * len(boxes)).long(), masks)


@torch.no_grad()
def fix(head: BoxHead, logits: list[float], offsets: list[list[float]]) -> None:
    """Lets the head say the same of every region."""
    for layer, bias in ((head.fc_cls, logits), (head.fc_reg, [value for of_class in offsets for value in of_class])):
        layer.weight.zero_()
        layer.bias.copy_(torch.tensor(bias))


# Which regions are learned from


def sampled(roi: RoIHeads, monkeypatch, proposals: list[Tensor], targets: list[Instances]) -> list[dict[str, Any]]:
    """What every stage's box loss is called with."""
    calls: list[dict[str, Any]] = []
    for head in roi.box_stages:

        def losses(logits, offsets, labels, boxes, wanted, *, own=head.losses):
            calls.append({"labels": labels.tolist(), "boxes": boxes, "wanted": wanted.tolist()})
            return own(logits, offsets, labels, boxes, wanted)

        monkeypatch.setattr(head, "losses", losses)
    roi.losses(maps(len(targets)), proposals, [(96, 96)] * len(targets), targets)
    return calls


FIRST, SECOND = [0.0, 0, 40, 40], [40.0, 40, 90, 90]
NEAR, FAR, HALF = [0.0, 0, 40, 32], [50.0, 0, 90, 30], [0.0, 0, 40, 20]  # overlap FIRST by 0.8, 0 and 0.5


def test_objects_own_boxes_are_among_the_regions(monkeypatch):
    """In front; then proposals that stand for one, from 0.5 on; then background."""
    proposals, target = torch.tensor([FAR, NEAR, HALF]), objects(FIRST, SECOND, labels=[1, 0])
    (call,) = sampled(heads(), monkeypatch, [proposals], [target])
    assert call["boxes"].tolist() == [FIRST, SECOND, NEAR, HALF, FAR]
    assert call["labels"] == [1, 0, 1, 1, 2]
    assert call["wanted"] == [FIRST, SECOND, FIRST, FIRST]


def test_regions_of_a_batch(monkeypatch):
    targets = [objects(FIRST), objects(SECOND, labels=[1])]
    (call,) = sampled(heads(), monkeypatch, [torch.tensor([FAR]), torch.tensor([FIRST, SECOND])], targets)
    assert call["boxes"].tolist() == [FIRST, FAR, SECOND, SECOND, FIRST]
    assert call["labels"] == [0, 2, 1, 1, 2]
    assert call["wanted"] == [FIRST, SECOND, SECOND]


def test_best_region_of_an_object_that_is_overlapped_less(monkeypatch):
    """A region that overlaps object 0 by 0.8 and object 1 by 0.64, which has no better one: `best_too` decides."""
    target = objects([0.0, 0, 40, 50], [0.0, 0, 40, 25.6])
    for best_too, expected in ((True, 1), (False, 0)):
        (call,) = sampled(heads(best_too=best_too), monkeypatch, [torch.tensor([[0.0, 0, 40, 40]])], [target])
        assert call["wanted"][2] == target.boxes[expected].tolist()


def test_at_most_a_quarter_are_objects(monkeypatch):
    torch.manual_seed(0)
    proposals = torch.tensor([NEAR] * 50 + [FAR] * 50)
    (call,) = sampled(heads(samples=16), monkeypatch, [proposals], [objects(FIRST)])
    assert call["labels"] == [0] * 4 + [2] * 12


def test_nothing_in_sight(monkeypatch):
    """Without objects and proposals the whole image is background."""
    (call,) = sampled(heads(), monkeypatch, [torch.zeros(0, 4)], [objects()])
    assert (call["boxes"].tolist(), call["labels"]) == ([[0, 0, 96, 96]], [2])


# Losses of all heads


def test_losses_by_hand():
    """Heads that say nothing: log 3 for three classes, log 2 for a mask's pixel, and offsets that are all missing.

    Of three regions NEAR alone lies off: by 4 of 32 pixels, and by the logarithm of 40 / 32 in height.
    """
    roi = heads()
    fix(roi.box_stages[0], [0, 0, 0], [[0] * 4] * 2)
    with torch.no_grad():
        roi.mask_stages[0].conv_logits.weight.zero_()
    found = roi.losses(maps(), [torch.tensor([NEAR, FAR])], [(96, 96)], [objects(FIRST)])
    assert list(found) == ["class", "box", "mask"]
    assert found["class"].item() == pytest.approx(math.log(3))
    assert found["box"].item() == pytest.approx((0.125 / 0.1 + math.log(1.25) / 0.2) / 3, rel=1e-5)
    assert found["mask"].item() == pytest.approx(math.log(2))


def test_mask_loss_knows_the_object_and_its_class():
    """Of the class's own mask, against the object's mask within the region: left half full, else empty."""
    roi, target = heads(num_classes=2), objects(FIRST, labels=[1])
    assert target.masks is not None
    target.masks[:, :, 20:] = False
    head = roi.mask_stages[0]
    with torch.no_grad():
        head.conv_logits.weight.zero_()
        head.conv_logits.bias = nn.Parameter(torch.tensor([100.0, 2.0]))
    found = roi.losses(maps(), [torch.zeros(0, 4)], [(96, 96)], [target])["mask"].item()
    assert found == pytest.approx((math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2)


def test_mask_loss_knows_which_object():
    """Object 0's mask is full, object 1's empty; logits say 3 everywhere."""
    roi, target = heads(), objects(FIRST, SECOND)
    assert target.masks is not None
    target.masks[1] = False
    head = roi.mask_stages[0]
    with torch.no_grad():
        head.conv_logits.weight.zero_()
        head.conv_logits.bias = nn.Parameter(torch.tensor([3.0, 0.0]))
    for proposals, full in (([FAR], 1), ([NEAR, HALF], 3)):  # beside object 1's own box
        found = roi.losses(maps(), [torch.tensor(proposals)], [(96, 96)], [target])["mask"].item()
        total = full * math.log(1 + math.exp(-3)) + math.log(1 + math.exp(3))
        assert found == pytest.approx(total / (full + 1))


def test_cascade_weights():
    """The stages' losses count 1, 0.5 and 0.25."""
    roi, proposals = heads(CASCADE), [torch.tensor([NEAR, FAR])]
    weighted = roi.losses(maps(), proposals, [(96, 96)], [objects(FIRST)])
    roi.config = replace(roi.config, weights=(1.0, 1.0, 1.0))
    plain = roi.losses(maps(), proposals, [(96, 96)], [objects(FIRST)])
    assert list(weighted) == [f"{stage}_{name}" for stage in range(3) for name in ("class", "box", "mask")]
    for name, value in weighted.items():
        assert value.item() == pytest.approx((1, 0.5, 0.25)[int(name[0])] * plain[name].item()), name
        assert value > 0


def test_a_cascade_refines(monkeypatch):
    """Each stage sees the regions where the stage before moved them, but for the objects' own boxes.

    A region moves as its object's class says (here: down), or, without one, as its likeliest class (to the right); by
    a tenth of its side for a unit in the first stage, a twentieth in the second, and not beyond the image. Overlaps of
    0.5, 0.6 and 0.7 are asked for.
    """
    roi = heads(CASCADE, num_classes=3, masks=False)
    down, right, away = [0.0, 2, 0, 0], [2.0, 0, 0, 0], [50.0, 50, 0, 0]
    for head in roi.box_stages:
        fix(head, [0.0, 1.0, 0.5, 9.0], [away, right, down])
    proposals = torch.tensor([[0.0, 0, 40, 30], [60.0, 0, 90, 30]])  # the first overlaps FIRST by 0.75
    first, second, third = sampled(roi, monkeypatch, [proposals], [objects(FIRST, labels=[2])])
    assert first["boxes"].tolist() == [FIRST, *proposals.tolist()]
    assert first["labels"] == [2, 2, 3]
    assert torch.allclose(second["boxes"], torch.tensor([FIRST, [0.0, 6, 40, 36], [66.0, 0, 96, 30]]))
    assert second["labels"] == [2, 2, 3]  # still by 0.75
    assert torch.allclose(third["boxes"], torch.tensor([FIRST, [0.0, 9, 40, 39], [69.0, 0, 96, 30]]))
    assert third["labels"] == [2, 2, 3]
    assert not third["boxes"].requires_grad


def test_a_cascade_asks_for_more(monkeypatch):
    """A region that overlaps by 0.65 stands for the object in two stages."""
    roi = heads(CASCADE, masks=False)
    for head in roi.box_stages:
        fix(head, [0, 0, 0], [[0] * 4] * 2)
    calls = sampled(roi, monkeypatch, [torch.tensor([[0.0, 0, 40, 26]])], [objects(FIRST)])
    assert [call["labels"] for call in calls] == [[0, 0], [0, 0], [0, 2]]
    assert [stage.stds for stage in roi.box_stages] == list(CASCADE_ROI.stds)


# Detections


def scored(*probabilities: list[float]) -> Tensor:
    """Logits of which softmax makes those."""
    return torch.tensor(probabilities).log()


def detected(roi: RoIHeads, boxes: list[list[float]], logits: Tensor) -> list[tuple[list[float], float, int]]:
    found = roi.postprocess_detections(torch.tensor(boxes), logits, torch.zeros(len(boxes), 2, 4), (96, 96))
    assert found.masks is None
    scores = [round(score, 4) for score in found.scores.tolist()]
    return list(zip(found.boxes.tolist(), scores, found.labels.tolist(), strict=True))


def test_detections_by_hand():
    """NEAR is suppressed by FIRST of its class, not as another; below 0.05 there is nothing."""
    roi = heads()
    logits = scored([0.6, 0.04, 0.36], [0.5, 0.3, 0.2], [0.02, 0.7, 0.28], [0.045, 0.03, 0.925])
    assert detected(roi, [FIRST, NEAR, FAR, SECOND], logits) == [(FAR, 0.7, 1), (FIRST, 0.6, 0), (NEAR, 0.3, 1)]
    loose = heads(nms_iou=0.85, score=0.035)
    assert detected(loose, [FIRST, NEAR, FAR, SECOND], logits) == [
        (FAR, 0.7, 1),
        (FIRST, 0.6, 0),
        (NEAR, 0.5, 0),
        (NEAR, 0.3, 1),
        (SECOND, 0.045, 0),
        (FIRST, 0.04, 1),
    ]
    assert detected(heads(most=2), [FIRST, NEAR, FAR, SECOND], logits) == [(FAR, 0.7, 1), (FIRST, 0.6, 0)]
    assert detected(roi, [FIRST], scored([0.04, 0.01, 0.95])) == []


def test_detections_move_as_their_class_says():
    """Before they suppress each other: both regions arrive at the same place."""
    roi, offsets = heads(), torch.full((2, 2, 4), 7.0)
    offsets[0, 1], offsets[1, 1] = torch.tensor([5.0, 0, 0, 0]), torch.tensor([-5.0, 0, 0, 0])
    boxes = torch.tensor([[10.0, 0, 30, 20], [30.0, 0, 50, 20]])
    found = roi.postprocess_detections(boxes, scored([0.01, 0.6, 0.39], [0.01, 0.7, 0.29]), offsets, (15, 96))
    assert found.boxes.tolist() == [[20, 0, 40, 15]]
    assert found.scores.tolist() == pytest.approx([0.7])


def test_a_cascade_s_detections_move_in_the_last_stage_s_units():
    """0.033 of a width of 100 to the right, and 0.067 of the logarithm of the height."""
    offsets = torch.zeros(1, 2, 4)
    offsets[0, 1] = torch.tensor([1.0, 0, 0, 1.0])
    found = heads(CASCADE).postprocess_detections(
        torch.tensor([[0.0, 20, 100, 40]]), scored([0.01, 0.9, 0.09]), offsets, (300, 300)
    )
    half = 10 * math.exp(0.067)
    assert found.boxes[0].tolist() == pytest.approx([3.3, 30 - half, 103.3, 30 + half])


@torch.no_grad()
def test_a_cascade_s_scores():
    """Means of the logits; each stage looks where the likeliest class of the one before said; the last's offsets."""
    roi, values = heads(CASCADE, masks=False).eval(), [[0.0, 1, 9], [3, 2, 9], [-6, 0, 9]]
    right, down = [2.0, 0, 0, 0], [0.0, 2, 0, 0]
    for head, logits in zip(roi.box_stages, values, strict=True):
        fix(head, logits, [right, down])
    given = roi.predict_boxes(
        maps(2), [torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([[0.0, 60, 20, 96]])], [(96, 96)] * 2
    )
    assert [each.tolist() for each in given.logits] == [[[-1, 1, 9]]] * 2
    assert [each.tolist() for each in given.offsets] == [[[right, down]]] * 2
    # first down by two tenths of its height, cut off at the border, then to the right by a tenth of its width
    assert torch.allclose(given.boxes[0], torch.tensor([[4.0, 8, 44, 48]]))
    assert torch.allclose(given.boxes[1], torch.tensor([[2.0, 67.2, 22, 96]]))


def test_placed_in_the_picture():
    """An image of 50 x 100 made of a picture of 100 x 400: twice as high, four times as wide."""
    found = Detections(
        torch.tensor([[10.0, 10, 20, 20], [90, 40, 101, 50]]), torch.tensor([0.9, 0.8]), torch.tensor([1, 0])
    )
    placed = heads().rescale_detections(found, torch.ones(2, 28, 28), (50, 100), (100, 400))
    assert placed.boxes.tolist() == [[40, 20, 80, 40], [360, 80, 400, 100]]
    assert (placed.scores.tolist(), placed.labels.tolist()) == (found.scores.tolist(), [1, 0])
    assert placed.masks is not None
    assert placed.masks.shape == (2, 100, 400)
    assert placed.masks.flatten(1).sum(1).tolist() == [40 * 20, 40 * 20]
    assert placed.masks[0, 20:40, 40:80].all()
    assert heads().rescale_detections(found, None, (50, 100), (100, 400)).masks is None


@torch.no_grad()
@pytest.mark.parametrize("config", [SMALL, CASCADE])
def test_masks_are_drawn_by_every_stage(config):
    roi = heads(config).eval()
    for stage, head in enumerate(roi.mask_stages):
        head.conv_logits.weight.zero_()
        head.conv_logits.bias = nn.Parameter(torch.tensor([0.0, math.log(3) if stage == 0 else 0.0]))
    labels = [torch.tensor([1]), torch.zeros(0).long(), torch.tensor([0, 1])]
    boxes = [torch.tensor([FIRST]), torch.zeros(0, 4), torch.tensor([FIRST, SECOND])]
    one, none, two = roi.predict_masks(maps(3), boxes, labels)
    assert one is not None
    assert none is not None
    assert two is not None
    surer = 0.75 if config is SMALL else (0.75 + 0.5 + 0.5) / 3
    assert (one.shape, none.shape, two.shape) == ((1, 28, 28), (0, 28, 28), (2, 28, 28))
    assert torch.allclose(one, torch.tensor(surer))
    assert torch.allclose(two, torch.tensor([0.5, surer]).view(2, 1, 1).expand(2, 28, 28))
    assert heads(config, masks=False).predict_masks(maps(3), boxes, labels) == [None, None, None]


@torch.no_grad()
@pytest.mark.parametrize("config", [SMALL, CASCADE])
def test_nothing_proposed(config):
    (found,) = heads(config).eval().predict(maps(), [torch.zeros(0, 4)], [(96, 96)], [(48, 32)])
    assert found.masks is not None
    assert (found.boxes.shape, found.scores.shape, found.masks.shape) == ((0, 4), (0,), (0, 48, 32))


# Stages


def test_names_of_stages():
    """A cascade's heads have numbers, a single stage's none."""
    single, cascade = heads(), heads(CASCADE)
    assert {name.split(".")[1] for name in single.state_dict() if name.startswith("mask_head.")} == {
        "convs",
        "upsample",
        "conv_logits",
    }
    for part in ("bbox_head", "mask_head"):
        assert {name.split(".")[1] for name in cascade.state_dict() if name.startswith(part)} == {"0", "1", "2"}
    assert [len(each) for each in (single.box_stages, single.mask_stages)] == [1, 1]
    assert [len(each) for each in (cascade.box_stages, cascade.mask_stages)] == [3, 3]
    boxed = heads(CASCADE, masks=False)
    assert (boxed.mask_stages, [name for name in boxed.state_dict() if "mask" in name]) == ([], [])


@pytest.mark.parametrize(
    "options", [{"ious": (0.5, 0.6)}, {"stds": ()}, {"weights": (1.0, 1.0)}, {"ious": (), "stds": (), "weights": ()}]
)
def test_settings_of_stages_agree(options):
    with pytest.raises(ValueError, match="one entry for each stage"):
        heads(**options)


def test_regions_to_ignore_are_neither_objects_nor_background() -> None:
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]])
    assigned = torch.tensor([BACKGROUND, 0, NEITHER, BACKGROUND])
    ignored = torch.tensor([[5.0, 0, 10, 10], [0, 0, 1, 1]])
    assert spared(assigned, boxes, ignored).tolist() == [NEITHER, 0, NEITHER, BACKGROUND]  # half of the first is inside
    assert spared(assigned, boxes, torch.tensor([[5.1, 0, 10, 10]])).tolist() == assigned.tolist()
    assert spared(assigned, boxes, None) is assigned


def test_objects_without_an_outline_teach_no_masks() -> None:
    torch.manual_seed(0)
    config = RoIConfig(width=16, samples=16, mask_convs=1)
    heads = RoIHeads(8, [4, 8], 2, config)
    maps = [torch.randn(1, 8, 16, 16), torch.randn(1, 8, 8, 8)]
    boxes, labels = torch.tensor([[4.0, 4, 30, 30], [32, 32, 60, 60]]), torch.tensor([0, 1])
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, 4:30, 4:30] = True

    def loss(masks: torch.Tensor, outlined: torch.Tensor | None) -> dict[str, torch.Tensor]:
        torch.manual_seed(1)
        return heads.losses(maps, [boxes + 1], [(64, 64)], [Instances(boxes, labels, masks, outlined)])

    only_first = loss(masks, torch.tensor([True, False]))
    other = masks.clone()
    other[1] = True  # whatever stands there says nothing
    for name, value in loss(other, torch.tensor([True, False])).items():
        assert torch.equal(value, only_first[name]), name
    assert not torch.equal(loss(masks, None)["mask"], only_first["mask"])
    assert torch.equal(loss(masks, None)["box"], only_first["box"])
    none = loss(masks, torch.tensor([False, False]))["mask"]
    assert none == 0
    assert none.requires_grad
