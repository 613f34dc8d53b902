"""Published files from the web into the cache: whole, resumed after cuts, checked against digests.

    CONVNEXT_CACHE     the folder they are kept in
    CONVNEXT_OFFLINE   1: no network access at all (HF_HUB_OFFLINE=1 does the same)
    CONVNEXT_MIRROR    addresses, separated by spaces, that are tried in order before the file's own: the file of
                       https://HOST/a/NAME is looked for at MIRROR/HOST/a/NAME (a copy of the cache is such a mirror)

No server is trusted with more than bytes: where they go, how many there may be and which they must be is settled here.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import shutil
import threading
import time
from http.client import HTTPException, HTTPResponse
from pathlib import Path
from urllib.parse import quote, urlsplit

from convnext.core.errors import UserError
from convnext.core.logs import Progress, duration, say
from convnext.core.network import (
    BadRedirect,
    NoAnswer,
    NotReached,
    ask_following,
    in_words,
    objection,
    offline,
    shown,
)
from convnext.weights.cache import Part, alone, check, folders, place, record_of, recorded, sha256_of

LARGEST = 8 << 30  # bytes; the largest published file, XXL's, has 3.4e9
TIMEOUT = 20.0  # seconds without a byte before a connection counts as cut
PATIENCE = 5.0  # seconds that an address has for its first answer, where nobody asked for its file by name
PAUSE = 1.0  # seconds before the first new attempt, doubled before each further one
ATTEMPTS = 5  # in a row that bring less than a megabyte
_MB = 1_000_000
_PAGE = (
    "a web page came instead. A network that wants a login (hotel, guest, company) answers so, and a file whose "
    "licence must be accepted first: open the address in a browser."
)


class _Refused(Exception):
    """Why one address does not give the file, in a sentence; another may."""


class _Away(_Refused):
    """The same where there was no network, or not enough of it."""


class _Cut(Exception):
    """What went wrong on the way, in a few words; another attempt may go better."""


class _Unreachable(_Cut):
    """No connection came about."""


def download(url: str, *, sha256: str = "", timeout: float = TIMEOUT, pause: float = PAUSE) -> Path:
    """The local path of a published file, fetched at first use; without network access once it is there.

    sha256: the digest in hex or the first 8 digits of it or more, "" where unknown: then what came first is written
    down, and whatever comes later must be the same. timeout: seconds without a byte before a new attempt; pause:
    seconds before the first of these. The top of this file says which environment variables count.

    Raises UserError with what went wrong and how to get the file by hand: no network or offline, gated or missing file,
    another file than the published one, a web page instead of it, a server that lies about lengths or redirects
    elsewhere than to https, a full disk, a file above 8 GiB. Where a network is all that is missing it is NotReached.
    """
    sha256 = sha256.lower()
    if sha256 and not re.fullmatch("[0-9a-f]{8,64}", sha256):
        raise UserError(f"A SHA-256, or 8 digits or more from its beginning, is needed, not {sha256!r}.")
    if problem := objection(url, http="this machine"):
        raise UserError(f"{shown(url)} {problem}. Files are fetched from addresses like https://host/folder/name.pth.")
    path = place(url)
    sources = [*_mirrors(url), url]
    try:
        if not path.is_file():
            if variable := offline():
                raise _Away(f"it is not on this machine yet, and {variable} is set.")
            path.parent.mkdir(parents=True, exist_ok=True)
            with alone(path) as locked:
                if not path.is_file():  # else another process has brought it meanwhile
                    own = "" if locked else f".{secrets.token_hex(4)}"
                    part = Part(path, path.with_name(f"{path.name}{own}.part"), resumable=locked)
                    _fetch_from_any(sources, part, sha256, timeout, pause)
        check(path, sha256)
    except _Refused as error:
        by_hand = f"To do it by hand, save {shown(url)} as {path}"
        message = f"{path.name} could not be downloaded: {error} {by_hand}."
        raise (
            NotReached(message, str(error).rstrip(".")) if isinstance(error, _Away) else UserError(message)
        ) from None
    except OSError as error:
        raise UserError(_disk_problem(error, path)) from None
    return path


def size_of(url: str, *, seconds: float = PATIENCE) -> int:
    """Bytes of a published file, here or at the first of its addresses that answers; nothing is kept of the answer.

    seconds: that each address has for its answer, the look-up of its name included. Raises NotReached, as soon as that
    is known, where the file is not here and no address gives it.
    """
    path = place(url)
    if path.is_file():
        return path.stat().st_size
    if variable := offline():
        why = f"it is not on this machine yet, and {variable} is set"
        raise NotReached(f"{path.name} cannot be had: {why}.", why)
    reasons: list[str] = []
    for source in [*_mirrors(url), url]:
        answers: list[int | str] = []
        # a thread, since no limit of time can be given to the look-up of a name
        asking = threading.Thread(target=lambda to, box: box.append(_ask_size(to, seconds)), args=(source, answers))
        asking.daemon = True
        asking.start()
        asking.join(seconds + 1)
        answer = answers[0] if answers else f"{urlsplit(source).hostname} did not answer within {seconds:g} seconds"
        if isinstance(answer, int):
            return answer
        reasons.append(answer)
    why = "; ".join(dict.fromkeys(reasons))
    raise NotReached(f"{path.name} cannot be had: {why}.", why)


def _ask_size(source: str, seconds: float) -> int | str:
    """How many bytes an address has, or why it gives no file."""
    try:
        with _open(source, {"User-Agent": "convnext", "Accept-Encoding": "identity"}, seconds) as response:
            _check_status(response, source, ranged=False)
            return _length(response)
    except (_Refused, _Cut) as error:
        return str(error).rstrip(".")


def _mirrors(url: str) -> list[str]:
    """Where CONVNEXT_MIRROR says that the file may be too."""
    mirrors = os.environ.get("CONVNEXT_MIRROR", "").split()
    for mirror in mirrors:
        if problem := objection(mirror, http="this machine"):
            raise UserError(f"CONVNEXT_MIRROR: {shown(mirror)} {problem}; https://host/folder is accepted.")
    return ["/".join([mirror.rstrip("/"), *map(quote, folders(url))]) for mirror in mirrors]


def _fetch_from_any(sources: list[str], part: Part, sha256: str, timeout: float, pause: float) -> None:
    """Brings the file from the first source that gives it. Raises _Refused with the last one's reason."""
    wrong = False
    try:
        for mirror in sources[:-1]:
            try:
                return _fetch(mirror, part, sha256, timeout, pause)
            except _Refused as error:
                say(f"The mirror {shown(mirror)} gave no file: {error} Trying the next address.")
                wrong |= not isinstance(error, _Away)
        try:
            return _fetch(sources[-1], part, sha256, timeout, pause)
        except _Away as error:
            raise (
                _Refused(str(error)) if wrong else error
            ) from None  # a wrong file on a mirror is more than no network
    except OSError:
        part.discard()  # a full disk is no place to leave a part on
        raise
    except BaseException:  # an interruption too
        part.leave()
        raise


