"""What other tools write in the same forms: groups, masks, turned boxes, lists of images, outlines as VIA has them."""

from __future__ import annotations

import base64
import io
import json
import os

import formats
import numpy as np
import pytest
import torch
from PIL import Image

from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.detection.open import DetectionData
from convnext.metrics.coco_ap import coco_figures
from convnext.models.detection.config import RPNConfig
from convnext.models.detection.rpn import RPNHead
from convnext.ops.instances import Instances


def whole(data, crowds="auto", **loader):
    return DetectionData(data, crowds=crowds).splits(LoaderConfig(val_fraction=0.0, **loader), seed=0)


def in_coco(root, **changes):
    formats.draw(root / "images")
    (root / "a.json").write_text(json.dumps(formats.coco() | changes))
    return root


def test_cvat_masks_ellipses_turned_boxes(tmp_path):
    formats.draw(tmp_path / "images")
    shapes = (
        '<mask label="cat" rle="0,2,1,3" left="4" top="5" width="3" height="2"/>'
        '<ellipse label="cat" cx="20" cy="15" rx="10" ry="5"/>'
        '<box label="dog" xtl="10" ytl="10" xbr="20" ybr="14" rotation="90"/>'
        '<polyline label="dog" points="1,1;9,3"/>'
    )
    text = f'<annotations><image name="0.png" width="40" height="30">{shapes}</image></annotations>'
    (tmp_path / "a.xml").write_text(text)
    splits = whole(tmp_path)
    found = splits.train.instances(0)
    assert found.masks[0].nonzero().tolist() == [[5, 4], [5, 5], [6, 4], [6, 5], [6, 6]]
    torch.testing.assert_close(found.boxes[1], torch.tensor([10.0, 10, 30, 20]))
    torch.testing.assert_close(found.boxes[2], torch.tensor([13.0, 7, 17, 17]))
    assert found.ignored.tolist() == [[1, 1, 9, 3]]
    assert "1 boxes are turned" in splits.note
    assert "1 polyline shapes" in splits.note


def test_cvat_parts_and_videos(tmp_path):
    formats.cvat(tmp_path)
    file = tmp_path / "annotations.xml"
    text = file.read_text()
    file.write_text(
        text.replace('id="0"', 'id="0" subset="Validation"')
        .replace('id="1"', 'id="1" subset="Train"')
        .replace('id="2"', 'id="2" subset="Train"')
    )
    splits = DetectionData(tmp_path).splits(LoaderConfig(), seed=0)
    assert (splits.record["kind"], len(splits.train), len(splits.val)) == ("given", 2, 1)
    file.write_text('<annotations><track id="0" label="cat"></track></annotations>')
    with pytest.raises(UserError, match="tracks of a video"):
        whole(tmp_path)


def test_labelme_groups_and_masks(tmp_path):
    formats.draw(tmp_path)
    out = io.BytesIO()
    Image.fromarray(np.array([[0, 255, 0], [255, 255, 0]], np.uint8)).save(out, "PNG")
    shapes = [
        {"label": "cat", "shape_type": "polygon", "group_id": 3, "points": [[1, 1], [5, 1], [5, 5]]},
        {"label": "cat", "shape_type": "polygon", "group_id": 3, "points": [[20, 10], [30, 10], [30, 20]]},
        {
            "label": "dog",
            "shape_type": "mask",
            "points": [[7, 8], [9, 9]],
            "mask": base64.b64encode(out.getvalue()).decode(),
        },
        {"label": "dog", "shape_type": "line", "points": [[1, 20], [8, 28]]},
    ]
    (tmp_path / "0.json").write_text(
        json.dumps({"imagePath": "0.png", "imageHeight": 30, "imageWidth": 40, "shapes": shapes})
    )
    found = whole(tmp_path).train.instances(0)
    assert found.boxes.tolist() == [[1, 1, 30, 20], [7, 8, 9, 10]]
    assert found.masks[1].nonzero().tolist() == [[8, 8], [9, 7], [9, 8]]
    assert found.ignored.tolist() == [[1, 20, 8, 28]]


