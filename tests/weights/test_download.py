"""Downloads from servers that fail, lie and attack: whole and right files, or an error that says what to do."""

from __future__ import annotations

import errno
import io
import socket
import ssl
import struct
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from convnext.core.errors import UserError
from convnext.weights import cache
from convnext.weights import download as module
from convnext.weights.cache import place, record_of
from convnext.weights.download import download
from server import DATA, DIGEST, OTHER, PATH, Server, get, hangs, left, missing, refused, status, whole

pytestmark = pytest.mark.usefixtures("folder")

# an honest server


def test_a_file_and_what_is_beside_it(server, folder, capsys):
    path = get(server.at(PATH, whole(DATA)))
    assert path == folder / f"127.0.0.1_{server.port}" / "models" / "tiny.pth"
    assert path.read_bytes() == DATA
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]
    assert record_of(path).read_text().startswith(f"{DIGEST}  tiny.pth\n#")  # sha256sum reads it
    out, err = capsys.readouterr()
    assert (out, err) == ("", "Downloading tiny.pth (0.3 MB) from 127.0.0.1.\n")
    asked = server.seen[0].headers
    assert asked["Accept-Encoding"] == "identity"
    assert "Range" not in asked


def test_no_network_once_it_is_there(server, folder):
    url = server.at(PATH, whole(DATA))
    path = get(url)
    server.close()
    assert get(url) == path
    assert get(url, sha256=DIGEST[:8]) == path
    assert len(server.seen) == 1


def test_the_bar_fits_a_terminal(server, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    get(server.at("/convnext_large_mlp.clip_laion2b_soup_ft_in12k_in1k_384.safetensors", whole(bytes(2_500_000))))
    assert "convnext_large_mlp.clip_laion2b_s…" in terminal.getvalue()
    assert "3/3  0s left" in terminal.getvalue()
    assert "MB/s" in terminal.getvalue()


def test_a_server_that_stays_open(server):
    assert get(server.at(PATH, whole(DATA, stays_open=True, etag=None)), timeout=0.2).read_bytes() == DATA
    assert len(server.seen) == 1


# cuts


def test_cut_and_resumed(server, folder, capsys):
    url = server.at(PATH, *[whole(DATA, cut_after=100_000)] * 2, whole(DATA))
    assert get(url).read_bytes() == DATA
    assert server.ranges() == ["", "bytes=100000-", "bytes=200000-"]
    assert [call.if_range for call in server.seen] == ["", '"one"', '"one"']
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]
    err = capsys.readouterr().err
    assert "tiny.pth: the connection ended after 0.1 MB of 0.3 MB; trying again in 0s.\n" in err
    assert "Downloading tiny.pth (0.3 MB, 0.1 MB of it here already) from 127.0.0.1.\n" in err


def test_cut_five_times_and_resumed_by_a_later_call(server, folder):
    url = server.at(PATH, whole(DATA, cut_after=1000), *[whole(DATA, cut_after=0)] * 4, whole(DATA))
    refused(url, "ended after 1,000 bytes of 0.3 MB, 5 times in a row")
    assert left(folder) == ["tiny.pth.part", "tiny.pth.part.json"]
    assert get(url).read_bytes() == DATA
    assert server.ranges()[-1] == "bytes=1000-"
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]


def test_any_number_of_cuts_while_it_gets_on(server):
    data = bytes(8_000_100)
    url = server.at(PATH, whole(data, cut_after=1_000_010))
    assert get(url).read_bytes() == data
    assert len(server.seen) == 9


def test_cut_again_and_again_at_the_same_place(server, folder):
    """A server that ignores Range gets no nearer to the end, however much it sends."""
    url = server.at(PATH, whole(bytes(3_000_000), heeds=(), cut_after=2_000_000))
    refused(url, "2.0 MB of 3.0 MB, 5 times in a row")
    assert len(server.seen) == 5
    assert "tiny.pth" not in left(folder)
    less = [whole(bytes(3_000_000), heeds=(), cut_after=cut) for cut in (1_900_000, 500_000)]
    refused(server.at("/b.pth", *less * 10), "5 times in a row")
    assert len(server.seen) == 10


def test_reset(server):
    def reset(call):
        call.start(200, Content_Length=len(DATA), ETag='"one"')
        call.send(DATA[:50_000])
        call.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        call.connection.close()

    assert get(server.at(PATH, reset, whole(DATA))).read_bytes() == DATA