def _fetch(source: str, part: Part, sha256: str, timeout: float, pause: float) -> None:
    """Brings the file from one address, with new attempts after cuts. Raises _Refused."""
    failures, farthest = 0, part.kept(source)[0]
    while True:
        try:
            _attempt(source, part, timeout)
            return _finish(part, sha256)
        except _Cut as cut:
            reason = str(cut)
            if isinstance(cut, _Unreachable) and failures == 0:
                raise _Away(f"{reason}.") from None  # most likely no network: no one should wait to be told that
        there = part.kept(source)[0]
        failures = 1 if there > farthest + _MB else failures + 1
        farthest = max(there, farthest)
        if failures >= ATTEMPTS:
            raise _Away(f"{reason}, {failures} times in a row.")
        wait = pause * 2 ** (failures - 1)
        say(f"{part.goal.name}: {reason}; trying again in {duration(wait)}.")
        time.sleep(wait)


def _finish(part: Part, sha256: str) -> None:
    """Moves the whole file to its place. Raises _Refused, and removes it, where it is not the published file."""
    with part.path.open("r+b") as file:  # some systems flush only what may be written
        head = file.read(64)
        os.fsync(file.fileno())  # all of it is on the disk before it has its name
    # safetensors begins with a length of eight bytes, of which the first may be a "<" and the last are zeros
    if b"\0" not in head and head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        part.discard()
        raise _Refused(_PAGE)
    digest, before = sha256_of(part.path), recorded(part.goal)
    if not digest.startswith(before if before.startswith(sha256) else sha256):  # of the two the one that says more
        part.discard()
        if not digest.startswith(sha256):
            raise _Refused(f"another file came: its SHA-256 is {digest}, the published one {sha256}. It was removed.")
        raise _Refused(
            f"the file is not the one of its first use here: its SHA-256 was {before} and is {digest}. It was removed; "
            f"if the change is meant, delete {record_of(part.goal)} and try again."
        )
    part.finish(digest)


