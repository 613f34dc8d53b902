"""Results of detectors and segmenters: figures computed by hand, as data, as a table and as a page."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from samples import MACHINE

from convnext.bench.engine.dense_results import (
    HEADER,
    DenseEntry,
    DensePlan,
    DenseResult,
    Regions,
    markdown,
    notes,
    rows,
    summary,
    verdict,
)
from convnext.core.typed import from_dict, to_dict
from convnext.models.detection.config import detector_config

PLAN = DensePlan("a detector", detector_config("mask_rcnn_convnext_tiny", num_classes=5), (64, 96), batch=2)


@pytest.fixture
def result() -> DenseResult:
    """Ours takes 0.5 s for two images, torchvision's heads 0.75 s."""
    entries = (
        DenseEntry(
            "convnext", "inference", choice="NHWC", regions=Regions(120, 30), seconds=(0.5, 0.4, 0.6), memory=2**30
        ),
        DenseEntry("torchvision heads", "inference", choice="NCHW", seconds=(0.75, 0.6, 0.9)),
        DenseEntry("torchvision", "inference", note="torchvision has no convnext_atto"),
    )
    return DenseResult(PLAN, MACHINE, "2026-11-22T10:00:00+00:00", entries)


def test_results(result: DenseResult) -> None:
    assert from_dict(DenseResult, json.loads(json.dumps(to_dict(result)))) == result
    found = summary(result, command="convnext bench detection")
    assert json.loads(json.dumps(found)) == found
    assert [entry["ours_is_times_as_fast"] for entry in found["entries"]] == [None, pytest.approx(1.5), None]
    assert found["entries"][0]["images_per_second"] == 4.0
    ours, theirs, absent = rows(result)
    assert ours == ("inference", "convnext", "NHWC", "4.00", "20 %", "1,024 MB", "120", "30", "")
    assert theirs[3] == "2.67"
    assert theirs[-1] == "1.50x (1.50-1.50)"
    assert absent[2:] == ("",) * 7
    assert len(HEADER) == len(ours) == len(absent)
    assert verdict(result) == "Ours in inference: 1.50 times as fast as torchvision heads (faster)."
    assert verdict(replace(result, entries=result.entries[:1])).startswith("Nothing to compare")
    assert notes(result) == ["torchvision inference: torchvision has no convnext_atto"]
    page = markdown(result, command="convnext bench detection", title="Detectors", method="With care.")
    assert "| inference | torchvision heads | NCHW | 2.67 |" in page
    assert "images of 64 x 96 pixels, 2 at a time" in page
    assert page.startswith("# Detectors\n")
    assert page.endswith("## How it was measured\n\nWith care.\n")