def test_interrupted_by_hand(server, folder, monkeypatch):
    url = server.at(PATH, whole(DATA, cut_after=1000))

    def interrupt(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(module.time, "sleep", interrupt)
    with pytest.raises(KeyboardInterrupt):
        get(url)
    monkeypatch.undo()
    assert sorted(path.name for path in folder.rglob("*.p*")) == ["tiny.pth.part", "tiny.pth.part.json"]


def killed(server: Server, data: bytes, etag: str = '"one"') -> Path:
    """What a killed download leaves: the first bytes and where they are from."""
    url = server.url(PATH)
    part = cache.Part(place(url), place(url).with_name("tiny.pth.part"), resumable=True)
    part.path.parent.mkdir(parents=True, exist_ok=True)
    part.begin(url, etag, len(DATA))
    part.path.write_bytes(data)
    return part.path


def test_a_part_that_is_too_long(server):
    killed(server, DATA + b"more")
    assert get(server.at(PATH, whole(DATA))).read_bytes() == DATA
    assert server.ranges() == [""]


def test_killed_before_the_last_step(server, folder):
    """All bytes are there and no name yet: nothing is asked of the server."""
    killed(server, DATA)
    assert get(server.at(PATH, missing)).read_bytes() == DATA
    assert server.seen == []
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]


def test_a_killed_part_that_was_damaged(server, folder):
    killed(server, OTHER[:1000])
    refused(server.at(PATH, whole(DATA)), "another file came", DIGEST, sha256=DIGEST)
    assert left(folder) == []
    assert get(server.url(PATH), sha256=DIGEST).read_bytes() == DATA


@pytest.mark.parametrize("note", ["", "{", "[]", '{"source": 1}', '{"source": "http://elsewhere/", "size": 9}'])
def test_a_part_of_unknown_origin_is_not_added_to(server, note):
    part = killed(server, OTHER[:1000])
    part.with_name("tiny.pth.part.json").write_text(note)
    assert get(server.at(PATH, whole(DATA))).read_bytes() == DATA
    assert server.ranges() == [""]


# resuming, where the server makes it hard


@pytest.mark.parametrize("heeds", [("Range", "If-Range"), ("Range",), ()])
def test_changed_between_two_parts(server, heeds):
    """The whole new file, whether the server heeds If-Range, Range alone or neither; never two halves."""
    url = server.at(PATH, whole(DATA, cut_after=100_000), whole(OTHER, etag='"two"', heeds=heeds))
    assert get(url).read_bytes() == OTHER


@pytest.mark.parametrize("length", [100_000, 50_000, 100_001])
def test_changed_to_a_shorter_file(server, length):
    new = whole(OTHER[:length], etag='"two"', heeds=("Range",))
    assert get(server.at(PATH, whole(DATA, cut_after=100_000), new)).read_bytes() == OTHER[:length]


@pytest.mark.parametrize("etag", [None, 'W/"one"', "one", '""', '"one'])
def test_no_resuming_without_a_strong_etag(server, folder, etag):
    url = server.at(PATH, whole(DATA, etag=etag, cut_after=100_000), whole(DATA, etag=etag))
    assert get(url).read_bytes() == DATA
    assert server.ranges() == ["", ""]
    url = server.at("/b.pth", whole(DATA, etag=etag, cut_after=100_000))
    refused(url, "5 times in a row")
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]  # a part that no one can go on with is removed


def test_range_ignored(server):
    url = server.at(PATH, whole(DATA, cut_after=100_000, heeds=()), whole(DATA, heeds=()))
    assert get(url).read_bytes() == DATA
    assert server.ranges() == ["", "bytes=100000-"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content_Range": "bytes 99999-299999/300000", "Content_Length": 200_001, "ETag": '"one"'},
        {"Content_Range": "bytes 100000-299999/400000", "Content_Length": 200_000, "ETag": '"one"'},
        {"Content_Range": "bytes 100000-299999/300000", "Content_Length": 100_000, "ETag": '"one"'},
        {"Content_Range": "bytes 100000-299999/300000", "Content_Length": 200_000},
        {"Content_Range": "bytes", "Content_Length": 200_000, "ETag": '"one"'},
        {"Content_Length": 200_000, "ETag": '"one"'},
    ],
)
def test_another_part_than_asked_for(server, headers):
    def wrong(call):
        call.start(206, **headers)
        call.send(DATA[100_000:])

    assert get(server.at(PATH, whole(DATA, cut_after=100_000), wrong, whole(DATA))).read_bytes() == DATA
    assert server.ranges() == ["", "bytes=100000-", ""]


def test_a_part_that_was_not_asked_for(server):
    url = server.at(PATH, status(206, DATA, Content_Range="bytes 0-299999/300000"))
    refused(url, "was answered with status 206")


# refusals and failures


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (401, "accept its licence on its page"),
        (403, "accept its licence on its page"),
        (404, "(404): the address is mistyped, or the file was moved"),
        (410, "(410): the address is mistyped"),
        (400, "was answered with status 400"),
        (204, "was answered with status 204"),
        (304, "was answered with status 304"),
    ],
)
def test_refusals_are_not_repeated(server, folder, code, text):
    refused(server.at(PATH, status(code, b"" if code in (204, 304) else b"<html>no</html>")), text)
    assert len(server.seen) == 1
    assert left(folder) == []


def test_failures_pass(server):
    assert get(server.at(PATH, *map(status, (500, 503, 429)), whole(DATA))).read_bytes() == DATA


def test_failures_stay(server, folder):
    refused(server.at(PATH, status(502)), "the server cannot answer now (502), 5 times in a row")
    assert len(server.seen) == module.ATTEMPTS
    assert left(folder) == []


