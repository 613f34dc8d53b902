"""What sort of network a source of weights holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from convnext.weights import load_detector, load_segmenter

Kind = Literal["classifier", "detector", "segmenter"]


def kind_of(source: str | Path) -> Kind:
    """Whether a run's folder, a file or a name means a classifier (or an encoder), a detector or a segmenter. Raises
    UserError where it means nothing."""
    if load_detector.NAME.fullmatch(str(source)):  # a detector's name: where it is mistyped, this says so
        return "detector" if load_detector.is_detector(source) else "classifier"
    if load_segmenter.is_segmenter(source):
        return "segmenter"
    return "detector" if load_detector.is_detector(source) else "classifier"
