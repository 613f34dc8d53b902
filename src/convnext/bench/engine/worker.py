"""Each contestant in a process of its own, which does one thing at a time when asked.

So the memory of each can be measured, a compiler leaves nothing behind for others, and if one process dies the others
go on. While one works, the others wait for their next order and use no processor.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal, Protocol

from convnext.bench.engine.timing import Failed, GivenUp, error_line
from convnext.bench.engine.trial import Choice
from convnext.core.errors import UserError

Order = Literal["check", "build", "choose", "prepare", "slice"]


class Job(Protocol):
    """What a process does. A job is pickled and sent there, so before its first order it holds plain data only."""

    def check(self) -> Any:
        """Raises UserError if the contestant does not compute what it should; then nothing is timed.

        May return what it found out.
        """
        ...

    def build(self) -> None:
        """Builds all candidates. Other processes may build at the same time: nothing is timed."""
        ...

    def choose(self) -> Choice:
        """Times all candidates that were built. May raise GivenUp."""
        ...

    def prepare(self, choice: Choice) -> int | None:
        """Builds the best candidate and warms it up. Returns the bytes of memory that it needs, if they are known."""
        ...

    def slice(self) -> float:
        """Runs for one time slice; returns the seconds of one call."""
        ...


class Worker:
    """A process that does a `Job`. `close` ends it."""

    def __init__(self, job: Job) -> None:
        context = _context()
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, job), daemon=True)
        self._process.start()
        there.close()

    def ask(self, order: Order, *given: Any) -> Any:
        """Has the job follow one order, and waits for the result.

        Raises:
            UserError: if the job raised one.
            GivenUp: if it took too long.
            Failed: for any other error in the process, or if the process died.
        """
        try:
            self._here.send((order, given))
            kind, value = self._here.recv()
        except (EOFError, OSError):
            self._process.join(timeout=10)
            code = self._process.exitcode
            why = "killed, as for want of memory" if code == -signal.SIGKILL else f"exit status {code}"
            raise Failed(f"its process ended ({why})") from None
        if kind == "user":
            raise UserError(value)
        if kind == "given up":
            raise GivenUp(value)
        if kind == "failed":
            raise Failed(value)
        return value

    def close(self) -> None:
        """Ends the process, whatever it does."""
        self._here.close()  # a process that waits for an order leaves when none can come
        self._process.join(timeout=1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def preload(modules: Sequence[str]) -> None:
    """Names modules that every process needs, so that the server that processes fork from loads them once.

    Call it before the first `Worker`. A module that cannot be loaded is left to the process that needs it.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))


def _context() -> Any:
    """Processes without the memory of this one: forked from a server that holds nothing else, or newly started."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return multiprocessing.get_context(method)


def _serve(connection: Connection, job: Job) -> None:
    """Follows orders until none can come."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks is interrupted, and ends this one
    warnings.simplefilter("ignore")  # libraries warn about matters of their own, and log them
    logging.disable(logging.WARNING)
    orders: dict[Order, Callable[..., Any]] = {
        "check": job.check,
        "build": job.build,
        "choose": job.choose,
        "prepare": job.prepare,
        "slice": job.slice,
    }
    while True:
        try:
            order, given = connection.recv()
        except EOFError:
            return
        try:
            answer = ("done", orders[order](*given))
        except UserError as error:
            answer = ("user", str(error))
        except GivenUp as error:
            answer = ("given up", error.seconds)
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the others go on
            answer = ("failed", error_line(error))
        try:
            connection.send(answer)
        except OSError:  # the process that asked has ended
            return
