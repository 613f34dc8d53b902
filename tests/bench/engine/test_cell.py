"""One cell: every contestant is checked, chooses, is started and timed; failures and contestants that are too slow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from fakes import PLAN, FakeWorker
from samples import MACHINE, SETTINGS

from convnext.bench.classification import CONTESTANTS
from convnext.bench.engine.cell import measure_cell
from convnext.bench.engine.cells import Plan
from convnext.bench.engine.results import CellResult
from convnext.bench.engine.timing import Failed, GivenUp
from convnext.bench.engine.trial import Choice


def cell(plan: Plan = PLAN) -> CellResult:
    return measure_cell(plan.cells[0], plan, MACHINE, CONTESTANTS, lambda _text: None)


def test_a_cell(workers: type[FakeWorker]) -> None:
    """Checked before anything is timed, chosen in two processes, started and run as often as the settings say."""
    workers.behave = lambda name, order: {"timm eager": 3.0, "limit": 1.0}.get(name) if order == "slice" else None
    result = cell()
    orders = [order for _, order in workers.asked]
    assert orders[:2] == ["check", "check"]
    assert orders[2:14] == ["build", "choose"] * 6
    assert orders[14:] == (["prepare"] * 3 + ["slice"] * 6) * 2
    for i in range(17, len(orders), 9):  # each once a round
        assert {name for name, _ in workers.asked[i : i + 3]} == {"convnext eager", "timm eager", "limit"}
    ours, timm = result.entries
    assert (ours.seconds, timm.seconds, result.limit) == (((2.0,) * 2,) * 2, ((3.0,) * 2,) * 2, ((1.0,) * 2,) * 2)
    assert (ours.choice, ours.memory) == ("NHWC", 7)
    assert [(t.name, t.seconds, t.failed) for t in ours.tried] == [("NHWC", 1.0, ""), ("NCHW", None, "RuntimeError: x")]
    versus = result.speedup_over(timm)
    assert versus is not None
    assert versus.ratio == 1.5


def test_a_candidate_that_was_slow_by_chance_is_not_lost(workers: type[FakeWorker]) -> None:
    """The better of both trials counts for each candidate; one that failed once is in where it ran the other time."""
    trials = iter(
        [
            Choice("NCHW frozen", {"NCHW": 1.4, "NCHW frozen": 1.2}, {"NHWC": "RuntimeError: x"}),
            Choice("NCHW", {"NCHW": 1.0, "NCHW frozen": 1.3, "NHWC": 1.1}, {"odd": "RuntimeError: y"}),
        ]
    )
    workers.behave = lambda name, order: (
        next(trials) if (name, order) == ("timm eager", "choose") else 7 if order == "prepare" else None
    )
    entry = cell().entries[1]
    assert entry.choice == "NCHW"
    assert {t.name: t.seconds for t in entry.tried} == {"NCHW": 1.0, "NCHW frozen": 1.2, "NHWC": 1.1, "odd": None}


def test_compilers_work_side_by_side(workers: type[FakeWorker], monkeypatch: pytest.MonkeyPatch) -> None:
    """As many are built at a time as there are threads; nothing is timed beside a compiler."""
    alive: list[int] = []
    real = FakeWorker.ask

    def counting(self: FakeWorker, order: str, *given: Any) -> Any:
        if order in ("build", "choose"):
            alive.append(FakeWorker.alive)
        return real(self, order, *given)

    monkeypatch.setattr(FakeWorker, "ask", counting)
    plan = replace(PLAN, modes=("eager", "compile", "aoti"), settings=replace(SETTINGS, threads=2))
    assert len(cell(plan).measured()) == 6
    for library in ("convnext", "timm"):
        compiled = (f"{library} compile", f"{library} aoti")
        orders = [order for name, order in workers.asked if name in compiled and order in ("build", "choose")]
        assert orders == ["build", "build", "choose", "choose"] * 2
    assert sorted(alive) == [1] * 12 + [2] * 16  # eager ones and the limit are alone, compilers are two


def test_what_runs_on_another_device_is_built_side_by_side(workers: type[FakeWorker]) -> None:
    plan = replace(PLAN, libraries=("timm", "transformers"), settings=replace(SETTINGS, threads=2, device="cuda"))
    cell(plan)
    orders = [order for name, order in workers.asked if name.endswith("eager") and order in ("build", "choose")]
    assert orders == ["build", "build", "choose", "choose"] * 2


WITH_LIMIT = replace(PLAN, modes=("eager", "compile"), settings=replace(SETTINGS, give_up=3.0))


def test_the_time_limit_is_a_multiple_of_our_time(workers: type[FakeWorker]) -> None:
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

    workers.behave = behave
    result = cell(WITH_LIMIT)
    assert workers.given == {
        "convnext eager": None,
        "convnext compile": None,
        "timm eager": 4.5,
        "timm compile": 1.5,
        "limit": 1.5,
    }
    chosen = [name for name, order in workers.asked if order == "choose"]
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
    assert ("timm eager", "prepare") not in workers.asked


@pytest.mark.parametrize(("ours", "most"), [(0.01, 1.0), (0.3, 1.0), (0.5, 1.5)])
def test_the_time_limit_is_at_least_a_second(workers: type[FakeWorker], ours: float, most: float) -> None:
    """Beside a call of milliseconds, whatever the machine does meanwhile would take too long."""
    workers.behave = lambda _name, order: (
        Choice("NHWC", {"NHWC": ours}, {}) if order == "choose" else 7 if order == "prepare" else None
    )
    cell(WITH_LIMIT)
    assert (workers.given["timm eager"], workers.given["timm compile"], workers.given["limit"]) == (most, most, most)


def test_a_contestant_that_was_fast_enough_once_is_measured(workers: type[FakeWorker]) -> None:
    trials = iter([Choice("NHWC", {"NHWC": 2.9}, {}), GivenUp(3.0)])

    def behave(name: str, order: str) -> Any:
        if (name, order) != ("timm eager", "choose"):
            return 7 if order == "prepare" else None
        found = next(trials)
        if isinstance(found, GivenUp):
            raise found
        return found

    workers.behave = behave
    entry = cell(replace(WITH_LIMIT, modes=("eager",))).entries[1]
    assert (entry.status, entry.tried[0].seconds) == ("measured", 2.9)


@pytest.mark.parametrize("why", ["ours failed", "ours is left out", "none is given up"])
def test_no_time_limit(workers: type[FakeWorker], why: str) -> None:
    def behave(name: str, order: str) -> None:
        if why == "ours failed" and (name, order) == ("convnext eager", "build"):
            raise Failed("no memory")

    workers.behave = behave
    settings = SETTINGS if why == "none is given up" else WITH_LIMIT.settings
    libraries = ("timm",) if why == "ours is left out" else PLAN.libraries
    cell(replace(PLAN, settings=settings, libraries=libraries))
    assert (workers.given["timm eager"], workers.given["limit"]) == (None, None)


@pytest.mark.parametrize("when", ["check", "build", "choose", "prepare", "slice"])
def test_a_contestant_that_fails_leaves_the_others(workers: type[FakeWorker], when: str) -> None:
    def behave(name: str, order: str) -> None:
        if (name, order) == ("timm eager", when):
            raise Failed("its process ended")

    workers.behave = behave
    result = cell()
    assert [(e.library, e.status, e.note) for e in result.entries] == [
        ("convnext", "measured", ""),
        ("timm", "failed", "its process ended"),
    ]
    assert len(result.limit) == 2
    assert workers.asked.count(("timm eager", when)) == 1  # and it was not asked again


def test_the_limit_may_fail_too(workers: type[FakeWorker]) -> None:
    def behave(name: str, order: str) -> None:
        if (name, order) == ("limit", "choose"):
            raise Failed("no memory")

    workers.behave = behave
    result = cell()
    assert (result.limit, result.limit_median) == ((), None)
    assert [entry.status for entry in result.entries] == ["measured", "measured"]
