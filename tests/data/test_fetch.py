"""Images from the web: what is fetched, and the sentence that everything else gets."""

from __future__ import annotations

import io

import pytest
import torch

from convnext.core import network
from convnext.core.errors import UserError
from convnext.data import fetch as fetching
from convnext.data.fetch import MissingImage, fetch
from convnext.data.inputs import read_image
from server import Server, clean, hangs, redirect, status, whole


def refused(url: str, *parts: str) -> str:
    """The message with which an address is refused, which has all the parts."""
    with pytest.raises(MissingImage) as caught:
        read_image(url)
    message = str(caught.value)
    for part in parts:
        assert part in message, message
    assert isinstance(caught.value, UserError)
    assert message.isprintable()
    return message


@pytest.fixture
def server(tmp_path, monkeypatch):
    clean(monkeypatch, tmp_path / "cache")
    with Server() as server:
        yield server


def test_an_image_from_the_web(server, file, pixels):
    data = file.read_bytes()
    url = server.at("/a/cat.png", whole(data))
    assert torch.equal(read_image(url), pixels)
    assert torch.equal(read_image(url.replace("http", "HTTP", 1) + "?size=large#top"), pixels)
    assert server.seen[-1].path == "/a/cat.png?size=large"
    assert torch.equal(read_image(server.at("/moved", redirect("/a/cat.png"))), pixels)
    server.at("/a/gr%C3%B6%C3%9Fe%20x.png", whole(data))
    assert torch.equal(read_image(server.url("/a/größe x.png")), pixels)


def test_a_server_that_does_not_say_how_long(server, file, pixels):
    def step(call):
        call.start(200)
        call.send(file.read_bytes())

    assert torch.equal(read_image(server.at("/cat.png", step)), pixels)


def test_offline(server, monkeypatch):
    for name in ("CONVNEXT_OFFLINE", "HF_HUB_OFFLINE"):
        with monkeypatch.context() as patch:
            patch.setenv(name, "1")
            refused(server.url("/cat.png"), f"{name} is set: unset it", "give the path")
    assert server.seen == []


@pytest.mark.parametrize(
    ("step", "part"),
    [
        (status(404), "There is no http://127.0.0.1"),
        (status(403), "answered with status 403"),
        (status(500), "answered with status 500"),
        (whole(b"<html>", extra={"Content-Type": "text/html; charset=utf-8"}), "is a web page, no image"),
        (whole(b"x", extra={"Content-Encoding": "gzip"}), "came compressed"),
        (whole(b"x" * 3000), "more than the limit of"),
        (whole(b"x" * 500, cut_after=100), "broke off after"),
        (whole(b"x" * 100, length=500), "broke off after 100 of 500 bytes"),
        (redirect("file:///etc/passwd"), "redirects to file:///etc/passwd, which is not an address"),
        (redirect("/cat.png"), "redirects more than 5 times"),
        (hangs, "did not answer (timed out)"),
    ],
)
def test_what_goes_wrong_on_the_web(server, monkeypatch, step, part):
    monkeypatch.setattr(fetching, "MAX_BYTES", 2000)
    monkeypatch.setattr(fetching, "TIMEOUT", 0.2)
    message = refused(server.at("/cat.png", step) + "?token=secret", part)
    assert "secret" not in message


def test_what_the_server_does_not_announce_is_limited_too(server):
    def step(call):
        call.start(200)
        call.send(b"x" * 100_000)

    with pytest.raises(MissingImage, match="more than the limit of"):
        fetch(server.at("/cat.png", step), max_bytes=5000)


def test_drops_are_not_waited_for(server):
    def step(call):
        call.start(200, Content_Length=1000)
        for _ in range(20):
            call.send(b"x")
            call.owner.released.wait(0.05)

    with pytest.raises(MissingImage, match="is not here after 0 seconds"):
        fetch(server.at("/cat.png", step), timeout=5, longest=0.2)


def test_no_server(server):
    server.close()
    refused(server.url("/cat.png"), "could not be fetched: 127.0.0.1 is not reached")
    server.__enter__()


@pytest.mark.parametrize("url", ["https://", "https://a:b@host/x.jpg", "http://host:0/x.jpg", "https://exa mple/x\n"])
def test_addresses_that_are_none(server, url):
    refused(url, "Addresses like https://host/folder/name.jpg are accepted")


def test_redirects_to_this_machine_and_to_http(server, monkeypatch):
    class Answer(io.BytesIO):
        status = 302

        def __init__(self, target):
            super().__init__()
            self.headers = {"Location": target}

    for start, target, part in (
        ("http://example.org/x.jpg", server.url("/admin"), "which is this machine"),
        ("https://example.org/x.jpg", "http://example.org/x.jpg", "which is not https"),
    ):
        monkeypatch.setattr(network, "ask", lambda url, headers, timeout, target=target: Answer(target))
        refused(start, part)
    assert server.seen == []
