"""Which published weights training starts from: by device, number of images, size of images, licence and model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from convnext.core.errors import UserError
from convnext.models.config import ModelConfig
from convnext.tasks.choose import find_file
from convnext.tasks.classification import start as classification
from convnext.tasks.classification.choose import ENOUGH_LARGE, ENOUGH_SMALL, Facts, choose
from convnext.tasks.detection import start as detection
from convnext.tasks.initial import wish_of
from convnext.tasks.segmentation import start as segmentation
from convnext.tasks.start import Start, Wish
from convnext.tasks.table import TASKS


@pytest.fixture(params=["cpu", "cuda"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    for module in (classification, detection, segmentation):
        monkeypatch.setattr(module, "pick_device", lambda: torch.device(request.param))
    return request.param


class Classes:
    """Starts of classifiers, from facts alone."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def __call__(
        self,
        wish: Wish | None = None,
        *,
        images: int = 500,
        classes: int = 5,
        side: int = 300,
    ) -> Start:
        facts = Facts(images, classes, side, accelerator=False)
        self.monkeypatch.setattr(classification, "facts_of", lambda data, options: facts)
        data: Any = SimpleNamespace()
        return classification.start(data, {}, wish or Wish())


@pytest.fixture
def classes(monkeypatch: pytest.MonkeyPatch) -> Classes:
    return Classes(monkeypatch)


def name(start: Start) -> str:
    return start.row.name if start.row else ""


class Objects:
    """Annotated images of one side."""

    def __init__(self, images: int, side: int) -> None:
        self.images, self.sizes = images, torch.full((images, 2), side)

    def __len__(self) -> int:
        return self.images


def objects(images: int, side: int = 400) -> Any:
    return SimpleNamespace(splits=lambda loader, seed: SimpleNamespace(train=Objects(images, side)))


def scenes(folder: Path, images: int, side: int = 100) -> Any:
    folder.mkdir(exist_ok=True)
    for number in range(3):
        Image.new("RGB", (2 * side, side)).save(folder / f"{number}.png")
    return SimpleNamespace(data=folder, num_train_images=lambda fraction: images)


def test_photos(classes: Classes, device: str) -> None:
    assert name(classes()) == "convnext_tiny.fb_in22k"
    large = {"cpu": "convnext_tiny.fb_in22k", "cuda": "convnext_base.fb_in22k"}[device]
    assert name(classes(images=50_000)) == large
    middle = {"cpu": "convnext_tiny.fb_in22k", "cuda": "convnext_small.fb_in22k"}[device]
    assert name(classes(images=5_000)) == middle
    free = {"cpu": "convnextv2_nano.fcmae_ft_in22k_in1k", "cuda": "convnextv2_tiny.fcmae_ft_in22k_in1k"}[device]
    assert name(classes(Wish(commercial=False))) == free
    assert ("no GPU" in classes().why) == (device == "cpu")


def test_what_training_from_scratch_takes(classes: Classes) -> None:
    few, many = classes(images=4_999, classes=5), classes(images=5_000, classes=5)
    assert (few.enough, many.enough) == (False, True)
    assert few.needs == "about 1,000 images of each class (here: 1,000)"


def test_small_images_start_from_scratch(classes: Classes, tmp_path: Path) -> None:
    for side, small in ((8, True), (32, True), (64, True), (65, False)):
        assert (classes(side=side).row is None) == small
        assert (detection.start(objects(5, side), {}, Wish()).row is None) == small
        assert (segmentation.start(scenes(tmp_path, 5, side), {}, Wish()).row is None) == small


def test_a_model_that_is_named(classes: Classes) -> None:
    assert name(classes(Wish("convnext_large"))) == "convnext_large.fb_in22k"
    assert name(classes(Wish("convnext_nano"))) == "convnext_nano.in12k"
    missing = classes(Wish("convnextv2_base"))
    assert missing.row is None
    assert "not for commercial use (CC-BY-NC-4.0): --licence any takes them" in missing.why
    assert name(classes(Wish("convnextv2_base", commercial=False))) == "convnextv2_base.fcmae_ft_in22k_in1k"
    assert classes(Wish("swin_tiny")).why == "no published weights of swin_tiny are known here"


