"""A model of several labels an image: its figures as evaluation.json holds them, on a terminal and on the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from convnext.core.console import pairs, percent
from convnext.metrics.multilabel import MultiLabelFigures
from convnext.report.html import UNKNOWN, count, decimal, measure, section, text
from convnext.report.html import percent as share_of
from convnext.report.parts import CLASSES_LISTED, class_by_class, speed, tile, verdict
from convnext.report.run_folder import RunFolder, Values, entries, finite
from convnext.tasks.classification.figures import Mistake, Skipped
from convnext.tasks.console import evaluated, held_out, skipped, worst_classes


def is_multi_label(figures: Mapping[str, Any] | None) -> bool:
    """Whether figures of an evaluation are of several labels an image."""
    return bool((figures or {}).get("multi_label"))


def evaluation_dict(
    result: MultiLabelFigures,
    *,
    classes: Sequence[str],
    model: str,
    data: str,
    held_out: bool | None,
    images_per_second: float,
    skipped: Sequence[Skipped] = (),
    mistakes: Sequence[Mistake] = (),
    chosen_here: bool = False,
) -> dict[str, Any]:
    """What `evaluation.json` holds, as `figures.evaluation_dict` for one class an image. Shares are fractions in 0..1,
    None where undefined. chosen_here: whether the thresholds were chosen on these images."""
    return {
        "multi_label": True,
        "model": model,
        "data": data,
        "held_out": held_out,
        "n": result.n,
        "invalid": result.invalid,
        "mAP": result.mean_ap,
        "precision": result.precision,
        "recall": result.recall,
        "F1": result.f1,
        "macro_F1": result.macro_f1,
        "loss": result.loss,
        "thresholds_chosen_here": chosen_here,
        "per_class": [
            {"name": name, **dataclasses.asdict(label)} for name, label in zip(classes, result.per_label, strict=True)
        ],
        "images_per_second": images_per_second,
        "skipped": [dataclasses.asdict(entry) for entry in skipped],
        "mistakes": [dataclasses.asdict(entry) for entry in mistakes],
    }


def headline_text(figures: Mapping[str, Any]) -> str:
    """The figures that matter most, in words."""
    return f"mAP {percent(figures['mAP'])}, F1 {percent(figures['F1'])} on {held_out(figures)}"


def evaluation_text(figures: Mapping[str, Any]) -> str:
    """An evaluation's figures for a terminal."""
    rows = [*evaluated(figures), ("mAP", f"{percent(figures['mAP'], 2)}  (mean average precision over the labels)")]
    rows.append(("precision", f"{percent(figures['precision'], 2)} of the labels that are given are right"))
    rows.append(("recall", f"{percent(figures['recall'], 2)} of the labels that hold are given"))
    rows.append(("F1", f"{percent(figures['F1'], 2)}  ({percent(figures['macro_F1'], 2)} on average over the labels)"))
    if figures["invalid"]:
        rows.append(("not finite", f"{figures['invalid']:,} images gave no numbers; they count as without any label"))
    rows.append(("thresholds", thresholds_text(figures)))
    rows.append(("speed", f"{figures['images_per_second']:.1f} images/s, reading included"))
    worst = sorted((entry for entry in figures["per_class"] if entry["n"]), key=lambda entry: entry["ap"])
    cells = [
        (
            entry["name"],
            str(entry["n"]),
            *(percent(entry[key]) for key in ("ap", "precision", "recall", "f1")),
            f"{entry['threshold']:.3f}",
        )
        for entry in worst
    ]
    header = ("images", "AP", "precision", "recall", "F1", "threshold")
    return "\n".join([*pairs([*rows, *skipped(figures)]), "", worst_classes(cells, header=header)])


def thresholds_text(figures: Mapping[str, Any]) -> str:
    """Where the thresholds are from."""
    least = {entry.get("threshold") for entry in entries(dict(figures), "per_class")}
    if figures.get("thresholds_chosen_here"):
        return "chosen for the best F1 on these images, so precision, recall and F1 flatter a little"
    return "0.5 for every label" if least == {0.5} else "one for each label, as the model was saved with them"


def headline(run: RunFolder) -> str:
    """The tiles of the page."""
    values = run.evaluation or {}
    tiles = [
        tile("mAP", share_of(values.get("mAP")), "mean average precision", values.get("mAP")),
        tile("F1", share_of(values.get("F1")), "at the thresholds", values.get("F1")),
        tile("Precision", share_of(values.get("precision")), "of labels given"),
        tile("Recall", share_of(values.get("recall")), "of labels that hold"),
        tile("Images", count(values.get("n")), speed(values)),
        tile("Loss", decimal(values.get("loss")), "binary cross-entropy"),
    ]
    return f'{verdict(values.get("held_out"), values.get("n"))}<div class="tiles">{"".join(tiles)}</div>'


def best_so_far(best: Values) -> list[str]:
    """The tiles of a validation during training."""
    return [
        tile("Best mAP so far", share_of(best.get("mAP")), f"step {count(best.get('step'))}", best.get("mAP")),
        tile("F1 there", share_of(best.get("F1")), "", best.get("F1")),
        tile("Loss there", decimal(best.get("loss")), "binary cross-entropy"),
    ]


def labels(run: RunFolder) -> str:
    """The figures of each label, the worst first; labels that no image has last."""
    found = entries(run.evaluation, "per_class")
    found.sort(key=lambda entry: 2.0 if (ap := finite(entry.get("ap"))) is None else ap)
    rows = [_row(entry) for entry in found[:CLASSES_LISTED]]
    head = ["Label", "Images", "Average precision", "Precision", "Recall", "F1", "Threshold"]
    lead = f"<p>Thresholds: {text(thresholds_text(run.evaluation or {}))}.</p>"
    return class_by_class(head, rows, total=len(found), kind="classes") + section("Thresholds", lead)


def _row(entry: Values) -> list[str]:
    ap = finite(entry.get("ap"))
    shares = [share_of(entry.get(key)) for key in ("precision", "recall", "f1")]
    shown = UNKNOWN if ap is None or not 0 <= ap <= 1 else measure(ap)
    return [text(entry.get("name", "?")), count(entry.get("n")), shown, *shares, decimal(entry.get("threshold"))]
