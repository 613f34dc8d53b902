"""A folder that one process holds: two runs cannot write into it, and others see that a run is still going.

The lock is the operating system's, on a hidden file in the folder. It ends with the block, or with the process however
that ends. Workers that the process forks do not inherit it.
"""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.core.places import make_folder, remove_empty
from convnext.core.text import printable

LOCK = ".convnext.lock"
_NO_LINK = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)  # neither followed nor waited for
_BUSY = (errno.EACCES, errno.EAGAIN)
_held: set[Path] = set()  # by this process, which may take a folder again that it holds


@contextmanager
def taken(folder: Path) -> Generator[None, None, None]:
    """Holds `folder`, which is made where it is missing; a folder that was made and is still empty goes again.

    Raises UserError where another process holds it, or it cannot be written.
    """
    place = Path(os.path.realpath(folder))
    if place in _held:
        yield
        return
    made: list[Path] = []
    try:
        make_folder(folder, made=made)
        descriptor = _locked(place / LOCK, folder)
        _held.add(place)
        try:
            yield
        finally:
            _held.discard(place)
            with suppress(OSError):
                (place / LOCK).unlink()  # while it is held: nobody can have taken it in between
            os.close(descriptor)
    finally:
        remove_empty(made)


def is_taken(folder: Path) -> bool:
    """Whether a process, this one or another, holds `folder`."""
    place = Path(os.path.realpath(folder))
    if place in _held:
        return True
    try:
        descriptor = os.open(place / LOCK, os.O_RDONLY | _NO_LINK)
    except OSError:
        return False
    try:
        return not _lock(descriptor, shared=True)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _locked(file: Path, folder: Path) -> int:
    """The descriptor of the lock's file, locked."""
    shown = printable(str(folder))
    for attempt in range(10):
        try:
            descriptor = os.open(file, os.O_RDWR | os.O_CREAT | _NO_LINK, 0o666)
        except OSError as error:
            raise UserError(f"{shown} cannot be written: {error.strerror}. Give another folder.") from None
        try:
            mine = _lock(descriptor)
        except OSError as error:  # a file system without locks
            say(f"{shown} cannot be locked ({error.strerror}): start no other run in it.")
            mine = True
        if mine and _is_file(descriptor, file):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return descriptor
        holder = os.read(descriptor, 200).decode(errors="replace")
        os.close(descriptor)
        if not mine and attempt >= 2:  # it may only have been asked (`is_taken`)
            by = f" ({printable(holder)})" if holder else ""
            raise UserError(
                f"{shown} is in use by a run that is still going{by}. Wait until it has ended, or give another folder "
                "with --out."
            )
        time.sleep(0.05)
    raise UserError(f"{shown} is in use: its lock, {file.name}, is taken and given back all the time. Try again.")


def _lock(descriptor: int, *, shared: bool = False) -> bool:
    """Locks a file without waiting; False where another process has it. Raises OSError where there are no locks.

    A lock of POSIX: forked workers do not inherit it, so that it ends with the process that took it.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system: two runs are not kept apart there
        return True
    try:
        fcntl.lockf(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _BUSY:
            return False
        raise
    return True


def _is_file(descriptor: int, file: Path) -> bool:
    """Whether the open file is still the one of that name: its holder removes it when it is done."""
    try:
        there = os.stat(file, follow_symlinks=False)
    except OSError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)