def test_layers_of_ones_own_start_from_scratch(classes: Classes, tmp_path: Path) -> None:
    own = classes(Wish(changed=("depths", "drop_path_rate")))
    assert (own.row, own.why) == (None, "published weights do not fit a model with --model.depths")
    assert classes(Wish(changed=("drop_path_rate", "output_stride"))).row is not None
    wish = Wish(changed=("backbone.stem_stride",))
    for start in (detection.start(objects(5), {}, wish), segmentation.start(scenes(tmp_path, 5), {}, wish)):
        assert start.why.endswith("--model.backbone.stem-stride")


def test_detectors(device: str) -> None:
    assert name(detection.start(objects(50), {}, Wish())) == "mask_rcnn_convnext_tiny.fb_coco"
    many = {"cpu": "mask_rcnn_convnext_tiny.fb_coco", "cuda": "cascade_mask_rcnn_convnext_small.fb_coco"}[device]
    assert name(detection.start(objects(5_000), {}, Wish())) == many
    assert detection.start(objects(199), {}, Wish()).enough is False
    assert detection.start(objects(200), {}, Wish()).enough is True
    named = detection.start(objects(50), {}, Wish("convnext_base"))
    assert name(named) == "cascade_mask_rcnn_convnext_base.fb_coco"
    heads = detection.start(objects(50), {}, Wish(changed=("roi.width", "masks")))
    assert name(heads) == "convnext_tiny.fb_in22k"
    assert "for the backbone" in heads.why
    assert name(detection.start(objects(50), {}, Wish(changed=("masks", "roi.score")))).endswith("fb_coco")


def test_segmenters(device: str, tmp_path: Path) -> None:
    start = segmentation.start(scenes(tmp_path, 50), {}, Wish())
    assert name(start) == "upernet_convnext_tiny.fb_ade20k"
    assert start.named == ({"model.head": "mlp"} if device == "cpu" else {})
    many = {"cpu": "upernet_convnext_tiny.fb_ade20k", "cuda": "upernet_convnext_small.fb_ade20k"}[device]
    assert name(segmentation.start(scenes(tmp_path, 9_000), {}, Wish())) == many
    heads = segmentation.start(scenes(tmp_path, 50), {}, Wish(changed=("head",)))
    assert name(heads) == "convnext_tiny.fb_in22k"
    assert start.enough is False
    assert segmentation.start(scenes(tmp_path, 200), {}, Wish()).enough is True


def test_what_was_given_is_a_wish() -> None:
    given = {"model.backbone.name": "convnext_small", "model.head": "mlp", "licence": "any", "optim.lr": "1"}
    assert wish_of(given) == Wish("convnext_small", ("backbone.name", "head"), commercial=False)
    assert wish_of({"model.name": "convnext_tiny"}) == Wish("convnext_tiny", ("name",))


def test_a_task_of_ones_own_starts_from_scratch() -> None:
    spec = next(iter(TASKS.values()))
    plain = type(spec).__dataclass_fields__["start"].default
    assert plain(None, {}, Wish()) == Start(None, "")


def test_larger_models_go_through_a_gpu_in_parts() -> None:
    for model, parts in (("convnext_tiny", 0), ("convnext_base", 128)):
        recipe, _ = choose(Facts(50_000, 5, 300, accelerator=True, init=ModelConfig(model)))
        assert (recipe.loop.global_batch, recipe.loop.micro_batch) == (512, parts)


def test_what_training_from_scratch_takes_is_said_alike() -> None:
    assert f"{ENOUGH_LARGE:,} images of each class, {ENOUGH_SMALL} where" in TASKS["classify"].texts.scratch
    for name, few in (("detect", detection.FEW), ("segment", segmentation.FEW)):
        assert f"about {few} images" in TASKS[name].texts.scratch


@pytest.mark.parametrize("words", ["auto", "none"])
def test_words_of_train_are_no_models(words: str) -> None:
    with pytest.raises(UserError, match=f"'{words}' is for `convnext train --init {words}`"):
        find_file(words)
