"""Layouts of annotated images: what is recognised, how it is split, how a saved split comes back."""

from __future__ import annotations

import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.open import DetectionData, recognise
from convnext.data.recognise import Mine, Nearly, NotMine
from convnext.data.splits import Splits, random_split


def annotated(names: list[str], **changes: Any) -> bytes:
    content = {
        "info": {},
        "images": [{"id": i, "file_name": name, "width": 8, "height": 6} for i, name in enumerate(names)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1 + i % 2, "bbox": [1, 1, 3, 3]} for i in range(len(names))
        ],
    }
    return json.dumps(content | changes).encode()


def opened(
    data: Path, fraction: float = 0.25, seed: int = 0, saved=None, *, skip_bad: bool = False
) -> Splits[CocoDataset]:
    loader = LoaderConfig(val_fraction=fraction, skip_bad=skip_bad)
    result = DetectionData(data).splits(loader, seed=seed, saved=saved)
    assert json.loads(json.dumps(result.record)) == result.record
    assert result.held_out == (result.record["kind"] != "none")
    assert result.train.read(0).shape == (3, 6, 8)
    return result


def evaluated(data: Path) -> CocoDataset:
    return DetectionData(data).for_evaluation(LoaderConfig())


def names(dataset) -> list[str]:
    return [dataset.name(i) for i in range(len(dataset))]


TRAIN, VAL = ["0.png", "1.png", "2.png"], ["3.png", "4.png"]
TWO_PARTS = {
    "coco": ("annotations/instances_train2017.json", "train2017", "annotations/instances_val2017.json", "val2017"),
    "coco images": (
        "annotations/instances_train2017.json",
        "images/train2017",
        "annotations/instances_val2017.json",
        "images/val2017",
    ),
    "no year": ("annotations/instances_train.json", "images/train", "annotations/instances_val.json", "images/val"),
    "roboflow": ("train/_annotations.coco.json", "train", "valid/_annotations.coco.json", "valid"),
    "roboflow test": ("train/_annotations.coco.json", "train", "test/_annotations.coco.json", "test"),
}


def two_parts(root: Path, layout: str, tiny, write, **changes: Any) -> Path:
    train_file, train, val_file, val = TWO_PARTS[layout]
    files = {train_file: annotated(TRAIN), val_file: annotated(VAL, **changes)}
    files |= {f"{train}/{name}": data for name, data in zip(TRAIN, tiny, strict=False)}
    files |= {f"{val}/{name}": data for name, data in zip(VAL, tiny[3:], strict=False)}
    return write(root, files)


@pytest.mark.parametrize("layout", TWO_PARTS)
def test_two_parts(tmp_path, tiny, write, layout):
    data = two_parts(tmp_path, layout, tiny, write)
    assert isinstance(recognise(str(data)), Mine)
    found = opened(data)
    assert (names(found.train), names(found.val)) == (TRAIN, VAL)
    assert found.record == {"seed": 0, "fraction": 0.25, "kind": "given", "val": VAL}
    assert found.note.startswith("Found 3 images, 3 objects of 2 classes (boxes) to train on, 2 images in '")
    assert ("flatter" in found.note) == (layout == "roboflow test")
    assert names(evaluated(data)) == VAL
    assert names(opened(data, saved=found.record | {"val": ["4.png"]}).val) == ["4.png"]
    with pytest.raises(UserError, match="The data now has a part"):
        opened(data, saved=found.record | {"kind": "random"})
    with pytest.raises(UserError, match=r"1 of 1 held-out images are no longer in .* \(as 'x.png'\)"):
        opened(data, saved=found.record | {"val": ["x.png"]})


def test_the_latest_year_with_a_training_part(tmp_path, tiny, write):
    data = two_parts(tmp_path, "coco", tiny, write)
    write(data, {"annotations/instances_train2014.json": b"", "annotations/instances_val2018.json": b""})
    assert (names(opened(data).train), names(opened(data).val)) == (TRAIN, VAL)


@pytest.mark.parametrize("layout", ["coco", "roboflow"])
def test_parts_of_other_classes(tmp_path, tiny, write, layout):
    other = [{"id": 1, "name": "cat"}, {"id": 2, "name": "bird"}]
    data = two_parts(tmp_path, layout, tiny, write, categories=other)
    with pytest.raises(UserError, match=r"has 1 objects of 'bird', a class that .* does not have \(it has cat, dog\)"):
        opened(data)
    left = opened(data, skip_bad=True)
    assert (left.val.classes, left.val.counts.tolist()) == (("cat", "dog"), [1, 0])
    assert left.val.instances(1).ignored.tolist() == [[1, 1, 4, 4]]
    assert "1 objects of classes that" in left.note
    more = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "emu"}]
    assert opened(two_parts(tmp_path, layout, tiny, write, categories=more)).val.classes == ("cat", "dog")


