"""torchvision's Mask R-CNN with the weights of ours, and images and objects that are the same work for both.

B images, H W space, K classes, N boxes. torchvision is imported only when its model is built. Sources:
torchvision.models.detection (mask_rcnn.py, faster_rcnn.py, rpn.py, roi_heads.py).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from convnext.bench import classifiers
from convnext.bench.engine.parity import random_images, relative_difference
from convnext.models.create import create_model
from convnext.models.detection.box_head import POOLED as BOX_SIDE
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import DetectorConfig
from convnext.models.detection.mask_head import POOLED as MASK_SIDE
from convnext.models.detection.rcnn import RCNN
from convnext.models.features import FeatureMaps
from convnext.ops.instances import Instances
from convnext.ops.roi import pool_regions, regions

Size = tuple[int, int]

OBJECTS = 10  # in an image, to learn from
_SPREAD = 2.0  # standard deviation of a class's logits over regions
_GROWTH = 2.0  # a class's boxes are up to e ** this times as large as their regions
_STEP = 0.25  # by which the background's logit is lowered until there are enough detections
_SPARE = 2  # times as many detections as are kept: half a pixel beside, some are lost


def targets(boxes: Sequence[Tensor], size: Size, num_classes: int) -> list[Instances]:
    """Rectangular objects at the boxes (N, 4) of each image; their classes go round."""
    found = []
    for of_image in boxes:
        masks = torch.zeros(len(of_image), *size, dtype=torch.bool)
        for mask, (x0, y0, x1, y1) in zip(masks, of_image.round().long().tolist(), strict=True):
            mask[y0:y1, x0:x1] = True
        found.append(Instances(of_image, torch.arange(len(of_image)) % num_classes, masks))
    return found


@torch.no_grad()
def arrange_equal_work(config: DetectorConfig, size: Size, batch: int, *, seed: int) -> tuple[RCNN, list[Tensor]]:
    """Our detector with random weights that finds as much as a trained one, and boxes (N, 4) of objects to learn from.

    A newly initialised detector finds nothing, and has hardly any regions on objects to learn masks from. So the logits
    of classes are spread over regions, the logit of the background is set so that twice `config.roi.most` detections of
    every image remain after suppression, and classes have boxes of different sizes. The objects of an image are the
    `OBJECTS` proposals that most others overlap. The detector is float32, on the CPU, in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_detector(config)
    x, sizes = random_images(size, batch, seed=seed), [size] * batch
    model.train()
    maps = model.maps(x)
    boxes = [_crowded(of_image) for of_image in model.proposals(maps, sizes)]
    model.eval()
    proposals = model.proposals(maps, sizes)
    head = model.roi_head.box_stages[0]
    strides = model.roi_head.strides
    pooled = pool_regions(maps[: len(strides)], regions(proposals), strides, BOX_SIDE)
    logits, _ = head(pooled.maps)
    spread = _SPREAD / logits.std(0).clamp(min=1e-12)
    head.fc_cls.weight.mul_(spread[:, None])
    head.fc_cls.bias.copy_(-logits.mean(0) * spread + head.fc_cls.bias * spread)
    growth = torch.linspace(0, _GROWTH, config.num_classes) / torch.tensor(head.stds[2:]).mean()
    head.fc_reg.bias.view(-1, 4)[:, 2:] = growth[:, None]
    logits, offsets = (pooled.restored(x) for x in head(pooled.maps))
    counts = [len(of_image) for of_image in proposals]
    background, wanted = 12.0, _SPARE * config.roi.most
    model.roi_head.config = replace(config.roi, most=wanted)
    while background > -12.0:  # as few as are enough: a trained detector is sure of its background too
        head.fc_cls.bias[-1] += background - logits[:, -1].mean()
        logits[:, -1] += background - logits[:, -1].mean()
        each = zip(proposals, logits.split(counts), offsets.split(counts), strict=True)
        if all(len(model.roi_head.postprocess_detections(*of_image, size).boxes) >= wanted for of_image in each):
            break
        background -= _STEP
    model.roi_head.config = config.roi
    return model, boxes


def _crowded(proposals: Tensor) -> Tensor:
    """The `OBJECTS` boxes, of (N, 4), that together overlap most others by half."""
    from torchvision.ops import box_iou

    near = box_iou(proposals, proposals) >= 0.5
    chosen, free = [], torch.ones(len(proposals), dtype=torch.bool)
    for _ in range(OBJECTS):
        best = int((near & free).sum(1).argmax())
        chosen.append(best)
        free &= ~near[best]
    return proposals[chosen]


