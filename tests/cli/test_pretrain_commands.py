"""The whole way with masked pre-training: train, resume, evaluate, predict, report, and start others from it."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

import convnext
from convnext.cli.main import main
from convnext.core.logs import read_log
from shapes import draw

pytestmark = pytest.mark.slow

MODEL = [
    *("--model.backbone.depths", "1", "1", "1", "1", "--model.backbone.dims", "8", "8", "16", "16"),
    *("--model.decoder-dim", "16"),
]
TRAINING = [
    *("--loader.workers", "0", "--loop.global-batch", "8", "--loop.eval-epochs", "1", "--schedule.epochs", "4"),
    *("--schedule.warmup-epochs", "0.5", "--loop.precision", "float32", "--loop.log-steps", "1"),
]


def quietly(*argv: str | Path) -> SimpleNamespace:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([str(word) for word in argv])
    return SimpleNamespace(status=status, out=out.getvalue(), err=err.getvalue())


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("place")


@pytest.fixture(scope="module")
def images(place: Path) -> Path:
    """Unlabelled: all in one folder."""
    (place / "images").mkdir()
    for number in range(24):
        draw(place / "images" / f"{number}.png", "circle" if number % 2 else "square", number)
    return place / "images"


@pytest.fixture(scope="module")
def run(place: Path, images: Path) -> Path:
    found = quietly("train", "pretrain/small", "--data", images, "--out", place / "run", *MODEL, *TRAINING)
    assert found.status == 0, found.err
    assert "labels are not asked for" in found.err
    assert "explains" in found.err
    return place / "run"


def test_what_a_run_leaves(run: Path) -> None:
    figures = json.loads((run / "evaluation.json").read_text())
    assert figures["task"] == "pretrain"
    assert figures["held_out"] is True
    assert figures["explained"] < 1
    assert len(figures["pictures"]) == figures["n"] == 2
    with Image.open(run / figures["pictures"][0]["picture"]) as picture:
        assert picture.width > 3 * 200
    page = (run / "report.html").read_text()
    assert "What it makes of what it does not see" in page
    assert page.count('<img src="data:image/') >= 2
    names = set(load_file(run / "best.safetensors"))
    assert {"mask_token", "pred.weight", "encoder.stages.3.0.grn.gamma"} <= names
    losses = [event["loss"] for event in read_log(run / "log.jsonl") if event["event"] == "eval"]
    assert losses[-1] < losses[0]


def test_a_resumed_run_is_the_same_run(run: Path, place: Path, images: Path) -> None:
    """Encoder, decoder and optimiser go on: a run in two parts ends as the one in one."""
    from convnext.training import loop

    saved = loop.save_checkpoint

    class Stop(Exception):
        pass

    def once(*args: Any) -> None:
        saved(*args)
        raise Stop

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "save_checkpoint", once)
        with pytest.raises(Stop):
            quietly("train", "pretrain/small", "--data", images, "--out", place / "halves", *MODEL, *TRAINING)
    assert quietly("train", "--resume", place / "halves").status == 0
    one, other = (torch.load(folder / "last.pt", weights_only=True) for folder in (run, place / "halves"))
    assert one["step"] == other["step"]
    assert {"mask_token", "pred.weight"} <= set(one["model"])
    for name, value in one["model"].items():
        assert torch.equal(value, other["model"][name]), name
    for place_of, entry in one["optimizer"]["state"].items():
        assert torch.equal(entry["exp_avg_sq"], other["optimizer"]["state"][place_of]["exp_avg_sq"])


def test_evaluate_and_predict(run: Path, images: Path, place: Path) -> None:
    found = quietly("evaluate", run, "--json", "--dtype", "float32", "--workers", "0")
    assert json.loads(found.out)["explained"] == pytest.approx(
        json.loads((run / "evaluation.json").read_text())["explained"], abs=1e-6
    )
    assert "of the masked cells' variance" in quietly("evaluate", run, "--data", images).out
    found = quietly("predict", images / "0.png", "--model", run, "--pictures", place / "drawn", "--json")
    assert found.status == 0, found.err
    assert json.loads(found.out)[0]["hidden"] == 10
    assert len(list((place / "drawn").glob("*.png"))) == 1
    first, other = (quietly("predict", images / "0.png", "--model", run, "--mask-seed", s).out for s in ("0", "1"))
    assert first != other
    assert quietly("weights", "inspect", run).out.count("autoencoder") == 1
    result = convnext.load(run)(images / "0.png")
    assert result.mask.shape == (4, 4)


def test_others_start_from_it(run: Path, place: Path) -> None:
    """A classifier takes the encoder, and says what is new; so does another pre-training, decoder included."""
    shapes = place / "shapes"
    for shape in ("circle", "square"):
        (shapes / shape).mkdir(parents=True, exist_ok=True)
        for number in range(12):
            draw(shapes / shape / f"{number}.png", shape, number)
    words = ["--data", shapes, "--init", run, "--schedule.epochs", "1", "--loader.workers", "0"]
    found = quietly("train", *words, "--out", place / "classifier")
    assert found.status == 0, found.err
    assert "fine-tuning convnextv2_atto" in found.err or "convnextv2_atto" in found.err
    recipe = json.loads((place / "classifier" / "recipe.json").read_text())
    assert recipe["model"]["name"] == "convnextv2_atto"
    assert recipe["model"]["output_stride"] == 8
    found = quietly("train", "--task", "pretrain", *words, "--out", place / "more")
    assert found.status == 0, found.err
    assert "goes on with convnextv2_atto" in found.err


def test_mistakes_are_told(images: Path, place: Path) -> None:
    found = quietly("train", "pretrain/small", "--data", images, "--input.size", "36", "--out", place / "x")
    assert found.status == 1
    assert "A cell of this encoder is 8 pixels" in found.err
    found = quietly("train", "pretrain/small", "--data", images, "--model.mask-ratio", "1", "--out", place / "x")
    assert "--model.mask-ratio lies" in found.err
    found = quietly("train", "--data", images)
    assert found.status == 1  # images without labels train no classifier, and pre-training is only done when asked for
    assert "--task pretrain" in found.err
    found = quietly(
        "train", "pretrain/small", "--data", images, "--model.backbone.name", "resnet50", "--out", place / "x"
    )
    assert "stem of patches" in found.err
    assert not (place / "x").exists() or list((place / "x").iterdir()) == []
