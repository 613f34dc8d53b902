"""The whole, with everybody in this process or nobody at all: order, resumption, absence, failure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from samples import CELL, MACHINE, SETTINGS

from convnext.bench import peers, run
from convnext.bench.cells import plan
from convnext.bench.contestants import ModelJob
from convnext.bench.results import CellResult, read_cells
from convnext.bench.run import Asked, run_bench, run_cell
from convnext.bench.timing import Failed, GivenUp
from convnext.bench.trial import Choice
from convnext.core.errors import UserError

ASKED = Asked((CELL,), ("convnext", "timm"), ("eager",), SETTINGS)


class Here:
    """In the place of a process: does as the test tells, and keeps what was asked."""

    asked: list[tuple[str, str]]
    behave: Callable[[str, str], Any]
    alive: int
    given: dict[str, float | None]
    """Seconds that a call of each may take, as the process was told that chose."""

    def __init__(self, job: Any) -> None:
        self.name = f"{job.library} {job.mode}" if isinstance(job, ModelJob) else "limit"
        self.most = job.most
        Here.alive += 1

    def ask(self, order: str, *given: Any) -> Any:
        Here.asked.append((self.name, order))
        if order == "choose":
            Here.given[self.name] = self.most
        told = Here.behave(self.name, order)
        if told is not None:
            return told
        if order == "prepare":
            assert given == (Choice("NHWC", {"NHWC": 1.0}, {"NCHW": "RuntimeError: x"}),)
        answers = {"check": None, "choose": Choice("NHWC", {"NHWC": 1.0}, {"NCHW": "RuntimeError: x"}), "prepare": 7}
        return answers.get(order, 2.0)

    def close(self) -> None:
        Here.alive -= 1


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Here]]:
    monkeypatch.setattr(run, "Worker", Here)
    Here.asked, Here.behave, Here.alive, Here.given = [], lambda _name, _order: None, 0, {}
    yield Here
    assert Here.alive == 0  # whatever happened, nobody is left


def cell(asked: Asked = ASKED) -> CellResult:
    return run_cell(asked.cells[0], asked, MACHINE, lambda _text: None)


def test_a_cell(here: type[Here]) -> None:
    """Checked before anything is timed, chosen in two processes, started and run as often as the settings say."""
    here.behave = lambda name, order: {"timm eager": 3.0, "limit": 1.0}.get(name) if order == "slice" else None
    result = cell()
    orders = [order for _, order in here.asked]
    assert orders[:2] == ["check", "check"]
    assert orders[2:14] == ["build", "choose"] * 6
    assert orders[14:] == (["prepare"] * 3 + ["slice"] * 6) * 2
    for i in range(17, len(orders), 9):  # everybody once a round
        assert {name for name, _ in here.asked[i : i + 3]} == {"convnext eager", "timm eager", "limit"}
    ours, timm = result.entries
    assert (ours.seconds, timm.seconds, result.limit) == (((2.0,) * 2,) * 2, ((3.0,) * 2,) * 2, ((1.0,) * 2,) * 2)
    assert (ours.choice, ours.memory) == ("NHWC", 7)
    assert [(t.name, t.seconds, t.failed) for t in ours.tried] == [("NHWC", 1.0, ""), ("NCHW", None, "RuntimeError: x")]
    versus = result.against(timm)
    assert versus is not None
    assert versus.ratio == 1.5


def test_a_candidate_that_was_slow_by_chance_is_not_lost(here: type[Here]) -> None:
    """The better of both trials counts for each candidate; one that failed once is in where it ran the other time."""
    trials = iter(
        [
            Choice("NCHW frozen", {"NCHW": 1.4, "NCHW frozen": 1.2}, {"NHWC": "RuntimeError: x"}),
            Choice("NCHW", {"NCHW": 1.0, "NCHW frozen": 1.3, "NHWC": 1.1}, {"odd": "RuntimeError: y"}),
        ]
    )
    here.behave = lambda name, order: (
        next(trials) if (name, order) == ("timm eager", "choose") else 7 if order == "prepare" else None
    )
    entry = cell().entries[1]
    assert entry.choice == "NCHW"
    assert {t.name: t.seconds for t in entry.tried} == {"NCHW": 1.0, "NCHW frozen": 1.2, "NHWC": 1.1, "odd": None}


def test_compilers_work_side_by_side(here: type[Here], monkeypatch: pytest.MonkeyPatch) -> None:
    """As many are built at a time as there are threads; nothing is timed beside a compiler."""
    alive: list[int] = []
    real = Here.ask

    def counting(self: Here, order: str, *given: Any) -> Any:
        if order in ("build", "choose"):
            alive.append(Here.alive)
        return real(self, order, *given)

    monkeypatch.setattr(Here, "ask", counting)
    asked = replace(ASKED, modes=("eager", "compile", "aoti"), settings=replace(SETTINGS, threads=2))
    assert len(cell(asked).measured()) == 6
    for library in ("convnext", "timm"):
        compiled = (f"{library} compile", f"{library} aoti")
        orders = [order for name, order in here.asked if name in compiled and order in ("build", "choose")]
        assert orders == ["build", "build", "choose", "choose"] * 2
    assert sorted(alive) == [1] * 12 + [2] * 16  # eager ones and the limit are alone, compilers are two


def test_what_runs_on_another_device_is_built_side_by_side(here: type[Here]) -> None:
    asked = replace(ASKED, libraries=("timm", "transformers"), settings=replace(SETTINGS, threads=2, device="cuda"))
    cell(asked)
    orders = [order for name, order in here.asked if name.endswith("eager") and order in ("build", "choose")]
    assert orders == ["build", "build", "choose", "choose"] * 2


HURRIED = replace(ASKED, modes=("eager", "compile"), settings=replace(SETTINGS, give_up=3.0))


def test_nobody_is_waited_for_longer_than_so_many_times_ours(here: type[Here]) -> None:
    """Ours is tried first; in each mode the others have a multiple of its better time, the limit of its best mode's."""
    trials = {"convnext eager": iter([2.0, 1.5]), "convnext compile": iter([0.5, 0.75])}

    def behave(name: str, order: str) -> Any:
        if order == "choose" and name == "limit":
            raise GivenUp(1.5)
        if (name, order) == ("timm eager", "choose"):
            raise GivenUp(4.5)
        if order == "choose" and name in trials:
            return Choice("NHWC", {"NHWC": next(trials[name])}, {})
        return 7 if order == "prepare" else None

    here.behave = behave
    result = cell(HURRIED)
    assert here.given == {
        "convnext eager": None,
        "convnext compile": None,
        "timm eager": 4.5,
        "timm compile": 1.5,
        "limit": 1.5,
    }
    chosen = [name for name, order in here.asked if order == "choose"]
    assert [name for name in chosen if name in trials] == chosen[:4]
    assert sorted(chosen[4:]) == ["limit", "timm compile", "timm compile", "timm eager"]
    assert [(e.library, e.mode, e.status, e.least) for e in result.entries] == [
        ("convnext", "eager", "measured", None),
        ("timm", "eager", "given up", 4.5),
        ("convnext", "compile", "measured", None),
        ("timm", "compile", "measured", None),
    ]
    assert result.entries[1].note == "a call takes more than 4.5 s"
    assert result.limit == ()
    assert ("timm eager", "prepare") not in here.asked