@pytest.mark.parametrize("layout", ["coco", "roboflow"])
def test_classes_are_matched_by_name(tmp_path, tiny, write, layout):
    other = [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    data = two_parts(tmp_path, layout, tiny, write, categories=other)
    found = opened(data)
    assert (found.val.classes, found.val.category_ids) == (("cat", "dog"), (1, 2))
    assert [found.val.instances(i).labels.tolist() for i in range(2)] == [[1], [0]]
    assert "in another way than" in found.note
    assert evaluated(data).classes == ("cat", "dog")
    fewer = two_parts(tmp_path, layout, tiny, write, categories=other[:1], annotations=[])
    (fewer / TWO_PARTS[layout][2]).write_bytes(
        annotated(VAL, categories=other[1:], annotations=[{"image_id": 0, "category_id": 2, "bbox": [1, 1, 3, 3]}])
    )
    found = opened(fewer)
    assert found.val.classes == ("cat", "dog")
    assert "No image to validate on holds dog: there is no figure for that." in found.note


def test_parts_with_and_without_masks(tmp_path, tiny, write):
    with_polygon = {
        "id": 1,
        "image_id": 0,
        "category_id": 1,
        "bbox": [1, 1, 3, 3],
        "segmentation": [[1, 1, 4, 1, 4, 4]],
    }
    data = two_parts(tmp_path, "coco", tiny, write, annotations=[with_polygon])
    with pytest.raises(UserError, match=r"val2017.json has masks .*train2017.json has boxes only"):
        opened(data)


@pytest.mark.parametrize("folder", ["", "images/", "images/deep/"])
def test_one_file(tmp_path, tiny, write, folder):
    listed = [f"{i}.png" if folder != "images/deep/" else f"deep/{i}.png" for i in range(8)]
    root = "" if not folder else "images/"
    data = write(
        tmp_path / "own",
        {"labels.json": annotated(listed), **{root + listed[i]: tiny[i] for i in range(8)}},
    )
    assert isinstance(recognise(str(data)), Mine)
    assert isinstance(recognise(str(data / "labels.json")), Mine)
    found = opened(data)
    assert (found.record["kind"], len(found.train), len(found.val)) == ("random", 6, 2)
    assert sorted(names(found.train) + names(found.val)) == listed
    assert "2 of them are held out to validate on (seed 0)" in found.note
    assert names(opened(data / "labels.json").val) == names(found.val)
    assert any(names(opened(data, seed=seed).val) != names(found.val) for seed in range(1, 5))
    back = opened(data, fraction=0.9, seed=5, saved=found.record)
    assert (names(back.val), back.record) == (names(found.val), found.record)
    assert len(evaluated(data)) == 8
    everything = opened(data, fraction=0)
    assert (everything.held_out, everything.train is everything.val) == (False, True)
    with pytest.raises(UserError, match="The saved split is not one"):
        opened(data, saved={"val": names(found.val)})
    with pytest.raises(UserError, match=r"lies in 0..1"):
        opened(data, fraction=1)


def test_a_part_of_coco_by_its_file(tmp_path, tiny, write):
    data = two_parts(tmp_path, "coco", tiny, write)
    assert names(evaluated(data / "annotations/instances_val2017.json")) == VAL


def test_a_single_image(tmp_path, tiny, write):
    data = write(tmp_path / "own", {"labels.json": annotated(["a.png"]), "a.png": tiny[0]})
    found = opened(data)
    assert not found.held_out
    assert found.train is found.val
    assert "a single image cannot be held out" in found.note


def test_bad_entries(tmp_path, tiny, write):
    data = write(tmp_path / "own", {"labels.json": annotated(["a.png", "b.png", "c.png"]), "a.png": tiny[0]})
    (data / "b.png").write_bytes(tiny[1])
    with pytest.raises(UserError, match=r"1 images that are not in .*, as c.png"):
        opened(data)
    found = opened(data, skip_bad=True)
    assert len(found.train) + len(found.val) == 2
    assert "Left out of" in found.note
    assert len(found.val.truth()["images"]) == 1


def test_what_is_no_layout(tmp_path, tiny, write):
    classes = write(tmp_path / "pets", {"cat/a.png": tiny[0], "dog/a.png": tiny[1], "notes.json": b'{"author": 1}'})
    assert recognise(str(classes)) == NotMine()
    assert recognise("digits") == NotMine()
    assert recognise(str(tmp_path / "absent")) == NotMine()
    with pytest.raises(UserError, match="pets holds no annotations"):
        opened(classes)
    write(classes, {"a.json": annotated(["cat/a.png"]), "b.json": annotated(["cat/a.png"])})
    assert isinstance(recognise(str(classes)), Nearly)
    with pytest.raises(UserError, match=r"It has 3 .json files, a.json, b.json, notes.json; name one"):
        opened(classes)
    with pytest.raises(UserError, match="Did you mean 'pets'"):
        opened(tmp_path / "pet")
    with pytest.raises(UserError, match=r"neither a folder nor a .json or .xml file"):
        opened(classes / "cat" / "a.png")
    only_val = write(tmp_path / "only", {"valid/_annotations.coco.json": annotated(["a.png"]), "valid/a.png": tiny[0]})
    with pytest.raises(UserError, match="has a 'valid' part but no 'train' part"):
        opened(only_val)
    assert len(evaluated(only_val)) == 1


@given(st.integers(1, 300), st.floats(0, 0.99), st.integers(0, 5))
def test_a_random_split_is_whole(n, fraction, seed):
    kept, held = random_split(n, fraction=fraction, seed=seed)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(n))
    assert len(kept) >= 1
    assert len(held) == (0 if fraction == 0 or n == 1 else min(max(round(fraction * n), 1), n - 1))
    assert torch.equal(held, random_split(n, fraction=fraction, seed=seed)[1])


@pytest.mark.data
def test_fruits_and_nuts(shared_data, tmp_path):
    archive = shared_data / "fruits-nuts" / "fruits-nuts.tar"
    if not archive.exists():
        pytest.skip(f"no {archive}")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    assert isinstance(recognise(str(tmp_path / "fruits-nuts")), Mine)
    found = DetectionData(tmp_path / "fruits-nuts").splits(LoaderConfig(), seed=0)
    assert (len(found.train), len(found.val), found.train.classes) == (14, 4, ("date", "fig", "hazelnut"))
    assert (int(found.train.counts.sum()), int(found.val.counts.sum())) == (120, 45)
