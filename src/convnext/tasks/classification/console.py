"""A classifier's figures and weights for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from convnext.core.console import few, pairs, percent, table
from convnext.core.typed import to_dict
from convnext.models.config import ModelConfig
from convnext.tasks.classification import multilabel
from convnext.tasks.classification.robustness_text import is_robustness, robustness_text
from convnext.tasks.classification.weights import describe
from convnext.tasks.console import evaluated, held_out, skipped, worst_classes
from convnext.weights.catalog import Checkpoint
from convnext.weights.locate import WeightFile


def summary(figures: Mapping[str, Any]) -> dict[str, float | None]:
    """The figures that are printed as JSON when a run has ended."""
    if multilabel.is_multi_label(figures):
        return {"mAP": figures["mAP"], "F1": figures["F1"]}
    return {"top1": figures["top1"], "top5": figures["top5"]}


def headline(figures: Mapping[str, Any]) -> str:
    """The same in words."""
    if multilabel.is_multi_label(figures):
        return multilabel.headline_text(figures)
    low, high = figures["top1_interval"]
    return f"top-1 {percent(figures['top1'])} ({100 * low:.1f} to {100 * high:.1f}) on {held_out(figures)}"


def evaluation_text(figures: Mapping[str, Any]) -> str:
    """An evaluation's figures."""
    if is_robustness(figures):
        return robustness_text(figures)
    if multilabel.is_multi_label(figures):
        return multilabel.evaluation_text(figures)
    (low, high), (low5, high5) = figures["top1_interval"], figures["top5_interval"]
    entries = [
        *evaluated(figures),
        ("top-1", f"{percent(figures['top1'], 2)}  ({100 * low:.2f} to {100 * high:.2f})"),
        (f"top-{figures['top5_k']}", f"{percent(figures['top5'], 2)}  ({100 * low5:.2f} to {100 * high5:.2f})"),
        ("per class", f"{percent(figures['mean_per_class'], 2)} on average"),
    ]
    if figures["invalid"]:
        what = f"{figures['invalid']:,} images gave no numbers; they count as wrong (--dtype float32 may help)"
        entries.append(("not finite", what))
    if figures["ece"] is not None:
        entries.append(("calibration", f"{percent(figures['ece'], 2)} expected error of the confidence"))
    entries.append(("speed", f"{figures['images_per_second']:.1f} images/s, reading included"))
    worst = sorted((entry for entry in figures["per_class"] if entry["n"]), key=lambda entry: entry["top1"])
    rows = [(entry["name"], str(entry["n"]), percent(entry["top1"])) for entry in worst]
    lines = pairs([*entries, *skipped(figures)])
    return "\n".join([*lines, "", worst_classes(rows, header=("images", "top-1"))])


def published_text(rows: Sequence[Checkpoint]) -> str:
    """A list of published weights."""
    lines = [
        (row.name, f"{row.top1:.2f}" if row.top1 else "", str(row.input.size), str(row.num_classes), row.licence)
        for row in rows
    ]
    text = table(lines, header=("name", "top-1 %", "pixels", "classes", "licence"))
    return f"{text}\n\n{len(rows)} checkpoints. top-1: ImageNet-1K validation at that size; empty: none published."


def inspect(file: WeightFile) -> tuple[dict[str, Any], str]:
    """What a file holds, whoever saved it: as JSON values, and as text."""
    given, metadata, notes = describe(file)
    row = file.row if isinstance(file.row, Checkpoint) else None
    facts = {
        "file": str(file.file),
        "model": to_dict(metadata.model),
        "layout": given.layout,
        "tensors": len(given.state),
        "parameters": sum(value.numel() for value in given.state.values()),
        "dtypes": sorted({str(value.dtype).removeprefix("torch.") for value in given.state.values()}),
        "input": to_dict(metadata.input),
        "classes": list(metadata.classes),
        "multi_label": metadata.multi_label,
        "thresholds": list(metadata.thresholds),
        "source": metadata.source,
        "published": None if row is None else {**asdict(row), "commercial": row.commercial},
        "left_out": list(given.left),
        "notes": notes,
    }
    changed = [f"{key} {value}" for key, value in facts["model"].items() if key != "name" and _differs(key, value)]
    image = metadata.input
    lines = [
        ("file", str(file.file)),
        ("model", metadata.model.name + (f" ({', '.join(changed)})" if changed else "")),
        ("layout", f"{given.layout}: {len(given.state)} tensors, {facts['parameters']:,} parameters"),
        ("types", ", ".join(facts["dtypes"])),
        (
            "input",
            f"{image.size} pixels, {image.resize}, crop ratio {image.crop_ratio:g}, {image.interpolation}",
        ),
        ("classes", f"{len(metadata.classes)}" + (f": {few(metadata.classes)}" if metadata.classes else "")),
    ]
    if metadata.multi_label:
        chosen = "with thresholds chosen in validation" if metadata.thresholds else "with a threshold of 0.5 each"
        lines.append(("labels", f"an image can have several, or none; {chosen}"))
    if metadata.source:
        lines.append(("source", metadata.source))
    return facts, "\n".join(pairs([*lines, *(("note", note) for note in notes)]))


def _differs(key: str, value: Any) -> bool:
    """Whether a setting of a model differs from its default."""
    return value != getattr(ModelConfig(), key)
