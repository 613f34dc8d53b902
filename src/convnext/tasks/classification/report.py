"""A classifier's part of a run's page: headline, curves, mistakes, confusions, calibration, classes."""

from __future__ import annotations

from typing import Any

from convnext.metrics.intervals import wilson_interval
from convnext.report.charts import Curve, line_chart, percent_short, reliability_chart, smoothed
from convnext.report.html import UNKNOWN, count, decimal, interval, measure, percent, section, table, text
from convnext.report.page import TaskReport
from convnext.report.parts import CLASSES_LISTED, class_by_class, headline_of_log, speed, tile, verdict
from convnext.report.run_folder import RunFolder, Values, entries, finite
from convnext.report.training import across, series, steering, went
from convnext.tasks.classification import multilabel
from convnext.tasks.classification.multilabel import is_multi_label
from convnext.tasks.classification.robustness_text import robustness_section

_MISTAKES_SHOWN = 60
_MATRIX_LIMIT = 40  # classes that a confusion matrix can show; above, the worst pairs
_PAIRS = 20


def headline(run: RunFolder) -> str:
    """The figures that matter most, and on which images they were taken; from the log if nothing else is there."""
    values = run.evaluation
    if values is None:
        return headline_of_log(run, "top1", _best_so_far)
    n, k, top1, top5 = values.get("n"), finite(values.get("top5_k")) or 5, values.get("top1"), values.get("top5")
    tiles = [
        tile("Top-1", percent(top1), _range(values.get("top1_interval")), top1),
        tile(f"Top-{k:.0f}", percent(top5), _range(values.get("top5_interval")), top5),
        tile("Mean over classes", percent(values.get("mean_per_class")), "every class counts alike"),
        tile("Images", count(n), speed(values)),
        tile("Loss", decimal(values.get("loss")), "cross-entropy"),
        tile("Calibration error", percent(values.get("ece")), "0 is best"),
    ]
    return f'{verdict(values.get("held_out"), n)}<div class="tiles">{"".join(tiles)}</div>'


def _best_so_far(best: Values) -> list[str]:
    return [
        tile("Best top-1 so far", percent(best.get("top1")), f"step {count(best.get('step'))}", best.get("top1")),
        tile("Top-5 there", percent(best.get("top5")), "", best.get("top5")),
        tile("Loss there", decimal(best.get("loss")), "cross-entropy"),
    ]


def _range(bounds: Any) -> str:
    written = interval(bounds)
    return f'<span title="95 % Wilson interval">{written} with 95 % certainty</span>' if written else ""


def mistakes(run: RunFolder) -> str:
    """The mistakes of which the model was surest, as images."""
    found = entries(run.evaluation, "mistakes")
    cards = []
    for mistake in found[:_MISTAKES_SHOWN]:
        name, target, prediction = (text(mistake.get(key, "?")) for key in ("name", "target", "prediction"))
        source = run.image(mistake.get("picture"))
        alt = f"{name}: {target}, taken for {prediction}"
        shown = f'<img src="{source}" alt="{alt}">' if source else '<div class="none">no image</div>'
        cards.append(
            f'<figure class="mistake" title="{name}">{shown}<figcaption><b>{target}</b><span>taken for '
            f"<em>{prediction}</em>, {percent(mistake.get('confidence'), 0)} sure</span><small>{name}</small>"
            "</figcaption></figure>"
        )
    surest = (
        "The labels that are furthest off"
        if is_multi_label(run.evaluation)
        else "The wrong answers the model was surest of"
    )
    lead = f"{surest}. Some may be wrong labels rather than wrong answers."
    return section("Worst mistakes", f'<div class="mistakes">{"".join(cards)}</div>' if cards else "", lead=lead)


def confusions(run: RunFolder) -> str:
    """Which classes are taken for which: the whole matrix for few classes, the worst pairs for many."""
    names = [str(entry.get("name", "?")) for entry in entries(run.evaluation, "per_class")]
    matrix = _matrix((run.evaluation or {}).get("confusion"), len(names))
    if matrix is None:
        return ""
    if len(names) <= _MATRIX_LIMIT:
        return section("Confusion matrix", _heat_map(matrix, names), lead="Rows are true classes, columns the answers.")
    pairs = [(n, i, j) for i, row in enumerate(matrix) for j, n in enumerate(row) if n and i != j]
    pairs.sort(key=lambda pair: (-pair[0], pair[1:]))
    rows = []
    for n, i, j in pairs[:_PAIRS]:
        share = n / sum(matrix[i])
        rows.append([text(names[i]), text(names[j]), count(n), measure(share, kind="warm")])
    body = table(["True class", "Taken for", "Images", "Share of the class"], rows, kind="pairs") if rows else ""
    return section("Most confused classes", body)


def _matrix(value: Any, k: int) -> list[list[int]] | None:
    """The confusion matrix if it is one: K rows of K whole numbers, none below 0."""
    if not isinstance(value, list) or k == 0 or len(value) != k:
        return None
    for row in value:
        if not isinstance(row, list) or len(row) != k or not all(type(n) is int and 0 <= n < 1 << 53 for n in row):
            return None
    return value


