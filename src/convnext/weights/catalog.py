"""Every published ConvNeXt checkpoint: where it is, under which licence, and where its accuracy holds. No torch here.

The rows stand in `catalog.csv`, one a checkpoint. Names are timm's tags (architecture.training), which many know;
`tv_` marks torchvision's own training, `no_ema` the official weights without averaging, on which the papers' detectors
start. Size, crop, resize, interpolation and normalisation are those at which `top1` was measured by `source`; where
sizes disagree it is the one that was verified (convnext_tiny.fb_in22k_ft_in1k: 82.90 at 224, but 78.95 at 288).
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from convnext.core.errors import UserError, nearest
from convnext.data.config import IMAGENET_MEAN, IMAGENET_STD, InputConfig

LICENCES = {
    "MIT": True,
    "Apache-2.0": True,
    "BSD-3-Clause": True,
    "DINOv3": True,  # commercial use under its terms: https://ai.meta.com/resources/models-and-libraries/dinov3-license
    "CC-BY-NC-4.0": False,
    "FAIR-NC": False,  # FAIR Noncommercial Research License
}
"""Licence -> whether commercial use is allowed."""

NORMALISATIONS = {
    "imagenet": (IMAGENET_MEAN, IMAGENET_STD),
    "clip": ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)),
    "half": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""Name -> (mean, standard deviation) of the channels."""


@dataclass(frozen=True)
class Checkpoint:
    """One published file of weights."""

    name: str
    model: str
    """Its architecture, one of `convnext models`."""
    trained_on: str
    """Datasets in order, as "ImageNet-22K > ImageNet-1K"."""
    num_classes: int
    """Outputs of its classifier; 0: none, an encoder."""
    input: InputConfig
    """The preprocessing at which its accuracy holds."""
    top1: float | None
    """ImageNet-1K validation top-1 in percent; None where none is published."""
    source: str
    """Who measured that, or where the other facts stand."""
    licence: str
    location: str
    """https address, or hf-hub:owner/name."""
    also: tuple[str, ...]
    """Other places of the same weights."""

    @property
    def commercial(self) -> bool:
        """Whether its licence allows commercial use."""
        return LICENCES[self.licence]


@cache
def catalog() -> dict[str, Checkpoint]:
    """Name -> checkpoint, in the order of the file."""
    text = resources.files("convnext.weights").joinpath("catalog.csv").read_text(encoding="utf-8")
    return {row["name"]: _checkpoint(row) for row in csv.DictReader(text.splitlines())}


def _checkpoint(row: dict[str, Any]) -> Checkpoint:
    mean, std = NORMALISATIONS[row["normalisation"]]
    return Checkpoint(
        name=row["name"],
        model=row["model"],
        trained_on=row["trained_on"],
        num_classes=int(row["classes"]),
        input=InputConfig(
            size=int(row["size"]),
            resize=row["resize"],
            crop_ratio=float(row["crop_ratio"]),
            interpolation=row["interpolation"],
            mean=mean,
            std=std,
        ),
        top1=float(row["top1"]) if row["top1"] else None,
        source=row["source"],
        licence=row["licence"],
        location=row["location"],
        also=tuple(row["also"].split()),
    )


def find(name: str) -> Checkpoint:
    """The checkpoint of that name. Raises UserError naming the nearest, or those of an architecture given alone."""
    rows = catalog()
    if name in rows:
        return rows[name]
    of_model = [row.name for row in rows.values() if row.model == name]
    if of_model:
        raise UserError(f"{name} is an architecture. Its published weights: {', '.join(of_model)}.")
    hint = nearest(name, rows)
    raise UserError(
        f"There are no published weights '{name}' of a classifier.{hint} `convnext weights list` shows them all; "
        "`convnext.load` knows those of every task."
    )


def at_location(location: str) -> Checkpoint | None:
    """The checkpoint published at an address or hub id, or under its file name; None where there is none."""
    file = location.rsplit("/", 1)[-1]
    for row in catalog().values():
        places = (row.location, *row.also)
        if location in places or any(p.startswith("https:") and p.rsplit("/", 1)[-1] == file for p in places):
            return row
    return None


def list_weights(*, model: str = "", commercial: bool | None = None) -> list[Checkpoint]:
    """The published checkpoints, all or those of one architecture, and with or without leave for commercial use."""
    return [
        row
        for row in catalog().values()
        if model in ("", row.model) and (commercial is None or row.commercial == commercial)
    ]


_DATA = ("ImageNet-22K", "ImageNet-12K", "ImageNet-1K")  # of which a classifier's last training was, the best first


def best_start(model: str, *, commercial: bool, size: int = 224) -> Checkpoint | None:
    """The published weights of an architecture that training on photos best starts from; None where there are none.

    Those that saw the most kinds of things come first (ImageNet-22K), then those of an image size close to `size`.
    commercial: only those that may be used commercially.
    """
    rows = [row for row in catalog().values() if row.model == model and (row.commercial or not commercial)]

    def rank(row: Checkpoint) -> tuple[int, bool, int, bool, float]:
        seen = next((place for place, data in enumerate(_DATA) if data in row.trained_on.split(" > ")), len(_DATA))
        encoder = not row.num_classes  # without labels, which takes a long training after it
        return seen, encoder, abs(row.input.size - size), ">" in row.trained_on, -(row.top1 or 0.0)

    return min(rows, key=rank, default=None)
