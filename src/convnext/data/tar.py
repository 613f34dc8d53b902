"""Where each file lies inside a tar: headers are listed, nothing is ever extracted, so no hostile name can do harm.

Listing is checked to the end of the archive, because `tarfile` takes a damaged header in the middle for the end.
"""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

from convnext.core.errors import UserError
from convnext.core.text import printable

BLOCK = 512
MAX_UNPACKED = 2 << 30
"""Bytes of all `.tar.gz` of a dataset, once decompressed, that are held in memory."""


class Member(NamedTuple):
    """A regular file in a tar: its name, and the bytes [offset, offset + size) of the (decompressed) archive."""

    name: str
    offset: int
    size: int


class Tar:
    """Read access to one `.tar` (from disk, by position) or `.tar.gz` (decompressed once, in memory).

    Positioned reads share no file position, so forked workers may use the parent's descriptor; a pickled Tar opens the
    file again where it arrives.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._memory: bytes | None = None

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_file": None, "_memory": None}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file descriptor back; the next read opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @property
    def compressed(self) -> bool:
        return self.path.name.lower().endswith(("gz", "tgz"))

    @property
    def opened(self) -> bool:
        return self._file is not None

    @property
    def memory(self) -> bytes:
        """The decompressed archive of a `.tar.gz`."""
        if self._memory is None:
            self._memory = _decompress(self.path)
        return self._memory

    def read(self, offset: int, size: int) -> bytes:
        """The bytes [offset, offset + size); fewer where the archive ends before. Raises OSError."""
        if self.compressed:
            return self.memory[offset : offset + size]
        if self._file is None:
            self._file = os.open(self.path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
        return os.pread(self._file, size, offset)

    @property
    def size_on_disk(self) -> int:
        """Bytes of the file; 0 where there is none (listing it says what is wrong)."""
        return self.path.stat().st_size if self.path.exists() else 0

    @property
    def length(self) -> int:
        """Bytes of the (decompressed) archive."""
        return len(self.memory) if self.compressed else self.size_on_disk

    def members(self) -> Iterator[Member]:
        """Every regular file, in the order of the archive. Raises UserError where it is damaged or cut short."""
        try:
            with (
                open(self.path, "rb") if not self.compressed else io.BytesIO(self.memory) as file,
                tarfile.open(fileobj=file, mode="r:") as archive,
            ):
                yield from self._list(archive, self.length)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror or error}.") from None
        except (tarfile.TarError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise UserError(f"{self.path} is no tar, or damaged ({error}). Download or pack it again.") from None

    def _list(self, archive: tarfile.TarFile, length: int) -> Iterator[Member]:
        position = -1
        while (info := archive.next()) is not None:
            # a negative size would make the listing go back and never end
            if info.size < 0 or archive.offset <= position:
                raise UserError(f"{self.path} is damaged at byte {position}. Download or pack it again.")
            position = archive.offset
            cast(Any, archive).members = []  # else every header of a shard stays in memory
            if info.isreg() and not info.issparse():
                if info.offset_data + info.size > length:
                    raise UserError(
                        f"{self.path} is cut short inside '{printable(info.name)}'. Download or pack it again."
                    )
                yield Member(info.name, info.offset_data, info.size)
        if self.read(archive.offset, BLOCK).strip(b"\0"):  # not the zeros that end an archive
            raise UserError(f"{self.path} is damaged at byte {archive.offset}. Download or pack it again.")


def _decompress(path: Path) -> bytes:
    result = io.BytesIO()
    try:
        with gzip.open(path) as file:
            while piece := file.read(1 << 22):
                if result.tell() + len(piece) > MAX_UNPACKED:
                    raise UserError(
                        f"{path} is more than {MAX_UNPACKED >> 30} GiB when decompressed, too much to hold in memory. "
                        f"Decompress it once: gunzip -k '{path}'."
                    )
                result.write(piece)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged or cut short ({error}). Download it again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    return result.getvalue()
