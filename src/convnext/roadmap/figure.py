"""The roadmap as an image (the paper's Figure 2): accuracy step by step, the paper's and one's own side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from convnext.core.atomic import replacing
from convnext.models.roadmap import REGIMES, STEPS
from convnext.roadmap.costs import PUBLISHED, SWIN, rows
from convnext.roadmap.sweep import Plan, Result, by_step

_INK, _MUTED, _RULE, _PAPER, _BAND = "#20232a", "#6b7079", "#dfe1e5", "#ffffff", "#f4f5f7"
_COLOURS = {"paper": "#8e7cc3", "ours": "#12657f"}
_ROW, _TOP, _BOTTOM = 0.3, 1.35, 0.55  # inches
_NAMES, _PARTS, _PANEL, _GAP = 2.3, 1.25, 4.2, 0.3
_FIGURES = 0.75  # the width of the columns of figures, as a share of that of the dots


@dataclass(frozen=True)
class Series:
    """One panel: accuracy (%), its standard deviation (None: of one run) and GMACs of each step that is there."""

    title: str
    subtitle: str
    values: Mapping[str, tuple[float, float | None]]
    gmacs: Mapping[str, float]
    reference: tuple[str, float] | None = None
    """A name and an accuracy to compare with, as Swin's."""
    is_paper: bool = False


def of_paper(regime: str) -> Series:
    """The paper's accuracies in a regime that it has (a key of `PUBLISHED`)."""
    published = PUBLISHED[regime]
    return Series(
        title=f"paper: {REGIMES[regime].title}",
        subtitle=f"ImageNet-1K, 224 pixels, 300 epochs, {'3 seeds' if regime == 'resnet50' else '1 seed'}",
        values={step: (row.accuracy, row.deviation) for step, row in published.items()},
        gmacs={step: row.gmacs for step, row in published.items()},
        reference=SWIN[regime],
        is_paper=True,
    )


def of_sweep(plan: Plan, found: Sequence[Result]) -> Series:
    """One's own: the results of a sweep, at least one."""
    recipe, source = plan.recipe(plan.steps[0], 0), Path(plan.data)
    name = source.parent.name if source.suffix else source.name
    costs = rows(
        plan.regime, pixels=recipe.input.size, num_classes=found[0].classes, stem_stride=recipe.model.stem_stride
    )
    seeds = "1 seed" if plan.seeds == 1 else f"{plan.seeds} seeds"
    means = by_step(found, lambda result: 100 * result.top1)
    return Series(
        title="here" if plan.regime in PUBLISHED else "here: reduced networks, small images",
        subtitle=f"{name}, {recipe.input.size} pixels, {plan.epochs:g} epochs, {seeds}, "
        f"{found[0].images:,} held-out images",
        values={step: (mean, spread) for step, (mean, spread, _) in means.items()},
        gmacs={row["step"]: row["gmacs"] for row in costs},
    )


