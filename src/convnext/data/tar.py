"""Where each file lies inside a tar: headers are listed, nothing is ever extracted, so no hostile name can do harm.

Listing is checked to the end of the archive, because `tarfile` takes a damaged header in the middle for the end.
"""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import posixpath
import tarfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple, cast

from convnext.core.errors import UserError
from convnext.core.text import printable

BLOCK = 512
MAX_UNPACKED = 2 << 30
"""Bytes of all compressed tars of a dataset, once decompressed, that are held in memory."""
TAR_SUFFIXES = (".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
"""Endings of files that are taken for tars; how they are compressed is seen from their first bytes."""
_OPENERS: dict[bytes, Callable[..., Any]] = {
    b"\x1f\x8b": gzip.open,
    b"1AY&SY": bz2.open,
    b"\xfd7zXZ\0": lzma.open,
}
_FOREIGN = {
    b"PK\x03\x04": "a zip archive: unpack it, and give the folder",
    b"\x28\xb5\x2f\xfd": "compressed with zstd, which is not read here. Decompress it once: zstd -d",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it, and give the folder",
    b"Rar!": "a rar archive: unpack it, and give the folder",
    b"version https://git-lfs": "a pointer of Git LFS, not the file itself: fetch it with `git lfs pull`",
}
_MOST_LINKS = 16  # of a link to a link ...


class Member(NamedTuple):
    """A regular file in a tar: its name, and the bytes [offset, offset + size) of the (decompressed) archive."""

    name: str
    offset: int
    size: int


class Tar:
    """Read access to one `.tar` (from disk, by position) or compressed one (decompressed once, in memory).

    Positioned reads share no file position, so forked workers may use the parent's descriptor; a pickled Tar opens the
    file again where it arrives.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file: int | None = None
        self._memory: bytes | None = None
        self.passed: Counter[str] = Counter()
        """What `members` passed over: kind, as "link to nothing in the tar" -> how many."""

    def __getstate__(self) -> dict[str, object]:
        return {"path": self.path, "_file": None, "_memory": None, "passed": Counter()}

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Gives the file descriptor back; the next read opens it again."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    @cached_property
    def compressed(self) -> bool:
        """Whether it is compressed, by its first bytes, whatever its name says."""
        return _opener(self._magic) is not None

    @property
    def _magic(self) -> bytes:
        try:
            with open(self.path, "rb") as file:
                return file.read(32)
        except OSError:
            return b""  # listing it says what is wrong

    @property
    def opened(self) -> bool:
        return self._file is not None

    @property
    def memory(self) -> bytes:
        """The decompressed archive of a compressed one."""
        if self._memory is None:
            self._memory = _decompress(self.path, self._magic)
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
        """Every file, in the order of the archive; links to files in it come last, as files of their own names.

        Archives that were written one behind the other into one file are all read. Raises UserError where it is damaged
        or cut short. Counts in `passed` what it does not give.
        """
        self.passed = Counter()
        for magic, advice in _FOREIGN.items():
            if self._magic.startswith(magic):
                raise UserError(f"{self.path} is {advice}.")
        links: dict[str, str] = {}
        try:
            with open(self.path, "rb") if not self.compressed else io.BytesIO(self.memory) as file:
                yield from self._archives(file, links)
                if links:
                    yield from self._linked(file, links)
        except OSError as error:
            raise UserError(f"{self.path} cannot be read: {error.strerror or error}.") from None
        except (tarfile.TarError, ValueError, RecursionError, MemoryError, OverflowError) as error:
            raise UserError(f"{self.path} is no tar, or damaged ({error}). Download or pack it again.") from None

    def _archives(self, file: BinaryIO, links: dict[str, str]) -> Iterator[Member]:
        start: int | None = 0
        while start is not None:
            file.seek(start)
            with tarfile.open(fileobj=file, mode="r:") as archive:
                yield from self._list(archive, self.length, links)
                end = archive.offset
            start = self._next_archive(end)

    def _next_archive(self, end: int) -> int | None:
        """Where the next archive in the file begins, behind the zeros that end one; None where there is none."""
        position, zeros = end, bytes(1 << 20)
        while block := self.read(position, 1 << 20):
            if block != zeros[: len(block)]:
                position += len(block) - len(block.lstrip(b"\0"))
                return position - position % BLOCK
            position += len(block)
        return None

    def _list(self, archive: tarfile.TarFile, length: int, links: dict[str, str]) -> Iterator[Member]:
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
            elif info.islnk():
                links[info.name] = posixpath.normpath(info.linkname)
            elif info.issym():
                links[info.name] = posixpath.normpath(posixpath.join(posixpath.dirname(info.name), info.linkname))
            elif not info.isdir():
                self.passed["sparse file" if info.issparse() else "pipe or device"] += 1
        if self.read(archive.offset, BLOCK).strip(b"\0"):  # not the zeros that end an archive
            raise UserError(f"{self.path} is damaged at byte {archive.offset}. Download or pack it again.")

    def _linked(self, file: BinaryIO, links: dict[str, str]) -> Iterator[Member]:
        """The files that links lead to, under the links' names; links to links are followed."""
        passed = self.passed.copy()
        files = {posixpath.normpath(member.name): member for member in self._archives(file, {})}
        self.passed = passed
        named = {posixpath.normpath(name): target for name, target in links.items()}
        for name, target in links.items():
            for _ in range(_MOST_LINKS):
                if target not in named or target in files:
                    break
                target = named[target]
            if target in files:
                yield files[target]._replace(name=name)
            else:
                self.passed["link to nothing in the tar"] += 1


def _opener(magic: bytes) -> Callable[..., Any] | None:
    """What decompresses a file that begins with these bytes; None for one that is not compressed."""
    # bzip2's own magic is "BZh" and a digit, as a file's name in a tar can be; what follows it is unmistakable
    start = magic[4:] if magic.startswith(b"BZh") else magic
    return next((opener for begin, opener in _OPENERS.items() if start.startswith(begin)), None)


def _decompress(path: Path, magic: bytes) -> bytes:
    result = io.BytesIO()
    opener = _opener(magic) or open
    try:
        with cast(BinaryIO, opener(path)) as file:
            while piece := file.read(1 << 22):
                if result.tell() + len(piece) > MAX_UNPACKED:
                    raise UserError(
                        f"{path} is more than {MAX_UNPACKED >> 30} GiB when decompressed, too much to hold in memory. "
                        f"Decompress it once, as with: gunzip -k '{path}'."
                    )
                result.write(piece)
    except (EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(f"{path} is damaged or cut short ({error}). Download it again.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}.") from None
    return result.getvalue()
