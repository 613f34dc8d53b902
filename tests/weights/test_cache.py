"""The cache: which file is meant, where it stands, who may write it; mirrors, offline, several processes at once."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from convnext.core.errors import UserError
from convnext.core.network import offline
from convnext.weights import cache
from convnext.weights.cache import cache_dir, place, record_of
from server import DATA, DIGEST, OTHER, PATH, Server, clean, get, left, missing, redirect, refused, status, whole


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    clean(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"


# digests


@pytest.mark.parametrize("sha256", [DIGEST, DIGEST[:8], DIGEST[:9].upper()])
def test_known_digest(server, sha256):
    assert get(server.at(PATH, whole(DATA)), sha256=sha256).read_bytes() == DATA


def test_the_wrong_file(server, folder):
    message = refused(server.at(PATH, whole(OTHER)), "another file came", "It was removed", sha256=DIGEST[:8])
    assert DIGEST[:8] in message
    assert hashlib.sha256(OTHER).hexdigest() in message
    assert left(folder) == []


@pytest.mark.parametrize("sha256", ["1234567", "g" * 8, "0" * 65, f" {DIGEST}"])
def test_no_digest(server, sha256):
    with pytest.raises(UserError, match="8 digits or more"):
        get(server.url(PATH), sha256=sha256)
    assert server.seen == []


def test_fetched_again_it_must_be_the_same(server, folder):
    """The record outlives the file: what came first is what is meant."""
    url = server.at(PATH, whole(DATA), whole(OTHER))
    path = get(url)
    path.unlink()
    refused(url, DIGEST, hashlib.sha256(OTHER).hexdigest(), f"delete {record_of(path)}")
    assert left(folder) == ["tiny.pth.sha256"]
    record_of(path).unlink()
    assert get(url).read_bytes() == OTHER


def test_a_known_digest_counts_more_than_the_record(server):
    url = server.at(PATH, whole(OTHER), whole(DATA))
    get(url).unlink()
    path = get(url, sha256=DIGEST)
    assert path.read_bytes() == DATA
    assert record_of(path).read_text().startswith(DIGEST)


def test_a_cached_file_of_another_digest(server):
    url = server.at(PATH, whole(OTHER))
    path = get(url)
    with pytest.raises(UserError, match=rf"tiny\.pth is not the published file: .*{DIGEST[:8]}\. Delete it"):
        get(url, sha256=DIGEST[:8])
    assert path.exists()


def test_a_file_of_the_same_first_digits(server):
    """32 bits can be forged: once the whole digest is known, it is the whole that counts."""
    url = server.at(PATH, whole(OTHER))
    path = place(url)
    path.parent.mkdir(parents=True)
    forged = hashlib.sha256(OTHER).hexdigest()[:8] + DIGEST[8:]
    record_of(path).write_text(f"{forged}  tiny.pth\n")
    refused(url, "not the one of its first use here", forged, sha256=forged[:8])
    path.write_bytes(OTHER)
    with pytest.raises(UserError, match="has changed since its first use"):
        get(url, sha256=forged[:8])
    assert get(url, sha256=hashlib.sha256(OTHER).hexdigest()) == path


def test_the_record_is_there_before_the_file(server, monkeypatch):
    """Who finds a file finds its record: otherwise two threads would write it."""
    url, real, moved = server.at(PATH, whole(DATA)), os.replace, []

    def replace(source, goal):
        moved.append((Path(goal).name, record_of(place(url)).exists()))
        real(source, goal)

    monkeypatch.setattr(os, "replace", replace)
    get(url)
    assert moved[-1] == ("tiny.pth", True)


def test_hashed_again_only_when_size_or_time_differ(server, monkeypatch):
    url = server.at(PATH, whole(DATA))
    path, hashed = get(url), []
    real = cache.sha256_of
    monkeypatch.setattr(cache, "sha256_of", lambda path: (hashed.append(path), real(path))[1])
    get(url)
    assert hashed == []
    os.utime(path, ns=(1, 1))
    get(url)
    assert hashed == [path]  # copied or touched, but the same
    get(url)
    assert hashed == [path]  # and that is written down


def test_a_cached_file_that_changed(server):
    url = server.at(PATH, whole(DATA))
    path = get(url)
    path.write_bytes(DATA[:-1])
    for sha256, message in (("", "has changed since its first use"), (DIGEST, "is not the published file")):
        with pytest.raises(UserError, match=message):
            get(url, sha256=sha256)
    assert path.exists()  # it may be someone's own
    record_of(path).unlink()
    assert get(url) == path


def test_put_there_by_hand(server, folder):
    """As the messages say: no record yet, or one that sha256sum wrote."""
    url = server.url(PATH)
    path = place(url)
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)
    with pytest.raises(UserError, match="is not the published file"):
        get(url, sha256="0" * 8)
    assert get(url, sha256=DIGEST[:8]) == path
    record_of(path).write_text(f"{hashlib.sha256(OTHER).hexdigest()}  tiny.pth\n")
    with pytest.raises(UserError, match="has changed"):
        get(url)
    record_of(path).write_text("?")
    with pytest.raises(UserError, match=r"tiny\.pth\.sha256 holds no SHA-256"):
        get(url)
    assert server.seen == []


def test_a_shared_cache_that_cannot_be_written(server, monkeypatch):
    path = place(server.url(PATH))
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)

    def denied(path, text):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(cache, "write_text", denied)
    assert get(server.url(PATH), sha256=DIGEST) == path
    with pytest.raises(UserError, match="is not the published file"):
        get(server.url(PATH), sha256="0" * 8)


# places


def test_places_do_not_collide():
    urls = [
        "https://a.example/m/x.pth",
        "https://b.example/m/x.pth",
        "https://a.example/n/x.pth",
        "https://a.example:8443/m/x.pth",
        "http://127.0.0.1:1/m/x.pth",
        "http://127.0.0.1:2/m/x.pth",
        "http://[::1]:2/m/x.pth",
    ]
    places = [place(url) for url in urls]
    assert len(set(places)) == len(urls)
    assert all(path.is_relative_to(cache_dir()) and path.name == "x.pth" for path in places)


def test_a_signature_is_not_part_of_the_file(server, folder, capsys):
    url = server.at(PATH, whole(DATA, cut_after=1000), missing, whole(DATA))
    message = refused(url + "?Signature=secret1#top", "there is no", "(404)")
    path = get(url + "?Signature=secret2#x")
    assert server.ranges()[-1] == "bytes=1000-"  # a new signature goes on where the old one was cut
    assert server.seen[-1].path == f"{PATH}?Signature=secret2"
    assert path == get(url)
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]
    assert "secret" not in message + capsys.readouterr().err + record_of(path).read_text()


def test_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("CONVNEXT_CACHE", "~/here")
    assert cache_dir() == tmp_path / "here"
    monkeypatch.setenv("CONVNEXT_CACHE", "relative")
    assert cache_dir() == Path.cwd() / "relative"
    monkeypatch.setenv("CONVNEXT_CACHE", "")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_dir() == tmp_path / "xdg" / "convnext"
    for value in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert cache_dir() == tmp_path / ".cache" / "convnext"


# offline and mirrors


@pytest.mark.parametrize("name", ["CONVNEXT_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline(server, monkeypatch, name):
    url = server.at(PATH, whole(DATA))
    monkeypatch.setenv(name, "1")
    refused(url, f"it is not on this machine yet, and {name} is set")
    assert server.seen == []
    path = place(url)
    path.parent.mkdir(parents=True)
    path.write_bytes(DATA)  # where the message says
    assert get(url, sha256=DIGEST[:8]) == path
    for value in ("0", "", "false"):
        monkeypatch.setenv(name, value)
        assert offline() == ""


def test_mirrors_in_order(server, monkeypatch, capsys):
    with Server() as first, Server() as second:
        inner = f"127.0.0.1_{server.port}{PATH}"
        first.at(f"/m/{inner}", status(500))
        second.at(f"/{inner}", whole(DATA))
        monkeypatch.setenv("CONVNEXT_MIRROR", f"{first.url('/m/')}  {second.url('')}")
        assert get(server.at(PATH, whole(DATA))).read_bytes() == DATA
        assert (len(first.seen), len(second.seen), len(server.seen)) == (5, 1, 0)
    assert "gave no file: the server cannot answer now (500), 5 times" in capsys.readouterr().err


@pytest.mark.parametrize(
    "behaviour",
    [missing, status(403), whole(OTHER), whole(b"<html>"), whole(OTHER, cut_after=1000), redirect("file:///")],
)
def test_the_file_itself_after_bad_mirrors(server, folder, monkeypatch, behaviour):
    with Server() as mirror:
        mirror.at(f"/127.0.0.1_{server.port}{PATH}", behaviour)
        monkeypatch.setenv("CONVNEXT_MIRROR", mirror.url(""))
        assert get(server.at(PATH, whole(DATA)), sha256=DIGEST).read_bytes() == DATA
    assert server.ranges() == [""]  # never added to what a mirror sent
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]


def test_a_mirror_that_is_not_there(server, monkeypatch):
    mirror = Server()
    with mirror:
        monkeypatch.setenv("CONVNEXT_MIRROR", mirror.url("/m"))
    assert get(server.at(PATH, whole(DATA))).read_bytes() == DATA


@pytest.mark.parametrize("mirror", ["http://example.org/m", "/srv/weights", "file:///srv"])
def test_no_mirror(server, monkeypatch, mirror):
    monkeypatch.setenv("CONVNEXT_MIRROR", f"https://example.org/fine {mirror}")
    with pytest.raises(UserError, match=r"CONVNEXT_MIRROR: \S+ is not "):
        get(server.url(PATH))


def test_the_cache_is_a_mirror(server, folder, monkeypatch):
    """Its layout and the mirror's are one."""
    path = get(server.at(PATH, whole(DATA)))
    with Server() as mirror:
        for file in (file for file in folder.rglob("*") if file.is_file()):
            mirror.at(f"/{file.relative_to(folder)}", whole(file.read_bytes()))
        monkeypatch.setenv("CONVNEXT_MIRROR", mirror.url(""))
        monkeypatch.setenv("CONVNEXT_CACHE", str(folder.with_name("second")))
        assert get(server.url(PATH)).read_bytes() == path.read_bytes()
    assert len(server.seen) == 1


