"""The published detectors: the seven of the paper's Table 3, on COCO. No torch here.

The rows stand in `detectors.csv`; the accuracies are the official README's (object_detection/README.md), on val2017 at
800 pixels, one scale. `coco.csv` has COCO's 80 categories with their numbers.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources

from convnext.models.detection.config import DetectorConfig, detector_config

NUM_CLASSES = 80


@dataclass(frozen=True)
class PublishedDetector:
    """One published file of a detector's weights."""

    name: str
    model: str
    """Its architecture, as `models.detection.config.detector_config` takes it."""
    pretrained_on: str
    """What its backbone had been trained on."""
    box_ap: float
    """Box AP on COCO val2017, percent."""
    mask_ap: float
    """Mask AP on COCO val2017, percent."""
    licence: str
    location: str

    @property
    def config(self) -> DetectorConfig:
        """Its configuration."""
        return detector_config(self.model, num_classes=NUM_CLASSES)


def _rows(file: str) -> list[dict[str, str]]:
    text = resources.files("convnext.tasks.detection").joinpath(file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))


@cache
def published() -> dict[str, PublishedDetector]:
    """Name -> checkpoint, in the order of the file."""
    return {
        row["name"]: PublishedDetector(
            name=row["name"],
            model=row["model"],
            pretrained_on=row["pretrained_on"],
            box_ap=float(row["box_ap"]),
            mask_ap=float(row["mask_ap"]),
            licence=row["licence"],
            location=row["location"],
        )
        for row in _rows("detectors.csv")
    }


@cache
def coco_categories() -> tuple[tuple[str, ...], tuple[int, ...]]:
    """COCO's categories in the order of their numbers: names, and the numbers, 1 to 90 with gaps."""
    rows = _rows("coco.csv")
    return tuple(row["name"] for row in rows), tuple(int(row["id"]) for row in rows)
