"""Figures of results, and their way to files and back."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from convnext.bench.engine.results import (
    CELLS,
    CellResult,
    Entry,
    merge_results,
    read_cells,
    summary,
    three_figures,
    write_cells,
)
from convnext.core.errors import UserError

EAGER = [("convnext", "eager"), ("timm", "eager")]


def test_figures_by_hand(result: CellResult) -> None:
    ours, timm = result.measured()[:2]
    assert ours.median == 0.5  # of 0.5, 5, 0.5, 0.5
    assert result.images_per_second(ours) == 4.0  # two images in half a second
    assert result.share_of_limit(ours) == 0.5
    assert result.share_of_limit(timm) == pytest.approx(1 / 3)
    assert result.noise == 0.0
    versus = result.speedup_over(timm)
    assert versus is not None
    assert (versus.ratio, versus.low, versus.high) == (1.5, 1.5, 1.5)


def test_like_is_compared_with_like_alone(result: CellResult) -> None:
    by_name = {(e.library, e.mode): result.speedup_over(e) for e in result.entries}
    assert {name for name, versus in by_name.items() if versus} == {("timm", "eager")}
    without_ours = replace(result, entries=result.entries[1:4])
    assert not any(without_ours.speedup_over(entry) for entry in without_ours.entries)


def test_one_that_was_given_up(result: CellResult) -> None:
    """After 1.25 s, where ours takes 0.5 s: at least 2.5 times, at most 1.6 images a second."""
    slow = Entry("timm", "eager", "given up", note="a call takes more than 1.25 s", least=1.25)
    hurried = replace(result, entries=(result.entries[0], slow, *result.entries[2:]))
    versus = hurried.speedup_over(slow)
    assert versus is not None
    assert (versus.ratio, versus.low, versus.verdict) == (2.5, 2.5, "faster")
    assert hurried.max_images_per_second(slow) == 1.6
    assert hurried.max_images_per_second(result.entries[0]) is None
    assert [(e.library, e.mode) for e in hurried.with_known_speed()] == [
        *[("convnext", "eager"), ("timm", "eager"), ("convnext", "compile")]
    ]
    text = json.dumps(summary([hurried], command="convnext bench"), allow_nan=False)  # no infinity: not JSON
    entry = json.loads(text)["cells"][0]["entries"][1]
    assert (entry["ours_is_times_as_fast"], entry["interval"], entry["least"]) == (None, [2.5, None], 1.25)
    assert replace(hurried, entries=hurried.entries[1:]).speedup_over(slow) is None  # without ours


def test_without_a_limit(other: CellResult) -> None:
    assert other.limit_median is None
    assert other.share_of_limit(other.entries[0]) is None
    assert other.noise == 0.0


def test_files_and_back(result: CellResult, other: CellResult, tmp_path: Path) -> None:
    assert read_cells(tmp_path) == []
    write_cells(tmp_path, [result, other])
    assert read_cells(tmp_path) == [result, other]
    with (tmp_path / CELLS).open("a") as file:
        file.write('{"cell": {"model": "convnext_ti')  # killed while it wrote
    assert read_cells(tmp_path) == [result, other]


def test_another_versions_file_is_named(result: CellResult, tmp_path: Path) -> None:
    write_cells(tmp_path, [result])
    line = json.loads((tmp_path / CELLS).read_text())
    (tmp_path / CELLS).write_text(json.dumps({**line, "moon": "full"}) + "\n")
    with pytest.raises(UserError, match=r"cells.jsonl was written by another version .*'moon'"):
        read_cells(tmp_path)


def test_what_a_result_answers(result: CellResult) -> None:
    cell, settings, machine = result.cell, result.settings, result.machine
    assert result.answers(cell, settings, machine, EAGER)
    assert not result.answers(replace(cell, batch=3), settings, machine, EAGER)
    assert not result.answers(cell, replace(settings, rounds=3), machine, EAGER)
    assert not result.answers(cell, settings, replace(machine, libraries=("torch 2.16",)), EAGER)
    assert not result.answers(cell, settings, machine, [*EAGER, ("convnext", "aoti")])
    fewer = merge_results([result], [("timm", "eager"), ("convnext", "eager"), ("timm", "aoti")])
    assert [(e.library, e.mode) for e in fewer.entries] == [("timm", "eager"), ("convnext", "eager")]
    assert replace(fewer, entries=result.entries) == result


def test_summary(result: CellResult) -> None:
    found = json.loads(json.dumps(summary([result], command="convnext bench")))
    (cell,) = found["cells"]
    assert found["command"] == "convnext bench"
    assert (cell["limit_median"], cell["cell"]["model"]) == (0.25, "convnext_atto")
    ours, timm, absent = cell["entries"][0], cell["entries"][1], cell["entries"][3]
    assert (ours["images_per_second"], ours["ours_is_times_as_fast"]) == (4.0, None)
    assert (timm["ours_is_times_as_fast"], timm["interval"]) == (1.5, [1.5, 1.5])
    assert absent["status"] == "absent"
    assert "median_seconds" not in absent


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1234, "0.123"),
        (1.234, "1.23"),
        (9.999, "10.0"),
        (12.34, "12.3"),
        (13.0, "13.0"),
        (99.96, "100"),
        (1234.5, "1,234"),
    ],
)
def test_three_figures(value: float, text: str) -> None:
    assert three_figures(value) == text
