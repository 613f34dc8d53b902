"""Saving detectors so that others read them: ours, and the official layout."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from convnext.models.detection.build import build_detector
from convnext.tasks.detection.recipe import DetectionMetadata
from convnext.weights.writing import check_layout, check_saved, save_own_or_official


def save_as(out: Path, state: Mapping[str, Tensor], metadata: DetectionMetadata, layout: str) -> str:
    """Writes a detector's weights; returns how they are loaded.

    convnext: OUT.safetensors with the metadata inside. official: OUT.pth as the official checkpoints have it ({"meta",
    "state_dict"}), which is mmdetection's layout around the official backbone.

    Raises UserError for any other layout, an OUT that does not suit it, and a state that is no such model's.
    """
    check_layout(layout, ("convnext", "official"), model="detector")
    check_saved(state, metadata, lambda: build_detector(metadata.model), model="detector")
    meta = {"CLASSES": list(metadata.classes)}
    if save_own_or_official(out, state, metadata, layout=layout, meta=meta):
        return f'convnext.load("{out}")'
    return 'torch.load(...)["state_dict"], in mmdetection, around the official backbone'
