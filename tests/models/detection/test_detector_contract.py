"""What every detector promises, checked on a small one of each kind and around each kind of backbone.

B batch, H W space, K classes.
"""

from __future__ import annotations

import copy
import io
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor
from torchvision.ops import box_iou

from convnext.models.backbone import build_backbone
from convnext.models.baselines import Swin, SwinSize
from convnext.models.config import ModelConfig
from convnext.models.detection.config import KINDS
from convnext.models.detection.rcnn import RCNN
from convnext.models.features import FeatureMaps
from convnext.models.resnet import Design, ResNet
from convnext.ops.instances import Detections, Instances

CLASSES, DEPTHS, DIMS = 3, (1, 1, 2, 1), (16, 32, 64, 128)
SHAPE = (64, 96)


def convnext(name: str, scale: float | None = 1.0) -> FeatureMaps:
    return build_backbone(ModelConfig(name, depths=DEPTHS, dims=DIMS, layer_scale_init_value=scale))


BACKBONES = {
    "v1": lambda: convnext("convnext_atto"),
    "v2": lambda: convnext("convnextv2_atto", None),
    "dinov3": lambda: convnext("dinov3_convnext_tiny"),
    "resnet": lambda: FeatureMaps(ResNet(Design(DEPTHS, 8), num_classes=0), norm=False),
    "swin": lambda: FeatureMaps(Swin(SwinSize(DEPTHS, 32), num_classes=0)),
}