def _heat_map(matrix: list[list[int]], names: list[str]) -> str:
    """A table whose cells are shaded by their share of the row: right answers cool, wrong ones warm."""
    shown = [text(name) for name in names]
    head = "".join(f'<th scope="col" title="{name}"><span>{name}</span></th>' for name in shown)
    lines = []
    for i, row in enumerate(matrix):
        total = sum(row)
        cells = []
        for j, n in enumerate(row):
            share = n / total if total else 0.0
            looks = f"{'hit' if i == j else 'miss'}{' deep' if share > 0.5 else ''}" if n else "zero"
            tip = f"{count(n)} of {count(total)} {shown[i]}: {shown[j]}"
            cells.append(f'<td class="{looks}" style="--v:{100 * share:.0f}%" title="{tip}">{n or "·"}</td>')
        lines.append(f'<tr><th scope="row" title="{shown[i]}"><span>{shown[i]}</span></th>{"".join(cells)}</tr>')
    size = "large" if len(names) <= 12 else "small"
    if max(map(len, names)) <= 3:
        size += " flat"  # short names, such as digits, stand upright above their columns
    return (
        f'<div class="scroll"><table class="heat {size}"><thead><tr><td></td>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def calibration(run: RunFolder) -> str:
    """Whether the model's confidence can be believed."""
    bins = []
    for entry in entries(run.evaluation, "reliability"):
        confidence, accuracy, images, high = (
            finite(entry.get(key)) for key in ("confidence", "accuracy", "count", "high")
        )
        if confidence is None or accuracy is None or high is None or not images:
            continue
        bins.append((confidence, accuracy, int(images), high))
    if not bins:
        return ""
    gap = sum(n * (confidence - accuracy) for confidence, accuracy, n, _ in bins) / sum(entry[2] for entry in bins)
    if abs(gap) < 0.005:
        words = "On average the model is as sure as it is right."
    else:
        kind = "too sure of itself" if gap > 0 else "too modest"
        words = f"On average the model is {100 * abs(gap):.1f} points {kind}."
    words += " Where the bars reach the marks, its confidence can be taken at its word."
    return section(
        "Can its confidence be believed?", f'<div class="narrow">{reliability_chart(bins)}</div>', lead=words
    )


def classes(run: RunFolder) -> str:
    """Accuracy of each class, the worst first; classes without images last."""
    found = entries(run.evaluation, "per_class")
    found.sort(key=lambda entry: 2.0 if (share := finite(entry.get("top1"))) is None else share)
    rows = [_class_row(entry) for entry in found[:CLASSES_LISTED]]
    return class_by_class(["Class", "Images", "Right", "95 % interval"], rows, total=len(found), kind="classes")


def _class_row(entry: Values) -> list[str]:
    share, n = finite(entry.get("top1")), finite(entry.get("n"))
    name = text(entry.get("name", "?"))
    if share is None or not n or not 0 <= share <= 1 or n < 0:
        return [name, count(n), UNKNOWN, UNKNOWN]
    bounds = list(wilson_interval(round(share * n), round(n)))
    return [name, count(n), measure(share), interval(bounds)]


def curves(run: RunFolder, goal: str = "top1", name: str = "Top-1 accuracy") -> str:
    """Losses, the goal's figure, learning rate and gradient norm over the run."""
    steps, evals = run.of("step"), run.of("eval")
    x = across(steps, evals)
    plain = [event for event in evals if event.get("ema") is not True]
    averaged = [event for event in evals if event.get("ema") is True]
    raw = series(steps, x, "loss")
    losses = [
        Curve("training, each step", raw, "faint"),
        Curve("training", smoothed(raw)),
        Curve("validation", series(plain, x, "loss"), "second"),
        Curve("EMA", series(averaged, x, "loss"), "third"),
    ]
    accuracies = [
        Curve("validation", series(plain, x, goal), "second"),
        Curve("EMA", series(averaged, x, goal), "third"),
    ]
    charts = [
        line_chart("Loss", losses, x_label=x, floor=0.0),
        line_chart(name, accuracies, x_label=x, figure=percent_short, floor=0.0, ceiling=1.0),
        *steering(steps, x),
    ]
    return went(charts)


def report(run: RunFolder) -> TaskReport:
    """A classifier's part of a run's page."""
    values = run.evaluation or {}
    if is_multi_label(values):
        return TaskReport(
            model=values.get("model"),
            headline=multilabel.headline(run),
            sections=(curves(run, "mAP", "Mean average precision"), mistakes(run), multilabel.labels(run)),
        )
    if run.evaluation is None and any("mAP" in event for event in run.of("eval")):
        shown = curves(run, "mAP", "Mean average precision")
        of_log = headline_of_log(run, "mAP", multilabel.best_so_far)
        return TaskReport(model=run.last("start").get("model"), headline=of_log, sections=(shown,))
    robustness = robustness_section(run)
    return TaskReport(
        model=values.get("model") or run.last("start").get("model"),
        headline=headline(run),
        styles=("dense.css",) if robustness else (),  # its tables and a fourth curve
        sections=(
            curves(run),
            robustness,
            mistakes(run),
            confusions(run),
            calibration(run),
            classes(run),
        ),
    )
