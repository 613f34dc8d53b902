"""What robustness figures say, in a terminal and on a run's page."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from convnext.core.console import pairs, percent
from convnext.core.console import table as columns
from convnext.data.corruptions.config import EXTRA, MAIN, SEVERITIES
from convnext.metrics.corruption import mean_of
from convnext.report.charts import Curve, line_chart, percent_short
from convnext.report.html import count, section, table, text
from convnext.report.html import percent as percent_html
from convnext.report.run_folder import RunFolder, Values, finite
from convnext.tasks.classification.suites import SUITES

FILE = "robustness.json"
_GROUPS = {"noise": "main", "blur": "second", "weather": "third", "digital": "fourth"}
_APPROXIMATE = "approximate: generated here in memory; published figures are of ImageNet-C's JPEG files"


def is_robustness(figures: Mapping[str, Any]) -> bool:
    """Whether figures are of corruptions or suites, not of one data set."""
    return "errors" in figures or "suites" in figures


def robustness_text(figures: Mapping[str, Any]) -> str:
    """The figures for a terminal: a line for each suite; a table of corruptions by severities, and their means."""
    parts = []
    if "suites" in figures:
        parts.append("\n".join(pairs([("model", figures["model"])])))
        for name, found in figures["suites"].items():
            parts.append(_corrupted(found, SUITES[name].title) if "errors" in found else _suite(name, found))
    if "errors" in figures:
        lines = [("model", figures["model"]), ("data", f"{figures['data']}: {figures['n']} images")]
        lines.append(("clean", f"{percent(figures['clean']['top1'], 2)} top-1"))
        parts.append("\n".join(pairs(lines)) + "\n\n" + _corrupted(figures, "corrupted"))
    return "\n\n".join(parts)


def _suite(name: str, found: Mapping[str, Any]) -> str:
    interval = found["interval"]
    spread = f"  ({100 * interval[0]:.2f} to {100 * interval[1]:.2f})" if interval else ""
    classes = f", {found['classes']} classes" if "classes" in found else ""
    without = f"; {found['without_label']} images without a label left out" if found.get("without_label") else ""
    top1 = f"{percent(found['top1'], 2)} top-1{spread}  {found['n']:,} images{classes}{without}"
    return "\n".join(pairs([(SUITES[name].title, top1)]))


def _corrupted(found: Mapping[str, Any], title: str) -> str:
    rows = [(kind, *(percent(error) for error in row), percent(mean_of(row))) for kind, row in found["errors"].items()]
    head = (f"error, {title}", *(f"severity {severity}" for severity in SEVERITIES), "mean")
    return columns(rows, header=head) + "\n\n" + "\n".join(pairs(means(found)))


def means(found: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The means over corruptions, each with what it is."""
    lines = []
    how = f"  ({_APPROXIMATE})" if found.get("generated") else ""
    of_alexnet, relative, plain = (finite(found.get(name)) for name in ("mce", "relative_mce", "mean_error"))
    if of_alexnet is not None:
        lines.append(("mCE", f"{percent(of_alexnet)}, normalised by AlexNet's errors{how}"))
    if relative is not None:
        lines.append(("relative mCE", f"{percent(relative)}, of what corruption adds to the clean error"))
    if plain is not None:
        lines.append(("mean error", f"{percent(plain)}, not normalised"))
    if not lines:
        lines.append(("mean", "none: it takes all main corruptions at five severities"))
    elif of_alexnet is None and found.get("generated"):
        lines.append(("mCE", "none: AlexNet's errors are of ImageNet-1K's classes"))
    if found.get("frost") == "drawn":
        lines.append(("frost", "drawn, in place of the original's photographs"))
    return lines


def robustness_section(run: RunFolder) -> str:
    """The robustness of a run's model on its page: a figure and a table; nothing where it was not evaluated."""
    values = read_figures(run.path)
    if values is None:
        return ""
    bodies = []
    if isinstance(values.get("suites"), dict):
        bodies.append(_suites_table(values["suites"]))
        bodies += [
            _corrupted_html(found, SUITES[name].title)
            for name, found in values["suites"].items()
            if name in SUITES and isinstance(found, dict) and "errors" in found
        ]
    if isinstance(values.get("errors"), dict):
        clean = values.get("clean")
        top1 = percent_html(clean.get("top1")) if isinstance(clean, dict) else percent_html(None)
        bodies.append(f"<p>{count(values.get('n'))} images of {text(values.get('data', '?'))}; clean top-1 {top1}.</p>")
        bodies.append(_corrupted_html(values, "Corrupted images"))
    return section("On images that training did not show", "".join(bodies))


def read_figures(folder: Path) -> Values | None:
    """The robustness figures in a run's folder; None where there are none that can be read."""
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _suites_table(found: Mapping[str, Any]) -> str:
    rows = []
    for name, one in found.items():
        if name in SUITES and isinstance(one, dict) and "errors" not in one:
            rows.append([text(SUITES[name].title), count(one.get("n")), percent_html(one.get("top1"), 2)])
    return table(["Suite", "Images", "Top-1"], rows, kind="figures") if rows else ""


def _corrupted_html(found: Mapping[str, Any], title: str) -> str:
    errors = {kind: [finite(value) for value in row] for kind, row in found["errors"].items() if isinstance(row, list)}
    rows = [
        [text(kind.replace("_", " ")), *(percent_html(value) for value in row), percent_html(mean_of(row))]
        for kind, row in errors.items()
    ]
    head = ["Error", *(f"severity {severity}" for severity in SEVERITIES), "mean"]
    said = "".join(f"<p>{text(name)}: {text(words)}</p>" for name, words in means(found))
    name = f"{title}: error by severity"
    chart = line_chart(name, _curves(errors), x_label="severity", figure=percent_short, floor=0.0)
    rows_of = table(head, rows, kind="figures")
    return f'<div class="narrow">{chart}</div>{rows_of}{said}'


def _curves(errors: Mapping[str, Sequence[float | None]]) -> list[Curve]:
    """The mean error of each kind of corruption, at each severity at which all of them are known."""
    kinds = {**MAIN, **EXTRA}
    curves = []
    for group, look in _GROUPS.items():
        rows = [row for kind, row in errors.items() if kinds.get(kind) == group]
        points = []
        for place, severity in enumerate(SEVERITIES):
            values = [row[place] for row in rows if len(row) > place]
            known = [value for value in values if value is not None]
            if known and len(known) == len(rows):
                points.append((float(severity), sum(known) / len(known)))
        curves.append(Curve(group, points, look))
    return curves
