"""What a run starts from: weights that are picked for the data, with the hosts up, down, slow, cut off and wrong."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.tasks import initial
from convnext.tasks.classification import start as classification_start
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.detection import start as detection_start
from convnext.tasks.detection.published import published as detectors
from convnext.tasks.detection.recipe import DetectionMetadata
from convnext.tasks.segmentation import start as segmentation_start
from convnext.tasks.segmentation.published import published as segmenters
from convnext.tasks.segmentation.recipe import SegmentationMetadata
from convnext.weights import download
from convnext.weights.cache import place, record_of
from convnext.weights.catalog import catalog
from convnext.weights.files import save_model
from labelmaps import labelled
from painted import NAMES, SMALL, painted
from server import Server, clean, hangs, status, whole
from shapes import Answer, assert_refused

Convnext = Callable[..., Answer]
TINY, NANO = "convnext_tiny.fb_in22k", "convnextv2_nano.fcmae_ft_in22k_in1k"
DETECTOR, SEGMENTER = "mask_rcnn_convnext_tiny.fb_coco", "upernet_convnext_tiny.fb_ade20k"
HOST = "https://127.0.0.1:9"  # where nothing listens: without a mirror, there is no network
FAST = ["--schedule.epochs", "1", "--input.size", "32", "--loader.workers", "0", "--loop.global-batch", "4"]
ADVICE = ("--init FILE", "CONVNEXT_MIRROR=https://", "--init none")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Larger than what counts as small."""
    for colour in ("red", "blue"):
        for number in range(6):
            path = tmp_path / "photos" / colour / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image = Image.new("RGB", (100, 80 + number), colour)
            ImageDraw.Draw(image).rectangle((8 * number, 8, 40, 40), fill="white")
            image.save(path)
    return tmp_path / "photos"


