"""Scaling as an image: figure against cost on logarithmic axes, points, laws with intervals, envelopes."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from convnext.core.atomic import replacing, write_text
from convnext.core.logs import say
from convnext.core.strict_json import to_json
from convnext.scaling.fit import band, counted, laws
from convnext.scaling.points import AXES, Axis, Figure
from convnext.scaling.report import Fitted, How, Pair, fitted, law_in_words, read_series

_INK, _MUTED, _RULE, _PAPER = "#20232a", "#6b7079", "#dfe1e5", "#ffffff"
_COLOURS = ("#12657f", "#c2571a", "#8e7cc3", "#4f8a3c", "#b03a5b", "#7a6a3a")  # told apart by most eyes
_MARKS = ("o", "s", "^", "D", "v", "P")
_LABELS: dict[Figure, str] = {"error": "top-1 error", "loss": "cross-entropy, nats"}
_WIDTH, _HEIGHT = 5.2, 4.3  # inches of a panel


@dataclass(frozen=True)
class Panel:
    """One pair of axes and what is on it."""

    title: str
    subtitle: str
    fitted: tuple[Fitted, ...]
    how: How


def of_published() -> list[Panel]:
    """The published points, in four panels: those of docs/scaling.md."""
    plain = How()
    envelope = replace(plain, settings=replace(plain.settings, pareto=True))
    choices = [
        (
            "ImageNet-1K, supervised",
            "224 pixels, no other data",
            ("convnext_v1_in1k_224", "deit3_in1k_224", "convnext_iso_in1k", "vit_table2_in1k", "swin_in1k_224"),
            plain,
        ),
        (
            "ImageNet-22K, then 1K",
            "224 pixels",
            ("convnext_v1_in22k_224", "deit3_in22k_224", "swin_in22k_224"),
            plain,
        ),
        (
            "masked pre-training on ImageNet-1K",
            "224 pixels, fine-tuned",
            ("convnext_v2_fcmae_in1k_A_to_H", "mae_vit_in1k_B_L_H"),
            plain,
        ),
        (
            "CLIP on LAION-2B, zero-shot",
            "laws through what no cheaper model beats",
            ("clip_convnext_laion2b", "clip_vit_grid_laion2b", "clip_vit_laion2b"),
            envelope,
        ),
    ]
    return [
        Panel(title, subtitle, tuple(fitted(series, how) for series in read_series(names)), how)
        for title, subtitle, names, how in choices
    ]


def of_named(what: Sequence[str], how: How) -> list[Panel]:
    """What is named, a panel for each axis; of points with a loss, one of that too."""
    series = read_series(what)
    figures: list[Figure] = ["error", "loss"] if how.figure == "error" else ["loss"]
    panels = []
    for figure in figures:
        mine = replace(how, figure=figure)
        found = [fitted(one, mine) for one in series]
        for one in found:
            if one.why_not and (one.points or figure == how.figure):
                say(f"- {one.series.name} has no law{'' if one.points else ' and is not drawn'}: {one.why_not}")
        axes: list[Axis] = list(dict.fromkeys(one.axis for one in found if one.points))
        for axis in axes:
            same = tuple(one for one in found if one.axis == axis and one.points)
            subtitle = "laws through the envelopes" if how.settings.pareto else "laws through all points"
            panels.append(Panel(f"{_LABELS[figure]} and {AXES[axis]}", subtitle, same, mine))
    return panels


def draw(panels: Sequence[Panel], paths: Sequence[Path], *, heading: str) -> None:
    """Writes the image to each path, as PNG or SVG by its suffix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display is needed, nor global state changed
    from matplotlib.figure import Figure as Image

    columns = min(len(panels), 2)
    rows = -(-len(panels) // columns)
    image = Image(figsize=(columns * _WIDTH, 0.5 + rows * _HEIGHT), dpi=100, facecolor=_PAPER, layout="constrained")
    FigureCanvasAgg(image)
    image.suptitle(heading, fontsize=14, weight="bold", color=_INK)
    for number, panel in enumerate(panels):
        _draw_panel(image.add_subplot(rows, columns, number + 1), panel)
    for path in paths:
        with replacing(path) as file:
            image.savefig(file, format=path.suffix.removeprefix("."))


def _draw_panel(axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, NullLocator

    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_title(f"{panel.title}\n", fontsize=10.5, weight="bold", color=_INK, loc="left")
    axes.text(0, 1.02, panel.subtitle, transform=axes.transAxes, fontsize=8, color=_MUTED)
    for number, one in enumerate(panel.fitted):
        _draw_series(axes, one, panel.how, _COLOURS[number % len(_COLOURS)], _MARKS[number % len(_MARKS)])
    values = [y for one in panel.fitted for _, _, y in one.points]
    ticks = _ticks(min(values), max(values))
    share = panel.how.figure == "error"
    axes.set_yticks(ticks)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{100 * y:.3g} %" if share else f"{y:.3g}"))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.grid(color=_RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    axes.tick_params(length=0, labelsize=8, labelcolor=_MUTED, which="both")
    axes.set_xlabel(AXES[panel.fitted[0].axis], fontsize=8, color=_MUTED)
    axes.set_ylabel(_LABELS[panel.how.figure], fontsize=8, color=_MUTED)
    axes.legend(fontsize=7, frameon=False, labelcolor=_INK)


def _draw_series(axes: Any, one: Fitted, how: How, colour: str, mark: str) -> None:
    xs, ys = one.xy()
    axes.plot(xs, ys, mark, color=colour, markersize=3.5, alpha=0.35, markeredgewidth=0)
    kept_x, kept_y = counted(xs, ys, how.settings, labels=one.labels())
    name = one.series.title or one.series.name
    label = f"{name}: {law_in_words(one) if one.fit else 'no law'}"
    axes.plot(kept_x, kept_y, mark, color=colour, markersize=5, label=label)
    if one.fit is None:
        return
    at = np.geomspace(one.fit.low, one.fit.high, 60)  # within its points: a law is not drawn beyond
    axes.plot(at * one.unit, one.fit.law(at), color=colour, linewidth=1.4)
    drawn = laws(*one.xy(one.unit), how.settings, labels=one.labels())
    if drawn:
        low, high = band(drawn, at)
        axes.fill_between(at * one.unit, low, high, color=colour, alpha=0.13, linewidth=0)


def _ticks(low: float, high: float) -> list[float]:
    """Four to eight round values within a range, for a logarithmic axis."""
    from matplotlib.ticker import MaxNLocator

    room = (high / low) ** 0.04
    found = MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]).tick_values(low / room, high * room)
    return [float(value) for value in found if low / room <= value <= high * room and value > 0]


def table(panels: Sequence[Panel]) -> Iterator[dict[str, Any]]:
    """Every point of the panels, a row each."""
    for panel in panels:
        for one in panel.fitted:
            for point, x, y in one.points:
                yield {
                    "panel": panel.title,
                    "series": one.series.name,
                    "family": point.family,
                    "model": point.model,
                    "source": point.source,
                    "axis": one.axis,
                    "x": x,
                    "figure": one.figure,
                    "y": y,
                }


def write_tables(panels: Sequence[Panel], compared: Sequence[Pair], base: Path) -> list[Path]:
    """base.csv, every point; and base.json, the laws and comparisons."""
    text, rows = io.StringIO(), list(table(panels))
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(base.with_suffix(".csv"), text.getvalue())
    values = {
        "fits": [one.values() for panel in panels for one in panel.fitted],
        "comparisons": [pair.values() for pair in compared],
    }
    write_text(base.with_suffix(".json"), to_json(values, indent=2) + "\n")
    return [base.with_suffix(".csv"), base.with_suffix(".json")]
