"""Where runs go, who holds them, what is printed: links, mounts, two at once, odd names, full disks, strict JSON."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import pytest

from convnext.core.lock import LOCK, taken
from convnext.run import train
from convnext.tasks.recipes import read_recipe
from shapes import TINY, Answer, assert_refused, draw

Convnext = Callable[..., Answer]
SHORT = (*TINY, "--schedule.epochs", "1")


@pytest.fixture
def trained(convnext: Convnext, shapes: Path, tmp_path: Path) -> Path:
    """A run on the shapes."""
    answer = convnext("train", "--data", shapes, "--out", tmp_path / "run", *SHORT)
    assert answer.status == 0, answer.err
    return tmp_path / "run"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Generator[Callable[[Path], None], None, None]:
    """Makes another process hold a folder until the test ends."""
    running: list[subprocess.Popen[bytes]] = []

    def hold(folder: Path) -> None:
        code = (
            "import sys, time; from pathlib import Path; from convnext.core.lock import taken\n"
            "with taken(Path(sys.argv[1])): print(1, flush=True); time.sleep(100)"
        )
        process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.PIPE)
        running.append(process)
        assert process.stdout is not None
        process.stdout.readline()

    yield hold
    for process in running:
        process.kill()
        process.communicate()


def command(*words: str | Path, **settings: Any) -> subprocess.CompletedProcess[bytes]:
    environment = {**os.environ, **settings.pop("env", {})}
    line = [sys.executable, "-m", "convnext", *map(str, words)]
    return subprocess.run(line, check=False, env=environment, **{"capture_output": True, **settings})


def is_run(folder: Path) -> bool:
    names = {path.name for path in folder.iterdir()}
    return {"recipe.json", "best.safetensors", "report.html"} <= names and LOCK not in names


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["link", "mount", "empty in a folder that may not be changed"])
def test_out_may_be_a_link_or_a_folder_that_cannot_go(
    convnext: Convnext, shapes: Path, tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None of them can be removed and made again; so no folder is."""
    place = tmp_path / "parent" / "out"
    (tmp_path / "real").mkdir()
    place.parent.mkdir()
    if kind == "link":
        place.symlink_to(tmp_path / "real")
    else:
        place.mkdir()
        remove = os.rmdir

        def refused(path: Any, **more: Any) -> None:  # as of a mount point, or in a folder that is read-only
            if Path(path) == place:
                raise OSError(16, "Device or resource busy")
            remove(path, **more)

        monkeypatch.setattr(os, "rmdir", refused)
        (place / "lost+found").mkdir()
    for more in ((), ("--overwrite",)):
        answer = convnext("train", "--data", shapes, "--out", place, *SHORT, *more)
        assert answer.status == 0, answer.err
        assert is_run(place)
    assert place.is_symlink() == (kind == "link")


@pytest.mark.parametrize("kind", ["file", "dangling link", "below a file", "full"])
def test_out_that_cannot_be_is_refused_before_the_data_is_read(
    convnext: Convnext, shapes: Path, tmp_path: Path, kind: str
) -> None:
    place = tmp_path / "out"
    if kind == "dangling link":
        place.symlink_to("nowhere")
    elif kind == "full":
        place.mkdir()
        (place / "thesis.txt").write_text("mine")
    else:
        place.write_text("mine")
        place = place / "deeper" if kind == "below a file" else place
    for argv in (("--data", shapes), ("demo",)):
        answer = convnext("train", *argv, "--out", place, *SHORT)
        assert_refused(answer, "out")
        assert "recipe picked" not in answer.err
    assert os.path.lexists(tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "shapes"]


def test_what_is_refused_later_leaves_no_folder_behind(convnext: Convnext, shapes: Path, tmp_path: Path) -> None:
    answer = convnext("train", "--data", shapes, "--out", tmp_path / "a" / "b", "--init", tmp_path / "no.pth", *SHORT)
    assert_refused(answer, "no.pth")
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


