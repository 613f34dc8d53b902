"""What sort of network a source of weights holds, and where its file is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, TypeVar

from convnext.core.errors import UserError, nearest
from convnext.models.detection.config import KINDS
from convnext.models.segmentation.config import SEGMENTERS
from convnext.tasks.detection.published import PublishedDetector, published_detectors
from convnext.tasks.segmentation.published import PublishedSegmenter, published_segmenters
from convnext.weights.download import download
from convnext.weights.files import DetectionMetadata, SegmentationMetadata, is_ours, read_any_metadata, read_whole
from convnext.weights.locate import locate

Kind = Literal["classifier", "detector", "segmenter"]
Dense = Literal["detector", "segmenter"]
Row = TypeVar("Row", PublishedDetector, PublishedSegmenter)
MARKS: dict[Dense, tuple[str, ...]] = {
    "detector": ("rpn_head.rpn_conv.weight",),
    "segmenter": ("decode_head.conv_seg.weight", "decode_head.classifier.weight", "decode_head.bias"),
}
"""Tensors of which every file of that sort holds one."""
_CARDS: dict[type, Dense] = {DetectionMetadata: "detector", SegmentationMetadata: "segmenter"}
_NAMES: dict[Dense, re.Pattern[str]] = {  # of published ones, and not of files
    "detector": re.compile(rf"({'|'.join(KINDS)})_\w+(\.\w+_\w+)?"),
    "segmenter": re.compile(rf"({'|'.join(SEGMENTERS)})_\w+(\.\w+_\w+)?"),
}


def _published() -> dict[Dense, Mapping[str, PublishedDetector | PublishedSegmenter]]:
    return {"detector": published_detectors(), "segmenter": published_segmenters()}


def kind_of(source: str | Path) -> Kind:
    """Whether a run's folder, a file or a name means a classifier (or an encoder), a detector or a segmenter. Raises
    UserError where it means nothing."""
    for kind, rows in _published().items():
        if str(source) in rows:
            return kind
    file = _file(source)
    if file.suffix == ".safetensors" and is_ours(file):
        return _CARDS.get(type(read_any_metadata(file)), "classifier")
    state = read_whole(file)
    for kind, marks in MARKS.items():
        if any(mark in state for mark in marks):
            return kind
    return "classifier"


def located(source: str | Path, published: type[Row]) -> tuple[Path, Row | None]:
    """The file that `source` means, and what is published of it, where it is the name of such a detector or segmenter.

    Raises UserError where it means none, with the nearest names, and for the name of another sort.
    """
    for kind, rows in _published().items():
        found = rows.get(str(source))
        if isinstance(found, published):
            return download(found.location, sha256=""), found
        if found is not None:
            raise UserError(f"'{source}' is a published {kind}: `convnext.load_{kind}` loads it.")
    return _file(source), None


def _file(source: str | Path) -> Path:
    """The file that `source` means, which is not published as a detector or segmenter."""
    text = str(source)
    for kind, rows in _published().items():
        if _NAMES[kind].fullmatch(text) and not Path(text).exists():
            raise UserError(
                f"There are no published weights '{text}'.{nearest(text, rows)} `convnext weights list --{kind}s` "
                "shows them all."
            )
    return locate(source).file
