"""Two detectors with the same random weights, ours and mmdetection's, and their input: for detection_parity.py."""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.models.backbone import build_backbone
from convnext.models.config import dense_backbone
from convnext.models.detection.rcnn import RCNN
from convnext.ops.boxes import clip
from convnext.ops.instances import Instances

FILES = {
    "mask_rcnn": "mask-rcnn_convnext-t-p4-w7_fpn_amp-ms-crop-3x_coco.py",
    "cascade_mask_rcnn": "cascade-mask-rcnn_convnext-t-p4-w7_fpn_4conv1fc-giou_amp-ms-crop-3x_coco.py",
}
TOP, CLASSES = 300, 80
SIZES = [(320, 416), (270, 350)]  # of the images without padding: the second is no multiple of 32
ORIGINALS = [(480, 624), (407, 533)]  # of the images that they were resized from: the second not quite evenly
SPREAD = {"rpn_cls": 1.5, "rpn_reg": 0.3, "fc_cls": 3.0, "fc_reg": 1.0, "conv_logits": 2.0}  # of outputs; else 1
BACKGROUND = 17.0  # added to its logits


class Batch(NamedTuple):
    """The input of both detectors."""

    images: Tensor
    targets: list[Instances]


# The two detectors


def reference(kind: str) -> Any:
    """mmdetection's detector from its own configuration; only the backbone is ours, and batch norm not synchronised."""
    for name in ("mmpretrain", "mmpretrain.models"):  # named by the configurations, for the backbone alone
        sys.modules.setdefault(name, types.ModuleType(name))
    mmdet, registry = importlib.import_module("mmdet"), importlib.import_module("mmdet.registry")
    importlib.import_module("mmdet.utils").register_all_modules()
    folder = Path(str(mmdet.__file__)).parent / ".mim/configs/convnext"
    config = importlib.import_module("mmengine.config").Config.fromfile(folder / FILES[kind])
    unsynchronised(config.model)
    registry.MODELS.register_module(name="OurMaps", force=True, module=our_maps)
    config.model.backbone = {"type": "OurMaps", "name": "convnext_tiny"}
    return registry.MODELS.build(config.model)


def stand_in(module: Path | None) -> None:
    """Imports the stand-in for mmcv's operations, and puts two where mmdetection takes them from parts of mmcv.ops."""
    if module:
        sys.path.insert(0, str(module.parent))
        importlib.import_module(module.stem)
    operations = importlib.import_module("mmcv.ops")
    pool, suppress = operations.roi_align, operations.batched_nms  # before the names become those of modules
    vars(importlib.import_module("mmdet.structures.mask.structures"))["roi_align"] = pool
    vars(importlib.import_module("mmdet.models.layers.bbox_nms"))["batched_nms"] = suppress


def our_maps(name: str) -> nn.Module:
    """Our backbone, under the name by which mmdetection builds it."""
    return build_backbone(dense_backbone(name))


def unsynchronised(node: Any) -> None:
    """SyncBN runs on GPUs only; on one process batch norm is the same."""
    for value in list(node.values() if isinstance(node, dict) else node):
        if isinstance(value, dict) and value.get("type") == "SyncBN":
            value["type"] = "BN"
        elif isinstance(value, (dict, list)):
            unsynchronised(value)


@torch.no_grad()
def randomise(detector: RCNN, images: Tensor) -> None:
    """Draws every tensor, so that outputs spread: detections of many classes, scores from 0.05 to 1, boxes that move.

    The heads are scaled by what the images make of them, layer by layer in one forward.
    """
    for name, value in detector.backbone.named_parameters():
        if name.endswith("gamma"):
            value.uniform_(0.1, 1)
        elif value.ndim > 1:
            value.normal_(std=value[0].numel() ** -0.5)
        else:
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith("weight") else torch.randn_like(value) * 0.1)
    stages = len(detector.roi_head.box_stages)
    for name, module in detector.named_modules():
        if not name.startswith("backbone.") and isinstance(module, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)):
            last = name.rsplit(".", 1)[-1]
            classes = last == "fc_cls"  # its logits are means over stages, and most regions are background
            spread = SPREAD.get(last, 1.0) * (stages**0.5 if classes else 1)
            settle(module, spread, BACKGROUND if classes else 0.0)
        elif isinstance(module, nn.BatchNorm2d):
            settle_norm(module)
    maps = detector.eval().maps(images)
    proposals = [boxes[:TOP] for boxes in detector.proposals(maps, SIZES)]
    detector.roi_head.predict(maps, proposals, SIZES, SIZES)


