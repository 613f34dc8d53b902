"""Results of cells as a chart: images per second by library and mode, the limit as a line. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from convnext.bench.engine.cells import LIBRARIES, MODES, OURS
from convnext.bench.engine.results import CellResult, three_figures
from convnext.core.atomic import replacing

_INK, _MUTED, _RULE, _PAPER = "#20232a", "#6b7079", "#dfe1e5", "#ffffff"
_COLOURS = {"convnext": "#12657f", "timm": "#e8a33d", "torchvision": "#c3c8d0", "transformers": "#8e7cc3"}
_DASHES = (0, (4, 3))
_OUTLINE = {"fill": False, "linewidth": 0.9, "linestyle": ":"}
_BARS = 0.84  # the width of a group of bars, where groups are 1 apart

# inches: of a panel, of the gaps between panels, and around them all
_PANEL_WIDTH, _PANEL_HEIGHT, _ACROSS, _DOWN = 4.4, 1.45, 0.25, 0.42
_LEFT, _RIGHT, _TOP, _BOTTOM = 1.05, 0.2, 1.5, 0.4


def draw(results: Sequence[CellResult], path: Path) -> None:
    """Writes a PNG: a column for each model, a row for each work, type and batch; every panel has its own scale.

    Bars begin at 0 and show their value. A contestant that was given up has an outline, which ends where its bar would
    end at most. The dashed line is the limit: the model's matrix products alone.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # no display is needed, nor global state changed
    from matplotlib.figure import Figure

    models = list(dict.fromkeys(result.cell.model for result in results))
    kinds = list(dict.fromkeys(_kind(result) for result in results))
    libraries = [name for name in LIBRARIES if any(e.library == name for r in results for e in r.with_known_speed())]
    # One model alone would be too narrow for the heading.
    wide = max(_PANEL_WIDTH, (7.4 - _LEFT - _RIGHT) / len(models))
    width = _LEFT + len(models) * (wide + _ACROSS) - _ACROSS + _RIGHT
    height = _TOP + len(kinds) * (_PANEL_HEIGHT + _DOWN) - _DOWN + _BOTTOM
    figure = Figure(figsize=(width, height), dpi=150, facecolor=_PAPER)
    FigureCanvasAgg(figure)
    outlined = any(entry.status == "given up" for result in results for entry in result.entries)
    _heading(figure, results[0], libraries, (width, height), outlined=outlined)
    for row, kind in enumerate(kinds):
        top = height - _TOP - row * (_PANEL_HEIGHT + _DOWN)
        present = [result for result in results if _kind(result) == kind]
        modes = [mode for mode in MODES if any(e.mode == mode for r in present for e in r.measured())]
        _write(figure, (0.2, top - _PANEL_HEIGHT / 2), kind, size=9, va="center", linespacing=1.45)
        for column, model in enumerate(models):
            left = _LEFT + column * (wide + _ACROSS)
            box = (left / width, (top - _PANEL_HEIGHT) / height, wide / width, _PANEL_HEIGHT / height)
            if row == 0:
                _write(figure, (left + wide / 2, top + 0.2), model, size=11, weight="bold", ha="center")
            for result in present:
                if result.cell.model == model and result.measured():
                    _panel(figure.add_axes(box), result, libraries, modes)
    with replacing(path) as file:
        figure.savefig(file, format="png")


def _kind(result: CellResult) -> str:
    cell = result.cell
    return f"{'training' if cell.work == 'train' else 'inference'}\n{cell.dtype}\nbatch {cell.batch}"


def _panel(panel: Any, result: CellResult, libraries: Sequence[str], modes: Sequence[str]) -> None:
    """The bars of one cell, grouped by mode, and its limit."""
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.spines["bottom"].set_color(_RULE)
    panel.tick_params(length=0, labelsize=8, labelcolor=_MUTED)
    panel.set_yticks([])
    panel.set_xlim(-0.5, len(modes) - 0.5)
    panel.set_xticks(range(len(modes)), modes)
    limit = None if result.limit_median is None else result.cell.batch / result.limit_median
    rates = {(e.mode, e.library): result.images_per_second(e) for e in result.measured()}
    bounds = {(e.mode, e.library): most for e in result.with_known_speed() if (most := result.max_images_per_second(e))}
    top = max([*rates.values(), *bounds.values(), limit or 0.0])
    panel.set_ylim(0, 1.1 * top)
    bar = _BARS / len(libraries)
    for place, mode in enumerate(modes):
        present = [library for library in libraries if (mode, library) in rates or (mode, library) in bounds]
        for number, library in enumerate(present):
            x = place + (number - (len(present) - 1) / 2) * bar
            bound, ours = bounds.get((mode, library)), library == OURS
            rate = rates[mode, library] if bound is None else bound
            look = {"color": _COLOURS[library]} if bound is None else _OUTLINE | {"edgecolor": _COLOURS[library]}
            panel.bar(x, rate, 0.92 * bar, **look)
            text = three_figures(rate) if bound is None else f"<{three_figures(rate)}"
            ink = {"color": _INK if ours else _MUTED, "fontweight": "bold" if ours else "normal"}
            paper = {"facecolor": _PAPER, "edgecolor": "none", "pad": 0.5}  # the limit's line stops at a figure
            panel.text(x, rate + 0.02 * top, text, ha="center", va="bottom", fontsize=6.5, bbox=paper, **ink)
    if limit is not None:
        panel.axhline(limit, color=_INK, linewidth=0.9, linestyle=_DASHES, zorder=0)
        panel.text(
            len(modes) - 0.5,
            limit + 0.015 * top,
            three_figures(limit),
            ha="right",
            va="bottom",
            fontsize=6.5,
            color=_INK,
        )


def _heading(
    figure: Any, result: CellResult, libraries: Sequence[str], size: tuple[float, float], *, outlined: bool
) -> None:
    """Title, machine, the colours of libraries, and what an outline means if there are any."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    width, height = size
    machine, settings = result.machine, result.settings
    threads = f"{settings.threads} thread{'' if settings.threads == 1 else 's'}"
    line = f"{machine.processor}, {threads}, {machine.libraries[0]}, images of {settings.size} x {settings.size}"
    line += "; outlined: given up, so fewer" if outlined else ""
    _write(figure, (0.2, height - 0.2), "ConvNeXt: images a second", size=15, weight="bold", va="top")
    _write(figure, (0.2, height - 0.55), line, size=8.5, color=_MUTED, va="top")
    handles: list[Any] = [Patch(color=_COLOURS[library], label=library) for library in libraries]
    handles.append(Line2D([], [], color=_INK, linewidth=0.9, linestyle=_DASHES, label="limit: matrix products alone"))
    figure.legend(
        handles=handles,
        loc="upper left",
        bbox_to_anchor=(0.2 / width, 1 - 0.8 / height),
        ncols=len(handles),
        borderpad=0,
        borderaxespad=0,
        frameon=False,
        fontsize=8.5,
        labelcolor=_INK,
        handlelength=1.3,
        columnspacing=1.4,
    )


def _write(figure: Any, at: tuple[float, float], text: str, *, size: float, color: str = _INK, **look: Any) -> None:
    """Writes text at a place in inches from the lower left corner."""
    width, height = figure.get_size_inches()
    figure.text(at[0] / width, at[1] / height, text, fontsize=size, color=color, **look)
