"""Where published files live on this machine, and what is known of their digests.

A file of https://HOST/a/b/NAME stands at CACHE/HOST/a/b/NAME, so that files of one name from two places never collide,
and so that a copy of the folder on a web server is a mirror. Beside it, NAME.sha256 says what it held when it was first
used: `sha256sum -c` reads it too.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.core.network import shown, without_query

_OURS = (".sha256", ".lock", ".part", ".part.json")  # what this room puts beside a file: no file is called so
_LONGEST = 200  # bytes of a name: file systems take 255, and ours add some


def cache_dir() -> Path:
    """The folder of downloaded files: CONVNEXT_CACHE, else $XDG_CACHE_HOME/convnext, else ~/.cache/convnext."""
    if given := os.environ.get("CONVNEXT_CACHE"):
        return Path(given).expanduser().absolute()
    shared = Path(os.environ.get("XDG_CACHE_HOME") or ".")  # a relative one is to be ignored, its specification says
    try:
        return (shared if shared.is_absolute() else Path.home() / ".cache") / "convnext"
    except RuntimeError:
        raise UserError("There is no home folder to keep files in: set CONVNEXT_CACHE to a folder.") from None


def folders(url: str) -> tuple[str, ...]:
    """Host, folders and name of the file at `url`, each fit to be one name in a folder.

    What follows a `?` is left out: it is a signature or an expiry, and the file stays the same.
    Raises UserError for names that would lead out of the folder or that no file can have.
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").replace(":", "_") + (f"_{parts.port}" if parts.port else "")
    names = [unquote(part, errors="replace") for part in parts.path.split("/") if part]
    if not names or parts.path.endswith("/"):
        raise UserError(f"{shown(url)} names no file: an address ends in the file's name.")
    for name in (host, *names):
        if not name or name.startswith(".") or not name.isprintable() or re.search(r'[/\\:*?"<>|\ufffd]', name):
            raise UserError(f"{shown(url)} has a part that cannot be the name of a file: {name!r}.")
        if len(name.encode()) > _LONGEST or name.endswith(_OURS):
            raise UserError(f"{shown(url)} has a part that is too long or reserved: {name[:50]!r}.")
    return (host, *names)


def place(url: str) -> Path:
    """Where the file of `url` stands, or would stand. Raises UserError as `folders` does."""
    return cache_dir().joinpath(*folders(url))


_RECORDING = threading.Lock()  # what replaces a file does so for one thread of a process at a time


class _Known(NamedTuple):
    digest: str
    size: int  # -1: not written down
    mtime: int  # nanoseconds


def record_of(path: Path) -> Path:
    """The file beside `path` that holds its digest."""
    return path.with_name(f"{path.name}.sha256")


def recorded(path: Path) -> str:
    """The SHA-256 that the file had at its first use, in hex, "" where it was never used. The file may be gone."""
    known = _read(path)
    return known.digest if known else ""


def record(path: Path, digest: str, *, stands_at: Path | None = None) -> None:
    """Writes down that `path`, as it is now (elsewhere, while it is not moved there yet), has this SHA-256."""
    stat = (stands_at or path).stat()
    with _RECORDING:
        write_text(record_of(path), f"{digest}  {path.name}\n# size {stat.st_size} mtime {stat.st_mtime_ns}\n")


