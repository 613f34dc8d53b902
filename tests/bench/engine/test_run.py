"""All cells: order, resumption, absence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import pytest
from fakes import PLAN, FakeWorker
from samples import CELL, SETTINGS

from convnext.bench import classification
from convnext.bench.classification import CONTESTANTS
from convnext.bench.engine import machine, run
from convnext.bench.engine.cells import all_cells
from convnext.bench.engine.results import read_cells
from convnext.bench.engine.run import run_plan
from convnext.core.errors import UserError


def test_another_computation_stops_everything(workers: type[FakeWorker], tmp_path: Path) -> None:
    def behave(name: str, order: str) -> None:
        if (name, order) == ("timm eager", "check"):
            raise UserError("timm differs")

    workers.behave = behave
    with pytest.raises(UserError, match="timm differs"):
        run_plan(PLAN, CONTESTANTS, tmp_path)
    assert {order for _, order in workers.asked} == {"check"}  # nothing was timed
    assert read_cells(tmp_path) == []


def test_absent_and_not_offered(
    workers: type[FakeWorker], monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path
) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "timm":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    plan = replace(PLAN, libraries=("convnext", "timm", "torchvision"))
    (result,) = classification.measure(plan, tmp_path)
    assert [(e.library, e.status) for e in result.entries] == [
        ("convnext", "measured"),
        ("timm", "absent"),
        ("torchvision", "not offered"),
    ]
    assert result.entries[1].note == "pip install timm"
    assert "timm is absent; to have it compared: pip install timm" in capsys.readouterr().err
    assert {name for name, _ in workers.asked} == {"convnext eager", "limit"}
    assert not any(name.startswith("timm ") for name in result.machine.libraries)


@contextmanager
def stopped_after(cells: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """`measure_cell` is interrupted once it has done that many; yields the batches that were begun."""
    begun: list[str] = []
    real = run.measure_cell

    def interrupted(cell, *rest):
        begun.append(f"{cell.dtype} {cell.batch}")
        if len(begun) > cells:
            raise KeyboardInterrupt
        return real(cell, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(run, "measure_cell", interrupted)
        yield begun


def test_a_run_goes_on_where_it_was_stopped(workers: type[FakeWorker], monkeypatch, capsys, tmp_path: Path) -> None:
    cells = all_cells(("convnext_atto",), ("float32", "bfloat16"), (1, 2), ("forward",))
    plan = replace(PLAN, cells=cells)
    with stopped_after(2, monkeypatch) as begun, pytest.raises(KeyboardInterrupt):
        run_plan(plan, CONTESTANTS, tmp_path)
    assert begun == ["float32 1", "bfloat16 1", "float32 2"]
    assert [result.cell for result in read_cells(tmp_path)] == list(cells[:2])
    assert "4 cells to measure" in capsys.readouterr().err
    with stopped_after(9, monkeypatch) as begun:
        results = run_plan(plan, CONTESTANTS, tmp_path)
    assert begun == ["float32 2", "bfloat16 2"]
    assert "2 cells to measure (2 are done already)" in capsys.readouterr().err
    assert [result.cell for result in results] == list(cells)
    with stopped_after(0, monkeypatch) as begun:
        assert run_plan(plan, CONTESTANTS, tmp_path) == results
    assert begun == []


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, False),
        ({"libraries": ("convnext",)}, False),  # these were measured
        ({"modes": ("eager", "compile")}, True),
        ({"settings": replace(SETTINGS, rounds=3)}, True),
        ({"settings": replace(SETTINGS, threads=2)}, True),
    ],
)
def test_what_is_measured_again(workers: type[FakeWorker], change: dict, again: bool, tmp_path: Path) -> None:
    run_plan(PLAN, CONTESTANTS, tmp_path)
    workers.asked.clear()
    plan = replace(PLAN, **change)
    (result,) = run_plan(plan, CONTESTANTS, tmp_path)
    assert bool(workers.asked) == again
    assert [(e.library, e.mode) for e in result.entries] == plan.contestants(CELL)
    assert len(read_cells(tmp_path)) == 1 + again


def test_modes_measured_one_after_another_are_put_together(workers: type[FakeWorker], tmp_path: Path) -> None:
    (eager,) = run_plan(PLAN, CONTESTANTS, tmp_path)
    workers.asked.clear()
    plan = replace(PLAN, modes=("eager", "compile"))
    workers.behave = lambda name, order: 5.0 if order == "slice" else None
    (both,) = run_plan(plan, CONTESTANTS, tmp_path)
    assert {name for name, _ in workers.asked} == {"convnext compile", "timm compile", "limit"}
    assert [(e.library, e.mode) for e in both.entries] == plan.contestants(CELL)
    assert both.entries[:2] == eager.entries
    assert {seconds for e in both.entries[2:] for start in e.seconds for seconds in start} == {5.0}
    assert (both.limit, both.date >= eager.date) == (eager.limit, True)
    workers.asked.clear()
    assert run_plan(plan, CONTESTANTS, tmp_path) == [both]
    assert workers.asked == []


def test_estimate_and_machine() -> None:
    assert run.estimate({CELL: PLAN}, CONTESTANTS) > 1
    found = machine.this_machine("cpu")
    assert found.processors >= 1
    assert found.processor
    assert found.libraries[0].startswith("torch ")
