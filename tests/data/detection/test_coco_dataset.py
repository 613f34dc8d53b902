"""Images with objects: what is read, what is left out, what COCO's tools are given."""

from __future__ import annotations

import json
import pickle
import tarfile
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco

from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.decode import BadImage
from convnext.data.detection import coco as module
from convnext.data.detection.annotations import read_annotations
from convnext.data.detection.coco import CocoDataset, for_training
from convnext.data.detection.config import DetectionAugmentConfig
from convnext.data.detection.open import DetectionData

LIMIT = 10_000_000


def thing(image: int, category: int, box: list[float], **more) -> dict:
    x, y, w, h = box
    outline = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    return {"image_id": image, "category_id": category, "bbox": box, "segmentation": outline} | more


@pytest.fixture
def place(tmp_path, encode, picture, write) -> Path:
    files = {f"{name}.png": encode(picture(6 + i, 8, i), "PNG") for i, name in enumerate("abc")}
    content = {
        "images": [{"id": 10 * i, "file_name": f"{'abc'[i]}.png", "height": 6 + i, "width": 8} for i in range(3)],
        "categories": [{"id": 9, "name": "dog"}, {"id": 4, "name": "cat"}],
        "annotations": [
            thing(20, 9, [1, 2, 3, 4], id=0, area=11),
            thing(0, 4, [0, 0, 2, 2]),
            thing(20, 4, [4, 4, 6, 3]),
            thing(20, 4, [0, 0, 8, 1], iscrowd=1, segmentation={"size": [8, 8], "counts": [0, 1, 63]}),
        ],
    }
    return write(tmp_path / "set", files | {"file.json": json.dumps(content).encode()})


def source(place: Path) -> CocoDataset:
    return CocoDataset(read_annotations(place / "file.json", [place], max_pixels=LIMIT), max_pixels=LIMIT)


def test_images_and_their_objects(place, picture):
    ours = source(place)
    assert (len(ours), ours.classes, ours.category_ids, ours.has_masks) == (3, ("cat", "dog"), (4, 9), True)
    assert ours.sizes.tolist() == [[6, 8], [7, 8], [8, 8]]
    assert ours.counts.tolist() == [1, 0, 2]
    assert [ours.name(i) for i in range(3)] == ["a.png", "b.png", "c.png"]
    assert [ours.image_id(i) for i in range(3)] == [0, 10, 20]
    assert torch.equal(ours.read(1), torch.from_numpy(picture(7, 8, 1)).permute(2, 0, 1))
    found = ours.instances(2)
    assert found.boxes.tolist() == [[1, 2, 4, 6], [4, 4, 8, 7]]
    assert found.labels.tolist() == [1, 0]
    expected = torch.zeros(2, 8, 8, dtype=torch.bool)
    expected[0, 2:6, 1:4] = True
    expected[1, 4:7, 4:8] = True
    assert found.masks is not None
    assert torch.equal(found.masks, expected)
    none = ours.instances(1)
    assert none.boxes.shape == (0, 4)
    assert none.masks is not None
    assert none.masks.shape == (0, 7, 8)


def test_what_evaluation_is_told(place):
    told = source(place).truth()
    assert told["images"][2] == {"id": 20, "file_name": "c.png", "height": 8, "width": 8}
    assert told["categories"] == [{"id": 4, "name": "cat"}, {"id": 9, "name": "dog"}]
    assert [entry["id"] for entry in told["annotations"]] == [1, 2, 3, 4]  # the file's 0 would count as never found
    assert [entry["image_id"] for entry in told["annotations"]] == [0, 20, 20, 20]
    assert [entry["area"] for entry in told["annotations"]] == [4, 11, 12, 1]  # the mask's, the file's
    assert told["annotations"][2]["bbox"] == [4, 4, 6, 3]  # as it was given, beyond the image
    assert [entry["iscrowd"] for entry in told["annotations"]] == [0, 0, 0, 1]
    assert told["annotations"][3]["segmentation"] == {"size": [8, 8], "counts": [0, 1, 63]}