def draw(panels: Sequence[Series], paths: Sequence[Path], *, heading: str) -> None:
    """Writes the image to each path, as PNG or SVG by its suffix. Steps stand in their order, from the top."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display is needed, nor global state changed
    from matplotlib.figure import Figure

    width = _PARTS + _NAMES + len(panels) * (_PANEL + _GAP)
    height = _TOP + _ROW * len(STEPS) + _BOTTOM
    figure = Figure(figsize=(width, height), dpi=150, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    figure.text(0.2 / width, 1 - 0.2 / height, heading, fontsize=15, weight="bold", color=_INK, va="top")
    for number, series in enumerate(panels):
        left = _PARTS + _NAMES + number * (_PANEL + _GAP)
        box = (left / width, _BOTTOM / height, _PANEL / width, _ROW * len(STEPS) / height)
        figure.text(left / width, 1 - 0.62 / height, series.title, fontsize=11, weight="bold", color=_INK, va="top")
        figure.text(left / width, 1 - 0.87 / height, series.subtitle, fontsize=8, color=_MUTED, va="top")
        panel = figure.add_axes(box)
        _panel(panel, series)
        if number == 0:
            _names(panel)
    for path in paths:
        with replacing(path) as file:
            figure.savefig(file, format=path.suffix.removeprefix("."), bbox_inches=None)


def _names(panel: Any) -> None:
    """Names of steps to the left of the first panel, and of the parts of the paper further left."""
    place = panel.get_yaxis_transform()
    for row, step in enumerate(STEPS):
        text = step.title if step.adopted else f"{step.title} (not adopted)"
        panel.text(-0.04, row, text, transform=place, ha="right", va="center", fontsize=9, color=_ink(step.adopted))
    row = 0
    for part, steps in groupby(STEPS, key=lambda step: step.part):
        count = len(list(steps))
        middle = row + (count - 1) / 2
        left = -(_NAMES + _PARTS - 0.2) / _PANEL
        panel.text(left, middle, part, transform=place, va="center", fontsize=8, color=_MUTED, style="italic")
        row += count


def _panel(panel: Any, series: Series) -> None:
    """Dots with error bars, the adopted ones joined; bands for the parts; accuracy and GMACs as figures."""
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_RULE)
    panel.tick_params(length=0, labelsize=8, labelcolor=_MUTED)
    panel.set_yticks([])
    panel.set_ylim(len(STEPS) - 0.5, -0.5)
    panel.set_xlabel("top-1 %", fontsize=8, color=_MUTED)
    row = 0
    for number, (_, steps) in enumerate(groupby(STEPS, key=lambda step: step.part)):
        count = len(list(steps))
        if number % 2:
            panel.axhspan(row - 0.5, row + count - 0.5, color=_BAND, zorder=0, linewidth=0)
        row += count
    colour = _COLOURS["paper" if series.is_paper else "ours"]
    present = [(row, step) for row, step in enumerate(STEPS) if step.name in series.values]
    ends = [series.values[step.name] for _, step in present]
    low = min([value - (spread or 0) for value, spread in ends] + ([series.reference[1]] if series.reference else []))
    high = max([value + (spread or 0) for value, spread in ends] + ([series.reference[1]] if series.reference else []))
    room = max(high - low, 0.5)
    panel.set_xlim(low - 0.06 * room, high + _FIGURES * room)  # figures stand to the right
    panel.set_xticks([tick for tick in panel.get_xticks() if low - 0.06 * room <= tick <= high])
    path = [(series.values[step.name][0], row) for row, step in present if step.adopted]
    panel.plot([x for x, _ in path], [y for _, y in path], color=colour, linewidth=1, alpha=0.5, zorder=1)
    for row, step in present:
        value, spread = series.values[step.name]
        if spread is not None:
            panel.errorbar(value, row, xerr=spread, color=colour, linewidth=1.4, capsize=2.5, zorder=2)
        panel.plot(value, row, "o", color=colour if step.adopted else _PAPER, mec=colour, markersize=5.5, zorder=3)
        figures = f"{value:.2f}" + (f" ±{spread:.2f}" if spread is not None else "")
        weight = "bold" if step.adopted else "normal"
        ink = _ink(step.adopted)
        panel.text(high + 0.06 * room, row, figures, va="center", fontsize=8, color=ink, weight=weight)
        cost = series.gmacs[step.name]
        digits = f"{cost:.2f} G" if cost >= 1 else f"{1000 * cost:.1f} M"
        panel.text(high + _FIGURES * room, row, digits, va="center", ha="right", fontsize=8, color=_MUTED)
    if series.reference:
        name, value = series.reference
        panel.axvline(value, color=_MUTED, linewidth=0.9, linestyle=(0, (4, 3)), zorder=0)
        panel.text(value, -0.55, f"{name} {value:g}", ha="center", va="bottom", fontsize=7.5, color=_MUTED)


def _ink(adopted: bool) -> str:
    return _INK if adopted else _MUTED