def test_waits_grow(server, monkeypatch):
    waits = []
    monkeypatch.setattr(module.time, "sleep", waits.append)
    with pytest.raises(UserError):
        download(server.at(PATH, status(500)))
    assert waits == [1, 2, 4, 8]


def test_a_slow_server(server):
    """Only a pause as long as the timeout counts, not the whole time."""

    def slow(call):
        call.start(200, Content_Length=len(DATA))
        for start in range(0, len(DATA), len(DATA) // 10):
            call.owner.released.wait(0.05)
            call.send(DATA[start : start + len(DATA) // 10])

    assert get(server.at(PATH, slow, missing), timeout=0.3).read_bytes() == DATA


def test_a_server_that_hangs(server):
    assert get(server.at(PATH, hangs, whole(DATA)), timeout=0.1).read_bytes() == DATA


def test_a_server_that_hangs_in_the_middle(server):
    def stalls(call):
        call.start(200, Content_Length=len(DATA), ETag='"one"')
        call.send(DATA[:1000])
        hangs(call)

    assert get(server.at(PATH, stalls, whole(DATA)), timeout=0.1).read_bytes() == DATA
    assert server.ranges() == ["", "bytes=1000-"]


def test_nobody_listens(server, folder, monkeypatch):
    url = server.url(PATH)
    server.close()
    monkeypatch.setattr(module.time, "sleep", pytest.fail)  # told at once
    refused(url, "127.0.0.1 is not reached (Connection refused).")
    assert left(folder) == []


def test_no_network(monkeypatch):
    def lookup(*args, **options):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.delenv("http_proxy")
    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    monkeypatch.setattr(module.time, "sleep", pytest.fail)
    refused("https://example.org/a/tiny.pth", "example.org is not found: there seems to be no network.")


def test_the_network_goes_in_the_middle(server, monkeypatch):
    """Then it is waited for, unlike at the beginning."""
    url = server.at(PATH, whole(DATA, cut_after=1000), whole(DATA))
    real, calls = socket.create_connection, []

    def connect(*args, **options):
        calls.append(args)
        if len(calls) in (2, 3):
            raise OSError(errno.ENETUNREACH, "Network is unreachable")
        return real(*args, **options)

    monkeypatch.setattr(socket, "create_connection", connect)
    assert get(url).read_bytes() == DATA
    assert server.ranges() == ["", "bytes=1000-"]


def test_a_proxy_is_used(server, monkeypatch):
    """That of the environment, as every program does; and for https, which it cannot look into."""
    monkeypatch.setenv("https_proxy", server.url(""))
    server.behaviours["example.org:443"] = [status(407)]
    refused("https://example.org/a/tiny.pth", "example.org is not reached (Tunnel connection failed: 407")
    assert [(call.method, call.path) for call in server.seen] == [("CONNECT", "example.org:443")]


def test_an_untrusted_certificate(monkeypatch):
    error = ssl.SSLCertVerificationError(1, "certificate verify failed")
    error.verify_message = "self-signed certificate"

    def connect(*args, **options):
        raise error

    monkeypatch.setattr(socket, "create_connection", connect)
    monkeypatch.setattr(module.time, "sleep", pytest.fail)
    refused("https://192.0.2.1/tiny.pth", "not trusted (self-signed certificate)", "SSL_CERT_FILE")


def test_no_room_on_the_disk(server, folder, monkeypatch):
    killed(server, DATA[:1000])
    usage = SimpleNamespace(free=250_000)
    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"disk is full \(0\.3 MB are needed and 0\.2 MB free\).* CONVNEXT_CACHE"):
        get(server.at(PATH, whole(DATA)))
    assert left(folder) == ["tiny.pth.part", "tiny.pth.part.json"]  # made room, it goes on from here
    usage.free = 299_000
    assert get(server.url(PATH)).read_bytes() == DATA


def test_the_disk_fills_up(server, folder, monkeypatch):
    """A part that could be resumed is removed all the same: a full disk stops other programs too."""
    real = Path.open

    class Full(io.FileIO):
        def write(self, data):
            if self.tell() > 1000:
                raise OSError(errno.ENOSPC, "No space left on device")
            return super().write(data)

    def opened(path, mode="r", *args, **options):
        return Full(path, "a") if mode == "ab" else real(path, mode, *args, **options)

    def halves(call):
        call.start(200, Content_Length=len(DATA), ETag='"one"')
        call.send(DATA[:2000])
        call.owner.released.wait(0.05)
        call.send(DATA[2000:])

    monkeypatch.setattr(Path, "open", opened)
    with pytest.raises(UserError, match=r"disk is full \(No space left on device\)"):
        get(server.at(PATH, halves))
    assert left(folder) == []


def test_a_cache_that_is_a_file(server, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CONVNEXT_CACHE", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"cannot be written or read: Not a directory\. CONVNEXT_CACHE sets another"):
        get(server.at(PATH, whole(DATA)))


# whether a file can be had, asked before it is fetched