@pytest.mark.slow
def test_overwrite_takes_the_run_alone(convnext: Convnext, trained: Path, shapes: Path) -> None:
    (trained / "thesis.txt").write_text("mine")
    (trained / "last.pt").write_text("old")
    answer = convnext("train", "--data", shapes, "--out", trained, "--overwrite", *SHORT)
    assert answer.status == 0, answer.err
    assert (trained / "thesis.txt").read_text() == "mine"
    assert "no run wrote it: thesis.txt" in answer.err
    assert (trained / "last.pt").stat().st_size > 100


@pytest.mark.slow
def test_a_run_that_is_going_is_not_touched(
    convnext: Convnext, trained: Path, shapes: Path, elsewhere: Callable[[Path], None]
) -> None:
    elsewhere(trained)
    before = {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()}
    for argv in (
        ("train", "--data", shapes, "--out", trained, "--overwrite", *SHORT),
        ("train", "demo", "--out", trained, "--overwrite"),
        ("train", "--resume", trained),
    ):
        answer = convnext(*argv)
        assert_refused(answer, "is in use by a run that is still going", "process ")
        assert "recipe picked" not in answer.err
    with pytest.raises(Exception, match="is in use"):
        train(read_recipe(trained / "recipe.json"), trained, overwrite=True)
    assert {path.name: path.read_bytes() for path in trained.iterdir() if path.is_file()} == before


