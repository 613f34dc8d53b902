"""Images and labels resized, cut, mirrored together; their batches."""

from __future__ import annotations

import random
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from convnext.data.batch import Work
from convnext.data.config import LoaderConfig
from convnext.data.loader import BadImages, train_batches
from convnext.data.segmentation.config import SegmentationAugmentConfig, SegmentationInputConfig
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.open import SegmentationData
from convnext.data.segmentation.transforms import (
    SegmentationBatch,
    augment_image,
    distorted,
    fitted_size,
    load_eval_batch,
    load_train_batch,
    resized_labels,
)
from convnext.ops.losses import IGNORE_INDEX
from labelmaps import labelled, save

PLAIN = SegmentationAugmentConfig(scale=(1.0, 1.0), crop=32, most=1.0, flip=0.0, distort=False)
SAME = SegmentationInputConfig(short=0, long=2048)


def told(height: int, width: int) -> tuple[Tensor, Tensor]:
    """An image whose first channel is its labels: blocks of eight pixels of classes 0 to 9."""
    labels = (torch.arange(height)[:, None] // 8 + torch.arange(width)[None] // 8) % 10
    return torch.stack([labels, torch.zeros_like(labels), 255 - labels]).byte(), labels.byte()


def source(tmp_path: Path, **changes: int) -> LabelMapDataset:
    root = labelled(tmp_path, **changes)
    return SegmentationData(root).splits(LoaderConfig(val_fraction=0), seed=0).train


@pytest.mark.parametrize(
    ("size", "config", "scale", "expected"),
    [
        ((480, 640), SegmentationInputConfig(short=512, long=2048), 1.0, (512, 683)),
        ((480, 640), SegmentationInputConfig(short=512, long=2048), 0.5, (256, 341)),
        ((100, 800), SegmentationInputConfig(short=512, long=2048), 1.0, (256, 2048)),  # the longer side decides
        ((480, 640), SegmentationInputConfig(short=640, long=2560), 1.75, (1120, 1493)),
        ((97, 131), SAME, 1.0, (97, 131)),
        ((97, 131), SAME, 0.5, (49, 66)),
        ((1, 3), SAME, 0.1, (1, 1)),
    ],
)
def test_sizes(size: tuple[int, int], config: SegmentationInputConfig, scale: float, expected: tuple[int, int]) -> None:
    assert fitted_size(*size, config, scale) == expected


def test_labels_take_the_nearest_pixel_to_the_upper_left() -> None:
    labels = torch.tensor([[0, 1], [2, 3]], dtype=torch.uint8)
    assert resized_labels(labels, (3, 4)).tolist() == [[0, 0, 1, 1], [0, 0, 1, 1], [2, 2, 3, 3]]
    assert resized_labels(torch.arange(6, dtype=torch.uint8)[None], (1, 4)).tolist() == [[0, 1, 3, 4]]


@pytest.mark.parametrize("seed", range(12))
def test_image_and_labels_stay_together(seed: int) -> None:
    image, labels = told(90, 70)
    augment = replace(PLAIN, scale=(0.5, 2.0), crop=48, flip=0.5)
    found, classes = augment_image(image, labels, augment, SAME, seed)
    assert found.shape[1:] == classes.shape
    assert max(classes.shape) <= 48
    far = found[0].int() - classes.int()
    assert float((far == 0).float().mean()) > 0.5  # bilinear and nearest differ at the edges of blocks alone
    assert torch.equal(image, told(90, 70)[0])  # not changed


def test_a_part_of_an_image_as_it_is() -> None:
    image, labels = told(64, 80)
    found, classes = augment_image(image, labels, PLAIN, SAME, 3)
    assert torch.equal(found[0], classes)
    assert torch.equal(found[2], 255 - classes)
    windows = labels.unfold(0, 32, 1).unfold(1, 32, 1).reshape(-1, 32, 32)
    assert any(torch.equal(window, classes) for window in windows)


def test_both_are_mirrored() -> None:
    image, labels = told(32, 32)
    found, classes = augment_image(image, labels, replace(PLAIN, flip=1.0), SAME, 0)
    assert torch.equal(classes, labels.flip(1))
    assert torch.equal(found, image.flip(2))


def share(labels: Tensor) -> float:
    counts = torch.bincount(labels.flatten(), minlength=256)[:IGNORE_INDEX]
    return float(counts.max() / counts.sum())


def test_parts_of_a_single_class_are_drawn_again() -> None:
    labels = torch.zeros(64, 64, dtype=torch.uint8)
    labels[:, 48:] = 1
    labels[0] = IGNORE_INDEX
    image = torch.zeros(3, 64, 64, dtype=torch.uint8)
    few = [share(augment_image(image, labels, PLAIN, SAME, seed)[1]) for seed in range(60)]
    mixed = [share(augment_image(image, labels, replace(PLAIN, most=0.75), SAME, seed)[1]) for seed in range(60)]
    assert sum(value >= 0.75 for value in few) > 20
    assert sum(value >= 0.75 for value in mixed) < 10  # eleven draws can all fail
    nothing = torch.zeros(64, 64, dtype=torch.uint8)  # a single class: any part has to do
    assert augment_image(image, nothing, replace(PLAIN, most=0.75), SAME, 0)[1].shape == (32, 32)


class Told(random.Random):
    """Chance that was decided before."""

    def __init__(self, *, tosses: list[float], drawn: list[float]) -> None:
        super().__init__(0)
        self.tosses, self.drawn = tosses, drawn

    def random(self) -> float:
        return self.tosses.pop(0)

    def uniform(self, a: float, b: float) -> float:
        value = self.drawn.pop(0)
        assert a <= value <= b
        return value

    def randrange(self, start: int, stop: int | None = None, step: int = 1) -> int:
        return int(self.drawn.pop(0))


def one_pixel(red: int, green: int, blue: int) -> Tensor:
    return torch.tensor([red, green, blue], dtype=torch.uint8).view(3, 1, 1)


@pytest.mark.parametrize(
    ("tosses", "drawn", "expected"),
    [  # contrast first?, brightness?, contrast?, saturation?, hue?
        ([1, 1, 1, 1, 1], [], [100, 150, 200]),
        ([1, 0, 1, 1, 1], [20.0], [120, 170, 220]),
        ([1, 0, 1, 1, 1], [32.0], [132, 182, 232]),
        ([0, 1, 0, 1, 1], [1.5], [150, 225, 255]),
        ([0, 0, 0, 1, 1], [-20.0, 0.5], [40, 65, 90]),
        ([1, 1, 1, 0, 1], [0.5], [150, 175, 200]),  # half the saturation: half as far from the greatest
        ([1, 1, 1, 0, 1], [1.5], [50, 125, 200]),
    ],
)
def test_other_light(tosses: list[float], drawn: list[float], expected: list[int]) -> None:
    found = distorted(one_pixel(100, 150, 200), Told(tosses=[float(t) for t in tosses], drawn=list(drawn)))
    assert found.flatten().tolist() == expected


def test_saturation_ends_at_one_and_grey_stays_grey() -> None:
    chance = {"tosses": [1.0, 1.0, 1.0, 0.0, 1.0], "drawn": [1.5]}
    strong = distorted(one_pixel(20, 110, 200), Told(**{key: list(value) for key, value in chance.items()}))
    assert strong.flatten().tolist() == [0, 100, 200]
    grey = distorted(one_pixel(90, 90, 90), Told(**{key: list(value) for key, value in chance.items()}))
    assert grey.flatten().tolist() == [90, 90, 90]


def test_hue_turns_by_two_degrees_a_step() -> None:
    found = distorted(one_pixel(200, 0, 0), Told(tosses=[1.0, 1.0, 1.0, 1.0, 0.0], drawn=[15]))
    assert found.flatten().tolist() == pytest.approx([200, 100, 0], abs=1)  # 30 degrees from red: orange


def test_padding_has_no_class_and_no_colour(tmp_path: Path) -> None:
    data = source(tmp_path)
    load = partial(load_train_batch, dataset=data, augment=replace(PLAIN, crop=64), config=SAME, seed=0)
    loaded = load(Work(0, torch.tensor([0, 1])))
    batch: SegmentationBatch = loaded.batch
    assert batch.images.shape == (2, 3, 64, 64)
    assert batch.sizes.tolist() == [[48, 64]] * 2
    assert batch.indices.tolist() == [0, 1]
    assert (batch.targets[:, 48:] == IGNORE_INDEX).all()
    assert (batch.images[:, :, 48:] == 0).all()
    assert torch.equal(batch.targets[0, :48], data.labels(0))


def test_the_same_seed_gives_the_same_parts_with_any_workers(tmp_path: Path) -> None:
    data = source(tmp_path)
    augment = SegmentationAugmentConfig(crop=32)

    def first(workers: int, seed: int = 0, start: int = 0) -> SegmentationBatch:
        load = partial(load_train_batch, dataset=data, augment=augment, config=SAME, seed=seed)
        batches = train_batches(
            load,
            num_images=6,
            workers=workers,
            global_batch=3,
            micro_batch=3,
            seed=seed,
            start_step=start,
            bad=BadImages(6, max_bad=0),
        )
        return next(iter(batches))

    here, there = first(0), first(1)
    assert torch.equal(here.images, there.images)
    assert torch.equal(here.targets, there.targets)
    assert not torch.equal(here.images, first(0, seed=1).images)
    assert not torch.equal(here.images, first(0, start=2).images)  # the next epoch


def test_bad_images_are_named_and_replaced(tmp_path: Path) -> None:
    data = source(tmp_path)
    (tmp_path / "images" / "train" / "1.png").write_bytes(b"nothing")
    save(tmp_path / "annotations" / "train" / "2.png", np.zeros((5, 5), dtype=np.uint8))
    load = partial(load_train_batch, dataset=data, augment=PLAIN, config=SAME, seed=0)
    loaded = load(Work(0, torch.tensor([0, 1, 2])))
    assert loaded.batch.indices.tolist() == [0, 0, 0]
    assert [name for name, _ in loaded.failures] == ["1.png", "2.png"]
    alone = load_eval_batch(Work(0, torch.tensor([1])), dataset=data)
    assert (alone.num_images, len(alone.batch.images)) == (0, 0)


def test_evaluation_sees_an_image_as_it_is(tmp_path: Path) -> None:
    data = source(tmp_path)
    loaded = load_eval_batch(Work(0, torch.tensor([4])), dataset=data)
    assert torch.equal(loaded.batch.images[0], data.read(4))
    assert torch.equal(loaded.batch.targets[0], data.labels(4))
    assert loaded.batch.indices.tolist() == [4]
