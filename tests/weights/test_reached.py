"""Whether a host is reached: the size of its file, a mirror for one that is down, no network told from a wrong file."""

from __future__ import annotations

import time

import pytest

from convnext.core.errors import UserError
from convnext.core.network import NotReached
from convnext.weights import download as module
from convnext.weights.download import size_of
from server import DATA, DIGEST, OTHER, PATH, get, hangs, left, missing, status, whole

pytestmark = pytest.mark.usefixtures("folder")


def test_the_size_of_a_file_is_asked_for(server, folder, monkeypatch):
    url = server.at(PATH, whole(DATA))
    assert size_of(url) == len(DATA)
    assert left(folder) == []
    get(url)
    server.close()
    assert size_of(url) == len(DATA)  # it is here


def test_a_mirror_answers_for_a_host_that_is_down(server, monkeypatch):
    host = "https://127.0.0.1:9/tiny.pth"
    monkeypatch.setenv("CONVNEXT_MIRROR", f"http://127.0.0.1:9 {server.url('')}")
    with pytest.raises(NotReached, match=r"127\.0\.0\.1 is not reached.*\(404\)") as caught:
        size_of(host)
    assert caught.value.reason.count("is not reached") == 1  # each reason once
    server.at("/127.0.0.1_9/tiny.pth", whole(DATA))
    assert size_of(host) == len(DATA)


def test_no_network_is_known_within_seconds(server, monkeypatch):
    url = server.at(PATH, hangs)
    begun = time.monotonic()
    with pytest.raises(NotReached, match="did not answer"):
        size_of(url, seconds=0.2)
    monkeypatch.setattr(module, "_ask_size", lambda source, seconds: time.sleep(3))  # as the look-up of a name may
    with pytest.raises(NotReached, match=r"127\.0\.0\.1 did not answer within 0\.2 seconds"):
        size_of(url, seconds=0.2)
    assert time.monotonic() - begun < 2.5
    monkeypatch.setenv("CONVNEXT_OFFLINE", "1")
    with pytest.raises(NotReached, match="CONVNEXT_OFFLINE is set"):
        size_of(url)


def test_a_missing_network_is_told_from_a_wrong_file(server, monkeypatch):
    monkeypatch.setattr(module, "ATTEMPTS", 1)
    for step in (whole(DATA, cut_after=1000), status(503), hangs):
        with pytest.raises(NotReached):
            get(server.at(PATH, step), timeout=0.2)
    for number, step in enumerate((missing, status(403), whole(b"<html>"), whole(OTHER))):
        with pytest.raises(UserError) as caught:
            get(server.at(f"/models/{number}.pth", step), sha256=DIGEST)
        assert not isinstance(caught.value, NotReached)
    monkeypatch.setenv("CONVNEXT_MIRROR", server.url(""))  # a wrong file on a mirror, and the host down
    server.at("/127.0.0.1_9/tiny.pth", whole(OTHER))
    with pytest.raises(UserError) as caught:
        get("https://127.0.0.1:9/tiny.pth", sha256=DIGEST)
    assert not isinstance(caught.value, NotReached)
