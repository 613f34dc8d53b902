"""Results of cells as tables: for the terminal, and as a page in Markdown. No torch here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from convnext.bench.engine.cells import LIBRARIES, MODES, OURS
from convnext.bench.engine.results import CellResult, Entry, three_figures
from convnext.bench.engine.speedup import Speedup

_HEADER = ("mode", "library", "settings", "images/s", "limit", "memory", "ours is")
_STYLES = {"faster": "green", "slower": "red", "even": ""}
_MARKS = {"faster": "**", "slower": "*", "even": ""}

METHOD = """All contestants of a cell have the same weights (every tensor is random) and the same images, and each has a
process of its own. Before anything is timed, the float32 logits of every library are compared with ours (at most 1e-4
relative), and afterwards the result of every candidate in its own mode and type. Each contestant runs with its best
settings, whichever was fastest in two trials of all: weights and images NCHW or NHWC (channels_last), and compiled for
inference with Inductor's freezing or without (on CUDA: compiled for either work, with CUDA graphs or without). Ours is
folded for inference (`convnext.models.fuse`). Then all processes are started several times (the same program can run
faster or slower for good, by where its memory happens to lie), and in every round each runs once for a time slice, in
a new random order. A contestant whose call takes far longer than ours (`--give-up`) with every candidate is **given
up**, and ours is at least as many times as fast as its time limit divided by our median. The limit can be left out in
the same way.

