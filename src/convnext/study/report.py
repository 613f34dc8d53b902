"""A run's folder as one page that needs nothing else: no script, no outside request, pictures inside.

The page is drawn from the files of the folder alone, so the same files give the same page.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

from convnext.core.atomic import write_text
from convnext.study import found, outcome, training
from convnext.study.folder import RunFolder, open_run
from convnext.study.markup import text

# even if something slipped past the escaping: nothing is fetched, nothing runs
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


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
    detects = found.detects(run)
    # an evaluation names a detector's backbone, the log the whole of it
    named = (start, values) if detects else (values, start)
    model = text(named[0].get("model") or named[1].get("model") or "A model")
    data = text(values.get("data") or "")
    name = text(run.path.resolve().name)
    style = _sheet("page.css") + (_sheet("found.css") if detects else "")
    sections = (
        training.amiss(run),
        *(_found(run) if detects else _classified(run)),
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
{found.headline(run) if detects else outcome.headline(run)}
{"".join(sections)}<footer>Drawn from recipe.json, log.jsonl and evaluation.json of this run's folder.</footer>
</main>
</body>
</html>
"""


def _sheet(name: str) -> str:
    return resources.files("convnext.study").joinpath(name).read_text(encoding="utf-8")


def _classified(run: RunFolder) -> tuple[str, ...]:
    return (
        training.curves(run),
        outcome.mistakes(run),
        outcome.confusions(run),
        outcome.calibration(run),
        outcome.classes(run),
    )


def _found(run: RunFolder) -> tuple[str, ...]:
    return (found.curves(run), found.figures(run), found.pictures(run), found.classes(run))