def _attempt(source: str, part: Part, timeout: float) -> None:
    """Asks for what is missing and adds it to the part. Raises _Cut or _Refused."""
    there, etag, size = part.kept(source)
    if there and there == size:
        return  # killed just before the file was moved to its place
    asked = {"Range": f"bytes={there}-", "If-Range": etag} if there else {}  # another ETag now: the server sends it all
    with _open(source, {"User-Agent": "convnext", "Accept-Encoding": "identity", **asked}, timeout) as response:
        if response.status == 416 and there:
            part.discard()
            raise _Cut("the server says that the file is shorter now")
        _check_status(response, source, ranged=bool(there))
        length = _length(response)
        if response.status == 206:
            range_, given = response.headers.get("Content-Range"), response.headers.get("ETag")
            if (given, range_, length) != (etag, f"bytes {there}-{size - 1}/{size}", size - there):
                part.discard()  # it heeds Range and not If-Range: the next attempt asks for the whole file
                raise _Cut("the server answered with a part of another file")
        else:
            there, size = 0, length
            part.begin(source, response.headers.get("ETag", ""), size)
        free = shutil.disk_usage(part.path.parent).free
        if free < size - there:
            full = OSError(errno.ENOSPC, f"{_size(size - there)} are needed and {_size(free)} free")
            raise UserError(_disk_problem(full, part.goal))
        done = f", {_size(there)} of it here already" if there else ""
        say(f"Downloading {part.goal.name} ({_size(size)}{done}) from {urlsplit(source).hostname}.")
        _receive(response, part, there, size)


def _check_status(response: HTTPResponse, source: str, *, ranged: bool) -> None:
    """Raises _Refused or _Cut for an answer that is not the file."""
    status, where = response.status, shown(source)
    if status in (401, 403):
        raise _Refused(
            f"{where} may not be read ({status}). If it is gated, accept its licence on its page and use the address "
            "that you get there, or, on the Hugging Face hub, a token. Some servers say the same of a file they lack."
        )
    if status in (404, 410):
        raise _Refused(f"there is no {where} ({status}): the address is mistyped, or the file was moved.")
    if status in (408, 425, 429) or status >= 500:
        raise _Cut(f"the server cannot answer now ({status})")
    if status != 200 and not (status == 206 and ranged):
        raise _Refused(f"{where} was answered with status {status}.")
    if "html" in response.headers.get("Content-Type", "").lower():
        raise _Refused(_PAGE)
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise _Refused("the server sends it compressed, though it was asked not to.")


def _length(response: HTTPResponse) -> int:
    """How many bytes the answer says that it has. Raises _Refused where it does not: a cut could not be noticed."""
    lengths = {text.strip() for text in response.headers.get_all("Content-Length", [])}
    text = lengths.pop() if len(lengths) == 1 else ""
    if "Transfer-Encoding" in response.headers or not re.fullmatch("[0-9]{1,18}", text):
        raise _Refused("the server does not say how long the file is, so a cut could not be noticed.")
    if not 0 < int(text) <= LARGEST:
        raise _Refused(f"the server has {_size(int(text))}; between 1 byte and {_size(LARGEST)} are fetched.")
    return int(text)


def _receive(response: HTTPResponse, part: Part, there: int, size: int) -> None:
    """Adds the answer's bytes to the part until there are `size`. Raises _Cut for fewer and _Refused for more."""
    response.length = None  # read until the server closes, rather than as much as it announced: both must be the same
    name = part.goal.name
    title = name if len(name) <= 34 else f"{name[:33]}…"
    with (
        part.path.open("ab") as file,
        Progress(title, _megabytes(size), unit="MB", start=_megabytes(there)) as progress,
    ):
        while True:
            try:
                data = response.read1(1 << 20)
            except (OSError, HTTPException) as error:
                if there == size:
                    return  # it is all here; the server only does not close
                raise _Cut(
                    f"the connection broke off after {_size(there)} of {_size(size)} ({in_words(error)})"
                ) from None
            there += len(data)
            if not data or there > size:
                break
            file.write(data)
            if _megabytes(there) != progress.done:  # not at each of 100,000 reads
                progress.update(_megabytes(there))
    if there < size:
        raise _Cut(f"the connection ended after {_size(there)} of {_size(size)}")
    if there > size:
        part.discard()
        raise _Refused(f"the server sends more than the {_size(size)} that it announced.")


def _open(url: str, headers: dict[str, str], timeout: float) -> HTTPResponse:
    """The answer at an address, redirects followed as far as is safe. Raises _Refused or _Cut."""
    try:
        return ask_following(url, headers, timeout, http="this machine")
    except BadRedirect as error:
        login = "A network that wants a login does that too; open the address in a browser."
        raise _Refused(f"{error}. {login}") from None
    except NoAnswer as error:
        if error.kind == "certificate":
            raise _Refused(f"{error}.") from None
        raise (_Unreachable if error.kind == "unreachable" else _Cut)(str(error)) from None


def _megabytes(count: int) -> int:
    return -(-count // _MB)


def _size(count: int) -> str:
    return f"{count / _MB:,.1f} MB" if count >= _MB // 10 else f"{count:,} bytes"


def _disk_problem(error: OSError, path: Path) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        advice = "make room, or set CONVNEXT_CACHE to a folder on another disk"
        return f"{path} cannot be written: the disk is full ({in_words(error)}). Please {advice}."
    return f"{path} cannot be written or read: {in_words(error)}. CONVNEXT_CACHE sets another folder."
