"""The runs of a sweep, as many at a time as there are places for them: threads that wait for processes, or Ray."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Literal

from convnext.core.logs import Progress, say
from convnext.sweep.runs import STOPPED, Endings, Run, ended, slots, train_one

EngineName = Literal["local", "ray"]
Engine = Callable[[Sequence[Run], Path, int], AbstractContextManager[Endings]]


def train_all(
    runs: Sequence[Run],
    out: Path,
    *,
    title: str,
    jobs: int,
    heard: Callable[[Run], str],
    engine: EngineName = "local",
) -> list[str]:
    """Trains those of the runs that have not ended; returns which failed, and why, in sentences.

    title: what progress is called. jobs: runs at a time; 0: one for each GPU. heard: is told of each run that ended
    well, and says so in words. engine: local, or ray: on the Ray cluster that this machine belongs to.
    """
    left = [run for run in runs if ended(out / run.name) is None]
    failed: list[str] = []
    if not left:
        return failed
    begun = len(runs) - len(left)
    with Progress(title, len(runs), unit="run", start=begun) as progress, _engine(engine)(left, out, jobs) as endings:
        try:
            for done, (run, why) in enumerate(endings, start=begun + 1):
                if why:
                    failed.append(f"{run.name}: {why}")
                say(f"failed: {failed[-1]}" if why else heard(run))
                progress.update(done, run.name)
        except KeyboardInterrupt:
            say("Stopped. The same command goes on where every run was last saved.")
            raise
    return failed


def _engine(name: EngineName) -> Engine:
    if name == "local":
        return on_this_machine
    from convnext.sweep.on_ray import on_ray

    return on_ray


@contextmanager
def on_this_machine(runs: Sequence[Run], out: Path, jobs: int) -> Iterator[Endings]:
    """An engine: one run for each GPU of this machine, or `jobs` that share its processors."""
    free: queue.Queue[dict[str, str]] = queue.Queue()
    places = slots(jobs)
    for place in places:
        free.put(place)
    stopped = threading.Event()

    def one(run: Run) -> str:
        place = free.get()
        try:
            return STOPPED if stopped.is_set() else train_one(run, out, place, stopped)
        finally:
            free.put(place)

    with ThreadPoolExecutor(len(places)) as pool:
        waiting = {pool.submit(one, run): run for run in runs}
        try:
            yield ((waiting[future], future.result()) for future in as_completed(waiting))
        except BaseException:  # whatever it is, no run stays behind alone
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise
