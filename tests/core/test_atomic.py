"""Files that are whole or not there."""

from __future__ import annotations

import os

import pytest

from convnext.core.atomic import replacing, write_text


def names(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_writes(tmp_path):
    path = tmp_path / "file.bin"
    with replacing(path) as file:
        file.write(b"one")
        assert not path.exists()  # not before all is well
    assert path.read_bytes() == b"one"
    with replacing(path) as file:
        file.write(b"two")
        assert path.read_bytes() == b"one"
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["file.bin"]


@pytest.mark.parametrize("kind", [ValueError, OSError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("before", [b"old", None])
def test_failure_leaves_what_was_there(tmp_path, kind, before):
    path = tmp_path / "file.bin"
    if before is not None:
        path.write_bytes(before)

    def fail():
        with replacing(path) as file:
            file.write(b"half")
            file.flush()
            raise kind

    with pytest.raises(kind):
        fail()
    assert names(tmp_path) == ([] if before is None else ["file.bin"])
    assert before is None or path.read_bytes() == before


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_failure_of_the_disk(tmp_path, monkeypatch, step):
    path = tmp_path / "file.txt"
    write_text(path, "old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, step, full)
    with pytest.raises(OSError, match="No space"):
        write_text(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["file.txt"]


def test_flushed_before_it_is_moved(tmp_path, monkeypatch):
    """Otherwise a power failure could leave an empty file under the final name."""
    order = []
    for step in ("fsync", "replace"):
        real = getattr(os, step)
        monkeypatch.setattr(os, step, lambda *args, step=step, real=real: (order.append(step), real(*args))[1])
    write_text(tmp_path / "file.txt", "text")
    assert order == ["fsync", "replace"]


def test_text_is_utf8(tmp_path):
    write_text(tmp_path / "file.txt", "Größe ✓")
    assert (tmp_path / "file.txt").read_bytes() == "Größe ✓".encode()


def test_no_folder(tmp_path):
    with pytest.raises(FileNotFoundError):
        write_text(tmp_path / "none" / "file.txt", "text")