# several at once


def together(count: int, work: Callable[[], object]) -> None:
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.fixture
def waiting(monkeypatch):
    """Set when someone waits for another's download, and says so."""
    event = threading.Event()
    monkeypatch.setattr(cache, "say", lambda text: event.set() if "by another process; waiting" in text else None)
    return event


def test_two_threads_fetch_once(server, folder, waiting):
    def slow(call):
        call.start(200, Content_Length=len(DATA), ETag='"one"')
        call.send(DATA[:1000])
        assert waiting.wait(5)
        call.send(DATA[1000:])

    url = server.at(PATH, slow, missing)
    paths = []
    together(2, lambda: paths.append(get(url)))
    assert paths == [place(url)] * 2
    assert paths[0].read_bytes() == DATA
    assert len(server.seen) == 1
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]


def test_the_next_takes_over_from_a_failed_one(server, folder, waiting):
    """A failed download lets go of the lock, and who waited goes on from its part."""

    def cut(call):
        call.start(200, Content_Length=len(DATA), ETag='"one"')
        call.send(DATA[:1000])
        assert waiting.wait(5)
        call.cut()

    url = server.at(PATH, cut, status(404), whole(DATA))
    results = []

    def work():
        try:
            results.append(get(url))
        except UserError as error:
            results.append(str(error))

    together(2, work)
    assert place(url) in results
    assert any("(404)" in str(result) for result in results)
    assert server.ranges() == ["", "bytes=1000-", "bytes=1000-"]
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]


