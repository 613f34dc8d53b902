"""What sort of network a source of weights holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from convnext.weights.load_detector import is_detector
from convnext.weights.load_segmenter import is_segmenter

Kind = Literal["classifier", "detector", "segmenter"]


def kind_of(source: str | Path) -> Kind:
    """Whether a run's folder, a file or a name means a classifier (or an encoder), a detector or a segmenter. Raises
    UserError where it means nothing."""
    if is_segmenter(source):
        return "segmenter"
    return "detector" if is_detector(source) else "classifier"
