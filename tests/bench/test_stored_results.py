"""Results that earlier versions wrote are still read, and give the figures that their pages show."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from convnext.bench.engine import dense_results
from convnext.bench.engine.results import CellResult, read_cells, summary, write_cells
from convnext.bench.engine.tables import markdown
from convnext.core.typed import from_dict

RESULTS = Path(__file__).parents[2] / "docs" / "results"
FIGURES = ("median_seconds", "images_per_second", "share_of_limit", "ours_is_times_as_fast", "interval")


def stored(cell: dict[str, Any]) -> CellResult:
    """A cell of bench.json without the figures that are computed for it."""
    plain = {name: value for name, value in cell.items() if name not in ("limit_median", "noise")}
    plain["entries"] = [{k: v for k, v in entry.items() if k not in FIGURES} for entry in cell["entries"]]
    return from_dict(CellResult, plain)


def held(written: Any, found: Any) -> bool:
    """Whether everything that was written is found; later versions may add fields."""
    if isinstance(written, dict):
        return all(name in found and held(value, found[name]) for name, value in written.items())
    if isinstance(written, list):
        return len(written) == len(found) and all(held(a, b) for a, b in zip(written, found, strict=True))
    return written == found


@pytest.mark.parametrize("name", ["bench-amx", "bench-cuda"])
def test_figures_and_page_are_the_same(name: str, tmp_path: Path) -> None:
    written = json.loads((RESULTS / f"{name}.json").read_text())
    results = [stored(cell) for cell in written["cells"]]
    assert held(written, json.loads(json.dumps(summary(results, command=written["command"]))))
    write_cells(tmp_path, results)
    assert read_cells(tmp_path) == results
    start, end = "## At a glance", "## How it was measured"
    page, shown = markdown(results, command=written["command"], chart="x.png"), (RESULTS / f"{name}.md").read_text()
    assert page.split(start)[1].split(end)[0] == shown.split(start)[1].split(end)[0]
    assert page.split("## Every cell")[1] == shown.split("## Every cell")[1]


@pytest.mark.parametrize("name", ["detection-bench", "segmentation-bench"])
def test_dense_results(name: str) -> None:
    written = json.loads((RESULTS / f"{name}.json").read_text())
    plain = {key: value for key, value in written.items() if key != "command"}
    plain["entries"] = [{k: v for k, v in entry.items() if k not in FIGURES} for entry in written["entries"]]
    result = from_dict(dense_results.DenseResult, plain)
    assert held(written, json.loads(json.dumps(dense_results.summary(result, command=written["command"]))))
    page = (RESULTS / f"{name}.md").read_text()
    assert all(f"| {' | '.join(row)} |" in page for row in dense_results.rows(result))
