"""Whether results can be written is asked first, which leaves nothing behind; a folder has one holder at a time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from convnext.core.atomic import FullDisk, write_text
from convnext.core.errors import UserError
from convnext.core.lock import LOCK, is_taken, taken
from convnext.core.places import check_file, check_folder
from convnext.core.strict_json import to_json
from convnext.core.text import escaped, one_line, safe


def everything(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_a_place_that_can_be_written_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "there.json").write_text("old")
    (tmp_path / "link").symlink_to("there.json")
    before = everything(tmp_path)
    check_folder(tmp_path / "new" / "deeper", "--pictures")
    for name in ("r.json", "new/r.json", "there.json", "link"):
        check_file(tmp_path / name, "--results")
    check_file(Path("/dev/null"), "--results")
    assert everything(tmp_path) == before
    assert (tmp_path / "there.json").read_text() == "old"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("file/r.json", "file is a file"),
        ("folder", "is a folder"),
        ("gone/r.json", "is a link to"),
        ("x" * 300, "too long"),
        ("y" * 300 + "/r.json", "too long"),
        ("circle/r.json", "circle"),
    ],
)
def test_a_place_that_cannot_is_named(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    (tmp_path / "gone").symlink_to("nowhere")
    (tmp_path / "circle").symlink_to("circle")
    before = everything(tmp_path)
    with pytest.raises(UserError, match=rf"(?s)--results.*{words}"):
        check_file(tmp_path / name, "--results")
    assert everything(tmp_path) == before


def test_a_place_of_the_systems_own_is_refused() -> None:
    with pytest.raises(UserError, match=r"--pictures: /proc/.* cannot be written"):
        check_folder(Path("/proc/here/pictures"), "--pictures")


def test_a_folder_has_one_holder(tmp_path: Path) -> None:
    """Which may take it again; what was made for it, and is empty, goes with it."""
    place = tmp_path / "runs" / "x"
    with taken(place):
        assert is_taken(place)
        with taken(place):
            pass
        assert is_taken(place)
        other = subprocess.run(hold(place), capture_output=True, text=True, check=False)
        assert f"process {os.getpid()} on" in other.stderr
        assert "is in use by a run that is still going" in other.stderr
    assert everything(tmp_path) == []
    assert not is_taken(place)
    with taken(place):
        (place / "file").touch()
    assert everything(tmp_path) == ["runs", "runs/x", "runs/x/file"]


def hold(place: Path, seconds: float = 0.0) -> list[str]:
    """A process that holds a folder, while a child that it forked lives."""
    code = f"""
import os, time
from pathlib import Path
from convnext.core.lock import taken
with taken(Path({str(place)!r})):
    if os.fork() == 0:
        time.sleep({seconds})
        os._exit(0)
    print("taken", flush=True)
    time.sleep({seconds})
"""
    return [sys.executable, "-c", code]


def test_a_kill_gives_it_back_even_where_workers_live_on(tmp_path: Path) -> None:
    place = tmp_path / "x"
    with subprocess.Popen(hold(place, 20.0), stdout=subprocess.PIPE, start_new_session=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"taken\n"
        assert is_taken(place)
        with pytest.raises(UserError, match=rf"in use.*process {holder.pid}"), taken(place):
            pass
        holder.kill()
        holder.wait()
        for _ in range(100):
            if not is_taken(place):
                break
            time.sleep(0.01)
        with taken(place):
            assert (place / LOCK).exists()
        assert not (place / LOCK).exists()
        os.killpg(holder.pid, signal.SIGKILL)


@pytest.mark.parametrize("what", ["file", "dangling"])
def test_what_is_no_folder_cannot_be_held(tmp_path: Path, what: str) -> None:
    place = tmp_path / "x"
    if what == "file":
        place.write_text("mine")
    else:
        place.symlink_to("nowhere")
    with pytest.raises(UserError, match="is a file" if what == "file" else "is a link to nowhere"), taken(place):
        pass
    assert everything(tmp_path) == ["x"]


def test_a_link_is_followed_and_a_device_written_to(tmp_path: Path) -> None:
    (tmp_path / "real.txt").write_text("old")
    (tmp_path / "link.txt").symlink_to("real.txt")
    write_text(tmp_path / "link.txt", "new")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "real.txt").read_text() == "new"
    write_text(Path("/dev/null"), "nothing")
    assert not Path("/dev/null").is_file()
    write_text(tmp_path / ("long" * 60), "fits")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_is_one_sentence() -> None:
    with pytest.raises(FullDisk, match=r"No space left to write /dev/full"):
        write_text(Path("/dev/full"), "text")


def test_json_is_strict() -> None:
    nan = float("nan")
    assert to_json({"a": nan, "b": [1.5, float("inf"), {"c": (nan,)}], "d": "NaN"}) == (
        '{"a": null, "b": [1.5, null, {"c": [null]}], "d": "NaN"}'
    )


def test_text_for_terminals_has_no_control_characters() -> None:
    assert safe("a\x1b[2Jb\x9bc\u202ed\n\te 猫\u3000犬") == "a?[2Jb?c?d\n\te 猫\u3000犬"
    assert one_line("cat\nrm -rf") == "cat?rm -rf"
    assert escaped('"a\x9b\u202e"') == '"a\\u009b\\u202e"'
