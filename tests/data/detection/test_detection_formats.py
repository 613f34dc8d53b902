"""Annotations of every tool give the same objects; what a form has beyond that is counted, what is wrong refused."""

from __future__ import annotations

import json
from pathlib import Path

import formats
import numpy as np
import pytest
import torch

from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.open import DetectionData, recognise
from convnext.data.recognise import Mine, Nearly


def whole(data: Path, crowds="auto") -> CocoDataset:
    assert isinstance(recognise(str(data)), Mine), recognise(str(data))
    return DetectionData(data, crowds=crowds).splits(LoaderConfig(val_fraction=0.0), seed=0).train


def note(data: Path) -> str:
    return DetectionData(data).splits(LoaderConfig(val_fraction=0.0), seed=0).note


def in_coco(root: Path, names: list[str] | None = None, **changes) -> Path:
    formats.draw(root / "images")
    (root / "a.json").write_text(json.dumps(formats.coco(names) | changes))
    return root


def same_objects(found: CocoDataset, wanted: CocoDataset, *, masks: bool) -> None:
    assert found.classes == wanted.classes == ("cat", "dog")
    assert len(found) == len(wanted) == formats.COUNT
    for i in range(formats.COUNT):
        assert torch.equal(found.read(i), wanted.read(i))
        ours, theirs = found.instances(i), wanted.instances(i)
        assert ours.labels.tolist() == theirs.labels.tolist()
        torch.testing.assert_close(ours.boxes, theirs.boxes, atol=1e-4, rtol=0)
        if masks:
            assert ours.masks is not None
            assert theirs.masks is not None
            assert torch.equal(ours.masks[1], theirs.masks[1])


@pytest.mark.parametrize("form", ["yolo", "yolo inner", "labelme", "cvat", "voc", "voc from 0"])
def test_every_form_gives_the_same_objects(tmp_path, form):
    wanted = whole(in_coco(tmp_path / "coco"))
    make = {
        "yolo": formats.yolo,
        "yolo inner": lambda root: formats.yolo(root, inner=True),
        "labelme": formats.labelme,
        "cvat": formats.cvat,
        "voc": formats.voc,
        "voc from 0": lambda root: formats.voc(root, first=0),
    }[form]
    root = make(tmp_path / "data")
    if form == "voc from 0":  # a corner at 0 shows it
        file = root / "Annotations" / "0.xml"
        file.write_text(file.read_text().replace("<xmin>4<", "<xmin>0<", 1))
        assert whole(root).instances(0).boxes[0].tolist() == [0, 5, 20, 17]
        return
    found = whole(root)
    same_objects(found, wanted, masks="voc" not in form)
    assert found.has_masks == ("voc" not in form)
    if found.has_masks:
        assert found.instances(0).outlined.tolist() == [False, True]  # the cat is a box alone


def test_parts_of_every_form(tmp_path):
    for part in ("train", "valid"):
        formats.yolo(tmp_path / "yolo", part=part)
    splits = DetectionData(tmp_path / "yolo").splits(LoaderConfig(), seed=0)
    assert (splits.record["kind"], len(splits.train), len(splits.val)) == ("given", 3, 3)
    root = formats.voc(tmp_path / "voc")
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("0\n1\n")
    (lists / "val.txt").write_text("2 1\n")
    splits = DetectionData(root).splits(LoaderConfig(), seed=0)
    assert ([splits.train.name(i) for i in range(2)], splits.val.name(0)) == (["0.png", "1.png"], "2.png")
    both = tmp_path / "coco"
    for part in ("train", "val"):
        in_coco(both)
        (both / f"{part}.json").write_text(json.dumps(formats.coco()))
    (both / "a.json").unlink()
    splits = DetectionData(both).splits(LoaderConfig(), seed=0)
    assert (splits.record["kind"], len(splits.val)) == ("given", 3)


def test_what_is_not_taken_is_counted(tmp_path):
    assert "3 line shapes" in note(formats.labelme(tmp_path / "l"))
    assert "3 points shapes" in note(formats.cvat(tmp_path / "c"))
    root = formats.yolo(tmp_path / "y")
    (root / "labels" / "train" / "2.txt").unlink()
    (root / "labels" / "train" / "lonely.txt").write_text("0 .5 .5 .1 .1\n")
    said = note(root)
    assert "1 of 3 images have no label file" in said
    assert "1 label files without an image" in said
    root = formats.voc(tmp_path / "v", difficult=2)
    assert "2 objects marked as difficult are ignored" in note(root)
    assert whole(root).instances(0).ignored.tolist() == [[22, 4, 36, 26]]