def offers(config: DetectorConfig, *, own_backbone: bool) -> bool:
    """Whether torchvision has that detector: only Mask R-CNN, on any backbone of ours or on its own ConvNeXts."""
    single = len(config.roi.ious) == 1 and not config.roi.convs and config.roi.fcs == 2 and config.masks
    return single and (not own_backbone or classifiers.offers("torchvision", config.backbone.name))


def torchvision_detector(ours: RCNN, config: DetectorConfig, size: Size, *, own_backbone: bool) -> Any:
    """torchvision's `MaskRCNN` with the weights of `ours`, for images of `size`, in evaluation mode.

    It takes a list of images (3, H, W). own_backbone: whether it has torchvision's ConvNeXt; otherwise it shares the
    backbone of `ours`. Its settings are those of `config`. As in ours, RoIAlign takes as many samples as there are
    pixels (torchvision's default is 2 x 2), anchors are not rounded and images are not normalised.
    """
    body = _TorchvisionBackbone(ours.backbone, config.backbone.name) if own_backbone else ours.backbone  # type: ignore[arg-type]
    with torch.device("meta"):  # these weights are replaced at once
        peer = _architecture(ours, config, size)
    # The anchors of one place, the upper left corner, are those around (0, 0).
    peer.rpn.anchor_generator.cell_anchors = ours.rpn_head.anchors([torch.empty(1, 1, 1, 1)] * len(ours.neck.strides))
    peer.load_state_dict(_weights(ours), strict=True, assign=True)
    peer.backbone.body = body
    return peer.eval()


def _architecture(ours: RCNN, config: DetectorConfig, size: Size) -> Any:
    from torchvision.models.detection import MaskRCNN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import AnchorGenerator, RPNHead
    from torchvision.ops import MultiScaleRoIAlign

    rpn, roi, width, kinds = config.rpn, config.roi, config.width, config.num_classes + 1
    sides = tuple((int(rpn.anchor_scale * stride),) for stride in ours.neck.strides)
    return MaskRCNN(
        _Pyramid(ours.backbone.channels, width),  # type: ignore[arg-type]
        min_size=min(size),
        max_size=max(size),
        image_mean=[0.0] * 3,
        image_std=[1.0] * 3,
        rpn_anchor_generator=AnchorGenerator(sides, (rpn.ratios,) * len(sides)),
        rpn_head=RPNHead(width, len(rpn.ratios)),
        rpn_pre_nms_top_n_train=rpn.before_nms[0],
        rpn_pre_nms_top_n_test=rpn.before_nms[1],
        rpn_post_nms_top_n_train=rpn.after_nms[0],
        rpn_post_nms_top_n_test=rpn.after_nms[1],
        rpn_nms_thresh=rpn.nms_iou,
        rpn_fg_iou_thresh=rpn.positive_iou,
        rpn_bg_iou_thresh=rpn.negative_iou,
        rpn_batch_size_per_image=rpn.samples,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], BOX_SIDE, 0),
        box_head=TwoMLPHead(width * BOX_SIDE**2, roi.width),
        box_predictor=FastRCNNPredictor(roi.width, kinds),
        box_score_thresh=roi.score,
        box_nms_thresh=roi.nms_iou,
        box_detections_per_img=roi.most,
        box_fg_iou_thresh=roi.ious[0],
        box_bg_iou_thresh=roi.ious[0],
        box_batch_size_per_image=roi.samples,
        box_positive_fraction=roi.positive_share,
        bbox_reg_weights=tuple(1 / unit for unit in roi.stds[0]),
        mask_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], MASK_SIDE, 0),
        mask_head=MaskRCNNHeads(width, (width,) * roi.mask_convs, 1),
        mask_predictor=MaskRCNNPredictor(width, width, kinds),
        _skip_resize=True,
    )


_NAMES = {  # the beginning of a name of ours -> theirs
    "neck.lateral_convs.": "backbone.fpn.inner_blocks.",
    "neck.fpn_convs.": "backbone.fpn.layer_blocks.",
    "rpn_head.rpn_conv.": "rpn.head.conv.0.0.",
    "rpn_head.rpn_cls.": "rpn.head.cls_logits.",
    "rpn_head.rpn_reg.": "rpn.head.bbox_pred.",
    "roi_head.bbox_head.shared_fcs.0.": "roi_heads.box_head.fc6.",
    "roi_head.bbox_head.shared_fcs.1.": "roi_heads.box_head.fc7.",
    "roi_head.bbox_head.fc_cls.": "roi_heads.box_predictor.cls_score.",
    "roi_head.bbox_head.fc_reg.": "roi_heads.box_predictor.bbox_pred.",
    "roi_head.mask_head.convs.": "roi_heads.mask_head.",
    "roi_head.mask_head.upsample.": "roi_heads.mask_predictor.conv5_mask.",
    "roi_head.mask_head.conv_logits.": "roi_heads.mask_predictor.mask_fcn_logits.",
}