def test_some_of_the_images(place):
    some = source(place).selected([2, 1]).selected(torch.tensor([0]))
    assert (len(some), some.name(0), some.sizes.tolist(), some.counts.tolist()) == (1, "c.png", [[8, 8]], [2])
    assert some.instances(0).labels.tolist() == [1, 0]
    assert [entry["image_id"] for entry in some.truth()["annotations"]] == [20, 20, 20]
    again = pickle.loads(pickle.dumps(some))  # noqa: S301 - our own
    assert again.truth() == some.truth()
    assert torch.equal(again.read(0), some.read(0))


def test_what_training_leaves_out(place):
    ours = source(place)
    assert len(for_training(ours, DetectionAugmentConfig(drop_empty=False, min_side=1))) == 3
    assert len(for_training(ours, DetectionAugmentConfig(drop_empty=True, min_side=1))) == 2
    kept = for_training(ours, DetectionAugmentConfig(drop_empty=False, min_side=7))
    assert [kept.name(i) for i in range(len(kept))] == ["b.png", "c.png"]
    with pytest.raises(UserError, match="None of 3 images can be trained on"):
        for_training(ours, DetectionAugmentConfig())


def test_images_that_cannot_be_used(place, encode, picture, monkeypatch):
    ours = source(place)
    (place / "a.png").write_bytes(encode(picture(8, 6), "PNG"))
    with pytest.raises(BadImage, match=r"a.png: it has 6 x 8 pixels, .* say 8 x 6: width and height are exchanged"):
        ours.read(0)
    (place / "b.png").unlink()
    with pytest.raises(BadImage, match=r"b.png: the file cannot be read"):
        ours.read(1)
    monkeypatch.setattr(module, "_MOST_MASK_PIXELS", 127)
    with pytest.raises(BadImage, match="masks of 2 objects of 8 x 8 pixels are too many"):
        ours.instances(2)


def test_boxes_alone(place):
    content = json.loads((place / "file.json").read_text())
    for entry in content["annotations"]:
        if not entry.get("iscrowd"):
            del entry["segmentation"]
    (place / "file.json").write_text(json.dumps(content))
    ours = source(place)
    assert not ours.has_masks
    assert ours.instances(2).masks is None
    told = ours.truth()["annotations"]
    assert [entry["area"] for entry in told] == [4, 11, 18, 8]
    assert not any("segmentation" in entry for entry in told)


@pytest.mark.data
def test_coco(shared_data, tmp_path):
    for name in ("annotations", "images_train"):
        archive = shared_data / "coco-mini" / f"{name}.tar"
        if not archive.exists():
            pytest.skip(f"no {archive}")
        with tarfile.open(archive) as tar:
            tar.extractall(tmp_path, filter="data")
    opened = DetectionData(tmp_path / "coco-mini").splits(LoaderConfig(val_fraction=0), seed=0)
    ours = opened.train
    assert (len(ours), len(ours.classes), ours.category_ids[-1], ours.has_masks) == (100, 80, 90, True)
    assert int((ours.counts == 0).sum()) == 2
    told = ours.truth()
    assert len(told["annotations"]) == 746
    assert sum(entry["iscrowd"] for entry in told["annotations"]) == 6
    seen = 0
    for i in range(100):
        assert ours.read(i).shape[1:] == tuple(ours.sizes[i].tolist())
        objects = ours.instances(i)
        assert objects.masks is not None
        polygons = [
            entry["segmentation"]
            for entry in told["annotations"]
            if entry["image_id"] == ours.image_id(i) and not entry["iscrowd"]
        ]
        height, width = ours.sizes[i].tolist()
        for mask, box, outline in zip(objects.masks.numpy(), objects.boxes.tolist(), polygons, strict=True):
            rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
            around = [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
            assert np.abs(np.subtract(around, box)).max() <= 1
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # pycocotools beside NumPy 2
                runs = coco.merge(coco.frPyObjects(outline, height, width)) if isinstance(outline, list) else outline
                assert (coco.decode(runs) == mask).all()
            seen += 1
    assert seen == int(ours.counts.sum()) == 740
