"""The whole way with a segmenter: train, resume, evaluate, predict, report; what is said where something is wrong."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from convnext.cli.main import main
from convnext.core.logs import read_log
from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.tasks.choose import read_metadata
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.segmentation.predict import Segmenter
from convnext.weights.files import save_model
from labelmaps import labelled, save, scene
from shapes import assert_refused

pytestmark = pytest.mark.slow

Convnext = Callable[..., Any]  # of conftest: status, out, err
OPTIONS = [
    *("--model.backbone.depths", "1", "1", "1", "1", "--model.backbone.dims", "8", "16", "16", "16"),
    *("--model.width", "16", "--augment.crop", "32", "--input.short", "48", "--input.long", "64"),
    *("--loader.workers", "0", "--loop.global-batch", "4", "--loop.eval-epochs", "2", "--ema.decay", "0.8"),
    *("--loop.precision", "float32"),
]
"""Settings that train small/segmenter in seconds."""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def data(place: Path) -> Path:
    return labelled(place / "data", train=8, val=3)


def quietly(*argv: str | Path) -> SimpleNamespace:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in argv])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def trained(place: Path, data: Path) -> SimpleNamespace:
    return quietly(
        *("train", "small/segmenter", "--data", data, "--out", place / "run", "--schedule.epochs", "12", *OPTIONS)
    )


@pytest.fixture(scope="module")
def run(place: Path, trained: SimpleNamespace) -> Path:
    assert trained.status == 0, trained.err
    return place / "run"


@pytest.fixture(scope="module")
def picture(data: Path) -> Path:
    return data / "images" / "val" / "0.png"


def test_from_label_maps_to_a_report(trained: SimpleNamespace, run: Path, data: Path) -> None:
    assert "Found 8 images, 3 classes (rarest: " in trained.err
    assert "an all-MLP head on convnext_atto" in trained.err
    assert "Training from random weights on 8 images" in trained.err
    assert "on 3 held-out images" in trained.err
    assert {path.name for path in run.iterdir()} >= {
        *("recipe.json", "split.json", "log.jsonl", "last.pt", "best.safetensors"),
        *("evaluation.json", "pictures", "report.html"),
    }
    recipe = json.loads((run / "recipe.json").read_text())
    assert (recipe["task"], recipe["data"]) == ("segment", str(data))
    metadata = read_metadata(run / "best.safetensors")
    assert (metadata.classes, metadata.values, len(metadata.colours)) == (("sky", "ground", "box"), (0, 1, 2), 3)
    figures = json.loads((run / "evaluation.json").read_text())
    assert figures["task"] == "segment"
    assert figures["mIoU"] > 0.6  # three colours are soon learned
    assert [entry["name"] for entry in figures["per_class"]] == ["sky", "ground", "box"]
    assert figures["pixels"] == 3 * (48 * 64 - 1)
    assert len(figures["pictures"]) == 3
    report = (run / "report.html").read_text()
    for words in ("Mean IoU", "Pixel accuracy", "Most confused", "ground", "data:image/png"):
        assert words in report
    evals = [event for event in read_log(run / "log.jsonl") if event["event"] == "eval"]
    assert len(evals) == 12
    assert set(evals[0]) >= {"mIoU", "mAcc", "aAcc", "ema"}


def test_a_resumed_run_is_the_same_run(place: Path, data: Path) -> None:
    settings = ["--data", str(data), "--schedule.epochs", "4", *OPTIONS, "--model.dropout", "0.3"]
    whole = quietly("train", "small/segmenter", "--out", place / "whole", *settings)
    assert whole.status == 0, whole.err
    from convnext.training import loop

    saved = loop.save_checkpoint

    class Stop(Exception):
        pass

    def once(*args: Any) -> None:
        saved(*args)
        raise Stop

    loop.save_checkpoint = once  # type: ignore[assignment]
    try:
        with pytest.raises(Stop):
            quietly("train", "small/segmenter", "--out", place / "halves", *settings)
    finally:
        loop.save_checkpoint = saved
    resumed = quietly("train", "--resume", place / "halves")
    assert resumed.status == 0, resumed.err
    assert "going on from step 4" in resumed.err
    one, other = (torch.load(place / name / "last.pt", weights_only=True) for name in ("whole", "halves"))
    assert one["step"] == other["step"] == 8
    for part in ("model", "ema"):
        assert "decode_head.conv_seg.weight" in one[part]
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), name


def test_evaluate_says_what_training_said(convnext: Convnext, run: Path, data: Path) -> None:
    figures = json.loads((run / "evaluation.json").read_text())
    again = json.loads(convnext("evaluate", run, "--json", "--workers", "0", "--dtype", "float32").out)
    assert again["mIoU"] == pytest.approx(figures["mIoU"], abs=1e-4)
    elsewhere = json.loads(
        convnext("evaluate", run, "--data", data, "--json", "--workers", "0", "--dtype", "float32").out
    )
    assert elsewhere["mIoU"] == again["mIoU"]
    answer = convnext("evaluate", run, "--scales", "0.75", "1.25", "--flip", "--window", "32", "--workers", "0")
    assert "mIoU" in answer.out
    assert "class, worst first" in answer.out


def test_predict_draws_and_writes_a_label_map(convnext: Convnext, run: Path, picture: Path, tmp_path: Path) -> None:
    answer = convnext("predict", picture, "--model", run, "--pictures", tmp_path, "--json")
    (result,) = json.loads(answer.out)
    assert sum(result["shares"].values()) == pytest.approx(1, abs=1e-4)
    with Image.open(result["labels"]) as map_:
        assert (map_.mode, map_.size) == ("P", (64, 48))
        values = np.array(map_)
        drawn = {tuple(colour) for colour in np.array(map_.convert("RGB")).reshape(-1, 3).tolist()}
        assert drawn <= set(read_metadata(run / "best.safetensors").colours)
    truth = scene(100)[1]
    assert float((values == truth).mean()) > 0.6
    with Image.open(result["picture"]) as drawing:
        assert drawing.width >= 600
    assert np.array_equal(Segmenter(run)(picture).labels.numpy(), values)
    parts = convnext("predict", picture, "--model", run, "--pictures", tmp_path / "b", "--megabytes", "1", "--json")
    with Image.open(json.loads(parts.out)[0]["labels"]) as again:
        assert np.array_equal(np.array(again), values)
    said = convnext("predict", picture, "--model", run, "--pictures", tmp_path / "c", "--short", "0").out
    assert "ground" in said
    assert "0000-0.labels.png" in said


def test_values_of_the_data_come_back(convnext: Convnext, run: Path, tmp_path: Path) -> None:
    """A mapping file with values of its own: what is written has them."""
    for number in range(4):
        pixels, labels = scene(number)
        save(tmp_path / "data" / "images" / f"{number}.png", pixels)
        save(tmp_path / "data" / "annotations" / f"{number}.png", labels * 10 + 5)
    content = {"classes": [{"name": n, "value": v} for n, v in (("sky", 5), ("ground", 15), ("box", 25))]}
    (tmp_path / "map.json").write_text(json.dumps(content))
    out = tmp_path / "run"
    options = ["--schedule.epochs", "1", "--labels", str(tmp_path / "map.json"), *OPTIONS]
    answer = quietly("train", "--data", tmp_path / "data", "--out", out, *options)
    assert answer.status == 0, answer.err
    assert "a small segmenter from random weights" in answer.err
    found = convnext(
        "predict", tmp_path / "data" / "images" / "0.png", "--model", out, "--pictures", tmp_path, "--json"
    )
    with Image.open(json.loads(found.out)[0]["labels"]) as map_:
        assert set(np.unique(np.array(map_))) <= {5, 15, 25}
    evaluated = convnext("evaluate", run, "--data", tmp_path / "data", "--labels", tmp_path / "map.json", "--json")
    assert json.loads(evaluated.out)["n"] == 4


def test_fine_tuning_to_other_classes(place: Path, run: Path, tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", train=4, val=1, names=False)
    (data / "classes.txt").write_text("a\nb\nc\nd\n")
    out = tmp_path / "tuned"
    resting = ["--optim.lr", "1e-30", "--schedule.steps", "1", "--schedule.warmup-steps", "0"]
    small = ["--loader.workers", "0", "--augment.crop", "32", "--input.short", "48", "--input.window", "0"]
    answer = quietly("train", "--data", data, "--init", run, "--out", out, *resting, *small)
    assert answer.status == 0, answer.err
    assert "the classifier of the head, of which the weights have others, is newly initialised" in answer.err
    before, after = load_file(run / "best.safetensors"), load_file(out / "best.safetensors")
    kept = [n for n in before if n in after and before[n].shape == after[n].shape and "running" not in n]
    assert all(torch.equal(before[n], after[n]) for n in kept if n.startswith("backbone."))
    assert after["decode_head.conv_seg.weight"].shape[0] == 4


def test_linear_probing_of_a_classifiers_features(run: Path, data: Path, tmp_path: Path) -> None:
    config = ModelConfig("convnext_atto", 7, depths=(1, 1, 1, 1), dims=(8, 16, 16, 16), kernel_size=3)
    weights = {name: torch.randn_like(value) * 0.2 for name, value in from_config(config).state_dict().items()}
    save_model(tmp_path / "c.safetensors", weights, ClassificationMetadata(config, InputConfig(size=64)))
    answer = quietly(
        *("train", "ade20k/linear_convnext_tiny", "--data", data, "--init", tmp_path / "c.safetensors"),
        *("--out", tmp_path / "probe", "--schedule.steps", "3", "--schedule.warmup-steps", "0"),
        *("--model.backbone.name", "convnext_atto", "--model.backbone.depths", "1", "1", "1", "1"),
        *("--model.backbone.dims", "8", "16", "16", "16", "--model.backbone.kernel-size", "3"),
        *("--model.backbone.layer-scale-init-value", "1e-6"),
        *("--augment.crop", "32", "--loader.workers", "0", "--loop.precision", "float32"),
    )
    assert answer.status == 0, answer.err
    assert "everything behind the backbone is newly initialised" in answer.err
    after = load_file(tmp_path / "probe" / "best.safetensors")
    assert torch.equal(after["backbone.stages.0.0.dwconv.weight"], weights["stages.0.0.dwconv.weight"])
    assert all(name.startswith(("backbone.", "decode_head.")) for name in after)


def test_one_training_picture_is_enough_for_a_step(tmp_path: Path) -> None:
    data = labelled(tmp_path / "data", train=1, val=1)
    answer = quietly(
        *("train", "small/segmenter", "--data", data, "--out", tmp_path / "run", "--schedule.steps", "1", *OPTIONS),
        *("--model.head", "upernet"),
    )
    assert answer.status == 0, answer.err
    assert "a step takes 4 crops of images" in answer.err


def test_what_is_wrong_is_said_before_anything_is_written(convnext: Convnext, tmp_path: Path) -> None:
    data = labelled(tmp_path / "data")
    save(data / "annotations" / "train" / "0.png", np.full((48, 64), 9, dtype=np.uint8))
    (data / "annotations" / "train" / "1.png").unlink()
    out = tmp_path / "run"
    answer = convnext("train", "small/segmenter", "--data", data, "--out", out, *OPTIONS)
    assert_refused(answer, "has 2 problems", "without a label map", "values that are no class", "--loader.skip-bad")
    assert not out.exists()
    skipped = convnext(
        *("train", "small/segmenter", "--data", data, "--out", out, "--schedule.steps", "1", *OPTIONS),
        "--loader.skip-bad",
    )
    assert skipped.status == 0
    assert "Left out of" in skipped.err


def test_what_cannot_be_is_refused(convnext: Convnext, run: Path, data: Path, picture: Path, tmp_path: Path) -> None:
    other = labelled(tmp_path / "other", names=False)
    (other / "classes.txt").write_text("sky\nground\ntree\n")
    photos = tmp_path / "photos"
    for name in ("a", "b"):
        shutil.copytree(data / "images" / "val", photos / name)
    for command, says in [
        (("evaluate", run, "--data", other), "'tree' is none of the segmenter's"),
        (("evaluate", run, "--data", photos), "looks like data for a classifier"),
        (("evaluate", run, "--results", tmp_path / "r.json"), "--results is for detectors"),
        (("evaluate", run, "--short", "5"), "--short is 32 to 8192 pixels"),
        (("evaluate", run, "--window", "5"), "--window is 32 to 8192 pixels"),
        (("evaluate", run, "--scales", "9"), "Scales are numbers"),
        (("predict", picture, "--model", run, "--score", "0.3"), "--score is for detectors"),
        (("predict", picture, "--model", run, "--top", "3"), "--top is for classifiers"),
        (("predict", picture, "--model", run, "--megabytes", "0"), "--megabytes is 1 or more"),
        (("train", "small/segmenter", "--data", photos), "looks like data for a classifier"),
        (("train", "small/segmenter", "--data", tmp_path / "none"), "is not there"),
        (("train", "small/segmenter", "--data", data, "--model.num-classes", "7"), "The data has 3 classes"),
        (("train", "small/segmenter", "--data", data, "--augment.crop", "3"), "--augment.crop lies in 32 to 8192"),
        (
            (
                *("train", "small/segmenter", "--data", data, "--out", tmp_path / "x", *OPTIONS),
                *("--model.head", "upernet", "--loop.micro-batch", "1"),
            ),
            "UPerNet's batch norms need two images",
        ),
    ]:
        assert_refused(convnext(*command), says)
    assert not (tmp_path / "x").exists()  # nor would a run have been lost that stood there


def test_weights_are_listed_inspected_and_converted(convnext: Convnext, run: Path, tmp_path: Path) -> None:
    listed = convnext("weights", "list", "--segmenters").out
    assert "upernet_convnext_xlarge.fb_in22k_ade20k" in listed
    assert "6 segmenters" in listed
    rows = json.loads(convnext("weights", "list", "--segmenters", "--json").out)
    assert [row["miou"] for row in rows] == [46.0, 48.7, 49.1, 52.6, 53.2, 53.6]
    inspected = convnext("weights", "inspect", run).out
    assert "segmenter on convnext_atto, mlp head" in inspected
    assert convnext("weights", "convert", run, tmp_path / "x.pth", "--layout", "official").status == 0
    official = torch.load(tmp_path / "x.pth", weights_only=True)
    assert official["meta"]["CLASSES"] == ["sky", "ground", "box"]
    assert set(official["state_dict"]) == set(load_file(run / "best.safetensors"))
    assert_refused(
        convnext("weights", "convert", run, tmp_path / "y", "--layout", "transformers"), "UPerNet on ConvNeXt V1"
    )
    assert_refused(convnext("weights", "convert", run, tmp_path / "y", "--layout", "timm"), "timm has no segmenters")
    save(tmp_path / "x.png", scene(0)[0])
    mistyped = convnext("predict", tmp_path / "x.png", "--model", "upernet_convnext_tny.fb_ade20k")
    assert_refused(mistyped, "upernet_convnext_tiny.fb_ade20k")