def test_yolo_without_names_and_with_numbers_of_classes(tmp_path):
    root = formats.yolo(tmp_path)
    (root / "data.yaml").write_text("names:\n  0: cat\n  1: dog\n")
    assert whole(root).classes == ("cat", "dog")
    (root / "data.yaml").unlink()
    assert whole(root).classes == ("0", "1")
    assert "Nothing names the classes" in note(root)
    (root / "classes.txt").write_text("\ufeffcat\r\ndog\r\n", encoding="utf-8")
    assert whole(root).classes == ("cat", "dog")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (
            "5 .5 .5 .1 .1",
            r"class numbers that data.yaml does not name \(it names 2, 0 to 1\), as 1.txt, line 3: class 5",
        ),
        ("0 20 20 5 5", r"numbers do not lie in 0..1"),
        ("0 .5 .5 .1", "lines that are no labels"),
        ("cat .5 .5 .1 .1", "lines that are no labels"),
        ("0 nan .5 .1 .1", "lines that are no labels"),
        ("0.5 .5 .5 .1 .1", "lines that are no labels"),
    ],
)
def test_what_is_wrong_in_a_label_file(tmp_path, line, says):
    root = formats.yolo(tmp_path)
    with (root / "labels" / "train" / "1.txt").open("a") as file:
        file.write(f"{line}\n")
    with pytest.raises(UserError, match=says) as caught:
        whole(root)
    assert "1.txt, line 3" in str(caught.value)
    kept = DetectionData(root).splits(LoaderConfig(val_fraction=0.0, skip_bad=True), seed=0)
    assert kept.train.counts.tolist() == [2, 2, 2]
    assert "Left out of" in kept.note
    if line.startswith("5"):
        (ignored,) = kept.train.instances(1).ignored.tolist()
        assert ignored == pytest.approx([18, 13.5, 22, 16.5])


def test_entities_and_damage_are_refused(tmp_path):
    root = formats.voc(tmp_path)
    file = root / "Annotations" / "1.xml"
    file.write_text('<!DOCTYPE a [<!ENTITY b "cccc">]><annotation><object><name>&b;</name></object></annotation>')
    with pytest.raises(UserError, match="declares a document type or entities"):
        whole(root)
    file.write_text("<annotation><object>")
    with pytest.raises(UserError, match="is not XML"):
        whole(root)


# liberties with COCO's form


def test_numbers_as_text_and_with_points(tmp_path):
    document = formats.coco()
    wanted = whole(in_coco(tmp_path / "w"))
    for entry in document["images"]:
        entry["id"] = float(entry["id"])
    for entry in document["annotations"]:
        entry |= {"image_id": str(entry["image_id"]), "category_id": float(entry["category_id"]), "id": 1}
    root = in_coco(tmp_path / "x", **document)
    same_objects(whole(root), wanted, masks=True)
    said = note(root)
    assert "The ids of the images are written as 1.0: taken for whole numbers." in said
    assert "6 annotation ids are not unique" in said


def test_names_as_ids(tmp_path):
    document = formats.coco()
    for entry in document["images"]:
        entry["id"] = f"img-{entry['id']}"
    for entry in document["annotations"]:
        entry["image_id"] = f"img-{entry['image_id']}"
    root = in_coco(tmp_path, **document)
    assert whole(root).file.image_ids.tolist() == [1, 2, 3]
    assert "are no numbers, as 'img-1'" in note(root)


def test_a_missing_box_is_that_of_the_outline(tmp_path):
    document, wanted = formats.coco(), whole(in_coco(tmp_path / "w"))
    for entry in document["annotations"]:
        del entry["bbox"]
    root = in_coco(tmp_path / "x", **document)
    same_objects(whole(root), wanted, masks=True)
    assert "6 annotations have no 'bbox'" in note(root)


@pytest.mark.parametrize(
    "spelling", ["images\\{}.png", "/data/upload/7/{}.png", "IMAGES/{}.PNG", "%7B{}%7D.png", "x y/{}.png"]
)
def test_files_under_other_spellings(tmp_path, spelling):
    root = in_coco(tmp_path, [spelling.format(i) for i in range(formats.COUNT)])
    if "%7B" in spelling:
        for i in range(formats.COUNT):
            (root / "images" / f"{i}.png").rename(root / "images" / f"{{{i}}}.png")
    found = whole(root)
    assert [Path(found.name(i)).name.strip("{}").removesuffix("}.png")[0] for i in range(3)] == ["0", "1", "2"]
    assert "3 file names were matched to files" in note(root)


