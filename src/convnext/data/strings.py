"""Text of files that people wrote; and many strings in little memory, for the names of images."""

from __future__ import annotations

import codecs
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convnext.core.errors import UserError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(path: Path, *, most: int = 1 << 20) -> str:
    """A text file's content: UTF-8, a byte order mark skipped, lines ended by "\\n" alone.

    most: bytes. Raises UserError for a file that is larger, that cannot be read, or is no such text.
    """
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if len(data) > most:
        raise UserError(f"{path} has more than {most:,} bytes.")
    return as_text(data, path)


def as_text(data: bytes, path: str | Path) -> str:
    """As `read_text`, of bytes that were read already. path: named in messages."""
    if data.startswith(_UTF16):
        raise UserError(f'{path} is UTF-16 text, as Windows programs write "Unicode". Save it as UTF-8.')
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is no UTF-8 text (byte {error.start + 1}). Save it as UTF-8.") from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


class Strings:
    """Many strings in two blocks of memory. Forked workers share those with their parent, where each string of a list
    would be copied into each worker as soon as it is looked at (Python counts references inside of objects)."""

    def __init__(self, strings: Sequence[str]) -> None:
        encoded = [os.fsencode(text) for text in strings]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self._bytes[self._ends[index] : self._ends[index + 1]])
