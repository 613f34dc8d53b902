"""A run's folder as one page that needs nothing else: no script, no outside request, images inside.

The page is drawn from the files of the folder alone, so the same files give the same page. What is of a task on it, the
task's own `report.py` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from convnext.core.atomic import write_text
from convnext.report import training
from convnext.report.html import text
from convnext.report.parts import skipped
from convnext.report.run_folder import RunFolder

# even if something slipped past the escaping: nothing is fetched, nothing runs
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class TaskReport:
    """What a task gives for the page of a run; all but the model's name is markup."""

    model: Any
    """What the model is called; None: not known."""
    headline: str
    """The figures that matter most."""
    sections: tuple[str, ...]
    """What stands between these and the notes."""
    styles: tuple[str, ...] = ()
    """Style sheets of this folder, besides page.css."""


def write_page(run: RunFolder, report_of: Callable[[RunFolder], TaskReport]) -> Path:
    """Writes `report.html` into a run's folder and returns its path.

    What is missing in the folder or cannot be read is left out and said on the page.
    """
    target = run.path / "report.html"
    write_text(target, _page(run, report_of(run)))
    return target


def _page(run: RunFolder, report: TaskReport) -> str:
    model = text(report.model or "A model")
    data = text((run.evaluation or {}).get("data") or "")
    name = text(run.path.resolve().name)
    style = "".join(_sheet(sheet) for sheet in ("page.css", *report.styles))
    sections = (
        training.amiss(run),
        *report.sections,
        training.first_batch(run),
        training.notes(run),
        training.facts(run),
        skipped(run),
        training.recipe(run),
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{model} · {name}</title>
<style>
{style}</style>
</head>
<body>
<main>
<header>
<p class="soft">Report of the run <b>{name}</b></p>
<h1>{model}</h1>
{f'<p class="data">{data}</p>' if data else ""}
</header>
{report.headline}
{"".join(sections)}<footer>Drawn from recipe.json, log.jsonl and evaluation.json of this run's folder.</footer>
</main>
</body>
</html>
"""


def _sheet(name: str) -> str:
    return resources.files("convnext.report").joinpath(name).read_text(encoding="utf-8")
