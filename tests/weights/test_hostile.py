"""Servers that lie about lengths, send web pages or redirect where nothing is to be fetched; addresses that trick."""

from __future__ import annotations

import io
import struct

import pytest

from convnext.core import network
from convnext.core.errors import UserError
from server import DATA, PATH, clean, get, left, missing, redirect, refused, status, whole


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    clean(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


# lies


def test_longer_than_announced(server, folder):
    refused(server.at(PATH, whole(DATA, length=299_900)), "sends more than the 0.3 MB that it announced")
    assert left(folder) == []


def test_shorter_than_announced(server, folder):
    refused(server.at(PATH, whole(DATA, length=300_100)), "0.3 MB of 0.3 MB, 5 times in a row")
    assert "tiny.pth" not in left(folder)


def test_resumed_part_longer_than_announced(server, folder):
    def more(call):
        call.start(206, Content_Range="bytes 100000-299999/300000", Content_Length=200_000, ETag='"one"')
        call.send(DATA[100_000:] + b"more")

    refused(server.at(PATH, whole(DATA, cut_after=100_000), more), "sends more than")
    assert left(folder) == []


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content_Length": "-1"},
        {"Content_Length": "many"},
        {"Content_Length": "0x10"},
        {"Content_Length": "3.0"},
        {"Content_Length": ""},
        {"Content_Length": "1" * 5000},
        {"Content_Length": "3", "content_length": "300000"},
        {"Content_Length": "3, 300000"},
        {"Content_Length": "3", "Transfer_Encoding": "chunked"},
    ],
)
def test_no_length(server, folder, headers):
    def step(call):
        call.start(200, **headers)
        call.send(b"3\r\nabc\r\n0\r\n\r\n")

    refused(server.at(PATH, step), "does not say how long the file is")
    assert left(folder) == []


@pytest.mark.parametrize(
    ("length", "text"), [(0, "0 bytes"), (9 << 30, "9,663.7 MB"), (10**17, "100,000,000,000.0 MB")]
)
def test_sizes_out_of_range(server, folder, length, text):
    refused(server.at(PATH, whole(b"abc", length=length)), f"the server has {text}", "8,589.9 MB are fetched")
    assert left(folder) == []


def test_compressed(server):
    refused(server.at(PATH, whole(DATA, extra={"Content_Encoding": "gzip"})), "compressed")


@pytest.mark.parametrize("kind", ["text/html", "text/html; charset=utf-8", "TEXT/HTML", "application/xhtml+xml"])
def test_a_web_page_by_its_type(server, folder, kind):
    page = whole(b"\0" * 100, extra={"Content_Type": kind})
    refused(server.at(PATH, page), "a web page came instead", "login", "licence")
    assert left(folder) == []


@pytest.mark.parametrize("page", [b"<!DOCTYPE html>", b"\n\n <html>", b"\xef\xbb\xbf<?xml version='1.0'?>", b"<"])
def test_a_web_page_by_its_first_bytes(server, folder, page):
    octets = {"Content_Type": "application/octet-stream"}
    refused(server.at(PATH, whole(page, extra=octets)), "a web page came instead")
    assert left(folder) == []


@pytest.mark.parametrize("header", [0x3C, 0x3C20, 0x3C3C])
def test_safetensors_may_begin_like_a_web_page(server, header):
    data = struct.pack("<Q", header) + b'{"a": ...}'
    assert get(server.at(PATH, whole(data))).read_bytes() == data


def test_garbage_instead_of_http(server):
    def garbage(call):
        call.send(b"\x1b[2J\xff\xfe what?\r\n\r\n")

    message = refused(server.at(PATH, garbage), "127.0.0.1 did not answer", "5 times in a row")
    assert "\\x1b[2J" in message


# redirects


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_redirects(server, code):
    target = server.at("/elsewhere/blob", whole(DATA, cut_after=1000), whole(DATA))
    path = get(server.at(PATH, redirect(target + "?Signature=x#top", code)))
    assert path.read_bytes() == DATA
    assert path.name == "tiny.pth"
    assert server.ranges() == ["", "", "bytes=1000-", "bytes=1000-"]  # asked of both


