"""A web server on this machine that misbehaves as told, one behaviour for each path, and remembers what it was asked.

A behaviour is a function of a `Call`; those below cover honest and hostile servers and hubs. A list of behaviours is
used up one at a time; the last one stays. At the end of the file: what tests of downloads do all the time.
"""

from __future__ import annotations

import hashlib
import random
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest

from convnext.core.errors import UserError
from convnext.core.network import shown
from convnext.weights.cache import place
from convnext.weights.download import download

DATA = random.Random(0).randbytes(300_000)
OTHER = random.Random(1).randbytes(300_000)
DIGEST = hashlib.sha256(DATA).hexdigest()
PATH = "/models/tiny.pth"


@dataclass(frozen=True)
class Seen:
    """One request."""

    method: str
    path: str
    range: str
    if_range: str
    headers: dict[str, str]


class Call(BaseHTTPRequestHandler):
    """One request and the means to answer it."""

    protocol_version = "HTTP/1.1"
    owner: Server

    def do_GET(self) -> None:
        seen = self.headers
        call = Seen(self.command, self.path, seen.get("Range", ""), seen.get("If-Range", ""), dict(seen))
        with self.owner.lock:
            self.owner.seen.append(call)
            steps = self.owner.behaviours.get(self.path.split("?")[0], [missing])
            step = steps.pop(0) if len(steps) > 1 else steps[0]
        self.close_connection = True
        step(self)

    do_HEAD = do_CONNECT = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def start(self, status: int, **headers: object) -> None:
        """Status and headers; an underscore in a name stands for a hyphen, None leaves the header out."""
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), str(value))
        self.send_header("Connection", "close")
        self.end_headers()

    def send(self, data: bytes) -> None:
        """A body, which the answer to HEAD has not."""
        if self.command != "HEAD":
            self.wfile.write(data)
            self.wfile.flush()

    def cut(self) -> None:
        """Ends the connection at once, as a failing network does."""
        self.connection.shutdown(socket.SHUT_RDWR)


Behaviour = Callable[[Call], None]


@dataclass
class Server:
    """`with Server() as server: url = server.at("/a/model.pth", whole(data))`"""

    behaviours: dict[str, list[Behaviour]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    released: threading.Event = field(default_factory=threading.Event)
    """Set at the end: behaviours that hang wait for it."""

    def __enter__(self) -> Self:
        handler = type("Handler", (Call,), {"owner": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._server.handle_error = lambda *_: None  # a client that goes away is what the tests are about
        self._server.daemon_threads = False  # closing waits for them
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, tb: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Stops listening; later connections are refused."""
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def at(self, path: str, *steps: Behaviour) -> str:
        """Gives a path its behaviours and returns its address."""
        self.behaviours[path] = list(steps)
        return self.url(path)

    def ranges(self) -> list[str]:
        """The Range header of every request so far."""
        return [call.range for call in self.seen]


def missing(call: Call) -> None:
    """Nothing there."""
    status(404)(call)


def status(code: int, body: bytes = b"", **headers: object) -> Behaviour:
    """An answer with this status and short body."""

    def step(call: Call) -> None:
        call.start(code, Content_Length=len(body), **headers)
        call.send(body)

    return step


def redirect(target: str, code: int = 302) -> Behaviour:
    """On to another address."""
    return status(code, Location=target)


def whole(
    data: bytes,
    *,
    etag: str | None = '"one"',
    cut_after: int | None = None,
    length: int | None = None,
    heeds: Sequence[str] = ("Range", "If-Range"),
    stays_open: bool = False,
    extra: dict[str, object] | None = None,
) -> Behaviour:
    """A file, served as a good server does, except where told.

    cut_after: bytes of the body after which the connection ends. length: the length it claims for what it sends.
    heeds: the headers that it knows. stays_open: the connection is not closed at the end. extra: headers beside.
    """

    def step(call: Call) -> None:
        first = 0
        wanted = call.headers.get("Range", "") if "Range" in heeds else ""
        if wanted and ("If-Range" not in heeds or call.headers.get("If-Range") in (None, etag)):
            first = int(wanted.removeprefix("bytes=").removesuffix("-"))
        if first and first >= len(data):
            call.start(416, Content_Range=f"bytes */{len(data)}", Content_Length=0)
            return
        body = data[first:]
        where = f"bytes {first}-{len(data) - 1}/{len(data)}" if first else None
        claimed = len(body) if length is None else length
        headers = {"Content_Length": claimed, "ETag": etag, "Content_Range": where, **(extra or {})}
        call.start(206 if first else 200, **headers)
        call.send(body[:cut_after])
        if cut_after is not None:
            call.cut()
        elif stays_open:
            call.owner.released.wait(10)

    return step


def hangs(call: Call) -> None:
    """Takes the request and says nothing."""
    call.owner.released.wait(10)


# what the tests do with it


def clean(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """A cache of the test's own, and nothing of this machine's settings."""
    for name in ("CONVNEXT_OFFLINE", "HF_HUB_OFFLINE", "CONVNEXT_MIRROR", "https_proxy", "HTTPS_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("CONVNEXT_CACHE", str(folder))
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # where nothing listens: loopback goes past proxies


def get(url: str, sha256: str = "", timeout: float = 5.0) -> Path:
    """`download` without waits."""
    return download(url, sha256=sha256, timeout=timeout, pause=0.001)


def left(folder: Path) -> list[str]:
    """Names of all files in the cache."""
    return sorted(path.name for path in folder.rglob("*") if not path.is_dir())


def refused(url: str, *parts: str, sha256: str = "", timeout: float = 5.0) -> str:
    """The message with which `url` is refused, which has all the parts, and says how to do it by hand."""
    with pytest.raises(UserError) as caught:
        get(url, sha256, timeout)
    message = str(caught.value)
    for part in (*parts, f"save {shown(url)} as {place(url)}"):
        assert part in message, message
    assert "\x1b" not in message
    return message