@pytest.mark.parametrize("form", ["flat", "pairs", "nested pairs"])
def test_outlines_as_via_and_others_write_them(tmp_path, form):
    document, wanted = formats.coco(), whole(in_coco(tmp_path / "w")).train
    for entry in document["annotations"]:
        (points,) = entry["segmentation"]
        pairs = np.array(points).reshape(-1, 2).tolist()
        entry["segmentation"] = {"flat": points, "pairs": pairs, "nested pairs": [pairs]}[form]
    splits = whole(in_coco(tmp_path / "x", **document))
    assert torch.equal(splits.train.instances(0).masks, wanted.instances(0).masks)
    assert "6 outlines are one list of numbers, or pairs" in splits.note


def test_names_in_place_of_numbers_and_empty_values(tmp_path):
    document, wanted = formats.coco(), whole(in_coco(tmp_path / "w")).train
    for entry in document["annotations"]:
        entry |= {"image_id": f"{entry['image_id'] - 1}.png", "category_id": {1: "cat", 2: "dog"}[entry["category_id"]]}
        entry |= {"iscrowd": None, "bbox": [0, 0, 0, 0]}
    for entry in document["images"]:
        entry |= {"width": 0, "height": 0}
    splits = whole(in_coco(tmp_path / "x", **document))
    for i in range(3):
        assert torch.equal(splits.train.instances(i).boxes, wanted.instances(i).boxes)
        assert torch.equal(splits.train.instances(i).labels, wanted.instances(i).labels)
    assert "3 images have no 'width' and 'height'" in splits.note
    assert "6 annotations have no 'bbox'" in splits.note


def test_a_number_that_was_given_to_another_means_nothing(tmp_path):
    document = formats.coco()
    for entry in document["images"]:
        entry["id"] = f"img-{entry['id']}"
    with pytest.raises(UserError, match=r"no object that can be used|images that are not listed"):
        whole(in_coco(tmp_path, **document))


def centres(b):
    return [b[0] + b[2] / 2, b[1] + b[3] / 2, b[2], b[3]]


@pytest.mark.parametrize(
    ("form", "says"), [("centre", "centres, x, y"), ("yx", "corners with y first"), ("outline", "All outlines")]
)
def test_other_forms_of_boxes(tmp_path, form, says):
    document = formats.coco()
    for entry in document["annotations"]:
        b = entry["bbox"]
        if form == "outline":
            entry["segmentation"] = [[v / (40, 30)[i % 2] for i, v in enumerate(entry["segmentation"][0])]]
        else:
            entry["bbox"] = centres(b) if form == "centre" else [b[1], b[0], b[1] + b[3], b[0] + b[2]]
    with pytest.raises(UserError, match=says):
        whole(in_coco(tmp_path, **document))


def test_boxes_that_disagree_are_a_warning(tmp_path):
    document = formats.coco()
    for entry in document["annotations"][:2]:
        entry["bbox"] = [0, 0, 5, 5]
    assert "2 of 6 boxes looked at disagree with their outlines" in whole(in_coco(tmp_path, **document)).note


def test_voc_lists(tmp_path):
    root = formats.voc(tmp_path)
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "trainval.txt").write_text("0\n1\n2\n")
    (lists / "test.txt").write_text("2\n")
    splits = DetectionData(root).splits(LoaderConfig(), seed=0)
    assert ([splits.train.name(i) for i in range(len(splits.train))], splits.val.name(0)) == (
        ["0.png", "1.png"],
        "2.png",
    )