@pytest.mark.slow
def test_the_run_trained_last_is_not_one_that_is_going(
    convnext: Convnext,
    trained: Path,
    shapes: Path,
    tmp_path: Path,
    elsewhere: Callable[[Path], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    image = next(shapes.rglob("*.png"))
    (tmp_path / "runs" / "new").mkdir(parents=True)
    (tmp_path / "runs" / "new" / "best.safetensors").write_bytes((trained / "best.safetensors").read_bytes())
    elsewhere(tmp_path / "runs" / "new")
    assert_refused(convnext("predict", image), "still going", "--model runs/new")
    trained.rename(tmp_path / "runs" / "old")
    os.utime(tmp_path / "runs" / "old" / "best.safetensors", (1, 1))
    for argv in (("predict", image), ("evaluate",)):
        answer = convnext(*argv)
        assert answer.status == 0, answer.err
        assert "runs/new is still being trained: runs/old is used" in answer.err


@pytest.mark.slow
def test_two_that_start_in_the_same_second_have_two_folders(
    convnext: Convnext, shapes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("time.strftime", lambda form: "20300101-000000")
    for _ in range(2):
        assert convnext("train", "--data", shapes, *SHORT).status == 0
    assert sorted(path.name for path in Path("runs").iterdir()) == [
        "scratch-20300101-000000",
        "scratch-20300101-000000-2",
    ]
    # inside of the data a run is never data, not even before it has begun
    (shapes / "runs").mkdir()
    with taken(shapes / "runs" / "x"):
        answer = convnext("train", "--data", shapes, "--out", tmp_path / "third", *SHORT)
    assert answer.status == 0, answer.err


@pytest.mark.slow
def test_names_that_a_terminal_cannot_show_are_shown_safely(convnext: Convnext, trained: Path, tmp_path: Path) -> None:
    for name in ("häßlich.png", "red\x1b[31m.png", "line\nbreak.png", os.fsdecode(b"not-utf8-\xff.png")):
        draw(tmp_path / name, "circle", 1)
        for encoding in ("utf-8", "ascii", "latin-1"):
            words = ("predict", tmp_path / name, "--model", trained)
            plain = command(*words, env={"PYTHONIOENCODING": encoding})
            assert plain.returncode == 0, plain.stderr
            assert plain.stdout.count(b"\n") == 1
            assert b"\x1b" not in plain.stdout + plain.stderr
            assert b"Traceback" not in plain.stderr
        found = command(*words, "--json", env={"PYTHONIOENCODING": "ascii"})
        assert found.returncode == 0, found.stderr
        assert json.loads(found.stdout)[0]["name"] == str(tmp_path / name)


@pytest.mark.slow
def test_what_is_no_image_file_is_never_waited_for(convnext: Convnext, trained: Path, tmp_path: Path) -> None:
    odd = tmp_path / "odd"
    odd.mkdir()
    draw(odd / "good.png", "circle", 1)
    os.mkfifo(odd / "pipe.png")
    (odd / "link.png").symlink_to("pipe.png")
    (odd / "photo.txt").touch()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(odd)
        server.bind("socket.png")
    answer = convnext("predict", odd, "--model", trained)
    assert answer.status == 0, answer.err
    assert answer.out.count("\n") == 1
    assert "3 pipe or device" in answer.err
    assert "1 .txt" in answer.err
    for name in (odd / "pipe.png", odd / "link.png", odd / "socket.png", "/dev/zero"):
        assert_refused(convnext("predict", name, "--model", trained), "and no image")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_and_a_reader_that_left(trained: Path, shapes: Path) -> None:
    for words in (("models",), ("--help",), ("train", "--help"), ("evaluate", trained, "--json")):
        with Path("/dev/full").open("w") as full:
            done = command(*words, stdout=full, stderr=subprocess.PIPE, capture_output=False)
        assert done.returncode == 1
        assert done.stderr.count(b"No space left") == 1
        assert b"Traceback" not in done.stderr
        assert b"Exception" not in done.stderr
        reader, writer = os.pipe()
        os.close(reader)
        done = command(*words, stdout=writer, stderr=subprocess.PIPE, capture_output=False)
        os.close(writer)
        assert done.returncode == 0
        assert b"Traceback" not in done.stderr
        assert b"Exception" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"optim": {"lr": "fast"}}, "optim.lr"),
        ({"optim": {"lrr": 1.0}}, "optim.lrr"),
        ({"optim": 3}, "optim"),
        ({"loop": {"global_batch": 1.5}}, "loop.global_batch"),
        ({"optim": {"lr": float("nan")}}, "optim.lr"),
        ({"optim": {"lr": float("inf")}}, "optim.lr"),
        ({"model": None}, "model"),
        ({"task": ["classify"]}, "classify"),
        ({"task": 3}, "3"),
        ({"name": None}, "name"),
        ("[1, 2]", "recipe.json"),
        ("null", "recipe.json"),
        ('{"name": "x",', "recipe.json"),
        ("[" * 100_000, "recipe.json"),
        (b"\xff\xfe\x00", "recipe.json"),
        ("", "recipe.json"),
    ],
)
def test_an_edited_recipe_is_refused_by_the_field(
    convnext: Convnext, trained: Path, tmp_path: Path, change: Any, says: str
) -> None:
    file = trained / "recipe.json"
    if isinstance(change, dict):
        values = json.loads(file.read_text())
        for key, value in change.items():
            values[key] = {**values[key], **value} if isinstance(value, dict) else value
        change = json.dumps(values)
    file.write_bytes(change if isinstance(change, bytes) else change.encode())
    for argv in (("train", file, "--out", tmp_path / "again"), ("train", "--resume", trained), ("evaluate", trained)):
        assert_refused(convnext(*argv), says)
    assert not (tmp_path / "again").exists()
    assert convnext("report", trained).status == 0


@pytest.mark.slow
def test_an_edited_recipe_with_a_byte_order_mark_is_read(convnext: Convnext, trained: Path) -> None:
    file = trained / "recipe.json"
    file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
    assert convnext("evaluate", trained).status == 0


@pytest.mark.slow
@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"val": 3}', '{"seed": 0, "fraction": 0, "val": [3]}'])
def test_an_edited_split_is_refused(convnext: Convnext, trained: Path, content: str) -> None:
    (trained / "split.json").write_text(content)
    assert_refused(convnext("evaluate", trained), "held")
    (trained / "last.pt").unlink()
    assert_refused(convnext("train", "--resume", trained), "held")


@pytest.mark.slow
def test_a_learning_rate_that_breaks_the_run_is_told(convnext: Convnext, shapes: Path, tmp_path: Path) -> None:
    """Weights that give no numbers are not kept, not predicted with, and the exit status says so."""
    run = tmp_path / "run"
    answer = convnext("train", "--data", shapes, "--out", run, *SHORT, "--optim.lr", "1e30", "--optim.clip-grad", "0")
    assert_refused(answer, "diverged", "--optim.lr")
    assert convnext("report", run).status == 0
    assert "diverged" in (run / "report.html").read_text()


