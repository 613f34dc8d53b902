"""The published segmenters: the six of the paper's Table 4, on ADE20K. No torch here.

The rows stand in `segmenters.csv`; the accuracies are the official README's (semantic_segmentation/README.md).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.models.segmentation.config import SegmenterConfig, segmenter_config

NUM_CLASSES = 150


@dataclass(frozen=True)
class PublishedSegmenter:
    """One published file of a segmenter's weights."""

    name: str
    model: str
    """Its architecture, as `models.segmentation.config.segmenter_config` takes it."""
    pretrained_on: str
    """What its backbone had been trained on."""
    crop: int
    """Side of the squares that it was trained on, in pixels."""
    miou: float
    """mIoU on ADE20K's validation images at one size, percent."""
    miou_views: float
    """The same at six sizes and mirrored too, percent."""
    licence: str
    location: str

    @property
    def config(self) -> SegmenterConfig:
        """Its configuration."""
        return segmenter_config(self.model, num_classes=NUM_CLASSES)

    @property
    def input(self) -> SegmentationInputConfig:
        """The preprocessing at which its published accuracy holds."""
        return windows_of(self.crop)


def windows_of(crop: int) -> SegmentationInputConfig:
    """What images look like to a segmenter that was trained on squares of that side: a third of a window is new at
    each step of it (official configurations: 341 of 512, 426 of 640)."""
    return SegmentationInputConfig(short=crop, long=4 * crop, window=crop, stride=crop * 2 // 3)


@cache
def published() -> dict[str, PublishedSegmenter]:
    """Name -> checkpoint, in the order of the file."""
    text = resources.files("convnext.tasks.segmentation").joinpath("segmenters.csv").read_text(encoding="utf-8")
    return {
        row["name"]: PublishedSegmenter(
            name=row["name"],
            model=row["model"],
            pretrained_on=row["pretrained_on"],
            crop=int(row["crop"]),
            miou=float(row["miou"]),
            miou_views=float(row["miou_views"]),
            licence=row["licence"],
            location=row["location"],
        )
        for row in csv.DictReader(text.splitlines())
    }