@pytest.mark.parametrize(("ours", "most"), [(0.01, 1.0), (0.3, 1.0), (0.5, 1.5)])
def test_everybody_is_waited_for_a_second(here: type[Here], ours: float, most: float) -> None:
    """Beside a call of milliseconds, whatever the machine does meanwhile would take too long."""
    here.behave = lambda _name, order: (
        Choice("NHWC", {"NHWC": ours}, {}) if order == "choose" else 7 if order == "prepare" else None
    )
    cell(HURRIED)
    assert (here.given["timm eager"], here.given["timm compile"], here.given["limit"]) == (most, most, most)


def test_one_that_was_fast_enough_once_is_measured(here: type[Here]) -> None:
    trials = iter([Choice("NHWC", {"NHWC": 2.9}, {}), GivenUp(3.0)])

    def behave(name: str, order: str) -> Any:
        if (name, order) != ("timm eager", "choose"):
            return 7 if order == "prepare" else None
        found = next(trials)
        if isinstance(found, GivenUp):
            raise found
        return found

    here.behave = behave
    entry = cell(replace(HURRIED, modes=("eager",))).entries[1]
    assert (entry.status, entry.tried[0].seconds) == ("measured", 2.9)


@pytest.mark.parametrize("why", ["ours failed", "ours is left out", "everybody is waited for"])
def test_who_is_waited_for_without_end(here: type[Here], why: str) -> None:
    def behave(name: str, order: str) -> None:
        if why == "ours failed" and (name, order) == ("convnext eager", "build"):
            raise Failed("no memory")

    here.behave = behave
    settings = SETTINGS if why == "everybody is waited for" else HURRIED.settings
    libraries = ("timm",) if why == "ours is left out" else ASKED.libraries
    cell(replace(ASKED, settings=settings, libraries=libraries))
    assert (here.given["timm eager"], here.given["limit"]) == (None, None)


@pytest.mark.parametrize("when", ["check", "build", "choose", "prepare", "slice"])
def test_one_that_fails_leaves_the_others(here: type[Here], when: str) -> None:
    def behave(name: str, order: str) -> None:
        if (name, order) == ("timm eager", when):
            raise Failed("its process ended")

    here.behave = behave
    result = cell()
    assert [(e.library, e.status, e.note) for e in result.entries] == [
        ("convnext", "measured", ""),
        ("timm", "failed", "its process ended"),
    ]
    assert len(result.limit) == 2
    assert here.asked.count(("timm eager", when)) == 1  # and it was not asked again


