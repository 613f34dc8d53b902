"""The whole way, as a user goes it: train, evaluate, predict, report; and what is said when something is wrong."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shapes import TINY, Answer, draw

Convnext = Callable[..., Answer]


@pytest.fixture
def trained(convnext: Convnext, shapes: Path, tmp_path: Path) -> Path:
    """A run on the shapes, two epochs long."""
    answer = convnext("train", "--data", shapes, "--out", tmp_path / "run", *TINY, "--schedule.epochs", "2")
    assert answer.status == 0, answer.err
    return tmp_path / "run"


def test_from_a_folder_to_a_report(convnext: Convnext, shapes: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    answer = convnext("train", "--data", shapes, "--out", run, *TINY, "--schedule.epochs", "2")
    assert answer.status == 0, answer.err
    assert "recipe picked" in answer.err
    assert "Training from scratch with 18 images a class is too few" in answer.err
    assert f"report: {run / 'report.html'}" in answer.out
    assert {path.name for path in run.iterdir()} >= {
        *("recipe.json", "split.json", "log.jsonl", "last.pt", "best.safetensors", "evaluation.json", "report.html"),
        "first_batch.png",
    }
    assert json.loads((run / "recipe.json").read_text())["data"] == str(shapes)
    assert len(json.loads((run / "split.json").read_text())["val"]) == 4
    events = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert events[0]["event"] == "start"
    assert events[-1]["event"] == "end"
    assert any(event.get("warning") for event in events)


def test_evaluate_uses_what_the_run_held_out(convnext: Convnext, trained: Path) -> None:
    figures = json.loads(convnext("evaluate", trained, "--json").out)
    assert (figures["n"], figures["held_out"]) == (4, True)
    assert figures["top1_interval"][0] <= figures["top1"] <= figures["top1_interval"][1]
    text = convnext("evaluate", trained).out
    assert all(word in text for word in ("top-1", "calibration", "images/s", "circle", "square"))


def test_evaluate_on_other_images_goes_by_class_name(convnext: Convnext, trained: Path, tmp_path: Path) -> None:
    for name in ("square", "circle"):
        (tmp_path / "other" / name).mkdir(parents=True)
        draw(tmp_path / "other" / name / "x.png", name, 3)
    figures = json.loads(convnext("evaluate", trained, "--data", tmp_path / "other", "--json").out)
    assert (figures["n"], figures["held_out"]) == (2, None)
    (tmp_path / "other" / "circle").rename(tmp_path / "other" / "circel")
    answer = convnext("evaluate", trained, "--data", tmp_path / "other")
    assert answer.status == 1
    assert "'circel'" in answer.err
    assert "'circle'" in answer.err


def test_predict_files_folders_and_pictures(convnext: Convnext, trained: Path, shapes: Path, tmp_path: Path) -> None:
    one = shapes / "circle" / "0.jpg"
    drawn = tmp_path / "drawn"
    answer = convnext("predict", one, "--model", trained, "--pictures", drawn, "--json")
    (result,) = json.loads(answer.out)
    assert {entry["label"] for entry in result["classes"]} == {"circle", "square"}
    assert sum(entry["probability"] for entry in result["classes"]) == pytest.approx(1, abs=1e-4)
    with Image.open(result["picture"]) as picture:
        assert picture.width > 100
    answer = convnext("predict", shapes, "--model", trained, "--top", "1")
    assert len(answer.out.splitlines()) == 40
    assert answer.status == 0


def test_predict_takes_the_pictures_of_a_folder_that_training_would(
    convnext: Convnext, trained: Path, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    for name in ("b.png", "below/a.PNG", ".venv/icon.png", "below/.thumbnails/a.png", "__MACOSX/b.png", ".hidden.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        draw(photos / name, "circle", 1)
    (photos / "below" / "circle").symlink_to(photos)
    answer = convnext("predict", photos, "--model", trained, "--json")
    assert [entry["name"] for entry in json.loads(answer.out)] == [
        str(photos / "b.png"),
        str(photos / "below" / "a.PNG"),
    ]


def test_predict_names_a_folder_that_it_cannot_open_and_goes_on(
    convnext: Convnext, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    locked = tmp_path / "photos" / "lost+found"
    locked.mkdir(parents=True)
    draw(tmp_path / "photos" / "a.png", "circle", 1)
    scandir = os.scandir

    def refused(path: Path) -> Any:
        if Path(path) == locked:  # permissions would not keep the superuser out
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refused)
    answer = convnext("predict", tmp_path / "photos", "--model", trained)
    assert answer.status == 1
    assert "a.png" in answer.out
    assert f"skipped {locked}" in answer.err


def test_predict_from_standard_input(
    convnext: Convnext, trained: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    one, two = shapes / "circle" / "0.jpg", shapes / "square" / "1.png"
    pipe(one.read_bytes())
    assert convnext("predict", "-", "--model", trained).out.startswith("-: ")
    pipe(f"{one}\n{two}\n".encode())
    assert [line.split(": ")[0] for line in convnext("predict", "-", "--model", trained).out.splitlines()] == [
        str(one),
        str(two),
    ]
    pipe(b"")
    assert "empty" in convnext("predict", "-", "--model", trained).err


def test_predict_names_what_it_cannot_read_and_goes_on(convnext: Convnext, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    draw(tmp_path / "good.png", "circle", 1)
    answer = convnext("predict", tmp_path / "bad.jpg", tmp_path / "good.png", "--model", trained)
    assert answer.status == 1
    assert "bad.jpg" in answer.err
    assert "good.png" in answer.out
    assert "Traceback" not in answer.err


def test_a_saved_recipe_runs_again_and_gives_the_same_weights(
    convnext: Convnext, trained: Path, tmp_path: Path
) -> None:
    answer = convnext("train", trained / "recipe.json", "--out", tmp_path / "again")
    assert answer.status == 0, answer.err
    assert (tmp_path / "again" / "best.safetensors").read_bytes() == (trained / "best.safetensors").read_bytes()


def test_fine_tuning_from_a_trained_model(convnext: Convnext, trained: Path, shapes: Path, tmp_path: Path) -> None:
    (shapes / "triangle").mkdir()
    draw(shapes / "triangle" / "a.png", "square", 1)
    draw(shapes / "triangle" / "b.png", "square", 2)
    answer = convnext(
        *("train", "demo", "--data", shapes, "--init", trained / "best.safetensors", "--out", tmp_path / "tuned"),
        *TINY,
        *("--model.stem-stride", "4", "--model.output-stride", "32", "--schedule.epochs", "1"),
    )
    assert answer.status == 0, answer.err
    assert "head.weight is newly initialised" in answer.err


def test_a_recipe_is_picked_for_the_weights_to_start_from(
    convnext: Convnext, trained: Path, shapes: Path, tmp_path: Path
) -> None:
    settings = ("--schedule.epochs", "1", "--input.size", "32", "--loader.workers", "0")
    answer = convnext("train", "--data", shapes, "--init", trained, "--out", tmp_path / "tuned", *settings)
    assert answer.status == 0, answer.err
    assert "fine-tuning convnext_atto" in answer.err
    assert "from scratch" not in answer.err
    recipe = json.loads((tmp_path / "tuned" / "recipe.json").read_text())
    assert recipe["model"]["dims"] == [8, 8, 16, 16]  # as the weights' own
    assert recipe["optim"]["layer_decay"] == 0.8


def test_models_and_recipes_are_listed(convnext: Convnext) -> None:
    models = json.loads(convnext("models", "--json").out)
    assert {"name": "convnext_tiny", "parameters": 28589128}.items() <= models[4].items()
    assert "4.456 billion" in convnext("models", "convnext_tiny").out
    assert "imagenet/convnext_tiny" in convnext("recipes").out
    assert json.loads(convnext("recipes", "imagenet/convnext_tiny", "--json").out)["optim"]["lr"] == 4e-3


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["trian"], "Did you mean 'train'?"),
        (["train"], "convnext train --data DIR"),
        (["train", "--data", "no/such/folder"], "There is no no/such/folder"),
        (["train", "democ"], "Did you mean 'demo'?"),
        (["train", "."], "convnext train --data ."),
        (["train", "imagenet/convnext_tiny"], "--data DIR"),
        (["train", "nothing.json"], "no recipe file nothing.json"),
        (["train", "--resume", "no/run"], "no/run is not the folder of a run"),
        (["train", "demo", "--model.name", "convnext_tinny"], "'convnext_tiny'"),
        (["train", "demo", "--loop.device", "tpu"], "'tpu'"),
        (["train", "demo", "--init", "no.pth"], "no model at no.pth"),
        (["train", "demo", "--ema.decay", "2"], "--ema.decay lies in 0 to 1, 1 excluded, not 2"),
        (["train", "demo", "--model.num-classes", "7"], "The data has 10 classes"),
        (["train", "demo", "--input.size", "4"], "--input.size is at least"),
        (["evaluate", "no/run"], "There is no model at no/run"),
        (["report", "no/run"], "no/run"),
        (["predict"], "convnext predict FILE_OR_FOLDER"),
        (["predict", "photo.jpg", ""], "One of the paths is empty"),
        (["models", "convnext_hug"], "Did you mean"),
        (["recipes", "democ"], "Did you mean 'demo'?"),
    ],
)
def test_mistakes_get_one_clear_message(
    convnext: Convnext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, argv: list[str], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    answer = convnext(*argv)
    assert answer.status in (1, 2)
    assert says in answer.err
    assert "Traceback" not in answer.err
    message = [line for line in answer.err.splitlines() if line.startswith("convnext: ")]
    assert len(message) == 1


def test_a_wrong_setting_names_the_nearest(convnext: Convnext) -> None:
    answer = convnext("train", "demo", "--optim.lrr", "1")
    assert answer.status == 2
    assert "--optim.lr" in answer.out + answer.err
    answer = convnext("train", "demo", "--optim.lr", "fast")
    assert answer.status == 2
    assert "fast" in answer.out + answer.err


def test_a_recipe_is_found_beside_a_folder_of_its_name(
    convnext: Convnext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cifar10").mkdir()
    monkeypatch.chdir(tmp_path)
    assert "--data DIR" in convnext("train", "cifar10").err
    (tmp_path / "photos").mkdir()
    assert "Did you mean: convnext train --data photos" in convnext("train", "photos").err


def test_a_run_is_not_overwritten_by_accident(convnext: Convnext, trained: Path, shapes: Path) -> None:
    before = (trained / "best.safetensors").read_bytes()
    answer = convnext("train", "--data", shapes, "--out", trained, *TINY)
    assert answer.status == 1
    assert "--resume" in answer.err
    assert "--overwrite" in answer.err
    assert (trained / "best.safetensors").read_bytes() == before


@pytest.mark.parametrize("command", ["train", "evaluate", "predict", "report", "models", "recipes", "completion"])
def test_every_command_has_help_with_examples(convnext: Convnext, command: str) -> None:
    answer = convnext(command, "--help")
    assert answer.status == 0
    assert "For example:" in answer.out
    assert command in convnext("--help").out


def test_completion(convnext: Convnext, monkeypatch: pytest.MonkeyPatch) -> None:
    def complete(*words: str) -> list[str]:
        return convnext("completion", "words", *words).out.split()

    assert complete("tr") == ["train"]
    assert "imagenet/convnext_tiny" in complete("train", "imagenet/")
    assert complete("train", "demo", "--optim.l") == ["--optim.lr", "--optim.layer-decay"]
    assert "--pictures" in complete("predict", "--")
    assert "complete" in convnext("completion", "bash").out


def test_json_of_a_training(convnext: Convnext, shapes: Path, tmp_path: Path) -> None:
    answer = convnext("train", "--data", shapes, "--out", tmp_path / "r", *TINY, "--schedule.epochs", "1", "--json")
    result: dict[str, Any] = json.loads(answer.out)
    assert result["run"] == str(tmp_path / "r")
    assert 0 <= result["top1"] <= 1