@pytest.mark.slow
def test_weights_that_give_no_numbers_are_not_predicted_with(convnext: Convnext, trained: Path, shapes: Path) -> None:
    """They are finite: only their outputs are not."""
    import torch

    from convnext.tasks.classification.weights import load_model
    from convnext.weights.files import save_model

    model, metadata = load_model(trained)
    with torch.no_grad():
        model.head.weight.fill_(3e38)
    save_model(trained / "best.safetensors", model.state_dict(), metadata)
    image = next(shapes.rglob("*.png"))
    assert_refused(convnext("predict", image, "--model", trained), "not numbers", image.name)
    assert_refused(convnext("evaluate", trained), "not numbers")


@pytest.mark.slow
def test_a_goal_that_stays_at_zero_is_told(convnext: Convnext, shapes: Path, tmp_path: Path) -> None:
    """In the run's last line, on its page and in its evaluation."""
    import convnext.tasks.classification.task as task

    run, evaluate = tmp_path / "run", task.ClassificationTask.evaluate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task.ClassificationTask, "evaluate", lambda self, model: {**evaluate(self, model), "top1": 0.0})
        answer = convnext("train", "--data", shapes, "--out", run, *SHORT)
    assert answer.status == 0, answer.err
    assert "No evaluation gave a top1 above 0" in answer.err
    assert "lowest validation loss" in (run / "report.html").read_text()
    assert "lowest validation loss" in convnext("evaluate", run).err
    assert "lowest validation loss" in json.loads(convnext("evaluate", run, "--json").out)["chosen"]


@pytest.mark.slow
def test_notes_of_a_picked_recipe_do_not_contradict_the_user(convnext: Convnext, shapes: Path, tmp_path: Path) -> None:
    answer = convnext("train", "--data", shapes, "--out", tmp_path / "run", *SHORT, "--optim.lr", "0.002")
    assert answer.status == 0, answer.err
    assert "set by you: " in answer.err
    assert "--optim.lr 0.002 (picked: " in answer.err
    assert "--schedule.epochs 1 (picked: " in answer.err
    for stale in ("scaled by the square root", "epochs = ", "at 128 pixels", "at 224 pixels"):
        assert stale not in answer.err


@pytest.mark.parametrize("option", [("--optim.lrr", "1"), ("--optim.lr", "-1"), ("--loader.val-fraction", "2")])
def test_settings_are_refused_before_the_data_is_read(
    convnext: Convnext, shapes: Path, option: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(*given: Any) -> None:
        raise AssertionError("the data was opened")

    monkeypatch.setattr("convnext.tasks.classification.setup.open_data", read)
    answer = convnext("train", "--data", shapes, *option)
    assert answer.status != 0
    assert option[0][:10] in answer.out + answer.err


def test_places_are_refused_before_a_model_is_loaded(convnext: Convnext, shapes: Path, tmp_path: Path) -> None:
    """`--model` names none: what is told is what comes first."""
    file = tmp_path / "file"
    file.write_text("mine")
    image = next(shapes.rglob("*.png"))
    for argv, says in (
        (("predict", image, "--pictures", file), "--pictures"),
        (("predict", image, "--results", shapes), "--results"),
        (("predict", image, "--results", file / "r.json"), "--results"),
        (("predict", tmp_path / "no.png"), "no.png"),
        (("predict", image, "--limit", "-1"), "--limit"),
        (("evaluate", "--results", file / "r.json"), "--results"),
        (("evaluate", "--data", tmp_path / "nothing"), "nothing"),
    ):
        model = ("--model", "no-such-model") if argv[0] == "predict" else ()
        answer = convnext(argv[0], *([] if model else ["no-such-model"]), *argv[1:], *model)
        assert_refused(answer, says)
        assert "no-such-model" not in answer.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "shapes"]
