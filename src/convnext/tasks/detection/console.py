"""A detector's figures and weights for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convnext.core.console import pairs, percent, table
from convnext.tasks.console import class_names, evaluated, held_out, network_facts, skipped, worst_classes
from convnext.tasks.detection.published import PublishedDetector
from convnext.tasks.detection.weights import load_detector
from convnext.weights.locate import WeightFile


def summary(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures that are printed as JSON when a run has ended."""
    kinds = {kind: figures[kind] for kind in ("box", "mask") if figures[kind]}
    return {f"{kind}_{name}": found[name] for kind, found in kinds.items() for name in ("AP", "AP50")}


def headline(figures: Mapping[str, Any]) -> str:
    """The same in words."""
    said = ", ".join(f"{name.replace('_', ' ')} {percent(value)}" for name, value in summary(figures).items())
    return f"{said} on {held_out(figures)}"


def evaluation_text(figures: Mapping[str, Any]) -> str:
    """An evaluation's figures."""
    lines = pairs(
        [
            *evaluated(figures, more=f", {figures['objects']} objects"),
            ("speed", f"{figures['images_per_second']:.2f} images/s, reading included"),
            *skipped(figures),
        ]
    )
    kinds = [kind for kind in ("box", "mask") if figures[kind]]
    rows = [(name, *(percent(figures[kind][name]) for kind in kinds)) for name in figures["box"] if name != "per_class"]
    worst = sorted((c for c in figures["box"]["per_class"] if c["n"]), key=lambda c: c["AP"] or 0.0)
    classes = [(c["name"], str(c["n"]), percent(c["AP"]), percent(c["AP50"])) for c in worst]
    listed = worst_classes(classes, header=("objects", "box AP", "box AP50"))
    return "\n".join([*lines, "", table(rows, header=("", *kinds)), "", listed])


def published_text(rows: Sequence[PublishedDetector]) -> str:
    """A list of published weights."""
    lines = [(row.name, f"{row.box_ap:.1f}", f"{row.mask_ap:.1f}", row.pretrained_on, row.licence) for row in rows]
    text = table(lines, header=("name", "box AP", "mask AP", "backbone trained on", "licence"))
    return f"{text}\n\n{len(rows)} detectors. AP: COCO val2017, percent, at 800 pixels, one view."


def inspect(file: WeightFile) -> tuple[dict[str, Any], str]:
    """What a file holds, whoever saved it: as JSON values, and as text."""
    detector, metadata = load_detector(file)
    facts, model, stages = network_facts(detector, metadata), metadata.model, len(metadata.model.roi.ious)
    lines = [
        ("model", f"detector on {model.backbone.name}, {stages} stage{'s' if stages > 1 else ''}"),
        ("weights", f"{facts['parameters']:,} parameters; {'boxes and masks' if model.masks else 'boxes'}"),
        (
            "input",
            f"{metadata.input.short} pixels on the shorter side, at most {metadata.input.long} on the longer",
        ),
        *class_names(metadata),
    ]
    return facts, "\n".join(pairs(lines))
