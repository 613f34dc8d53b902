"""The whole way with a detector: train, evaluate, predict, report; and what is said when something is wrong."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from pycocotools.coco import COCO
from safetensors.torch import load_file

from convnext.cli.main import main
from convnext.core.logs import read_log
from convnext.data.config import InputConfig
from convnext.models.create import from_config
from convnext.tasks.choose import read_metadata
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.weights.files import save_model
from painted import NAMES, OPTIONS, SMALL, paint, painted, rewrite
from shapes import assert_refused

pytestmark = pytest.mark.slow

Convnext = Callable[..., Any]  # of conftest: status, out, err
RESTING = [
    *("--optim.lr", "1e-30", "--schedule.epochs", "1", "--input.short", "64", "--input.long", "96"),
    *("--augment.shorts", "48", "--augment.long", "96", "--loader.workers", "0"),
]
"""Settings under which a training leaves weights as they are: what they began with is in best.safetensors."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return painted(place / "data")


@pytest.fixture(scope="module")
def trained(place: Path, data: Path) -> SimpleNamespace:
    """What a run of two epochs said; it stands in place / "run"."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(["train", "small/mask_rcnn", "--data", str(data), "--out", str(place / "run"), *OPTIONS])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def run(place: Path, trained: SimpleNamespace) -> Path:
    assert trained.status == 0, trained.err
    return place / "run"


@pytest.fixture(scope="module")
def classifier(place: Path) -> Path:
    """Of the small detector's backbone."""
    config = replace(SMALL.backbone, num_classes=2)
    path = place / "classifier.safetensors"
    save_model(
        path,
        from_config(config).state_dict(),
        ClassificationMetadata(config, InputConfig(size=64), ("circle", "square")),
    )
    return path


@pytest.fixture(scope="module")
def photos(place: Path, data: Path) -> Path:
    """Class folders."""
    for name in ("circle", "square"):
        shutil.copytree(data / "images" / "val", place / "photos" / name)
    return place / "photos"


# Training


def test_from_annotations_to_a_report(trained: SimpleNamespace, run: Path, data: Path) -> None:
    found = "Found 8 images, 10 objects of 2 classes (boxes and masks), 1 image without objects to train on, 4 images"
    assert f"{found} in 'val'" in trained.err
    assert "Mask R-CNN on convnext_atto, 0.1 million parameters" in trained.err
    assert "Training from random weights on 8 images" in trained.err
    assert "on 4 held-out images" in trained.err
    assert f"report: {run / 'report.html'}" in trained.out
    assert {path.name for path in run.iterdir()} >= {
        *("recipe.json", "split.json", "log.jsonl", "last.pt", "best.safetensors"),
        *("evaluation.json", "results.json", "pictures", "report.html"),
    }
    recipe = json.loads((run / "recipe.json").read_text())
    assert (recipe["task"], recipe["data"], recipe["model"]["width"]) == ("detect", str(data), 8)
    assert json.loads((run / "split.json").read_text())["kind"] == "given"
    metadata = read_metadata(run / "best.safetensors")
    assert (metadata.classes, metadata.category_ids, metadata.model.num_classes) == (NAMES, (3, 7), 2)
    events = read_log(run / "log.jsonl")
    assert (events[0]["event"], events[-1]["event"]) == ("start", "end")
    steps = [event for event in events if event["event"] == "step"]
    assert len(steps) == 4
    for step in steps:
        assert set(step["losses"]) == {"rpn_class", "rpn_box", "class", "box", "mask"}
        assert sum(step["losses"].values()) == pytest.approx(step["loss"], rel=1e-5)
    assert len(list((run / "pictures").glob("*.png"))) == 4


