"""A job in a process of its own: its results, its errors, its end."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field

import pytest

from convnext.bench.engine.timing import Failed, GivenUp
from convnext.bench.engine.trial import Choice
from convnext.bench.engine.worker import Worker
from convnext.core.errors import UserError

pytestmark = pytest.mark.slow  # each starts a process


@dataclass
class Job:
    """Does as it is told."""

    kind: str
    count: int = field(default=0, init=False)

    def check(self) -> None:
        if self.kind == "user":
            raise UserError("timm differs")

    def build(self) -> None:
        self.count = 0

    def choose(self) -> Choice:
        if self.kind == "given up":
            raise GivenUp(2.5)
        return Choice(str(os.getpid()), {"a": 0.5}, {})

    def prepare(self, choice: str) -> int | None:
        if self.kind == "error":
            raise RuntimeError("no compiler\nand much more")
        if self.kind == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        return len(choice)

    def slice(self) -> float:
        self.count += 1
        if self.kind == "slow":
            time.sleep(60)
        return float(self.count)


@pytest.fixture
def worker(request: pytest.FixtureRequest) -> Iterator[Worker]:
    with closing(Worker(Job(request.param))) as started:
        yield started


@pytest.mark.parametrize("worker", ["good"], indirect=True)
def test_it_does_its_job_elsewhere_and_remembers(worker: Worker) -> None:
    assert worker.ask("check") is None
    choice = worker.ask("choose")
    assert choice.tried == {"a": 0.5}
    assert int(choice.best) != os.getpid()
    assert worker.ask("prepare", "four") == 4
    assert [worker.ask("slice") for _ in range(3)] == [1.0, 2.0, 3.0]


@pytest.mark.parametrize("worker", ["user"], indirect=True)
def test_what_people_must_know_reaches_them(worker: Worker) -> None:
    with pytest.raises(UserError, match=r"^timm differs$"):
        worker.ask("check")


@pytest.mark.parametrize("worker", ["error"], indirect=True)
def test_an_error_fails_the_contestant_in_one_line(worker: Worker) -> None:
    with pytest.raises(Failed, match=r"^RuntimeError: no compiler$"):
        worker.ask("prepare", "x")
    assert worker.ask("slice") == 1.0  # the process lives


@pytest.mark.parametrize("worker", ["given up"], indirect=True)
def test_how_long_one_was_waited_for_is_told(worker: Worker) -> None:
    with pytest.raises(GivenUp) as error:
        worker.ask("choose")
    assert error.value.seconds == 2.5


@pytest.mark.parametrize("worker", ["dies"], indirect=True)
def test_a_killed_process_fails_the_contestant(worker: Worker) -> None:
    with pytest.raises(Failed, match="killed, as for want of memory"):
        worker.ask("prepare", "x")
    with pytest.raises(Failed, match="its process ended"):
        worker.ask("slice")


def test_closing_ends_the_process_whatever_it_does() -> None:
    idle, busy = Worker(Job("good")), Worker(Job("slow"))
    pids = [int(worker.ask("choose").best) for worker in (idle, busy)]
    busy._here.send(("slice", ()))
    begun = time.monotonic()
    idle.close()
    busy.close()
    assert time.monotonic() - begun < 30
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
