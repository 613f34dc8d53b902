"""Progress where there is no terminal, and the JSONL log of a run."""

from __future__ import annotations

import io
import json
import math
import sys

import pytest

from convnext.core import logs
from convnext.core.logs import Progress, RunLog, duration, read_log, say, track


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0s"), (0.4, "0s"), (9, "9s"), (59.6, "1m00s"), (125, "2m05s"), (3599, "59m59s"), (12000, "3h20m")],
)
def test_duration(seconds, text):
    assert duration(seconds) == text


@pytest.fixture
def clock(monkeypatch):
    """A clock that the test turns: clock[0] is now."""
    now = [100.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    return now


def test_plain_lines_without_a_terminal(clock, capsys):
    with Progress("training", 100, unit="step") as progress:
        for step in range(1, 101):
            clock[0] += 1.0
            progress.update(step, "loss 1.5")
    out, err = capsys.readouterr()
    assert out == ""  # standard output belongs to results
    assert "\r" not in err
    assert "\x1b" not in err
    lines = err.splitlines()
    assert len(lines) == 10  # one every ten seconds
    assert lines[0] == "training 10/100 (10%)  loss 1.5  1.0 step/s  1m30s left"
    assert lines[-1] == "training 100/100 (100%)  loss 1.5  1.0 step/s  0s left"


def test_last_line_is_said_once(clock, capsys):
    """After a line there is a last one, unless it was just said."""
    with Progress("training", 15) as progress:
        for step in range(1, 16):
            clock[0] += 1.0
            progress.update(step)
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["10/15", "15/15"]


def test_short_work_says_nothing(clock, capsys):
    assert list(track(range(5), "reading", 5)) == [0, 1, 2, 3, 4]
    assert capsys.readouterr().err == ""


def test_no_last_line_after_an_error(clock, capsys):
    def fail():
        with Progress("training", 10) as progress:
            clock[0] += 11
            progress.update(1)
            clock[0] += 11
            raise ValueError

    with pytest.raises(ValueError):  # noqa: PT011 - raised just above
        fail()
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_rate_counts_from_the_resumed_step(clock):
    progress = Progress("training", 100, start=50)
    clock[0] += 10
    assert progress.line().endswith("50/100 (50%)  0.0 it/s  ? left")
    progress.update(60)
    assert progress.rate == pytest.approx(1.0)
    assert progress.line().endswith("60/100 (60%)  1.0 it/s  40s left")


def test_nothing_to_do(clock):
    assert "0/0 (0%)" in Progress("reading", 0).line()


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_terminal_gets_a_bar(monkeypatch):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with Progress("training", 10) as progress:
        progress.update(5, "[bold]loss")  # brackets are text, not markup
        progress._bar.refresh()
    assert "training" in terminal.getvalue()
    assert "[bold]loss" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()


def test_dumb_terminal_gets_lines(monkeypatch, clock):
    terminal = _Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "dumb")
    with Progress("training", 10) as progress:
        clock[0] += 11
        progress.update(5)
    assert terminal.getvalue().startswith("training 5/10")
    assert "\x1b" not in terminal.getvalue()


def test_say(capsys):
    say("hello")
    assert capsys.readouterr() == ("", "hello\n")


def written(path, count=5, **options):
    log = RunLog(path, **options)
    log.write("start", step=0, text="Größe")
    for step in range(1, count + 1):
        log.write("step", step=step, loss=1 / step)
    return log


def test_log(tmp_path):
    path = tmp_path / "log.jsonl"
    written(path)
    events = read_log(path)
    assert [event["event"] for event in events] == ["start", *["step"] * 5]
    assert events[0]["text"] == "Größe"
    assert events[4]["loss"] == 0.25
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.jsonl"]


def test_every_line_is_there_at_once(tmp_path):
    """Nothing waits in memory: a killed run keeps its log."""
    path = tmp_path / "log.jsonl"
    log = RunLog(path)
    for step in range(3):
        log.write("step", step=step)
        assert len(path.read_text().splitlines()) == step + 1


def test_numbers_that_json_lacks(tmp_path):
    path = tmp_path / "log.jsonl"
    RunLog(path).write("step", step=1, loss=math.nan, norm=math.inf, other=-math.inf, fine=1e300, flag=True, none=None)
    text = path.read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {
        "event": "step",
        "step": 1,
        "loss": None,
        "norm": None,
        "other": None,
        "fine": 1e300,
        "flag": True,
        "none": None,
    }


def test_new_log_starts_empty(tmp_path):
    path = tmp_path / "log.jsonl"
    written(path)
    RunLog(path)
    assert read_log(path) == []


def test_resume_drops_what_came_after(tmp_path):
    path = tmp_path / "log.jsonl"
    written(path, 5)
    log = RunLog(path, resume_step=3)
    assert [event["step"] for event in read_log(path)] == [0, 1, 2, 3]
    log.write("step", step=4)
    assert [event["step"] for event in read_log(path)] == [0, 1, 2, 3, 4]  # no step twice


def test_torn_last_line(tmp_path):
    """Wherever a kill cuts the file: what was whole is read, and a resume goes on behind it with a whole line."""
    path = tmp_path / "log.jsonl"
    written(path, 3)
    data = path.read_bytes()
    last = data.rindex(b"\n", 0, -1) + 1
    for cut in range(last, len(data) - 1):
        path.write_bytes(data[:cut])
        assert [event["step"] for event in read_log(path)] == [0, 1, 2]
        RunLog(path, resume_step=2).write("step", step=3)
        assert [event["step"] for event in read_log(path)] == [0, 1, 2, 3]
        assert [json.loads(line)["step"] for line in path.read_text().splitlines()] == [0, 1, 2, 3]


def test_bytes_that_are_no_text(tmp_path):
    path = tmp_path / "log.jsonl"
    written(path, 2)
    path.write_bytes(path.read_bytes() + b"\x00\xff\xfe\n[1]\n7\nnull\n")
    assert [event["step"] for event in read_log(path)] == [0, 1, 2]


def test_no_file(tmp_path):
    assert read_log(tmp_path / "none.jsonl") == []
    RunLog(tmp_path / "none.jsonl", resume_step=3)
    assert read_log(tmp_path / "none.jsonl") == []


def test_failed_resume_keeps_the_log(tmp_path, monkeypatch):
    """The log is replaced as a whole or not at all."""
    path = tmp_path / "log.jsonl"
    written(path, 3)
    before = path.read_bytes()

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        RunLog(path, resume_step=1)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["log.jsonl"]