def test_the_limit_may_fail_too(here: type[Here]) -> None:
    def behave(name: str, order: str) -> None:
        if (name, order) == ("limit", "choose"):
            raise Failed("no memory")

    here.behave = behave
    result = cell()
    assert (result.limit, result.limit_median) == ((), None)
    assert [entry.status for entry in result.entries] == ["measured", "measured"]


def test_another_computation_stops_everything(here: type[Here], tmp_path: Path) -> None:
    def behave(name: str, order: str) -> None:
        if (name, order) == ("timm eager", "check"):
            raise UserError("timm differs")

    here.behave = behave
    with pytest.raises(UserError, match="timm differs"):
        run_bench(ASKED, tmp_path)
    assert {order for _, order in here.asked} == {"check"}  # nobody was timed
    assert read_cells(tmp_path) == []


def test_absent_and_not_offered(here: type[Here], monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path) -> None:
    present = peers.version
    monkeypatch.setattr(peers, "version", lambda name: None if name == "timm" else present(name))
    asked = replace(ASKED, libraries=("convnext", "timm", "torchvision"))
    (result,) = run_bench(asked, tmp_path)
    assert [(e.library, e.status) for e in result.entries] == [
        ("convnext", "measured"),
        ("timm", "absent"),
        ("torchvision", "not offered"),
    ]
    assert result.entries[1].note == "pip install timm"
    assert "timm is absent; to have it compared: pip install timm" in capsys.readouterr().err
    assert {name for name, _ in here.asked} == {"convnext eager", "limit"}
    assert not any(name.startswith("timm ") for name in result.machine.libraries)


@contextmanager
def stopped_after(cells: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """`run_cell` is interrupted once it has done that many; yields the batches that were begun."""
    begun: list[str] = []
    real = run.run_cell

    def interrupted(cell, *rest):
        begun.append(f"{cell.dtype} {cell.batch}")
        if len(begun) > cells:
            raise KeyboardInterrupt
        return real(cell, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(run, "run_cell", interrupted)
        yield begun


def test_a_run_goes_on_where_it_was_stopped(here: type[Here], monkeypatch, capsys, tmp_path: Path) -> None:
    cells = plan(("convnext_atto",), ("float32", "bfloat16"), (1, 2), ("forward",))
    asked = replace(ASKED, cells=cells)
    with stopped_after(2, monkeypatch) as begun, pytest.raises(KeyboardInterrupt):
        run_bench(asked, tmp_path)
    assert begun == ["float32 1", "bfloat16 1", "float32 2"]
    assert [result.cell for result in read_cells(tmp_path)] == list(cells[:2])
    assert "4 cells to measure" in capsys.readouterr().err
    with stopped_after(9, monkeypatch) as begun:
        results = run_bench(asked, tmp_path)
    assert begun == ["float32 2", "bfloat16 2"]
    assert "2 cells to measure (2 are done already)" in capsys.readouterr().err
    assert [result.cell for result in results] == list(cells)
    with stopped_after(0, monkeypatch) as begun:
        assert run_bench(asked, tmp_path) == results
    assert begun == []


@pytest.mark.parametrize(
    ("change", "again"),
    [
        ({}, False),
        ({"libraries": ("convnext",)}, False),  # what was measured holds it
        ({"modes": ("eager", "compile")}, True),
        ({"settings": replace(SETTINGS, rounds=3)}, True),
        ({"settings": replace(SETTINGS, threads=2)}, True),
    ],
)
def test_what_is_measured_again(here: type[Here], change: dict, again: bool, tmp_path: Path) -> None:
    run_bench(ASKED, tmp_path)
    here.asked.clear()
    asked = replace(ASKED, **change)
    (result,) = run_bench(asked, tmp_path)
    assert bool(here.asked) == again
    assert [(e.library, e.mode) for e in result.entries] == asked.keys(CELL)
    assert len(read_cells(tmp_path)) == 1 + again


def test_modes_measured_one_after_another_are_put_together(here: type[Here], tmp_path: Path) -> None:
    (eager,) = run_bench(ASKED, tmp_path)
    here.asked.clear()
    asked = replace(ASKED, modes=("eager", "compile"))
    here.behave = lambda name, order: 5.0 if order == "slice" else None
    (both,) = run_bench(asked, tmp_path)
    assert {name for name, _ in here.asked} == {"convnext compile", "timm compile", "limit"}
    assert [(e.library, e.mode) for e in both.entries] == asked.keys(CELL)
    assert both.entries[:2] == eager.entries
    assert {seconds for e in both.entries[2:] for start in e.seconds for seconds in start} == {5.0}
    assert (both.limit, both.date >= eager.date) == (eager.limit, True)
    here.asked.clear()
    assert run_bench(asked, tmp_path) == [both]
    assert here.asked == []


def test_estimate_and_machine() -> None:
    assert run.estimate({CELL: ASKED}) > 1
    machine = run.this_machine("cpu")
    assert machine.processors >= 1
    assert machine.processor
    assert machine.libraries[0].startswith("torch ")