def test_a_name_that_could_mean_several_files_is_refused(tmp_path):
    root = in_coco(tmp_path, ["elsewhere/0.png", "1.png", "2.png"])
    formats.draw(root / "images" / "more")
    with pytest.raises(UserError, match=r"that are not in .* elsewhere/0.png"):
        whole(root)


def test_boxes_in_another_form_are_refused_with_the_evidence(tmp_path):
    shares, as_corners = formats.coco(), formats.coco()
    for entry in shares["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x / formats.WIDTH, y / formats.HEIGHT, w / formats.WIDTH, h / formats.HEIGHT]
    for entry in as_corners["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x, y, x + w, y + h]
    with pytest.raises(UserError, match=r"All boxes of .* lie in 0..1"):
        whole(in_coco(tmp_path / "a", **shares))
    with pytest.raises(UserError, match=r"look like corners, x0, y0, x1, y1"):
        whole(in_coco(tmp_path / "b", **as_corners))
    for entry in as_corners["annotations"]:
        entry["segmentation"] = []  # without outlines, the image's borders show it
    with pytest.raises(UserError, match=r"look like corners"):
        whole(in_coco(tmp_path / "c", **as_corners))


def test_crowds_are_asked_about_where_they_are_many(tmp_path):
    document = formats.coco()
    for entry in document["annotations"][::2]:
        entry["iscrowd"] = 1
    root = in_coco(tmp_path, **document)
    with pytest.raises(UserError, match=r"has 3 crowds \(iscrowd 1\) among 6 annotations.* --crowds objects"):
        whole(root)
    assert whole(root, "objects").counts.tolist() == [2, 2, 2]
    ignoring = whole(root, "ignore")
    assert ignoring.counts.tolist() == [1, 1, 1]
    assert ignoring.instances(0).ignored.tolist() == [[4, 5, 20, 17]]
    for entry in document["annotations"]:
        entry["iscrowd"] = 1
    root = in_coco(tmp_path / "all", **document)
    with pytest.raises(UserError, match=r"All 6 annotations .* --crowds objects takes them"):
        whole(root, "ignore")


def test_objects_that_are_there_twice_are_said(tmp_path):
    document = formats.coco()
    document["annotations"] += [entry | {"id": 100 + i} for i, entry in enumerate(document["annotations"])]
    assert "6 objects are there twice" in note(in_coco(tmp_path, **document))


def test_what_is_left_out_becomes_a_region_to_ignore(tmp_path):
    document = formats.coco()
    document["annotations"][0]["category_id"] = 9
    root = in_coco(tmp_path, **document)
    with pytest.raises(UserError, match="unknown categories"):
        whole(root)
    kept = DetectionData(root).splits(LoaderConfig(val_fraction=0.0, skip_bad=True), seed=0).train
    assert kept.counts.tolist() == [1, 2, 2]
    assert kept.instances(0).ignored.tolist() == [[4, 5, 20, 17]]
    assert kept.instances(1).ignored is None


def test_several_files_are_to_be_named(tmp_path):
    root = in_coco(tmp_path)
    (root / "b.json").write_text((root / "a.json").read_text())
    verdict = recognise(str(root))
    assert isinstance(verdict, Nearly)
    assert "2 annotation files, a.json, b.json: name one of them" in verdict.missing


def test_reading_many_images_is_quick(tmp_path):
    names = [f"{i}.png" for i in range(2000)]
    (tmp_path / "images").mkdir()
    blank = np.zeros((formats.HEIGHT, formats.WIDTH, 3), np.uint8)
    from PIL import Image

    Image.fromarray(blank).save(tmp_path / "images" / "0.png")
    data = (tmp_path / "images" / "0.png").read_bytes()
    for name in names[1:]:
        (tmp_path / "images" / name).write_bytes(data)
    document = formats.coco() | {
        "images": [{"id": i, "file_name": n, "width": 40, "height": 30} for i, n in enumerate(names)],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 1, 5 + i % 20, 5]} for i in range(len(names))
        ],
    }
    (tmp_path / "a.json").write_text(json.dumps(document))
    assert len(whole(tmp_path)) == 2000
