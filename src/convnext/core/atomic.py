"""Files are either complete or absent: they are written beside their place, flushed to disk, then moved there."""

from __future__ import annotations

import os
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def replacing(path: Path) -> Generator[BinaryIO, None, None]:
    """Yields a file to write to. It replaces `path` when the block ends well, and disappears when it does not."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
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
