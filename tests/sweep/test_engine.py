"""The engine of sweeps: places, order, failures, interrupts, on this machine and on Ray."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from convnext.core.errors import UserError
from convnext.sweep import engine, runs
from convnext.sweep.engine import on_this_machine, train_all
from convnext.sweep.runs import STOPPED, Run, ended, slots, train_one
from convnext.tasks.recipes import find_recipe

DEMO = find_recipe("demo")
SHORT = replace(DEMO, schedule=replace(DEMO.schedule, epochs=0.1, warmup_epochs=0.0))
RUNS = [Run(f"{name}/seed0", SHORT) for name in ("a", "b", "c")]


def test_places(monkeypatch):
    """One run for each GPU; without one, the processors are shared out."""
    monkeypatch.setattr(runs.torch.cuda, "device_count", lambda: 0)
    monkeypatch.setattr(runs, "available_cpus", lambda: 8)
    assert slots(0) == [{"OMP_NUM_THREADS": "8"}]
    assert slots(4) == [{"OMP_NUM_THREADS": "2"}] * 4
    assert slots(16)[0] == {"OMP_NUM_THREADS": "1"}
    monkeypatch.setattr(runs.torch.cuda, "device_count", lambda: 2)
    assert slots(0) == [{"CUDA_VISIBLE_DEVICES": "0"}, {"CUDA_VISIBLE_DEVICES": "1"}]
    assert slots(1) == [{"CUDA_VISIBLE_DEVICES": "0"}]


def pretend(monkeypatch, train):
    """Runs that are functions: `train(run, place)` gives "" or a reason; who trained is as one that ended."""
    done: set[str] = set()
    lock = threading.Lock()

    def one(run: Run, out: Path, place: dict[str, str], stopped: threading.Event) -> str:
        why = train(run, place, stopped)
        with lock:
            done.update([] if why else [run.name])
        return why

    monkeypatch.setattr(engine, "train_one", one)
    monkeypatch.setattr(engine, "ended", lambda folder: f"{folder.parent.name}/{folder.name}" in done or None)
    return done


def test_each_has_its_place_and_what_has_ended_stays(monkeypatch, tmp_path, capsys):
    places: dict[str, int] = {}
    most: dict[str, int] = {}
    lock = threading.Lock()

    def train(run, place, stopped):
        name = place["CUDA_VISIBLE_DEVICES"]
        with lock:
            places[name] = places.get(name, 0) + 1
            most[name] = max(most.get(name, 0), places[name])
        time.sleep(0.05)
        with lock:
            places[name] -= 1
        return ""

    monkeypatch.setattr(engine, "slots", lambda jobs: [{"CUDA_VISIBLE_DEVICES": str(i)} for i in range(2)])
    done = pretend(monkeypatch, train)
    heard: list[str] = []
    assert train_all(RUNS, tmp_path, title="t", jobs=0, heard=lambda run: heard.append(run.name) or "fine") == []
    assert sorted(heard) == sorted(done) == ["a/seed0", "b/seed0", "c/seed0"]
    assert most == {"0": 1, "1": 1}  # two at a time, never two in one place
    heard.clear()
    assert train_all(RUNS, tmp_path, title="t", jobs=0, heard=lambda run: heard.append(run.name) or "fine") == []
    assert heard == []


def test_one_that_fails_does_not_stop_the_others(monkeypatch, tmp_path, capsys):
    done = pretend(monkeypatch, lambda run, place, stopped: "no memory" if run.name == "b/seed0" else "")
    assert train_all(RUNS, tmp_path, title="t", jobs=1, heard=lambda run: "") == ["b/seed0: no memory"]
    assert done == {"a/seed0", "c/seed0"}
    assert "failed: b/seed0: no memory" in capsys.readouterr().err


def test_an_interrupt_ends_every_run(monkeypatch, tmp_path, capsys):
    began = threading.Event()

    def train(run, place, stopped):
        if run.name == "a/seed0":
            began.wait(10)
            return ""
        began.set()
        return STOPPED if stopped.wait(20) else ""

    done = pretend(monkeypatch, train)

    def heard(run):
        raise KeyboardInterrupt

    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        train_all(RUNS, tmp_path, title="t", jobs=2, heard=heard)
    assert time.monotonic() - begun < 15
    assert done == {"a/seed0"}
    assert "goes on where every run was last saved" in capsys.readouterr().err


def test_ray_that_is_not_installed(monkeypatch, tmp_path):
    import builtins

    real = builtins.__import__

    def without(name, *args, **options):
        if name == "ray":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UserError, match=r"pip install 'convnext\[ray\]'"):
        train_all(RUNS, tmp_path, title="t", jobs=1, heard=lambda run: "", engine="ray")


def test_a_process_ends_with_its_run(tmp_path):
    """A run that is stopped leaves no process behind, and goes on."""
    long = Run("a/seed0", replace(SHORT, schedule=replace(SHORT.schedule, epochs=500.0)))
    stopped = threading.Event()
    threading.Timer(1.5, stopped.set).start()
    assert train_one(long, tmp_path, {"OMP_NUM_THREADS": "1"}, stopped) == STOPPED
    assert ended(tmp_path / "a" / "seed0") is None


def the_same_rows(out: Path) -> list[dict[str, float]]:
    found = [ended(out / run.name) for run in RUNS[:2]]
    return [dict(end.figures) for end in found if end]


@pytest.fixture
def cluster():
    """One cluster of this machine for all that a test runs: starting Ray takes a quarter of a minute each time."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (pip install 'convnext[ray]')")
    ray.init(log_to_driver=False, include_dashboard=False, logging_level="warning")
    yield ray
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_trains_the_same(cluster, tmp_path, capsys, monkeypatch):
    """The same recipes end in the same figures, to the bit, on Ray and in threads; failures have their reasons."""
    for name in ("local", "ray"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "plan.json").write_text("{}")
        options = {"title": name, "jobs": 2, "heard": lambda run: f"{run.name} is done"}
        place = [{"OMP_NUM_THREADS": "1"}] * 2
        monkeypatch.setattr(engine, "slots", lambda jobs, place=place: place)
        assert train_all(RUNS[:2], tmp_path / name, engine=name, **options) == []
    assert the_same_rows(tmp_path / "ray") == the_same_rows(tmp_path / "local")
    assert len(the_same_rows(tmp_path / "ray")) == 2
    bad = Run("bad/seed0", replace(SHORT, data="nowhere-at-all"))
    (failed,) = train_all([bad], tmp_path / "ray", engine="ray", **options)
    assert failed.startswith("bad/seed0: ")
    assert "nowhere-at-all" in failed
    (tmp_path / "ray" / "plan.json").unlink()
    (failed,) = train_all(RUNS[2:], tmp_path / "ray", engine="ray", **options)
    assert "does not see" in failed


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_ray_interrupted(tmp_path):
    """Leaving early ends the runs' processes too."""
    pytest.importorskip("ray", reason="Ray is not installed (pip install 'convnext[ray]')")
    from convnext.sweep.on_ray import on_ray

    (tmp_path / "plan.json").write_text("{}")
    long = Run("long/seed0", replace(SHORT, schedule=replace(SHORT.schedule, epochs=5000.0)))
    with on_ray([RUNS[0], long], tmp_path, 2) as endings:
        run, why = next(endings)
        assert (run.name, why) == ("a/seed0", "")
        assert _training(tmp_path / "long")
    time.sleep(1)
    assert _training(tmp_path) == []


