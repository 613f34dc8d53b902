"""Small annotated pictures, a detector that is small enough for them, and one that knows the answers.

The pictures have boxes and discs, one plain colour behind them; the number of a picture is its shade of grey.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor, nn

from convnext.data.config import LoaderConfig
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.config import DetectionInputConfig
from convnext.data.detection.open import DetectionData
from convnext.models.config import ModelConfig
from convnext.models.detection.config import DetectorConfig, RoIConfig, RPNConfig
from convnext.ops.instances import Detections, Instances

NAMES, IDS = ("box", "disc"), (3, 7)
SIDES = (64, 96)  # height and width
LIMIT = 1_000_000  # pixels of a picture
SHADES = 12  # between the greys of two pictures

SMALL = DetectorConfig(
    ModelConfig("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 16, 32, 64), layer_scale_init_value=0.0, init_std=0.08),
    num_classes=2,
    width=8,
    rpn=RPNConfig(anchor_scale=4.0, before_nms=(60, 60), after_nms=(30, 30)),
    roi=RoIConfig(width=16, samples=16, mask_convs=1, score=0.0),
)
"""A detector that trains in seconds; no score is too low to be shown."""
INPUT = DetectionInputConfig(short=64, long=96)
OPTIONS = [
    *("--model.backbone.depths", "1", "1", "1", "1", "--model.backbone.dims", "8", "16", "32", "64"),
    *("--model.width", "8", "--model.rpn.anchor-scale", "4"),
    *("--model.rpn.before-nms", "60", "60", "--model.rpn.after-nms", "30", "30"),
    *("--model.roi.width", "16", "--model.roi.samples", "16", "--model.roi.mask-convs", "1", "--model.roi.score", "0"),
    *("--input.short", "64", "--input.long", "96", "--augment.shorts", "48", "64", "--augment.long", "96"),
    *("--augment.crop-shorts", "48", "64", "--augment.crop-sides", "32", "64"),
    *("--loader.workers", "0", "--loop.global-batch", "4", "--loop.log-steps", "1", "--schedule.epochs", "2"),
]
"""The same as settings of the recipe small/mask_rcnn."""


def outline(kind: int, x: int, y: int, side: int) -> list[float]:
    """The corners of a box, or of a disc in 24 of them, as COCO writes polygons."""
    if kind == 0:
        return [x, y, x + side, y, x + side, y + side, x, y + side]
    half, angles = side / 2, [math.tau * i / 24 for i in range(24)]
    return [round(v, 3) for a in angles for v in (x + half * (1 + math.cos(a)), y + half * (1 + math.sin(a)))]


def paint(folder: Path, name: str, numbers: Sequence[int], *, empty: Sequence[int] = (), masks: bool = True) -> Path:
    """Adds the part `name` ("train", "val") to a data set in COCO's layout and returns its annotation file.

    Picture i has one or two objects, or none where i is in `empty`; the same i gives the same picture.
    """
    images, annotations = [], []
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / "images" / name).mkdir(parents=True)
    height, width = SIDES
    for number in numbers:
        chance = random.Random(number)
        picture = Image.new("RGB", (width, height), (SHADES * number,) * 3)
        pen = ImageDraw.Draw(picture)
        for place in range(0 if number in empty else 1 + number % 2):
            kind, side = chance.randrange(2), chance.randrange(20, 36)
            x, y = 6 + 44 * place + chance.randrange(6), chance.randrange(6, height - side - 4)
            corners = outline(kind, x, y, side)
            pen.polygon(corners, fill=(230, 200, 30) if kind == 0 else (40, 220, 230))
            thing = {"id": len(annotations) + 1, "image_id": 10 + number, "category_id": IDS[kind], "iscrowd": 0}
            thing |= {"bbox": [x, y, side, side], "area": side * side}
            annotations.append(thing | ({"segmentation": [corners]} if masks else {}))
        file = f"{number:02d}.png"
        picture.save(folder / "images" / name / file)
        images.append({"id": 10 + number, "file_name": file, "height": height, "width": width})
    categories = [{"id": number, "name": name} for number, name in zip(IDS, NAMES, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    path = folder / "annotations" / f"instances_{name}.json"
    path.write_text(json.dumps(content))
    return path


def painted(folder: Path) -> Path:
    """Eight pictures to train on, one of them without objects, and four to validate on."""
    paint(folder, "train", range(8), empty=(5,))
    paint(folder, "val", range(8, 12))
    return folder


def rewrite(file: Path, **parts: Any) -> None:
    """Replaces parts of an annotation file."""
    file.write_text(json.dumps({**json.loads(file.read_text()), **parts}))


def validation(folder: Path) -> CocoDataset:
    """The part to validate on, or all."""
    return DetectionData(folder).for_evaluation(LoaderConfig(max_pixels=LIMIT))


class Knowing(nn.Module):
    """Stands in for a detector: knows the picture by its shade, and finds its objects, each a little off.

    The first object of a picture is said to be of the other class where `wrong` holds the picture.
    """

    def __init__(self, source: CocoDataset, *, wrong: Sequence[int] = (), masks: bool = True) -> None:
        super().__init__()
        self.truth = {source.image_id(i) - 10: source.instances(i) for i in range(len(source))}
        self.wrong, self.masks = wrong, masks
        self.roi_head = SimpleNamespace(mask_stages=[1] if masks else [])

    def forward(self, images: Tensor, sizes: Sequence[Any], *, originals: Sequence[Any]) -> list[Detections]:
        shades = images[:, 0, 0, 0] * INPUT.std[0] + INPUT.mean[0]
        return [self.seen(round(shade * 255 / SHADES)) for shade in shades.tolist()]

    def seen(self, number: int) -> Detections:
        """What it finds in picture `number`."""
        truth: Instances = self.truth[number]
        labels = truth.labels.clone()
        if number in self.wrong:
            labels[:1] = 1 - labels[:1]
        scores = torch.linspace(0.9, 0.8, len(labels)) - 0.001 * number
        return Detections(truth.boxes + 1 + number % 3, scores, labels, truth.masks if self.masks else None)