def test_yolo_lists_and_darknet(tmp_path):
    root = formats.yolo(tmp_path / "a")
    (root / "data.yaml").write_text("train: train.txt\nval: ./val.txt\nnames: {0: no, 1: 1.10}\n")
    (root / "train.txt").write_text("/content/a/images/train/0.png\n/content/a/images/train/1.png\n")
    (root / "val.txt").write_text("./images/train/2.png\n")
    (root / "images" / "train").rename(root / "images" / "all")
    (root / "labels" / "train").rename(root / "labels" / "all")
    for name in ("train.txt", "val.txt"):
        (root / name).write_text((root / name).read_text().replace("/train/", "/all/"))
    splits = DetectionData(root).splits(LoaderConfig(), seed=0)
    assert (len(splits.train), len(splits.val), splits.train.classes) == (2, 1, ("no", "1.10"))
    assert splits.val.counts.tolist() == [2]
    dark = tmp_path / "b"
    made = formats.yolo(tmp_path / "c")
    (dark / "obj_train_data").mkdir(parents=True)
    for path in [*(made / "images" / "train").iterdir(), *(made / "labels" / "train").iterdir()]:
        path.rename(dark / "obj_train_data" / path.name)
    (dark / "obj.names").write_text("cat\ndog\n")
    assert whole(dark).train.classes == ("cat", "dog")


def test_yolo_numbers_from_one(tmp_path):
    root = formats.yolo(tmp_path)
    for file in (root / "labels" / "train").iterdir():
        file.write_text("".join(f"{int(line[0]) + 1}{line[1:]}\n" for line in file.read_text().splitlines()))
    with pytest.raises(UserError, match="do the numbers begin at 1"):
        whole(root)
    (root / "data.yaml").unlink()
    assert whole(root).train.classes == ("1", "2")


def test_what_is_left_out_counts_for_nothing_in_judging(tmp_path):
    document = formats.coco()
    document["annotations"][0]["category_id"] = 9
    truth = whole(in_coco(tmp_path, **document), skip_bad=True).train.truth()
    regions = [entry for entry in truth["annotations"] if entry["iscrowd"]]
    assert [(entry["category_id"], entry["bbox"]) for entry in regions] == [(1, [4, 5, 16, 12]), (2, [4, 5, 16, 12])]
    right = [
        {"image_id": e["image_id"], "category_id": e["category_id"], "bbox": e["bbox"], "score": 0.5}
        for e in truth["annotations"]
        if not e["iscrowd"]
    ]
    there = {"image_id": 1, "category_id": 1, "bbox": [4, 5, 16, 12], "score": 0.9}
    for kind in ("auto", "pycocotools"):
        figures = coco_figures(truth, [*right, there], kind="bbox", evaluator=kind)
        assert figures.AP is not None
        assert abs(figures.AP - 1) < 1e-9


def test_region_proposals_spare_what_is_ignored():
    torch.manual_seed(0)
    head = RPNHead(8, [8], RPNConfig(samples=10_000))
    maps = [torch.randn(1, 8, 8, 8)]
    none = Instances(torch.zeros((0, 4)), torch.zeros(0, dtype=torch.int64))

    def loss(ignored):
        logits, offsets = head(maps)
        return head.losses(logits, offsets, head.anchors(maps), [(64, 64)], [none._replace(ignored=ignored)])

    values = [sum(loss(ignored).values()) for ignored in (None, torch.tensor([[-500.0, -500, 500, 500]]))]
    assert values[0] > 0
    assert values[1] == 0


def test_pipes_among_files(tmp_path):
    root = in_coco(tmp_path)
    os.mkfifo(root / "b.json")
    os.mkfifo(root / "images" / "x.png")
    assert len(whole(root).train) == 3


def test_unlisted_images_and_other_files_are_counted(tmp_path):
    root = in_coco(tmp_path)
    for name in ("x.png", "y.raw", "z.raw"):
        (root / "images" / name).write_bytes(b"x")
    said = whole(root).note
    assert "1 images in" in said
    assert "not read: 2 .raw" in said