def test_many_threads_and_failures(server, folder):
    """Locks are taken, waited for and removed in every order; each of those that get a file gets the right one."""
    url = server.at(PATH, *[whole(DATA, cut_after=1000), status(404)] * 4, whole(DATA))
    results = []

    def work():
        try:
            results.append(get(url).read_bytes() == DATA)
        except UserError as error:
            results.append("(404)" in str(error))

    together(12, work)
    assert results == [True] * 12
    assert len(server.seen) == 9
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]


def test_several_processes_fetch_once(server, folder):
    def slow(call):
        call.owner.released.wait(0.5)
        whole(DATA)(call)

    url = server.at(PATH, slow, missing)
    code = "import sys; from convnext.weights.download import download; print(download(sys.argv[1]))"
    workers = [subprocess.Popen([sys.executable, "-c", code, url], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [worker.communicate()[0].strip() for worker in workers] == [str(place(url))] * 3
    assert len(server.seen) == 1
    assert place(url).read_bytes() == DATA
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]


def test_no_locks(server, folder, monkeypatch):
    """Then each has a part file of its own, which does not stay."""

    def unsupported(*args):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unsupported)
    url = server.at(PATH, whole(DATA, cut_after=1000))
    refused(url, "5 times in a row")
    assert left(folder) == []
    assert get(server.at(PATH, whole(DATA, cut_after=1000), whole(DATA))).read_bytes() == DATA
    assert server.ranges()[-1] == "bytes=1000-"
    assert left(folder) == ["tiny.pth", "tiny.pth.sha256"]


def test_no_torch():
    """The command line can say where files are before torch is loaded."""
    code = "import sys, convnext.weights.download; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