**ours is** compares like with like, round by round: the median of their time divided by ours (above 1: ours is
faster), with its 95 % interval (bootstrap over starts and rounds). **images/s** is from the median over rounds.
**limit** is the time of the model's multiply-accumulates as plain matrix products (on CUDA: launched as one graph),
measured in the same rounds (where modes were measured one after another: in those of the first), as a share of the
contestant's time; **noise** is how far the rounds of those products lie apart (their quartiles). **memory** is what the
contestant adds to its process at most while it runs: weights, packed copies, activations; for CUDA graphs it is not
known. Training is forward, cross-entropy and backward, without an optimizer; bfloat16 is by autocast over float32
weights there, while inference has weights in bfloat16. On a processor, the process of every contestant keeps the memory
that training frees, as `convnext train` does: otherwise page faults are up to a third of any contestant's step, and
differ from start to start."""


def tally(results: Sequence[CellResult]) -> str:
    """One sentence: in how many like-for-like pairs ours is faster, even or slower."""
    verdicts = Counter(
        versus.verdict for result in results for entry in result.entries if (versus := result.speedup_over(entry))
    )
    total = sum(verdicts.values())
    if not total:
        return "Nothing to compare: ours or all others were left out, absent or failed."
    pairs = "1 pair" if total == 1 else f"{total} pairs"
    return (
        f"Like for like, in {pairs}: ours is faster in {verdicts['faster']}, slower in {verdicts['slower']}, "
        f"and in {verdicts['even']} the interval holds 1."
    )


def print_tables(results: Sequence[CellResult], console: Console) -> None:
    """Prints a table for each cell, what failed and why, and the tally. 80 columns are enough."""
    for result in results:
        title = _title(result)
        table = Table(
            box=box.SIMPLE_HEAD,
            title=title,
            title_justify="left",
            title_style="bold",
            padding=(0, 1, 0, 0),
            show_edge=False,
        )
        for name in _HEADER:
            table.add_column(name, justify="right" if name in ("images/s", "limit", "memory") else "left", no_wrap=True)
        for mode, entries in groupby(result.entries, key=lambda entry: entry.mode):
            for number, entry in enumerate(entries):
                versus = result.speedup_over(entry)
                style = _STYLES[versus.verdict] if versus else ""
                row = (mode if number == 0 else "", *_cells(result, entry))
                table.add_row(*row[:-1], Text(row[-1], style=style), style="bold" if entry.library == OURS else None)
        console.print(table)
        for note in _notes(result):
            console.print(note, markup=False, highlight=False)
    console.print(tally(results))


def markdown(results: Sequence[CellResult], *, command: str, chart: str) -> str:
    """The page bench.md: the command and the machine, a summary, the method, and every cell.

    results: at least one. chart: the file name of the chart, for a link.
    """
    first = results[0]
    machine, settings = first.machine, first.settings
    dates = sorted(result.date[:10] for result in results)
    given_up = f"; given up beyond {settings.give_up:g} times ours" if settings.give_up else ""
    lines = [
        "# ConvNeXt in four libraries",
        "",
        tally(results),
        "",
        f"![images a second of each library and mode]({chart})",
        "",
        f"- command: `{command}`",
        f"- date: {dates[0] if dates[0] == dates[-1] else f'{dates[0]} to {dates[-1]}'}",
        f"- machine: {machine.processor}, {machine.processors} processors, {machine.memory_gb} GB; {machine.system}",
        f"- versions: Python {machine.python}, {', '.join(machine.libraries)}",
        f"- threads: {settings.threads}; device: {settings.device}; images of {settings.size} x {settings.size}; "
        f"{settings.starts} starts, {settings.rounds} rounds of {settings.seconds:g} s after each{given_up}",
        "",
        "## At a glance: how many times as fast ours is",
        "",
        "Bold: faster in the whole interval; italic: slower in the whole interval.",
        "",
        *_glance(results),
        "",
        "## How it was measured",
        "",
        METHOD,
        "",
        "## Every cell",
        "",
    ]
    for result in results:
        lines += [f"### {_title(result)}", "", *_rows(_detail(result)), ""]
        lines += [text for note in _notes(result) for text in (note, "")]
    return "\n".join(lines).rstrip() + "\n"


def _title(result: CellResult) -> str:
    if result.limit_median is None:
        return result.cell.title
    return f"{result.cell.title}  (limit {_time(result.limit_median)}, noise {100 * result.noise:.0f} %)"


def _cells(result: CellResult, entry: Entry) -> tuple[str, ...]:
    """Library, settings, images per second, share of the limit, memory and speedup; empty where not measured."""
    versus = result.speedup_over(entry)
    if entry.status != "measured":
        return (entry.library, entry.status, "", "", "", "" if versus is None else _times(versus))
    share = result.share_of_limit(entry)
    return (
        entry.library,
        entry.choice,
        three_figures(result.images_per_second(entry)),
        "" if share is None else f"{100 * share:.0f} %",
        "" if entry.memory is None else f"{entry.memory / 2**20:,.0f} MB",
        "" if versus is None else f"{_times(versus)} ({versus.low:.2f}-{versus.high:.2f})",
    )


def _notes(result: CellResult) -> list[str]:
    """How to install what is absent, and why others were not measured."""
    absent = {f"{e.library} is absent: {e.note}" for e in result.entries if e.status == "absent"}
    told = ("failed", "given up")
    return sorted(absent) + [f"{e.library} {e.mode}: {e.note}" for e in result.entries if e.status in told]


def _detail(result: CellResult) -> list[Sequence[str]]:
    return [_HEADER, *((entry.mode, *_cells(result, entry)) for entry in result.entries)]


def _glance(results: Sequence[CellResult]) -> list[str]:
    """A row for each cell, a column for each library and mode that ours was compared with anywhere."""
    compared = {(e.mode, e.library) for result in results for e in result.entries if result.speedup_over(e)}
    columns = [(mode, library) for mode in MODES for library in LIBRARIES if (mode, library) in compared]
    rows = [["model", "work", "type", "batch", *(f"{mode}: {library}" for mode, library in columns)]]
    for result in results:
        found = {(e.mode, e.library): versus for e in result.entries if (versus := result.speedup_over(e))}
        speedups = [_marked(found[key]) if key in found else "" for key in columns]
        rows.append([result.cell.model, result.cell.work, result.cell.dtype, str(result.cell.batch), *speedups])
    return _rows(rows)


def _rows(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table. Columns of numbers are aligned to the right."""
    lines = [f"| {' | '.join(cell.replace('|', '/') for cell in row)} |" for row in rows]
    right = [all(row[i][:1].isdigit() or not row[i] for row in rows[1:]) for i in range(len(rows[0]))]
    return [lines[0], "|" + "|".join(" ---: " if r else " --- " for r in right) + "|", *lines[1:]]


def _marked(versus: Speedup) -> str:
    mark = _MARKS[versus.verdict]
    return f"{mark}{_times(versus)}{mark}"


def _times(versus: Speedup) -> str:
    if math.isinf(versus.high):
        return f"over {math.floor(10 * versus.ratio) / 10:.1f}x"
    return f"{versus.ratio:.2f}x"


def _time(seconds: float) -> str:
    return f"{seconds:.3g} s" if seconds >= 1 else f"{1000 * seconds:.3g} ms"
