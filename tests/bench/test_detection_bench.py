"""Detectors beside each other: the same computation, the same work, results that survive; and the command."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from convnext.bench import detection, detectors
from convnext.bench.detection import DetectionJob, load_shared, save_shared
from convnext.bench.engine.dense_results import (
    Contestant,
    DensePlan,
    DenseResult,
    Regions,
)
from convnext.bench.engine.machine import this_machine
from convnext.bench.engine.parity import TOLERANCE, random_images
from convnext.cli.main import main
from convnext.core.errors import UserError
from convnext.models.config import ModelConfig
from convnext.models.detection.config import DetectorConfig, RoIConfig, RPNConfig, detector_config

SIZE, BATCH, MOST, SAMPLES = (64, 96), 2, 15, 32
ATTO = ModelConfig("convnext_atto", depths=(1, 1, 1, 1), dims=(16, 32, 64, 128))
CONFIG = DetectorConfig(
    ATTO,
    num_classes=5,
    width=16,
    rpn=RPNConfig(before_nms=(200, 100), after_nms=(120, 60)),
    roi=RoIConfig(samples=SAMPLES, most=MOST, width=32),
)
PLAN = DensePlan("a detector", CONFIG, SIZE, batch=BATCH, seconds=0.01, rounds=2)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("scratch")
    save_shared(PLAN, folder)
    return folder


def test_ours_finds_as_much_as_a_trained_one(scratch: Path) -> None:
    model, boxes = load_shared(PLAN, scratch)
    x = random_images(SIZE, BATCH, seed=0)
    with torch.no_grad():
        for found in model(x, [SIZE] * BATCH):
            assert len(found.boxes) == MOST
            assert found.masks.shape == (MOST, *SIZE)
            assert found.masks.any()
            sides = (found.boxes[:, 2:] - found.boxes[:, :2]).amax(1)
            assert sides.max() > 1.5 * sides.min()
    assert [of_image.shape for of_image in boxes] == [(detectors.OBJECTS, 4)] * BATCH
    again, _ = detectors.arrange_equal_work(CONFIG, SIZE, BATCH, seed=0)
    assert all(torch.equal(a, b) for a, b in zip(again.state_dict().values(), model.state_dict().values(), strict=True))


def test_objects_are_rectangles_within_their_boxes() -> None:
    boxes = torch.tensor([[2.0, 3.0, 10.0, 7.0], [0.0, 0.0, 96.0, 64.0]])
    (found,) = detectors.targets([boxes], SIZE, 5)
    assert found.masks is not None
    assert found.masks.sum((1, 2)).tolist() == [8 * 4, 64 * 96]
    assert found.masks[0, 3:7, 2:10].all()
    assert found.labels.tolist() == [0, 1]


@pytest.mark.parametrize("contestant", ["convnext", "torchvision heads"])
def test_both_do_the_same_work(contestant: Contestant, scratch: Path) -> None:
    """60 proposals and 15 masks of each image; in training 32 samples, a quarter of them on objects."""
    found = DetectionJob(PLAN, contestant, "inference", scratch).check()
    assert found == Regions(BATCH * 60, BATCH * MOST)
    found = DetectionJob(PLAN, contestant, "train", scratch).check()
    assert found == Regions(BATCH * SAMPLES, BATCH * SAMPLES // 4)


def test_both_draw_masks_as_large_as_the_image(scratch: Path) -> None:
    model, _ = load_shared(PLAN, scratch)
    peer = detectors.torchvision_detector(model, CONFIG, SIZE, own_backbone=False)
    x = random_images(SIZE, BATCH, seed=0)
    with torch.no_grad():
        ours, theirs = model(x, [SIZE] * BATCH), peer(list(x))
    for one, other in zip(ours, theirs, strict=True):
        assert one.masks.shape == (MOST, *SIZE)
        assert other["masks"].shape == (MOST, 1, *SIZE)
        # RoIAlign lies half a pixel beside ours, so scores are near but not equal.
        torch.testing.assert_close(one.scores.sort().values, other["scores"].sort().values, atol=0.2, rtol=0)
        assert set(one.labels.tolist()) & {label - 1 for label in other["labels"].tolist()}


def test_another_computation_would_be_seen(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, _ = load_shared(PLAN, scratch)
    peer = detectors.torchvision_detector(model, CONFIG, SIZE, own_backbone=False)
    x = random_images(SIZE, 1, seed=0)
    assert detectors.largest_difference(model, peer, x) <= TOLERANCE
    own = {name: value.clone() for name, value in peer.state_dict().items() if not name.startswith("backbone.body")}
    for name in own:
        peer.load_state_dict({name: own[name] * 1.01 + 0.01}, strict=False)
        assert detectors.largest_difference(model, peer, x) > TOLERANCE, name
        peer.load_state_dict({name: own[name]}, strict=False)
    monkeypatch.setattr(detectors, "largest_difference", lambda *_: float("nan"))
    with pytest.raises(UserError, match="torchvision heads with our weights differs from ours by nan"):
        DetectionJob(PLAN, "torchvision heads", "inference", scratch).check()


@pytest.mark.slow
def test_torchvisions_own_backbone_gives_the_same_maps() -> None:
    config = replace(detector_config("mask_rcnn_convnext_tiny", num_classes=3), width=16)
    config = replace(config, roi=replace(config.roi, width=32))
    assert detectors.offers(config, own_backbone=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = detection.build_detector(config).eval()
    for name, value in model.backbone.named_parameters():
        if name.startswith("norm"):
            torch.nn.init.normal_(value)
    peer = detectors.torchvision_detector(model, config, (32, 64), own_backbone=True)
    assert type(peer.backbone.body).__name__ != "FeatureMaps"
    assert detectors.largest_difference(model, peer, torch.randn(1, 3, 32, 64)) <= TOLERANCE


def test_who_is_offered() -> None:
    assert detectors.offers(CONFIG, own_backbone=False)
    assert not detectors.offers(CONFIG, own_backbone=True)  # torchvision has no atto
    cascade = detector_config("cascade_mask_rcnn_convnext_tiny", num_classes=3)
    assert not detectors.offers(cascade, own_backbone=False)
    with pytest.raises(UserError, match="compares Mask R-CNN alone"):
        detection.measure(replace(PLAN, config=cascade))


@pytest.mark.parametrize("contestant", ["convnext", "torchvision heads"])
def test_a_step_trains_everything_and_changes_nothing(contestant: Contestant, scratch: Path) -> None:
    job = DetectionJob(replace(PLAN, dtype="bfloat16"), contestant, "train", scratch)
    ours, boxes = load_shared(PLAN, scratch)
    module = job._build_contestant(ours)
    before = [value.detach().clone() for value in module.parameters()]
    x = random_images(SIZE, BATCH, seed=0)
    loss = job.timed_call(module, job._forward(module, x, boxes), x.device)()
    assert loss.isfinite()
    assert all(value.grad is not None for value in module.parameters())
    assert all(torch.equal(a, b) for a, b in zip(before, module.parameters(), strict=True))


TINY = ("--height", "64", "--width", "96", "--seconds", "0.01", "--threads", "1")


@pytest.mark.slow
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("convnext.models.detection.config.detector_config", lambda _name, num_classes: CONFIG)
    assert main(["bench", "detection", *TINY, "--rounds", "1", "--out", str(tmp_path)]) == 0
    out, _ = capsys.readouterr()
    assert "torchvision heads" in out
    assert "torchvision inference: torchvision has no convnext_atto" in out
    assert "Ours in inference: " in out
    assert {path.name for path in tmp_path.iterdir()} == {"detection.json", "detection.md"}
    assert (tmp_path / "detection.md").read_text().startswith("# Mask R-CNN beside torchvision's")
    entries = json.loads((tmp_path / "detection.json").read_text())["entries"]
    names = ["convnext", "torchvision heads", "torchvision"]
    assert [(e["contestant"], e["work"]) for e in entries] == [(n, w) for w in ("inference", "train") for n in names]
    for entry in entries:
        if entry["contestant"] == "torchvision":
            continue
        work = {"boxes": 60, "masks": MOST} if entry["work"] == "inference" else {"boxes": 32, "masks": 8}
        assert entry["regions"] == work
        assert entry["images_per_second"] > 0
        assert entry["memory"] is None or entry["memory"] > 0
        assert len(entry["seconds"]) == 1
        assert {tried["name"] for tried in entry["tried"]} == {"NCHW", "NHWC"}


def test_json(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    result = DenseResult(PLAN, this_machine("cpu"), "2026-11-22T10:00:00+00:00")
    given: list[DensePlan] = []
    monkeypatch.setattr(detection, "measure", lambda plan: given.append(plan) or result)
    assert main(["bench", "detection", *TINY, "--works", "train", "--json", "--out", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "detection.json").read_text())
    (plan,) = given
    assert (plan.size, plan.works, plan.threads, plan.batch) == ((64, 96), ("train",), 1, 1)
    assert plan.config == detector_config("mask_rcnn_convnext_tiny", num_classes=80)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--model", "ssd_convnext_tiny"), "name begins with one of mask_rcnn"),
        (("--model", "faster_rcnn_convnext_tiny"), "compares Mask R-CNN alone"),
        (("--model", "cascade_mask_rcnn_convnext_tiny"), "compares Mask R-CNN alone"),
        (("--model", "mask_rcnn_convnext_tinny"), "Did you mean 'convnext_tiny'"),
        (("--height", "100"), "--height is a multiple of 32"),
        (("--width", "-32"), "--width takes numbers above 0, not -32"),
        (("--batch", "0"), "--batch takes numbers above 0, not 0"),
        (("--rounds", "0"), "--rounds takes numbers above 0, not 0"),
        (("--seconds", "nan"), "--seconds takes numbers above 0, not nan"),
        (("--threads", "-1"), "--threads takes 0"),
        (("--works",), "--works needs at least one value"),
        (("--device", "cuda:99"), "not on this machine"),
    ],
)
def test_mistakes(words: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["bench", "detection", *words, "--out", str(tmp_path / "none")]) == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["bench", "--help"], ["bench", "detection", "--help"]):
        assert main(words) == 0
    text = capsys.readouterr().out
    assert "bench detection --help" in text
    for option in ("--model", "--height", "--width", "--batch", "--works", "--dtype", "--seconds", "--rounds", "--out"):
        assert option in text