@pytest.fixture
def weights(tmp_path: Path) -> bytes:
    """A classifier of a few kilobytes, with the mark of its own in a bias."""
    config = ModelConfig("convnext_tiny", num_classes=5, depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
    state = from_config(config).state_dict()
    state["norm.bias"].fill_(0.125)
    save_model(tmp_path / "w.safetensors", state, ClassificationMetadata(config, InputConfig(size=32)))
    return (tmp_path / "w.safetensors").read_bytes()


@pytest.fixture
def mirror(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A mirror of the hosts of two classifiers, a detector and a segmenter, which holds nothing yet."""
    clean(monkeypatch, tmp_path / "cache")
    monkeypatch.setenv("CONVNEXT_MIRROR", server.url(""))
    for rows, name in ((catalog(), TINY), (catalog(), NANO), (detectors(), DETECTOR), (segmenters(), SEGMENTER)):
        monkeypatch.setitem(rows, name, replace(rows[name], location=address(name)))
    return server


def address(name: str) -> str:
    return f"{HOST}/{name}.safetensors"


def path_of(name: str) -> str:
    """Where the mirror has the file."""
    return f"/127.0.0.1_9/{name}.safetensors"


def initial_weights(run: Path) -> str:
    return json.loads((run / "recipe.json").read_text())["init"]


def refused_soon(answer: Answer, seconds: float, *says: str) -> None:
    assert_refused(answer, *ADVICE, "(here: 5)", *says)
    assert seconds < 4
    (message,) = [line for line in answer.err.splitlines() if line.startswith("convnext: ")]
    assert TINY in message


def timed(convnext: Convnext, *argv: str | Path) -> tuple[Answer, float]:
    begun = time.monotonic()
    return convnext(*argv), time.monotonic() - begun


def test_published_weights_are_the_default(
    convnext: Convnext, mirror: Server, photos: Path, weights: bytes, tmp_path: Path
) -> None:
    mirror.at(path_of(TINY), whole(weights))
    run = tmp_path / "run"
    answer = convnext("train", "--data", photos, "--out", run, *FAST)
    assert answer.status == 0, answer.err
    size = f"{len(weights) / 1e6:.2g} MB"
    assert f"weights to start from: {TINY}, {size}, licence MIT, commercial use allowed" in answer.err
    assert (
        f"- starts from {TINY} ({size}, licence MIT, commercial use allowed): pre-trained on ImageNet-22K" in answer.err
    )
    assert f"Downloading {TINY}.safetensors" in answer.err
    assert "from scratch" not in answer.err
    assert initial_weights(run) == TINY
    recipe = json.loads((run / "recipe.json").read_text())
    assert (recipe["name"], recipe["model"]["dims"]) == ("finetune", [8, 8, 16, 16])
    asked = len(mirror.seen)
    again = convnext("train", "--data", photos, "--init", "auto", "--out", tmp_path / "again", *FAST)
    assert again.status == 0, again.err
    assert len(mirror.seen) == asked  # what is here is not asked for again
    assert "Downloading" not in again.err
    assert (tmp_path / "again/best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()
    mirror.close()
    rerun = convnext("train", run / "recipe.json", "--out", tmp_path / "rerun")
    assert rerun.status == 0, rerun.err
    assert (tmp_path / "rerun/best.safetensors").read_bytes() == (run / "best.safetensors").read_bytes()


def test_published_weights_for_images_of_other_bands(
    convnext: Convnext, mirror: Server, photos: Path, weights: bytes, tmp_path: Path
) -> None:
    mirror.at(path_of(TINY), whole(weights))
    answer = convnext("train", "--data", photos, "--loader.bands", "1", "--out", tmp_path / "run", *FAST)
    assert answer.status == 0, answer.err
    assert initial_weights(tmp_path / "run") == TINY
    assert json.loads((tmp_path / "run" / "recipe.json").read_text())["model"]["in_chans"] == 1


def test_offline_it_says_at_once_what_to_do(
    convnext: Convnext, mirror: Server, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVNEXT_OFFLINE", "1")
    answer, seconds = timed(convnext, "train", "--data", photos, "--out", tmp_path / "run", *FAST)
    refused_soon(answer, seconds, "CONVNEXT_OFFLINE is set")
    assert mirror.seen == []
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_weights_of_the_hub_have_another_mirror(
    convnext: Convnext, mirror: Server, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONVNEXT_OFFLINE", "1")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    words = ("train", "--data", photos, "--model.name", "convnext_nano", "--out", tmp_path / "run")
    assert_refused(convnext(*words, *FAST), "convnext_nano.in12k", "HF_ENDPOINT=https://", "--init none")


def test_hosts_that_are_down(convnext: Convnext, mirror: Server, photos: Path, tmp_path: Path) -> None:
    mirror.close()
    answer, seconds = timed(convnext, "train", "--data", photos, "--out", tmp_path / "run", *FAST)
    refused_soon(answer, seconds, "127.0.0.1 is not reached")


@pytest.mark.parametrize(
    ("step", "says"),
    [
        (hangs, "did not answer"),
        (status(404), "(404)"),
        (status(503), "(503)"),
        (status(200, b"<html>log in</html>", Content_Type="text/html"), "a web page came instead"),
    ],
)
def test_hosts_that_give_no_file(
    convnext: Convnext,
    mirror: Server,
    photos: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: Callable[..., None],
    says: str,
) -> None:
    monkeypatch.setattr(initial, "size_of", partial(download.size_of, seconds=0.3))
    mirror.at(path_of(TINY), step)
    answer, seconds = timed(convnext, "train", "--data", photos, "--out", tmp_path / "run", *FAST)
    refused_soon(answer, seconds, says)


def test_a_download_that_is_cut_goes_on(
    convnext: Convnext, mirror: Server, photos: Path, weights: bytes, tmp_path: Path
) -> None:
    mirror.at(path_of(TINY), whole(weights), whole(weights, cut_after=len(weights) // 2), whole(weights))
    answer = convnext("train", "--data", photos, "--out", tmp_path / "run", *FAST)
    assert answer.status == 0, answer.err
    assert mirror.ranges() == ["", "", f"bytes={len(weights) // 2}-"]
    assert initial_weights(tmp_path / "run") == TINY


def test_a_download_that_is_cut_for_good(
    convnext: Convnext,
    mirror: Server,
    photos: Path,
    weights: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(download, "ATTEMPTS", 1)
    mirror.at(path_of(TINY), whole(weights), whole(weights, cut_after=1000))
    answer, seconds = timed(convnext, "train", "--data", photos, "--out", tmp_path / "run", *FAST)
    refused_soon(answer, seconds)


def test_another_file_than_before_is_never_trained_from(
    convnext: Convnext,
    mirror: Server,
    photos: Path,
    weights: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Though the data would do for training from scratch: a wrong file is no missing network."""
    monkeypatch.setattr(classification_start, "ENOUGH_LARGE", 3)
    record = record_of(place(address(TINY)))
    record.parent.mkdir(parents=True)
    record.write_text(f"{'0' * 64}  {TINY}.safetensors\n")
    mirror.at(path_of(TINY), whole(weights))
    answer = convnext("train", "--data", photos, "--out", tmp_path / "run", *FAST)
    assert_refused(answer, "--init none")
    assert not (tmp_path / "run" / "recipe.json").exists()


def test_it_goes_on_from_scratch_where_the_data_suffices(
    convnext: Convnext, mirror: Server, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classification_start, "ENOUGH_LARGE", 5)
    small = ["--model.dims", "8", "8", "16", "16"]
    monkeypatch.setattr(classification_start, "misfit", lambda wish: "")
    answer = convnext("train", "--data", photos, "--out", tmp_path / "run", *FAST, *small)
    assert answer.status == 0, answer.err
    assert f"- from scratch, for the weights {TINY} are not here and cannot be fetched" in answer.err
    assert "that takes about 5 images of each class (here: 5)" in answer.err
    assert initial_weights(tmp_path / "run") == ""
    monkeypatch.setenv("WORLD_SIZE", "2")  # others could have reached the weights
    monkeypatch.setenv("RANK", "0")
    assert_refused(convnext("train", "--data", photos, "--out", tmp_path / "two", *FAST, *small), *ADVICE)


def test_none_is_from_scratch(convnext: Convnext, mirror: Server, photos: Path, tmp_path: Path) -> None:
    small = ["--model.depths", "1", "1", "1", "1", "--model.dims", "8", "8", "16", "16"]
    answer = convnext("train", "--data", photos, "--init", "none", "--out", tmp_path / "run", *FAST, *small)
    assert answer.status == 0, answer.err
    assert mirror.seen == []
    assert initial_weights(tmp_path / "run") == ""
    own = convnext("train", "--data", photos, "--out", tmp_path / "own", *FAST, *small)
    assert own.status == 0, own.err
    assert "published weights do not fit a model with --model.depths and --model.dims" in own.err
    assert mirror.seen == []


def test_small_images_need_no_network(convnext: Convnext, mirror: Server, shapes: Path, tmp_path: Path) -> None:
    small = ["--model.dims", "8", "8", "16", "16"]
    answer = convnext("train", "--data", shapes, "--out", tmp_path / "run", *FAST, *small)
    assert answer.status == 0, answer.err
    assert "from scratch: small images (52 pixels) have recipes of their own" in answer.err
    assert mirror.seen == []


def test_another_licence_is_asked_for(
    convnext: Convnext, mirror: Server, photos: Path, weights: bytes, tmp_path: Path
) -> None:
    mirror.at(path_of(NANO), whole(weights))
    answer = convnext("train", "--data", photos, "--license", "any", "--out", tmp_path / "run", *FAST)
    assert answer.status == 0, answer.err
    assert f"starts from {NANO}" in answer.err
    assert "licence CC-BY-NC-4.0, NOT for commercial use" in answer.err
    for words in (("--data", photos, "--init", TINY), ("demo",)):
        assert_refused(convnext("train", *words, "--licence", "any", "--out", tmp_path / "x"), "leave it out")


def test_auto_goes_with_a_recipe_that_is_picked(convnext: Convnext, mirror: Server, tmp_path: Path) -> None:
    answer = convnext("train", "demo", "--init", "auto", "--out", tmp_path / "x")
    assert_refused(answer, "leave demo out", "--init none")
    assert mirror.seen == []


def test_a_recipe_by_name_starts_from_scratch_without_a_network(
    convnext: Convnext, mirror: Server, photos: Path, tmp_path: Path
) -> None:
    small = ["--model.dims", "8", "8", "16", "16", "--model.depths", "1", "1", "1", "1"]
    answer = convnext("train", "cifar10", "--data", photos, "--init", "none", "--out", tmp_path / "run", *FAST, *small)
    assert answer.status == 0, answer.err
    assert initial_weights(tmp_path / "run") == ""
    assert mirror.seen == []


@pytest.mark.slow
def test_a_detector_starts_from_coco(
    convnext: Convnext, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convnext.data.detection.config import DetectionInputConfig
    from convnext.models.detection.build import build_detector

    monkeypatch.setattr(detection_start, "SMALL_SIDE", 10)
    metadata = DetectionMetadata(SMALL, DetectionInputConfig(short=64, long=96), NAMES, (3, 7))
    save_model(tmp_path / "d.safetensors", build_detector(SMALL).state_dict(), metadata)
    mirror.at(path_of(DETECTOR), whole((tmp_path / "d.safetensors").read_bytes()))
    (tmp_path / "data").mkdir()
    data = painted(tmp_path / "data")
    fast = ["--schedule.epochs", "1", "--input.short", "64", "--input.long", "96", "--loader.workers", "0"]
    fast += ["--augment.shorts", "64", "--augment.long", "96"]
    answer = convnext("train", "--data", data, "--out", tmp_path / "run", *fast)
    assert answer.status == 0, answer.err
    assert f"- starts from {DETECTOR}" in answer.err
    assert "COCO" in answer.err
    assert initial_weights(tmp_path / "run") == DETECTOR
    mirror.close()
    (tmp_path / "cache").rename(tmp_path / "elsewhere")
    answer, seconds = timed(convnext, "train", "--data", data, "--out", tmp_path / "two", *fast)
    assert_refused(answer, *ADVICE, "about 200 images")
    assert seconds < 4


@pytest.mark.slow
def test_a_segmenter_starts_from_ade20k(
    convnext: Convnext, mirror: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from convnext.data.segmentation.config import SegmentationInputConfig
    from convnext.models.segmentation.build import build_segmenter
    from convnext.models.segmentation.config import SegmenterConfig

    monkeypatch.setattr(segmentation_start, "SMALL_SIDE", 10)
    backbone = ModelConfig("convnext_tiny", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16))
    config = SegmenterConfig(backbone, num_classes=150, width=16, auxiliary_width=8)
    metadata = SegmentationMetadata(config, SegmentationInputConfig(short=48, long=64))
    save_model(tmp_path / "s.safetensors", build_segmenter(config).state_dict(), metadata)
    mirror.at(path_of(SEGMENTER), whole((tmp_path / "s.safetensors").read_bytes()))
    data = labelled(tmp_path / "data")
    fast = ["--schedule.steps", "1", "--schedule.warmup-steps", "0", "--input.short", "48", "--input.long", "64"]
    fast += ["--input.window", "0", "--augment.crop", "32", "--loader.workers", "0", "--loop.global-batch", "4"]
    answer = convnext("train", "--data", data, "--out", tmp_path / "run", *fast)
    assert answer.status == 0, answer.err
    assert f"- starts from {SEGMENTER}" in answer.err
    assert "under an all-MLP head" in answer.err
    assert "an all-MLP head on convnext_tiny" in answer.err  # what a CPU can train
    recipe = json.loads((tmp_path / "run" / "recipe.json").read_text())
    assert (recipe["init"], recipe["model"]["head"], recipe["model"]["width"]) == (SEGMENTER, "mlp", 256)


def test_weights_that_were_named_and_are_not_reached(
    convnext: Convnext, mirror: Server, photos: Path, tmp_path: Path
) -> None:
    """With a recipe that is picked, and with one by name."""
    mirror.close()
    for words in ((), ("cifar10",)):
        answer = convnext("train", *words, "--data", photos, "--init", TINY, "--out", tmp_path / "run")
        assert_refused(answer, *ADVICE, f"save {address(TINY)} as", "about 1,000 images of each class")


def test_a_recipe_file_may_say_none(convnext: Convnext, mirror: Server, photos: Path, tmp_path: Path) -> None:
    small = ["--model.depths", "1", "1", "1", "1", "--model.dims", "8", "8", "16", "16", "--schedule.epochs", "1"]
    assert convnext("train", "demo", "--out", tmp_path / "run", *small).status == 0
    values = json.loads((tmp_path / "run" / "recipe.json").read_text())
    (tmp_path / "r.json").write_text(json.dumps({**values, "init": "none"}))
    answer = convnext("train", tmp_path / "r.json", "--out", tmp_path / "again")
    assert answer.status == 0, answer.err
    assert initial_weights(tmp_path / "again") == ""
    (tmp_path / "r.json").write_text(json.dumps({**values, "init": "auto"}))
    assert_refused(convnext("train", tmp_path / "r.json", "--out", tmp_path / "x"), "'auto' is for `convnext train")


def test_weights_of_another_model_than_the_one_that_is_named(
    convnext: Convnext, photos: Path, weights: bytes, tmp_path: Path
) -> None:
    words = ("train", "--data", photos, "--init", tmp_path / "w.safetensors", "--out", tmp_path / "run", *FAST)
    answer = convnext(*words, "--model.name", "convnext_small")
    assert_refused(answer, "w.safetensors holds a convnext_tiny: leave out --model.name convnext_small")
    assert convnext(*words, "--model.name", "convnext_tiny").status == 0  # says what the weights say