def _weights(ours: RCNN) -> dict[str, Tensor]:
    """The weights of all but the backbone, under torchvision's names.

    torchvision's background is class 0 and has boxes and masks; ours is the last class and has neither.
    """
    found: dict[str, Tensor] = {}
    for name, value in ours.state_dict().items():
        if name.startswith("backbone."):
            continue
        start = next(start for start in _NAMES if name.startswith(start))
        if ".fc_cls." in name:
            value = value.roll(1, 0)
        elif ".fc_reg." in name:
            value = torch.cat([torch.zeros_like(value[:4]), value])
        elif ".conv_logits." in name:
            value = torch.cat([torch.zeros_like(value[:1]), value])
        found[_NAMES[start] + name.removeprefix(start).replace(".conv.", ".0.")] = value.clone()
    return found


class _Pyramid(nn.Module):
    """torchvision's feature pyramid on a backbone `body`, which is set later, as in its BackboneWithFPN."""

    def __init__(self, channels: list[int], width: int) -> None:
        super().__init__()
        from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool

        self.fpn = FeaturePyramidNetwork(channels, width, LastLevelMaxPool())
        self.out_channels = width
        self.body = nn.Identity()

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return self.fpn(OrderedDict((str(level), of_level) for level, of_level in enumerate(self.body(x))))


class _TorchvisionBackbone(nn.Module):
    """torchvision's ConvNeXt with the weights of `ours`, and the norms of its four maps."""

    def __init__(self, ours: FeatureMaps, name: str) -> None:
        super().__init__()
        from torchvision.models._utils import IntermediateLayerGetter
        from torchvision.models.convnext import LayerNorm2d

        whole = create_model(name)
        whole.load_state_dict(ours.state_dict(), strict=False)
        peer = classifiers.build("torchvision", name, whole)
        self.layers = IntermediateLayerGetter(peer.features, {str(2 * i + 1): str(i) for i in range(4)})  # type: ignore[arg-type]
        self.norms = nn.ModuleList(LayerNorm2d(channels, eps=1e-6) for channels in ours.channels)
        for i, norm in enumerate(self.norms):
            norm.load_state_dict(ours.get_submodule(f"norm{i}").state_dict())

    def forward(self, x: Tensor) -> list[Tensor]:
        return [norm(of_stage) for norm, of_stage in zip(self.norms, self.layers(x).values(), strict=True)]


def largest_difference(ours: RCNN, peer: Any, x: Tensor) -> float:
    """The largest relative difference between the results of their parts on images x (B, 3, H, W); NaN if one is NaN.

    Parts are compared one by one on the same input. Whole detections differ, since torchvision's RoIAlign is half a
    pixel beside ours.
    """
    generator = torch.Generator().manual_seed(0)
    width = ours.neck.width
    boxes = torch.randn(4, width, BOX_SIDE, BOX_SIDE, generator=generator)
    polygons = torch.randn(4, width, MASK_SIDE, MASK_SIDE, generator=generator)
    labels = torch.arange(4) % ours.num_classes
    with torch.no_grad():
        maps, theirs = ours.maps(x), list(peer.backbone(x).values())
        given, expected = [*theirs], [*maps]
        scores, offsets = peer.rpn.head(maps)
        logits, moved = ours.rpn_head(maps)
        given += [of_level.permute(0, 2, 3, 1).flatten(1) for of_level in scores]
        given += [of_level.permute(0, 2, 3, 1).reshape(len(x), -1, 4) for of_level in offsets]
        expected += [*logits, *moved]
        heads = peer.roi_heads
        scores, offsets = heads.box_predictor(heads.box_head(boxes))
        given += [scores.roll(-1, 1), offsets.view(4, -1, 4)[:, 1:]]
        expected += [*ours.roi_head.box_stages[0](boxes)]
        given.append(heads.mask_predictor(heads.mask_head(polygons))[torch.arange(4), labels + 1])
        expected.append(ours.roi_head.mask_stages[0](polygons, labels))
    apiece = [relative_difference(a, b) for a, b in zip(given, expected, strict=True)]
    return float(torch.tensor(apiece).max())  # NaN where any is
