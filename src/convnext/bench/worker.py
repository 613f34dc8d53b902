"""Each contestant in a process of its own, asked to do one thing at a time.

So one's memory can be measured, its compiler leaves nothing behind for another, and if it dies the others go on. While
one works, the others wait for their next order and use no processor.
"""

from __future__ import annotations

import logging
import multiprocessing
import signal
import warnings
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, Literal, Protocol

from convnext.bench.timing import Failed, GivenUp, in_a_line
from convnext.bench.trial import Choice
from convnext.core.errors import UserError

Order = Literal["check", "build", "choose", "prepare", "slice"]


class Job(Protocol):
    """What a process does. It is sent there, so until its first order it holds nothing that cannot be pickled."""

    def check(self) -> Any:
        """Raises UserError where the contestant does not compute what it should: nobody is timed then. May return what
        it found out."""
        ...

    def build(self) -> None:
        """Builds all candidates, which may be done beside other processes: nothing is timed."""
        ...

    def choose(self) -> Choice:
        """Tries all candidates that were built. May raise GivenUp."""
        ...

    def prepare(self, choice: Choice) -> int | None:
        """Builds the best candidate and warms it up; the memory that it needs, in bytes, if that can be known."""
        ...

    def slice(self) -> float:
        """Runs for one time slice; seconds of one call."""
        ...


class Worker:
    """A process that does a `Job`. Use as a context manager, or call `close`."""

    def __init__(self, job: Job) -> None:
        context = _context()
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, job), daemon=True)
        self._process.start()
        there.close()

    def ask(self, order: Order, *given: Any) -> Any:
        """Has the job do it and waits for the result.

        Raises:
            UserError: what the job raised as one.
            GivenUp: where it took too long.
            Failed: for any other error in the process, or if it died.
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
        """Ends the process."""
        self._here.close()  # it waits for an order, and leaves when none can come
        self._process.join(timeout=1)
        if self._process.is_alive():
            self._process.kill()
            self._process.join()


def load_once(modules: Sequence[str]) -> None:
    """Names modules that every process will need: where processes can fork from a server, they are loaded there, once.

    Of effect before the first `Worker`. A module that cannot be loaded is left to the process that needs it.
    """
    if "forkserver" in multiprocessing.get_all_start_methods():
        multiprocessing.get_context("forkserver").set_forkserver_preload(list(modules))


def _context() -> Any:
    """Processes without this one's memory: they fork from a server that holds nothing else, or start from nothing."""
    method = "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
    return multiprocessing.get_context(method)


def _serve(connection: Connection, job: Job) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process that asks is interrupted, and ends this one
    warnings.simplefilter("ignore")  # of libraries, on matters of their own; so are their logs
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
            answer = ("failed", in_a_line(error))
        try:
            connection.send(answer)
        except OSError:  # whoever asked is gone
            return
