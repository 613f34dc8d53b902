"""A run's folder as one page that needs nothing else: no script, no outside request, pictures inside.

The page is drawn from the files of the folder alone, so the same files give the same page.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from types import ModuleType

from convnext.core.atomic import write_text
from convnext.report import training
from convnext.report.html import text
from convnext.report.run_folder import RunFolder, open_run
from convnext.tasks.classification import report as outcome
from convnext.tasks.detection import report as found
from convnext.tasks.segmentation import report as segmented

# even if something slipped past the escaping: nothing is fetched, nothing runs
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


_PAGES = ((found, found.detects), (segmented, segmented.segments))  # any other run is a classifier's


def write_report(run_dir: Path) -> Path:
    """Writes `report.html` into a run's folder and returns its path.

    Reads `recipe.json`, `log.jsonl`, `evaluation.json` and the pictures this names; what is missing or cannot be read
    is left out and said on the page. Raises UserError if `run_dir` is not a run's folder.
    """
    target = run_dir / "report.html"
    write_text(target, _page(open_run(run_dir)))
    return target


def _page(run: RunFolder) -> str:
    values, start = run.evaluation or {}, run.last("start")
    page = next((page for page, of_kind in _PAGES if of_kind(run)), outcome)
    dense = page is not outcome
    # an evaluation names the backbone of a network for dense tasks, the log the whole of it
    named = (start, values) if dense else (values, start)
    model = text(named[0].get("model") or named[1].get("model") or "A model")
    data = text(values.get("data") or "")
    name = text(run.path.resolve().name)
    style = _sheet("page.css") + (_sheet("found.css") if dense else "")
    sections = (
        training.amiss(run),
        *_sections(page, run),
        training.notes(run),
        training.facts(run),
        outcome.skipped(run),
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
{page.headline(run)}
{"".join(sections)}<footer>Drawn from recipe.json, log.jsonl and evaluation.json of this run's folder.</footer>
</main>
</body>
</html>
"""


def _sheet(name: str) -> str:
    return resources.files("convnext.study").joinpath(name).read_text(encoding="utf-8")


def _sections(page: ModuleType, run: RunFolder) -> tuple[str, ...]:
    """The sections of a task's page between headline and notes."""
    if page is found:
        return (found.curves(run), found.figures(run), found.pictures(run), found.classes(run))
    if page is segmented:
        return (segmented.curves(run), segmented.pictures(run), segmented.classes(run), segmented.confusions(run))
    return (
        training.curves(run),
        outcome.mistakes(run),
        outcome.confusions(run),
        outcome.calibration(run),
        outcome.classes(run),
    )
