"""The heads on regions: losses, the cascade and detections by hand. K classes, R regions, S side of a region's map."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from convnext.heads.box_head import BoxHead
from convnext.heads.config import CASCADE_ROI, RoIConfig
from convnext.heads.mask_head import MaskHead, mask_loss, mean_probability
from convnext.heads.roi_heads import RoIHeads
from convnext.ops.instances import Detections, Instances

STDS = (0.1, 0.1, 0.2, 0.2)
SMALL = RoIConfig(width=8)
CASCADE = replace(CASCADE_ROI, width=8)


def box_head(*, num_classes: int = 2, **options) -> BoxHead:
    return BoxHead(2, num_classes, replace(SMALL, **options), STDS)


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
    offsets[1, 0] = torch.tensor([5.0, 0, 0, 0])  # units of a tenth
    found = box_head(giou=True).losses(torch.zeros(2, 3), offsets, torch.tensor([2, 0]), boxes, torch.tensor([target]))
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
    moved = box_head().moved(boxes, offsets, labels)
    assert torch.allclose(moved, torch.tensor([[5.0, 0, 15, 10], [10, 5, 20, 25]]))
    assert torch.allclose(
        box_head().moved(boxes, offsets, labels, (24, 12)), torch.tensor([[5.0, 0, 12, 10], [10, 5, 12, 24]])
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
    box, mask = BoxHead(32, 40, replace(CASCADE, width=64), STDS), MaskHead(32, 40, convs=2)
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
        head.conv_logits.bias.copy_(torch.tensor([100.0, 2.0]))
    found = roi.losses(maps(), [torch.zeros(0, 4)], [(96, 96)], [target])["mask"].item()
    assert found == pytest.approx((math.log(1 + math.exp(-2)) + math.log(1 + math.exp(2))) / 2)


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
    found = roi.detect(torch.tensor(boxes), logits, torch.zeros(len(boxes), 2, 4), (96, 96))
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
    found = roi.detect(boxes, scored([0.01, 0.6, 0.39], [0.01, 0.7, 0.29]), offsets, (15, 96))
    assert found.boxes.tolist() == [[20, 0, 40, 15]]
    assert found.scores.tolist() == pytest.approx([0.7])


@torch.no_grad()
def test_a_cascade_s_scores():
    """Means of the logits; each stage looks where the likeliest class of the one before said; the last's offsets."""
    roi, values = heads(CASCADE, masks=False).eval(), [[0.0, 1, 9], [3, 2, 9], [-6, 0, 9]]
    right, down = [2.0, 0, 0, 0], [0.0, 2, 0, 0]
    for head, logits in zip(roi.box_stages, values, strict=True):
        fix(head, logits, [right, down])
    given = roi.score(maps(2), [torch.tensor([[0.0, 0, 40, 40]]), torch.tensor([[0.0, 60, 20, 96]])], [(96, 96)] * 2)
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
    placed = heads().placed(found, torch.ones(2, 28, 28), (50, 100), (100, 400))
    assert placed.boxes.tolist() == [[40, 20, 80, 40], [360, 80, 400, 100]]
    assert (placed.scores.tolist(), placed.labels.tolist()) == (found.scores.tolist(), [1, 0])
    assert placed.masks is not None
    assert placed.masks.shape == (2, 100, 400)
    assert placed.masks.flatten(1).sum(1).tolist() == [40 * 20, 40 * 20]
    assert placed.masks[0, 20:40, 40:80].all()
    assert heads().placed(found, None, (50, 100), (100, 400)).masks is None


@torch.no_grad()
@pytest.mark.parametrize("config", [SMALL, CASCADE])
def test_masks_are_drawn_by_every_stage(config):
    roi = heads(config).eval()
    for stage, head in enumerate(roi.mask_stages):
        head.conv_logits.weight.zero_()
        head.conv_logits.bias.copy_(torch.tensor([0.0, math.log(3) if stage == 0 else 0.0]))
    labels = [torch.tensor([1]), torch.zeros(0).long(), torch.tensor([0, 1])]
    boxes = [torch.tensor([FIRST]), torch.zeros(0, 4), torch.tensor([FIRST, SECOND])]
    one, none, two = roi.draw(maps(3), boxes, labels)
    assert one is not None
    assert none is not None
    assert two is not None
    surer = 0.75 if config is SMALL else (0.75 + 0.5 + 0.5) / 3
    assert (one.shape, none.shape, two.shape) == ((1, 28, 28), (0, 28, 28), (2, 28, 28))
    assert torch.allclose(one, torch.tensor(surer))
    assert torch.allclose(two, torch.tensor([0.5, surer]).view(2, 1, 1).expand(2, 28, 28))
    assert heads(config, masks=False).draw(maps(3), boxes, labels) == [None, None, None]


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