def test_a_saved_recipe_runs_again_and_gives_the_same_weights(convnext: Convnext, run: Path, tmp_path: Path) -> None:
    answer = convnext("train", run / "recipe.json", "--out", tmp_path / "again", "--json")
    assert answer.status == 0, answer.err
    assert (tmp_path / "again" / "best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()
    figures = json.loads(answer.out)
    assert figures["run"] == str(tmp_path / "again")
    assert {"box_AP", "box_AP50", "mask_AP", "mask_AP50"} <= set(figures)


def test_a_detector_is_picked_for_annotated_pictures(convnext: Convnext, data: Path, tmp_path: Path) -> None:
    answer = convnext("train", "--data", data, "--out", tmp_path / "run", *OPTIONS, "--schedule.epochs", "1")
    assert answer.status == 0, answer.err
    assert f"recipe picked for {data}, as data for a detector (annotations/instances_train.json" in answer.err
    assert "- a small Mask R-CNN from random weights; with --init a trained detector learns from fewer" in answer.err
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["name"] == "small/mask_rcnn"


def test_a_classifier_becomes_the_backbone(convnext: Convnext, data: Path, classifier: Path, tmp_path: Path) -> None:
    settings = [*RESTING, "--model.width", "8", "--model.roi.width", "16"]
    answer = convnext("train", "--data", data, "--init", classifier, "--out", tmp_path / "run", *settings)
    assert answer.status == 0, answer.err
    assert f"- fine-tuning {classifier}" in answer.err
    assert "- everything behind the backbone is newly initialised" in answer.err
    assert "from random weights" not in answer.err
    given, found = load_file(classifier), load_file(tmp_path / "run" / "best.safetensors")
    taken = [name for name in given if not name.startswith(("norm.", "head."))]
    assert len(taken) > 30
    for name in taken:
        assert found[f"backbone.{name}"].sub(given[name]).abs().max() < 1e-20, name


def test_a_detector_of_other_classes_begins_with_fresh_outputs(
    convnext: Convnext, data: Path, run: Path, tmp_path: Path
) -> None:
    shutil.copytree(data, tmp_path / "three")
    for file in (tmp_path / "three" / "annotations").iterdir():
        rewrite(file, categories=[{"id": n, "name": name} for n, name in ((3, "box"), (7, "disc"), (9, "star"))])
    answer = convnext("train", "--data", tmp_path / "three", "--init", run, "--out", tmp_path / "run", *RESTING)
    assert answer.status == 0, answer.err
    assert (
        "every output that depends on the classes, of which the weights have others, is newly initialised" in answer.err
    )
    given, found = (load_file(folder / "best.safetensors") for folder in (run, tmp_path / "run"))
    assert set(given) == set(found)
    fresh = {name for name in given if given[name].shape != found[name].shape}
    outputs = ("bbox_head.fc_cls", "bbox_head.fc_reg", "mask_head.conv_logits")
    assert fresh == {f"roi_head.{part}.{end}" for part in outputs for end in ("weight", "bias")}
    assert all(found[name].sub(given[name]).abs().max() < 1e-20 for name in set(given) - fresh)
    assert found["roi_head.bbox_head.fc_cls.weight"].shape[0] == 4


def test_boxes_alone_are_learned_where_there_are_no_outlines(convnext: Convnext, run: Path, tmp_path: Path) -> None:
    """From a detector with masks, too."""
    for name, numbers in (("train", range(4)), ("val", range(8, 10))):
        paint(tmp_path / "boxes", name, numbers, masks=False)
    answer = convnext("train", "--data", tmp_path / "boxes", "--init", run, "--out", tmp_path / "run", *RESTING)
    assert answer.status == 0, answer.err
    assert "the data has no masks: only boxes are learned" in answer.err
    assert "Faster R-CNN on convnext_atto" in answer.err
    assert not any("mask_head" in name for name in load_file(tmp_path / "run" / "best.safetensors"))
    figures = json.loads(convnext("evaluate", tmp_path / "run", "--json").out)
    assert figures["mask"] is None
    assert "mask" not in convnext("evaluate", tmp_path / "run").out
    one, shown = tmp_path / "boxes" / "images" / "val" / "08.png", ("--score", "0.1", "--json")
    answer = convnext("predict", one, "--model", tmp_path / "run", "--pictures", tmp_path / "drawn", *shown)
    assert json.loads(answer.out)[0]["objects"]


def broken(data: Path, folder: Path) -> Path:
    """A copy of the data with four mistakes in its annotations."""
    shutil.copytree(data, folder)
    file = folder / "annotations" / "instances_train.json"
    content = json.loads(file.read_text())
    content["annotations"][0]["bbox"][2] = -5
    content["annotations"][1]["category_id"] = 99
    content["annotations"][2]["image_id"] = 1234
    content["images"].append({"id": 99, "file_name": "gone.png", "height": 64, "width": 96})
    rewrite(file, **content)
    return folder


def test_annotations_with_problems_are_told_at_once_and_nothing_is_written(
    convnext: Convnext, data: Path, tmp_path: Path
) -> None:
    bad = broken(data, tmp_path / "bad")
    for chosen in ((), ("small/mask_rcnn",)):
        answer = convnext("train", *chosen, "--data", bad, "--out", tmp_path / "run", *OPTIONS)
        assert_refused(answer, "has 4 problems", "gone.png", "negative size", "category 99", "image 1234")
        assert "--loader.skip-bad" in answer.err
        assert answer.out == ""
        assert not (tmp_path / "run").exists()


def test_annotations_with_problems_can_be_left_out(convnext: Convnext, data: Path, run: Path, tmp_path: Path) -> None:
    bad = broken(data, tmp_path / "bad")
    answer = convnext("train", "--data", bad, "--loader.skip-bad", "--out", tmp_path / "run", *OPTIONS)
    assert answer.status == 0, answer.err
    assert "Found 8 images, 7 objects" in answer.err
    assert "Left out of" in answer.err
    assert all(text in answer.err for text in ("gone.png", "negative size", "category 99", "image 1234"))
    notes = [event["text"] for event in read_log(tmp_path / "run" / "log.jsonl") if event["event"] == "note"]
    assert any("negative size" in text for text in notes)
    file = bad / "annotations" / "instances_train.json"
    assert_refused(convnext("evaluate", run, "--data", file), "has 4 problems")
    figures = json.loads(convnext("evaluate", run, "--data", file, "--skip-bad", "--json").out)
    assert (figures["n"], figures["objects"], figures["held_out"]) == (8, 7, None)


# Evaluating


def test_evaluate_what_the_run_held_out(convnext: Convnext, run: Path, data: Path) -> None:
    figures = json.loads(convnext("evaluate", run, "--json").out)
    assert (figures["task"], figures["n"], figures["objects"], figures["held_out"]) == ("detect", 4, 6, True)
    for kind in ("box", "mask"):
        assert 0 <= figures[kind]["AP"] <= figures[kind]["AP50"] <= 1
        assert figures[kind]["APl"] is None  # no object is as large
        assert [(entry["name"], entry["n"]) for entry in figures[kind]["per_class"]] == [("box", 4), ("disc", 2)]
    written = json.loads((run / "evaluation.json").read_text())
    assert (written["box"], written["mask"]) == (figures["box"], figures["mask"])
    text = convnext("evaluate", run).out
    assert f"{data}: 4 images, 6 objects" in text
    assert all(word in text for word in ("AP50", "AR100", "mask", "box AP", "disc", "images/s"))
    on_data = json.loads(convnext("evaluate", run, "--data", data, "--batch", "3", "--json").out)
    assert (on_data["n"], on_data["held_out"]) == (4, None)


def test_evaluate_several_views_and_write_the_results(
    convnext: Convnext, run: Path, data: Path, tmp_path: Path
) -> None:
    results, once = tmp_path / "new" / "r.json", tmp_path / "once.json"
    answer = convnext("evaluate", run, "--scales", "0.5", "1", "--flip", "--results", results, "--json")
    assert answer.status == 0, answer.err
    truth = COCO(str(data / "annotations" / "instances_val.json"))
    found = truth.loadRes(str(results))
    assert set(found.getImgIds()) == {18, 19, 20, 21}
    assert {entry["category_id"] for entry in found.dataset["annotations"]} == {3, 7}
    for entry in json.loads(results.read_text()):
        x, y, width, height = entry["bbox"]
        assert 0 <= x <= x + width <= 96.001
        assert 0 <= y <= y + height <= 64.001
        assert entry["segmentation"]["size"] == [64, 96]
    assert convnext("evaluate", run, "--results", once, "--dtype", "float32").status == 0  # as training judges
    assert json.loads(once.read_text()) == json.loads((run / "results.json").read_text())
    assert json.loads(once.read_text()) != json.loads(results.read_text())


def test_evaluation_on_other_classes_is_refused(convnext: Convnext, run: Path, data: Path, tmp_path: Path) -> None:
    other = shutil.copytree(data, tmp_path / "other")
    for names, says in ((("box", "star"), "'star' is none of the detector's"), (("disc", "box"), "in another order")):
        for file in (other / "annotations").iterdir():
            rewrite(file, categories=[{"id": n, "name": name} for n, name in zip((3, 7), names, strict=True)])
        assert_refused(convnext("evaluate", run, "--data", other), says)


def test_a_picture_that_cannot_be_read_is_left_out(convnext: Convnext, run: Path, data: Path, tmp_path: Path) -> None:
    cut = shutil.copytree(data, tmp_path / "cut")
    (cut / "images" / "val" / "10.png").write_bytes(b"\x89PNG\r\n cut short")
    answer = convnext("evaluate", run, "--data", cut)
    assert answer.status == 0
    assert "1 unreadable images, e.g. 10.png" in answer.out


# Predicting


def test_predict_says_draws_and_writes(
    convnext: Convnext, run: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    pictures = data / "images" / "val"
    answer = convnext("predict", pictures, "--model", run, "--score", "0.01")
    assert answer.status == 0, answer.err
    lines = answer.out.splitlines()
    assert [line.split(": ")[0] for line in lines] == [str(pictures / f"{n:02d}.png") for n in range(8, 12)]
    for number, line in enumerate(lines):
        drawing = line.split("  ->  ")[1]
        assert drawing == f"predictions/{number:04d}-{8 + number:02d}.png"
        with Image.open(drawing) as picture:
            assert picture.width >= 96
    nothing = convnext("predict", pictures / "08.png", "--model", run, "--score", "1").out
    assert "nothing from a score of 1 on" in nothing

    results, one = tmp_path / "new" / "r.json", pictures / "08.png"
    answer = convnext(
        *("predict", one, pictures / "09.png", "--model", run, "--json", "--score", "0.3"),
        *("--pictures", tmp_path / "drawn", "--results", results),
    )
    first, second = json.loads(answer.out)
    assert first["name"] == str(one)
    assert first["picture"] == str(tmp_path / "drawn" / "0000-08.png")
    assert Path(second["picture"]).is_file()
    for entry in first["objects"]:
        assert entry["label"] == NAMES[entry["index"]]
        assert 0.3 <= entry["score"] <= 1
        x0, y0, x1, y1 = entry["box"]
        assert 0 <= x0 <= x1 <= 96
        assert 0 <= y0 <= y1 <= 64
    written = json.loads(results.read_text())
    assert {(entry["image_id"], Path(entry["file_name"]).name) for entry in written} == {(1, "08.png"), (2, "09.png")}
    assert {entry["category_id"] for entry in written} == {3, 7}
    assert len(written) > len(first["objects"]) + len(second["objects"])  # every one, whatever its score


def test_predict_takes_several_views_and_names_what_it_cannot_read(
    convnext: Convnext, run: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    good, drawn = data / "images" / "val" / "08.png", ("--pictures", tmp_path / "drawn")
    answer = convnext("predict", tmp_path / "bad.jpg", good, "--model", run, "--scales", "0.5", "1", "--flip", *drawn)
    assert answer.status == 1
    assert "skipped" in answer.err
    assert "bad.jpg" in answer.err
    assert "08.png" in answer.out
    assert "Traceback" not in answer.err


def test_report_shows_a_detector(convnext: Convnext, run: Path) -> None:
    (run / "report.html").unlink()
    answer = convnext("report", run, "--json")
    assert json.loads(answer.out) == {"report": str(run / "report.html")}
    page = (run / "report.html").read_text()
    assert all(word in page for word in ("box", "disc", "AP50", "data:image/png"))


def test_a_classifiers_command_on_a_detector_and_the_other_way(
    convnext: Convnext, run: Path, data: Path, classifier: Path, photos: Path, tmp_path: Path
) -> None:
    one = photos / "circle" / "08.png"
    out = ("--out", tmp_path / "run")
    for argv, says in (
        (("evaluate", classifier, "--data", photos, "--flip"), "is for detectors"),
        (("evaluate", classifier, "--data", data), "looks like data for a detector"),
        (("evaluate", run, "--data", photos), "looks like data for a classifier"),
        (("predict", one, "--model", classifier, "--flip"), "is for detectors"),
        (("predict", one, "--model", classifier, "--results", tmp_path / "r.json"), "is for detectors"),
        (("predict", "digits", "--model", run), "was trained on"),
        (("train", "--data", photos, "--init", run, *out), "holds no classifier, whose layers"),
        (("train", "demo", "--init", run, *out), "does not fit the model"),
        (("train", "cifar10", "--data", data, *out), "looks like data for a detector"),
        (("train", "small/mask_rcnn", "--data", photos, *out), "looks like data for a classifier"),
    ):
        assert_refused(convnext(*argv), says)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["evaluate", "RUN", "--scales", "0"], "Scales are numbers of 0.1 to 4, as 0.5 1 1.5, not 0"),
        (["evaluate", "RUN", "--scales", "1", "nan"], "not 1 nan"),
        (["evaluate", "RUN", "--scales"], "not none"),
        (["evaluate", "RUN", "--batch", "-1"], "--batch is 0 or more"),
        (["evaluate", "RUN", "--results", "."], "is a folder; --results takes a file"),
        (["evaluate", "RUN", "--results", "file/r.json"], "file/r.json cannot be written"),
        (["evaluate", "RUN", "--data", "nowhere"], "There is no nowhere"),
        (["evaluate", "mask_rcnn_convnext_tinny.fb_coco"], "'mask_rcnn_convnext_tiny.fb_coco'"),
        (["evaluate", "mask_rcnn_convnext_tiny"], "'mask_rcnn_convnext_tiny.fb_coco'"),
        (["evaluate", "mask_rcnn_convnext_tiny_1k_3x.pth"], "There is no model at mask_rcnn_convnext_tiny_1k_3x.pth"),
        (["predict", "PICTURE", "--model", "RUN", "--score", "2"], "--score lies in 0 to 1, not 2"),
        (["predict", "PICTURE", "--model", "RUN", "--scales", "-1"], "Scales are numbers"),
        (["predict", "PICTURE", "--model", "RUN", "--results", "."], "is a folder"),
        (["train", "small/mask_rcn", "--data", "DATA"], "'small/mask_rcnn'"),
        (["train", "coco/mask_rcnn_convnext_tiny"], "--data DIR"),
        (["train", "small/mask_rcnn", "--data", "DATA", "--init", "no.pth"], "no model at no.pth"),
        (["train", "small/mask_rcnn", "--data", "DATA", "--model.num-classes", "7"], "The data has 2 classes"),
        (["train", "small/mask_rcnn", "--data", "DATA", "--model.roi.score", "1"], "--model.roi.score lies in"),
        (["train", "small/mask_rcnn", "--data", "DATA", "--model.roi.ious", "0.5", "0.6"], "one entry for each stage"),
        (["train", "small/mask_rcnn", "--data", "DATA", "--augment.min-side", "90"], "--augment.min-side"),
        (["train", "small/mask_rcnn", "--data", "DATA", "--model.backbone.name", "convnext_tinny"], "'convnext_tiny'"),
    ],
)
def test_mistakes_get_one_clear_message(
    convnext: Convnext,
    run: Path,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argv: list[str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    real = {"RUN": run, "DATA": data, "PICTURE": data / "images" / "val" / "08.png"}
    assert_refused(convnext(*(real.get(word, word) for word in argv)), says)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
