"""A segmenter's figures and weights for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convnext.core.console import pairs, percent, table
from convnext.tasks.console import class_names, evaluated, held_out, network_facts, skipped, worst_classes
from convnext.tasks.segmentation.published import PublishedSegmenter
from convnext.tasks.segmentation.weights import load_segmenter
from convnext.weights.locate import WeightFile


def summary(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures that are printed as JSON when a run has ended."""
    return {name: figures[name] for name in ("mIoU", "mAcc", "aAcc")}


def headline(figures: Mapping[str, Any]) -> str:
    """The same in words."""
    said = ", ".join(f"{name} {percent(value)}" for name, value in summary(figures).items())
    return f"{said} on {held_out(figures)}"


def evaluation_text(figures: Mapping[str, Any]) -> str:
    """An evaluation's figures."""
    lines = pairs(
        [
            *evaluated(figures),
            ("mIoU", percent(figures["mIoU"])),
            ("mean accuracy", percent(figures["mAcc"])),
            ("pixel accuracy", percent(figures["aAcc"])),
            ("speed", f"{figures['images_per_second']:.2f} images/s, reading included"),
            *skipped(figures),
        ]
    )
    worst = sorted((c for c in figures["per_class"] if c["IoU"] is not None), key=lambda c: c["IoU"])
    total = max(figures["pixels"], 1)
    absent = len(figures["per_class"]) - len(worst)
    if worst and absent:
        lines += ["", f"mIoU is the mean over {len(worst)} classes; {absent} others are neither there nor found."]
    rows = [(c["name"], percent(c["pixels"] / total, 2), percent(c["IoU"]), percent(c["Acc"])) for c in worst]
    return "\n".join([*lines, "", worst_classes(rows, header=("of all pixels", "IoU", "accuracy"))])


def published_text(rows: Sequence[PublishedSegmenter]) -> str:
    """A list of published weights."""
    lines = [
        (row.name, f"{row.miou:.1f}", f"{row.miou_views:.1f}", str(row.crop), row.pretrained_on, row.licence)
        for row in rows
    ]
    text = table(lines, header=("name", "mIoU", "six sizes", "pixels", "backbone trained on", "licence"))
    return f"{text}\n\n{len(rows)} segmenters. mIoU: ADE20K's validation images, percent; the second mirrored too."


def inspect(file: WeightFile) -> tuple[dict[str, Any], str]:
    """What a file holds, whoever saved it: as JSON values, and as text."""
    segmenter, metadata = load_segmenter(file)
    facts = network_facts(segmenter, metadata)
    window = f"sliding window of {metadata.input.window}" if metadata.input.window else "whole images"
    lines = [
        ("model", f"segmenter on {metadata.model.backbone.name}, {metadata.model.head} head"),
        ("weights", f"{facts['parameters']:,} parameters"),
        ("input", f"{metadata.input.short} pixels on the shorter side, {window}"),
        *class_names(metadata),
    ]
    return facts, "\n".join(pairs(lines))
