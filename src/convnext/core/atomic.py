"""Files are either complete or absent: they are written beside their place, flushed to disk, then moved there."""

from __future__ import annotations

import errno
import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from convnext.core.errors import UserError
from convnext.core.text import printable

FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
"""A disk, or what a user may take of it, is full."""
_LONGEST = 50  # characters of a name in that of its temporary file: names end at 255 bytes


class FullDisk(UserError, OSError):
    """There is no space for a file."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(
            f"No space left to write {printable(str(path))}: the disk, or your share of it, is full. Make room; "
            "what was there before is unchanged."
        )


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO, None, None]:
    """Yields a file to write to. It replaces `path` when the block ends well, and disappears when it does not.

    A link is followed: what it leads to is replaced. A device or a pipe (/dev/stdout) is written to as it is, for it
    must not be replaced by a file. Raises FullDisk.
    """
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            with path.open("wb") as file:
                yield file
        else:
            with _moved_to(Path(os.path.realpath(path)) if os.path.islink(path) else path) as file:
                yield file
    except (OSError, RuntimeError) as error:  # torch turns a full disk into a RuntimeError
        if is_full(error):
            raise FullDisk(path) from error
        raise


@contextmanager
def _moved_to(path: Path) -> Generator[BinaryIO, None, None]:
    temporary = path.with_name(f".{path.name[:_LONGEST]}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Writes `text` to `path`, which then holds either its old content or all of the new one."""
    with replacing(path) as file:
        file.write(text.encode())


def is_full(error: BaseException | None) -> bool:
    """Whether an error comes from a disk that is full."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in FULL:
            return True
        error = error.__cause__ or error.__context__
    return False