def _training(folder: Path) -> list[str]:
    """Processes that train somewhere in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode() if entry.name.isdigit() else ""
        except OSError:
            continue
        if str(folder) in line and int(entry.name) != os.getpid():
            found.append(line)
    return found


def test_what_a_folder_says(tmp_path):
    """An end needs a start, an evaluation and an end; an average's evaluation is none."""
    log = tmp_path / "log.jsonl"
    lines = [
        {"event": "start", "step": 0, "val_images": 20, "train_images": 80, "classes": 4},
        {"event": "eval", "step": 5, "ema": False, "loss": 1.5, "top1": 0.25},
        {"event": "eval", "step": 5, "ema": True, "loss": 9.0, "top1": 0.99},
        {"event": "end", "step": 5, "seconds": 3.0},
    ]
    for count in range(4):
        log.write_text("".join(json.dumps(line) + "\n" for line in lines[:count]))
        assert ended(tmp_path) is None
    log.write_text("".join(json.dumps(line) + "\n" for line in lines))
    end = ended(tmp_path)
    assert end is not None
    assert (end.figures["top1"], end.figures["loss"]) == (0.25, 1.5)
    assert (end.images, end.train_images, end.classes, end.seconds) == (20, 80, 4, 3.0)


def test_an_engine_is_a_context(monkeypatch, tmp_path):
    pretend(monkeypatch, lambda run, place, stopped: "")
    with on_this_machine(RUNS, tmp_path, 1) as endings:
        assert sorted(run.name for run, _ in endings) == ["a/seed0", "b/seed0", "c/seed0"]