def test_relative_redirect(server):
    server.at("/models/real name.pth", missing)
    server.at("/models/real%20name.pth", whole(DATA))
    assert get(server.at(PATH, redirect("real name.pth"))).read_bytes() == DATA


@pytest.mark.parametrize(
    "target",
    [
        "file:///etc/passwd",
        "ftp://127.0.0.1/file",
        "data:text/plain,hello",
        "http://192.0.2.1/file",
        "http://127.0.0.1.example.org/file",
        "http://2130706434/file",
        "http://localhost@192.0.2.1/file",
        "https://user:secret@192.0.2.1/file",
        "https://[::1/file",
        "https://host:port/file",
        "https:///file",
        f"https://{'a' * 64}.example.org/file",
        "https://\x1b[31mhost/file",
        "//\xff/file",
        "gopher:",
    ],
)
def test_redirects_elsewhere_are_refused(server, folder, target):
    message = refused(server.at(PATH, redirect(target)), f"{server.url(PATH)} redirects to ", ", which ")
    assert "secret" not in message
    assert left(folder) == []
    assert len(server.seen) == 1


def test_redirects_to_this_machine_only_from_this_machine(server, monkeypatch):
    """A server elsewhere shall not have us ask our own services."""
    inner = server.at("/admin", whole(DATA))
    asked = []

    class Answer(io.BytesIO):
        status, headers = 302, {"Location": inner}

    def request(url, headers, timeout):
        asked.append(url)
        return Answer()

    monkeypatch.setattr(network, "ask", request)
    refused("https://example.org/tiny.pth", f"redirects to {inner}, which is not https")
    assert asked == ["https://example.org/tiny.pth"]


def test_redirect_loop(server):
    refused(server.at(PATH, redirect(server.url(PATH))), "redirects more than 5 times")
    assert len(server.seen) == 6


def test_five_redirects(server):
    for step in range(5):
        server.at(f"/{step}.pth", redirect(f"/{step + 1}.pth"))
    server.at("/5.pth", whole(DATA))
    assert get(server.url("/0.pth")).read_bytes() == DATA


def test_redirect_to_nowhere(server):
    refused(server.at(PATH, status(302)), "redirects more than 5 times")  # an empty address is the same one again


# addresses


@pytest.mark.parametrize(
    "url",
    [
        *("http://example.org/tiny.pth", "http://192.0.2.1/tiny.pth", "ftp://127.0.0.1/tiny.pth"),
        *("file:///etc/passwd", "/etc/passwd", "", "https://", "https:///tiny.pth"),
        *("https://user:secret@example.org/tiny.pth", "https://example.org:0/tiny.pth"),
        *("https://example.org:99999/tiny.pth", "https://-.-/..", "https://exa mple.org/tiny.pth"),
        *("https://example.org/ti\nny.pth", "https://example.org/\x1b[2Jtiny.pth", "https://example.org/tüny.pth"),
        *("https://bücher.example/tiny.pth", "https://[::1/tiny.pth"),
    ],
)
def test_addresses_that_are_refused(folder, url):
    with pytest.raises(UserError) as caught:
        get(url)
    assert "secret" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert not folder.exists()


@pytest.mark.parametrize(
    "path",
    [
        *("/../../x.pth", "/a/../x.pth", "/a/..", "/%2e%2e/x.pth", "/%2e%2e%2fx.pth", "/a/.hidden", "/a%00.pth"),
        *("/a%0a.pth", "/a%1b[2J.pth", "/a%e2%80%ae.pth", "/a%ff.pth", "/a%5cx.pth", "/c%3ax.pth", "/", "", "/a/"),
        *("/a/x.pth.sha256", "/a/x.pth.part", "/a/x.pth.lock", f"/{'x' * 201}.pth", "/" + "%c3%a9" * 101),
    ],
)
def test_names_that_lead_astray(folder, path):
    with pytest.raises(UserError, match=r"names no file|cannot be the name of a file|too long or reserved"):
        get(f"https://example.org{path}")
    assert not folder.exists()