def images(batch: int = 2, shape: tuple[int, int] = SHAPE, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(batch, 3, *shape, generator=generator)


def objects(*boxes: tuple[int, int, int, int], shape: tuple[int, int] = SHAPE) -> Instances:
    """Boxes of classes 0, 1, 2, 0, ... with full masks."""
    masks = torch.zeros(len(boxes), *shape, dtype=torch.bool)
    for mask, (x0, y0, x1, y1) in zip(masks, boxes, strict=True):
        mask[y0:y1, x0:x1] = True
    return Instances(torch.tensor(boxes).view(-1, 4).float(), torch.arange(len(boxes)) % CLASSES, masks)


SOME = objects((4, 4, 60, 60), (30, 10, 54, 40), (8, 20, 90, 60), (70, 5, 82, 15))
OTHERS = objects((20, 8, 90, 60), (60, 30, 80, 50))
NONE = objects()


class Contract:
    """Inherited by one class for each kind of detector, which says `kind`."""

    kind: ClassVar[str]
    stages: ClassVar[int]

    @pytest.fixture(params=BACKBONES)
    def backbone(self, request: pytest.FixtureRequest) -> str:
        return request.param

    def make(self, backbone: str = "v1", *, seed: int = 0, masks: bool = True) -> RCNN:
        """A small detector, in training mode.

        Its outputs are larger than fresh ones, so that regions do move, and the backbone's scales and shifts (norms,
        layer scale, GRN) are not as they begin, where one kind of backbone would be another.
        """
        torch.manual_seed(seed)
        config = KINDS[self.kind](ModelConfig(), num_classes=CLASSES)
        rpn = replace(config.rpn, anchor_scale=2.0, samples=64, before_nms=(200, 100), after_nms=(100, 60))
        roi = replace(config.roi, width=32, samples=64, mask_convs=1)
        maps = BACKBONES[backbone]()
        detector = RCNN(maps, maps.channels, maps.strides, num_classes=CLASSES, rpn=rpn, roi=roi, width=16, masks=masks)
        with torch.no_grad():
            for parameter in maps.parameters():
                if parameter.squeeze().ndim == 1:
                    parameter.add_(0.3 * torch.randn_like(parameter))
            for layer in (detector.rpn_head.rpn_cls, detector.rpn_head.rpn_reg):
                layer.weight.mul_(10)
            for head in detector.roi_head.box_stages:
                head.fc_cls.weight.mul_(8)
                head.fc_reg.weight.mul_(200)
        return detector

    def losses(self, detector: RCNN, *targets: Instances, seed: int = 0) -> dict[str, Tensor]:
        torch.manual_seed(seed)
        return detector(images(len(targets)), [SHAPE] * len(targets), targets=targets)

    @torch.no_grad()
    def detections(self, detector: RCNN, x: Tensor, sizes: list[tuple[int, int]], **options) -> list[Detections]:
        return detector.eval()(x, sizes, **options)

    # ----- losses

    def test_every_parameter_gets_a_gradient(self, backbone):
        detector = self.make(backbone).train()
        # All anchors, and small ones: where only those inside the image count, of the coarsest maps there are any.
        detector.rpn_head.config = replace(detector.rpn_head.config, anchor_scale=1.0, samples=10**6)
        losses = self.losses(detector, SOME, OTHERS)
        parts = {"class", "box", "mask"}
        if self.stages > 1:
            parts = {f"{stage}_{part}" for stage in range(self.stages) for part in parts}
        assert set(losses) == {"rpn_class", "rpn_box"} | parts
        for name, value in losses.items():
            assert value.shape == (), name
            assert torch.isfinite(value), name
            assert value > 0, name
        sum(losses.values()).backward()  # type: ignore[union-attr]
        for name, parameter in detector.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name
            assert parameter.grad.abs().max() > 0, name

    @pytest.mark.parametrize("targets", [(SOME, NONE), (NONE, NONE), (NONE,), (OTHERS,)])
    def test_images_without_objects_and_single_images(self, targets):
        """Nothing to find is background; what has nothing to learn has a gradient of zero, not none."""
        detector = self.make().train()
        losses = self.losses(detector, *targets)
        empty = all(target is NONE for target in targets)
        for name, value in losses.items():
            assert torch.isfinite(value), name
            assert (value > 0) == (name.endswith("class") or not empty), name
        sum(losses.values()).backward()  # type: ignore[union-attr]
        for name, parameter in detector.named_parameters():
            assert parameter.grad is not None, name
            assert torch.isfinite(parameter.grad).all(), name

    def test_boxes_only(self):
        """No masks are asked for, and none are needed."""
        detector = self.make(masks=False).train()
        losses = self.losses(detector, SOME._replace(masks=None), NONE._replace(masks=None))
        assert not [name for name in losses if "mask" in name]
        assert not [name for name in detector.state_dict() if "mask" in name]
        sum(losses.values()).backward()  # type: ignore[union-attr]
        assert all(parameter.grad is not None for parameter in detector.parameters())
        found = self.detections(detector, images(), [SHAPE, SHAPE])
        assert [each.masks for each in found] == [None, None]
        assert all(len(each.boxes) for each in found)

    def test_chance_is_the_generator_s(self):
        """The same seed gives the same losses, another draws other regions; the model is not changed by it."""
        detector = self.make().train()
        first, again, other = (self.losses(detector, SOME, OTHERS, seed=seed) for seed in (1, 1, 2))
        assert all(torch.equal(value, again[name]) for name, value in first.items())
        assert any(not torch.equal(value, other[name]) for name, value in first.items())

    @pytest.mark.slow
    def test_learns(self):
        """Two images with two bright things each are learned by heart: of each kind, the surest is where one is."""
        detector, x = self.make().train(), images() * 0.1
        targets = [objects((8, 8, 40, 40), (56, 24, 88, 56)), objects((40, 16, 72, 48), (4, 30, 24, 62))]
        for picture, target in zip(x, targets, strict=True):
            for kind, (x0, y0, x1, y1) in enumerate(target.boxes.int().tolist()):
                picture[kind, y0:y1, x0:x1] += 3
        optimizer = torch.optim.AdamW(detector.parameters(), lr=2e-3)
        torch.manual_seed(0)
        totals = []
        for _ in range(60):
            loss = torch.stack(list(detector(x, [SHAPE, SHAPE], targets=targets).values())).sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            totals.append(loss.item())
        assert totals[-1] < 0.5 * totals[0]
        for found, target in zip(self.detections(detector, x, [SHAPE, SHAPE]), targets, strict=True):
            assert found.masks is not None
            assert target.masks is not None
            for kind in range(2):
                surest = (found.labels == kind).nonzero()[0, 0]
                assert box_iou(found.boxes[surest : surest + 1], target.boxes[kind : kind + 1]) > 0.4
                both, either = (
                    found.masks[surest] & target.masks[kind],
                    found.masks[surest] | target.masks[kind],
                )
                assert both.sum() / either.sum() > 0.4

    # ----- detections

    def test_detections(self, backbone):
        """Within the picture, the surest first, above the threshold, at most 100; masks are as large as the picture."""
        detector = self.make(backbone)
        sizes, originals = [SHAPE, (50, 70)], [(100, 150), (50, 70)]
        found = self.detections(detector, images(), sizes, originals=originals)
        for each, (height, width) in zip(found, originals, strict=True):
            count = len(each.scores)
            assert 0 < count <= 100
            assert (each.boxes.shape, each.labels.shape, each.labels.dtype) == ((count, 4), (count,), torch.int64)
            assert (each.boxes >= 0).all()
            assert (each.boxes <= torch.tensor([width, height] * 2)).all()
            assert (each.boxes[:, 2:] >= each.boxes[:, :2]).all()
            assert (each.scores.diff() <= 0).all()
            assert (each.scores > 0.05).all()
            assert each.scores[0] <= 1
            assert each.labels.min() >= 0
            assert each.labels.max() < CLASSES
            assert each.masks is not None
            assert (each.masks.shape, each.masks.dtype) == ((count, height, width), torch.bool)
            assert not torch.isnan(each.boxes).any()

    def test_pictures_set_the_scale(self):
        """The same image made of a picture of twice the size: boxes of twice the size."""
        detector, x = self.make(), images(1)
        (plain,) = self.detections(detector, x, [SHAPE])
        (large,) = self.detections(detector, x, [SHAPE], originals=[(128, 192)])
        assert torch.allclose(large.boxes, 2 * plain.boxes)
        assert torch.equal(large.scores, plain.scores)

    def test_each_image_for_itself(self, backbone):
        """Alone or beside another image, an image has the same detections."""
        detector, x = self.make(backbone), images(2)
        sizes = [SHAPE, (50, 70)]
        together = self.detections(detector, x, sizes)
        for i in range(2):
            (alone,) = self.detections(detector, x[i : i + 1], [sizes[i]])
            assert len(alone.boxes) > 3
            assert torch.allclose(alone.boxes, together[i].boxes, atol=1e-2)
            assert torch.allclose(alone.scores, together[i].scores, atol=1e-4)
            assert torch.equal(alone.labels, together[i].labels)
        assert len(together[0].boxes) != len(together[1].boxes) or not torch.allclose(
            together[0].boxes, together[1].boxes, atol=1
        )

    @pytest.mark.parametrize("shape", [(65, 97), (33, 47), (75, 64)])
    def test_odd_sizes(self, backbone, shape):
        detector = self.make(backbone).train()
        target = objects((3, 4, 30, 31), shape=shape)
        losses = detector(images(2, shape), [shape, (30, 31)], targets=[target, objects(shape=shape)])
        assert all(torch.isfinite(value) for value in losses.values())
        found = self.detections(detector, images(2, shape), [shape, (30, 31)])
        assert [each.masks.shape[1:] for each in found if each.masks is not None] == [shape, (30, 31)]
        assert (found[1].boxes <= torch.tensor([31.0, 30.0, 31.0, 30.0])).all()

    # ----- files and copies

    def test_save_and_load(self, backbone):
        detector, other = self.make(backbone), self.make(backbone, seed=1)
        buffer = io.BytesIO()
        torch.save(detector.state_dict(), buffer)
        buffer.seek(0)
        (expected,), (different,) = (self.detections(each, images(1), [SHAPE]) for each in (detector, other))
        other.load_state_dict(torch.load(buffer, weights_only=True))
        (given,) = self.detections(other, images(1), [SHAPE])
        assert torch.equal(given.boxes, expected.boxes)
        assert torch.equal(given.scores, expected.scores)
        assert len(different.scores) != len(expected.scores) or not torch.equal(different.scores, expected.scores)

    def test_copies(self):
        detector = self.make().eval()
        twin = copy.deepcopy(detector)
        (expected,), (given,) = (self.detections(each, images(1), [SHAPE]) for each in (detector, twin))
        assert torch.equal(given.boxes, expected.boxes)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.zero_()
        (after,) = self.detections(detector, images(1), [SHAPE])
        assert torch.equal(after.scores, expected.scores)

    # ----- blocks and depths

    def test_blocks_are_the_backbone_s(self, backbone):
        detector = self.make(backbone)
        blocks = detector.block_list()
        assert len(blocks) == len({id(block) for block in blocks}) == sum(DEPTHS)
        names = {id(module): name for name, module in detector.named_modules()}
        prefix = "backbone.features" if backbone == "swin" else "backbone.stages"
        stages = [(2 * i + 1) if backbone == "swin" else i for i in range(4)]
        assert [names[id(block)] for block in blocks] == [
            f"{prefix}.{stage}.{j}" for stage, depth in zip(stages, DEPTHS, strict=True) for j in range(depth)
        ]

    @pytest.mark.parametrize(("blocks_per_group", "deepest"), [(3, 5), (1, 6), (2, 5)])
    def test_depths_of_all_parameters(self, backbone, blocks_per_group, deepest):
        """Stem, then groups of blocks, none of them across stages; all heads and the maps' norms are one beyond."""
        detector = self.make(backbone)
        depths = detector.depth_ids(blocks_per_group=blocks_per_group)
        assert list(depths) == [name for name, _ in detector.named_parameters()]
        assert set(depths.values()) == set(range(1 if blocks_per_group == 1 else 0, deepest + 1))
        for name, depth in depths.items():
            inside = name.startswith(("backbone.stages", "backbone.downsample_layers", "backbone.features"))
            assert (depth == deepest) == (not inside), name


class TestMaskRCNN(Contract):
    kind, stages = "mask_rcnn", 1


class TestCascadeMaskRCNN(Contract):
    kind, stages = "cascade_mask_rcnn", 3