def settle(module: Any, spread: float, background: float) -> None:
    """In its first call, draws the module's weights and scales them to outputs of that spread around 0.

    background: added to outputs beyond the classes.
    """

    def first(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        handle.remove()
        module.weight.normal_()
        if module.bias is not None:
            module.bias.zero_()
        out = module(*inputs)
        mean, std = out.mean(dim=over(out)), out.std(dim=over(out)).mean()
        module.weight.mul_(spread / std)
        if module.bias is not None:
            module.bias.copy_((0.2 * torch.randn_like(mean) - mean / std) * spread)
            module.bias[CLASSES:] += background
        return module(*inputs)

    handle = module.register_forward_hook(first)


def settle_norm(module: nn.BatchNorm2d) -> None:
    """In its first call, gives a batch norm random scales, and running statistics near those of its input."""

    def first(module: Any, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        handle.remove()
        x = inputs[0]
        mean, std = x.mean(dim=over(x)), x.std(dim=over(x))
        module.running_mean.copy_(mean + 0.2 * std * torch.randn_like(mean))
        module.running_var.copy_(std**2 * (torch.rand_like(mean) + 0.5))
        module.weight.copy_(torch.rand_like(mean) + 0.5)
        module.bias.copy_(0.2 * torch.randn_like(mean))
        return module(x)

    handle = module.register_forward_hook(first)


def over(x: Tensor) -> list[int]:
    """All dimensions but that of the channels."""
    return [i for i in range(x.ndim) if i != 1]


# Their input


def make_images(path: Path | None) -> Tensor:
    """Two normalised images of `SIZES`, padded with zeros: of a photograph, or of noise from coarse to fine."""
    out = torch.zeros(2, 3, SIZES[0][0], SIZES[0][1])
    for number, (height, width) in enumerate(SIZES):
        if path is None:
            image = torch.zeros(1, 3, height, width)
            for side in (4, 12, 40, 120):
                noise = torch.randn(1, 3, side, side)
                image += F.interpolate(noise, size=(height, width), mode="bilinear", align_corners=False)
        else:
            pixels = np.asarray(importlib.import_module("PIL.Image").open(path).convert("RGB"), np.float32)
            pixels = pixels[:, ::-1].copy() if number else pixels
            image = F.interpolate(torch.from_numpy(pixels).permute(2, 0, 1)[None], size=(height, width), mode="area")
            image = (image - 116) / 58
        out[number, :, :height, :width] = image[0]
    return out


@torch.no_grad()
def objects(detector: RCNN, images: Tensor, counts: Sequence[int]) -> list[Instances]:
    """As many objects in each image, near what the detector proposes, so that proposals and anchors stand for them."""
    targets = []
    maps = detector.eval().maps(images)
    height, width = images.shape[2:]
    y, x = torch.arange(height).view(-1, 1) + 0.5, torch.arange(width).view(1, -1) + 0.5
    for boxes, size, count in zip(detector.proposals(maps, SIZES), SIZES, counts, strict=True):
        sides = boxes[:, 2:] - boxes[:, :2]
        large = boxes[(sides > 30).all(dim=1)]
        chosen = large[torch.randperm(len(large))[:count]]
        chosen = clip(chosen + torch.randn(len(chosen), 4) * 2, size)
        centre, half = (chosen[:, :2] + chosen[:, 2:]) / 2, (chosen[:, 2:] - chosen[:, :2]) / 2
        ellipses = [((x - c[0]) / h[0]) ** 2 + ((y - c[1]) / h[1]) ** 2 <= 1 for c, h in zip(centre, half, strict=True)]
        masks = torch.stack(ellipses) if ellipses else torch.zeros(0, height, width, dtype=torch.bool)
        targets.append(Instances(chosen, torch.randint(CLASSES, (len(chosen),)), masks))
    return targets


def samples(batch: Batch) -> list[Any]:
    """The batch's sizes and objects as mmdetection has them."""
    sample = importlib.import_module("mmdet.structures").DetDataSample
    data = importlib.import_module("mmengine.structures").InstanceData
    bitmaps = importlib.import_module("mmdet.structures.mask").BitmapMasks
    height, width = batch.images.shape[2:]
    out = []
    for size, original, target in zip(SIZES, ORIGINALS, batch.targets, strict=True):
        padded = tuple(-(-side // 32) * 32 for side in size)  # each image by itself, as its data preprocessor says
        scale = (size[1] / original[1], size[0] / original[0])
        metas = {"img_shape": size, "ori_shape": original, "pad_shape": padded, "scale_factor": scale}
        each = sample(metainfo={**metas, "batch_input_shape": (height, width)})
        assert target.masks is not None
        masks = bitmaps(target.masks.numpy().astype(np.uint8), height, width)
        each.gt_instances = data(bboxes=target.boxes.clone(), labels=target.labels.clone(), masks=masks)
        out.append(each)
    return out
