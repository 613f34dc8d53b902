"""An image from the web, into memory.

Addresses are https or http. Redirects are followed as far as is safe: never from https to http, and never from a server
elsewhere to this machine.
"""

from __future__ import annotations

import string
import time
from http.client import HTTPException, HTTPResponse
from urllib.parse import quote, urldefrag

from convnext.core.errors import UserError
from convnext.core.network import BadRedirect, NoAnswer, ask_following, in_words, objection, offline, shown

MAX_BYTES = 100_000_000
"""Bytes of an image file from the web; more are refused."""
TIMEOUT = 20.0
"""Seconds without a byte until a connection counts as cut."""
LONGEST = 120.0
"""Seconds for the whole file."""
_HEADERS = {"User-Agent": "convnext", "Accept": "image/*", "Accept-Encoding": "identity"}
_BY_HAND = "Save the image, and give the path of the file."


class MissingImage(UserError, FileNotFoundError):
    """An image that is not where it was said to be, or that cannot be reached or opened there."""


def fetch(
    url: str, *, max_bytes: int | None = None, timeout: float | None = None, longest: float | None = None
) -> bytes:
    """The bytes at an https:// or http:// address.

    max_bytes: more are refused. timeout: seconds without a byte until the connection counts as cut. longest: seconds
    for the whole file. None: MAX_BYTES, TIMEOUT and LONGEST.

    Raises MissingImage where the network is forbidden (CONVNEXT_OFFLINE=1) or not reached, where there is no such file,
    where it is too large or too slow, and where a web page comes instead of an image.
    """
    max_bytes = MAX_BYTES if max_bytes is None else max_bytes
    timeout = TIMEOUT if timeout is None else timeout
    longest = LONGEST if longest is None else longest
    name, until = shown(url), time.monotonic() + longest
    url = quote(urldefrag(url)[0], safe=string.punctuation)  # people paste addresses with spaces and umlauts
    if problem := objection(url, http="everywhere"):
        raise MissingImage(f"{name} {problem}. Addresses like https://host/folder/name.jpg are accepted.")
    if variable := offline():
        raise MissingImage(f"{name} is not fetched, for {variable} is set: unset it. Or: {_BY_HAND}")
    try:
        with ask_following(url, _HEADERS, timeout, http="everywhere") as response:
            _check(response, name)
            return _received(response, name, max_bytes, until, longest)
    except BadRedirect as error:
        raise MissingImage(f"{error}. {_BY_HAND}") from None
    except NoAnswer as error:
        raise MissingImage(f"{name} could not be fetched: {error}. {_BY_HAND}") from None


def _check(response: HTTPResponse, name: str) -> None:
    """Raises MissingImage for an answer that is no file."""
    if response.status in (404, 410):
        raise MissingImage(f"There is no {name} ({response.status}): the address is mistyped, or the image was moved.")
    if response.status != 200:
        raise MissingImage(f"{name} was answered with status {response.status}. {_BY_HAND}")
    if "html" in response.headers.get("Content-Type", "").lower():
        raise MissingImage(f"{name} is a web page, no image: give the address of the image in it.")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise MissingImage(f"{name} came compressed, though the server was asked not to do that. {_BY_HAND}")


def _received(response: HTTPResponse, name: str, max_bytes: int, until: float, longest: float) -> bytes:
    """All bytes of an answer. Raises MissingImage where they are too many, too few or too slow."""
    announced = response.length or 0  # 0 where the server does not say
    large = f"more than the limit of {max_bytes / 1e6:,.0f} MB. {_BY_HAND}"
    if announced > max_bytes:
        raise MissingImage(f"{name} has {announced / 1e6:,.0f} MB, {large}")
    parts, there = [], 0
    while True:
        try:
            part = response.read1(1 << 16)
        except (OSError, HTTPException) as error:
            raise MissingImage(f"{name} broke off after {there:,} bytes ({in_words(error)}). Try again.") from None
        if not part:
            break
        parts.append(part)
        there += len(part)
        if there > max_bytes:
            raise MissingImage(f"{name} has {large}")
        if time.monotonic() > until:
            raise MissingImage(f"{name} is not here after {longest:.0f} seconds ({there:,} bytes are). {_BY_HAND}")
    if there < announced:
        raise MissingImage(f"{name} broke off after {there:,} of {announced:,} bytes. Try again.")
    return b"".join(parts)