def _read(path: Path) -> _Known | None:
    try:
        text = record_of(path).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return None
    found = re.match(r"([0-9a-f]{64})\b(?:.*\n# size (\d{1,18}) mtime (\d{1,20})$)?", text)
    if not found:
        raise UserError(f"{record_of(path)} holds no SHA-256: delete it, and the file's is written down again.")
    return _Known(found[1], int(found[2] or -1), int(found[3] or 0))


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check(path: Path, sha256: str) -> None:
    """Raises UserError where a file of the cache is not the one it should be. `sha256`: its beginning, "" for unknown.

    The digest is computed at first use and whenever size or time of change are not those written down with it: hashing
    the large files (1.4 GB) at every load would cost seconds. What this misses is a disk that decays under an unchanged
    file; the formats have checksums of their own against that.
    """
    known, stat = _read(path), path.stat()
    fresh = known is not None and (known.size, known.mtime) == (stat.st_size, stat.st_mtime_ns)
    digest = known.digest if known and fresh else sha256_of(path)
    if not digest.startswith(sha256):
        raise UserError(
            f"{path} is not the published file: its SHA-256 is {digest}, the published one {sha256}. Delete it, and it "
            "is downloaded again."
        )
    if known and known.digest.startswith(sha256) and digest != known.digest:
        raise UserError(
            f"{path} has changed since its first use: its SHA-256 was {known.digest} and is {digest}. Delete it to "
            f"download it again, or delete {record_of(path).name} beside it to keep it as it is."
        )
    if not fresh:
        with suppress(OSError):  # a shared cache that is not ours to write: checked all the same, at each load
            record(path, digest)


@dataclass(frozen=True)
class Part:
    """What has come of a file so far, and a note of where it is from, so that only the rest of the same is added."""

    goal: Path
    path: Path
    resumable: bool
    """Whether a later call finds it again."""

    @property
    def _note(self) -> Path:
        return self.path.with_name(f"{self.path.name}.json")

    def kept(self, source: str) -> tuple[int, str, int]:
        """Bytes that are there, the ETag they came with and the whole size; (0, "", 0) where none can be used."""
        try:
            note = json.loads(self._note.read_text(encoding="utf-8"))
            there = self.path.stat().st_size
            if note["source"] == without_query(source) and 0 < there <= note["size"]:
                return there, str(note["etag"]), int(note["size"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            pass  # no part, or one whose note is unreadable: the download starts again, and says from where
        return 0, "", 0

    def begin(self, source: str, etag: str, size: int) -> None:
        """Starts again from nothing. Without an ETag that stands for the very bytes nothing can be added later."""
        self.discard()
        if re.fullmatch(r'"[\x21\x23-\x7e]{1,200}"', etag):  # W/"..." may stand for other bytes
            write_text(self._note, json.dumps({"source": without_query(source), "etag": etag, "size": size}))

    def discard(self) -> None:
        """Removes all of it."""
        self._note.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)

    def leave(self) -> None:
        """After a failure: only what a later call can go on with stays."""
        if not (self.resumable and self._note.exists() and self.path.exists()):
            self.discard()

    def finish(self, digest: str) -> None:
        """Moves what is there to its place. Its record is there first: a file without one is taken as put by hand."""
        record(self.goal, digest, stands_at=self.path)
        os.replace(self.path, self.goal)
        self._note.unlink(missing_ok=True)


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Lets one process or thread at a time work on `path`; the others wait. The folder must be there.

    A lock rather than part files of each process's own: the eight processes of a training run would fetch 1.4 GB eight
    times, and none could take up where an earlier one was cut. The kernel frees the lock when its holder dies. Yields
    False where there are no locks (Windows, some network file systems): then a part file must be one's own.
    """
    lock = path.with_name(f"{path.name}.lock")
    try:
        descriptor = _locked(lock)
    except (ImportError, NotImplementedError):
        lock.unlink(missing_ok=True)
        yield False
        return
    try:
        yield True
    finally:
        lock.unlink(missing_ok=True)  # before it is freed: who waits for it notices and makes a new one
        os.close(descriptor)


def _locked(lock: Path) -> int:
    """An open and locked file. Raises ImportError or NotImplementedError where files cannot be locked."""
    import fcntl

    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                say(f"{lock.stem} is being downloaded by another process; waiting for it.")
                fcntl.flock(descriptor, fcntl.LOCK_EX)
            there = lock.stat()
            if os.path.samestat(there, os.fstat(descriptor)):
                return descriptor
        except FileNotFoundError:
            pass  # its holder is done and took it away
        except OSError as error:
            os.close(descriptor)
            raise NotImplementedError(str(error)) from None
        except BaseException:
            os.close(descriptor)  # interrupted while waiting
            raise
        os.close(descriptor)
