"""Annotation files: what is right, every kind of wrong, and files that were made to break the reader."""

from __future__ import annotations

import copy
import json
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco

from convnext.core.errors import UserError
from convnext.data.detection import listed, polygons
from convnext.data.detection.annotations import Annotations, read_annotations
from convnext.data.detection.polygons import Polygons

LIMIT = 10_000
SQUARE = [[1, 1, 4, 1, 4, 3, 1, 3]]


@pytest.fixture
def place(tmp_path, encode, picture, write) -> Path:
    """Two images: a.png of 8 x 6 pixels, b.png of 10 x 7."""
    return write(tmp_path / "set", {"a.png": encode(picture(6, 8), "PNG"), "b.png": encode(picture(7, 10, 1), "PNG")})


def thing(number: int, image: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": 3,
        "bbox": [1, 1, 3, 2],
        "segmentation": copy.deepcopy(SQUARE),
        "iscrowd": 0,
    } | changes


def document() -> dict[str, Any]:
    return {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 8, "height": 6},
            {"id": 2, "file_name": "b.png", "width": 10, "height": 7},
        ],
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        "annotations": [thing(10), thing(11, 2, category_id=7)],
    }


def read(place: Path, content: Any, *, skip_bad: bool = False) -> Annotations:
    file = place / "file.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    found = read_annotations(file, [place], max_pixels=LIMIT)
    if found.problems and not skip_bad:  # as those who open data do
        raise UserError(found.problems)
    return found


def test_what_is_read(place):
    content = document()
    content["annotations"] += [thing(12, bbox=[-2.5, 0, 4, 99], area=7.5), thing(13, iscrowd=1)]
    found = read(place, content)
    assert (found.category_ids, found.classes) == ((3, 7), ("cat", "dog"))
    assert found.image_ids.tolist() == [1, 2]
    assert [found.files[i] for i in range(2)] == ["a.png", "b.png"]
    assert found.sizes.tolist() == [[6, 8], [7, 10]]
    assert found.images.tolist() == [0, 1, 0, 0]
    assert found.labels.tolist() == [0, 1, 0, 0]
    assert found.crowds.tolist() == [False, False, False, True]
    assert found.boxes.tolist() == [[1, 1, 4, 3], [1, 1, 4, 3], [0, 0, 1.5, 6], [1, 1, 4, 3]]
    assert found.given[2].tolist() == [-2.5, 0, 4, 99]
    assert found.areas[2] == 7.5
    assert np.isnan(found.areas[0])
    assert found.has_masks
    assert found.problems == ""
    assert found.note.splitlines() == [
        "1 crowds (iscrowd 1) are ignored, neither objects nor background; --crowds objects takes them.",
        "1 boxes reach more than a pixel beyond their image; they are cut off at its border.",
    ]


def test_sizes_that_are_not_said_are_read_from_the_files(place):
    content = document()
    for entry in content["images"]:
        del entry["width"]
    assert read(place, content).sizes.tolist() == [[6, 8], [7, 10]]


def test_an_image_is_as_large_as_it_is_upright(place, encode, picture):
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    (place / "a.png").write_bytes(encode(picture(6, 8), "JPEG", exif=exif))
    with pytest.raises(UserError, match=r"a.png: it has 6 x 8 pixels \(turned upright, .* the annotations say 8 x 6"):
        read(place, document())
    content = document()
    content["images"][0] |= {"width": 6, "height": 8}
    assert read(place, content).sizes.tolist() == [[8, 6], [7, 10]]


@pytest.mark.parametrize("nothing", [None, [], {}])
def test_boxes_alone(place, nothing):
    content = document()
    for entry in content["annotations"]:
        entry["segmentation"] = nothing
    found = read(place, content)
    assert not found.has_masks
    assert found.polygons[0] is None


def test_equal_names_are_told_apart(place):
    content = document()
    content["categories"].append({"id": 0, "name": "cat"})
    assert read(place, content).classes == ("cat (id 0)", "cat (id 3)", "dog")


RUNS = {"size": [6, 8], "counts": [7, 2, 39]}
BAD_OBJECTS = [
    ("no objects of JSON", [1, 2]),
    ("images that are not listed", thing(1, 99)),
    ("images that are not listed", thing(1, image_id=[1])),
    ("unknown categories", thing(1, category_id=4)),
    ("unknown categories", thing(1, category_id={})),
    ("'iscrowd' is neither 0 nor 1", thing(1, iscrowd=2)),
    ("'iscrowd' is neither 0 nor 1", thing(1, iscrowd=[])),
    ("not four finite numbers", thing(1, bbox=[1, 1, 2])),
    ("not four finite numbers", thing(1, bbox=[1, 1, 2, float("nan")], segmentation=None)),
    ("not four finite numbers", thing(1, bbox=[1, 1, 2, float("inf")])),
    ("not four finite numbers", thing(1, bbox=[1, 1, 2, 10**400])),
    ("not four finite numbers", thing(1, bbox=[1, 1, 2, "three"])),
    ("boxes of negative size", thing(1, bbox=[3, 3, -2, 3])),
    ("boxes outside of their image", thing(1, bbox=[8, 0, 5, 5])),
    ("boxes outside of their image", thing(1, bbox=[0, -9, 5, 9])),
    ("a polygon of fewer than 6 numbers", thing(1, segmentation=[[1, 1, 2, 2]])),
    ("a polygon of fewer than 6 numbers", thing(1, segmentation=[*SQUARE, []])),
    ("a polygon of fewer than 6 numbers", thing(1, segmentation=[1, 1, 4, 1])),
    ("an odd number of numbers", thing(1, segmentation=[[1, 1, 2, 2, 3, 3, 4]])),
    ("something else than numbers", thing(1, segmentation=[[1, 1, 2, 2, 3, "3"]])),
    ("something else than numbers", thing(1, segmentation=[[1, 1, 2, 2, 3, 10**400]])),
    ("numbers that are not finite", thing(1, segmentation=[[1, 1, 2, 2, 3, float("nan")]])),
    ("far outside of the image", thing(1, segmentation=[[0, 0, 1e9, 0, 1e9, 1e9]])),
    ("millions of pixels", thing(1, segmentation=[[-8, -8, 16, 16] * 100_000])),
    ("neither polygons nor runs", thing(1, segmentation="PPYo0")),
    ("runs for an image of another size", thing(1, segmentation=RUNS | {"size": [8, 6]})),
    ("runs for an image of another size", thing(1, segmentation=RUNS | {"size": [10**9, 10**9]})),
    ("runs that do not fill", thing(1, segmentation=RUNS | {"counts": [7, 2, 38]})),
    ("runs that cannot be decoded", thing(1, segmentation=RUNS | {"counts": [7, -2, 43]})),
    ("runs that cannot be decoded", thing(1, segmentation=RUNS | {"counts": [7, 2.5, 39]})),
    ("runs that cannot be decoded", thing(1, segmentation=RUNS | {"counts": None})),
    ("runs that cannot be decoded", thing(1, segmentation=RUNS | {"counts": ""})),
    ("runs that cannot be decoded", thing(1, segmentation=RUNS | {"counts": "72é"})),
    ("runs that cannot be decoded", thing(1, segmentation=RUNS | {"counts": "oooooooooo0"})),
    ("runs that cannot be decoded", thing(1, segmentation=RUNS | {"counts": "7o"})),
]


@pytest.mark.parametrize(("what", "entry"), BAD_OBJECTS, ids=range(len(BAD_OBJECTS)))
def test_what_is_wrong_with_an_object(place, what, entry):
    content = document()
    content["annotations"].append(entry)
    with pytest.raises(UserError) as caught:
        read(place, content)
    assert what in str(caught.value)
    assert "has 1 problems:\n    1 " in str(caught.value)
    assert "--loader.skip-bad" in str(caught.value)
    kept = read(place, content, skip_bad=True)
    assert len(kept.images) == len(kept.polygons) == 2
    assert what in kept.note
    assert kept.problems == str(caught.value)


BAD_IMAGES = [
    ("no objects of JSON", "a.png"),
    ("'id' is no whole number", {"id": 1.5, "file_name": "c.png"}),
    ("'id' is no whole number", {"id": 1, "file_name": "c.png"}),
    ("'id' is no whole number", {"id": 10**30, "file_name": "c.png"}),
    ("that are not in", {"id": 3, "file_name": "absent.png"}),
    ("listed twice", {"id": 3, "file_name": "./a.png"}),
    ("not whole numbers above 0", {"id": 3, "file_name": "c.png", "width": -1, "height": 5}),
    ("not whole numbers above 0", {"id": 3, "file_name": "c.png", "width": float("inf"), "height": 5}),
    ("not whole numbers above 0", {"id": 3, "file_name": "c.png", "width": "five", "height": 5}),
    ("not whole numbers above 0", {"id": 3, "file_name": "c.png", "width": 10**300, "height": 5.0}),
    ("not whole numbers above 0", {"id": 3, "file_name": "c.png", "width": [5], "height": 5}),
    ("more than 10,000 pixels", {"id": 3, "file_name": "c.png", "width": 10**9, "height": 10**9}),
    ("of another size", {"id": 3, "file_name": "c.png", "width": 5, "height": 5}),
    ("file does not say either", {"id": 3, "file_name": "text.png"}),
    *(
        ("listed twice", {"id": 3, "file_name": name})  # their last part is a file that is there
        for name in ("/a.png", "../set/a.png", "x/../../a.png", "C:\\a.png", "..\\a.png", "A.PNG", "%61.png")
    ),
    *(("not a path inside of", {"id": 3, "file_name": name}) for name in ("", ".", "a\0", None, "\ud800", "/x.png")),
]


@pytest.mark.parametrize(("what", "entry"), BAD_IMAGES, ids=range(len(BAD_IMAGES)))
def test_what_is_wrong_with_an_image(place, what, entry, encode, picture):
    (place / "c.png").write_bytes(encode(picture(9, 9), "PNG"))
    (place / "text.png").write_text("no picture")
    content = document()
    content["images"].append(entry)
    content["annotations"].append(thing(30, 3))
    dropped = isinstance(entry, dict) and entry.get("id") == 3
    with pytest.raises(UserError) as caught:
        read(place, content)
    assert what in str(caught.value)
    assert ("and 1 annotations of such images" in str(caught.value)) == dropped
    assert ("annotations of images that are not listed" in str(caught.value)) == (not dropped)
    kept = read(place, content, skip_bad=True)
    assert (len(kept.files), len(kept.images)) == (2, 2)
    assert what in kept.note


def test_all_that_is_wrong_is_reported_at_once(place):
    content = document()
    content["annotations"] += [thing(20 + i, bbox=[i, 0, -1, 0]) for i in range(5)] + [thing(30, 99)]
    with pytest.raises(UserError) as caught:
        read(place, content)
    assert str(caught.value).splitlines()[1:] == [
        "    5 boxes of negative size, as 20 of image 1: [0, 0, -1, 0]; 21 of image 1: [1, 0, -1, 0]; "
        "22 of image 1: [2, 0, -1, 0]",
        "    1 annotations of images that are not listed, as 30 of image 99: no such image",
        "Repair them, or leave out what they concern: --loader.skip-bad in `convnext train`, --skip-bad in "
        "`convnext evaluate`",
    ]


def test_boxes_without_area_are_left_out_and_counted(place):
    content = document()
    plain = read(place, content)
    content["annotations"] += [thing(20 + i, bbox=[i, 0, 0, 3]) for i in range(2)]
    kept = read(place, content)
    assert len(kept.images) == len(plain.images)
    assert "2 boxes have no area" in kept.note


def test_many_sizes_are_left_to_reading(place, monkeypatch):
    content = document()
    content["images"][0]["width"] = 9
    monkeypatch.setattr(listed, "_HEADERS", 1)
    assert read(place, content).sizes.tolist() == [[6, 9], [7, 10]]


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("", "is not JSON"),
        ("{'images': []}", "is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("9" * 10_000, "is not JSON"),
        ("[1, 2]", r"holds \[1, 2\]"),
        ({"annotations": [], "categories": []}, "has no 'images'"),
        ({"images": [], "annotations": {}, "categories": []}, "has a 'annotations' that is not a list"),
        (document() | {"categories": []}, "has no categories"),
        (document() | {"categories": [{"id": 1}]}, "has a category {'id': 1}"),
        (document() | {"categories": [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}]}, "two categories with the id 1"),
        (document() | {"annotations": []}, "has no object that can be used"),
        (document() | {"images": [], "annotations": []}, "has no image that can be used"),
    ],
)
def test_whole_files(place, content, what):
    for skip_bad in (False, True):
        with pytest.raises(UserError, match=what):
            read(place, content, skip_bad=skip_bad)


def test_a_file_that_is_no_text(place):
    (place / "file.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not JSON"):
        read_annotations(place / "file.json", [place], max_pixels=LIMIT)
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_annotations(place / "none.json", [place], max_pixels=LIMIT)


def test_nothing_hostile_takes_memory(place):
    content = document()
    content["images"].append({"id": 3, "file_name": "b.png", "width": 10**9, "height": 10**9})
    content["annotations"] += [entry for _, entry in BAD_OBJECTS if isinstance(entry, dict)]
    (place / "file.json").write_text(json.dumps(content))
    size = (place / "file.json").stat().st_size
    tracemalloc.start()
    read_annotations(place / "file.json", [place], max_pixels=LIMIT)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * size


@pytest.mark.parametrize("seed", range(200))
def test_fuzzed_files_are_read_or_refused(place, seed):
    """A value somewhere in a good file is replaced by another one: fine or a UserError, and masks can be drawn."""
    chance = random.Random(seed)
    content = document()
    content["annotations"].append(thing(12, segmentation=copy.deepcopy(RUNS)))
    content["annotations"].append(thing(13, segmentation={"size": [6, 8], "counts": "7_O2W1"}))
    for _ in range(chance.randint(1, 3)):
        _mutate(content, chance)
    text = json.dumps(content)
    if seed % 4 == 0:
        at = chance.randrange(len(text))
        text = text[:at] + chance.choice(["", "\x00", "}", "1e999", '"', text]) + text[at + chance.randint(0, 9) :]
    try:
        found = read(place, text, skip_bad=bool(seed % 2))
    except UserError:
        return
    for row, image in enumerate(found.images.tolist()):
        segmentation = found.polygons[row]
        height, width = found.sizes[image].tolist()
        if segmentation is not None:
            assert polygons.mask(segmentation, height, width).shape == (height, width)


ODD = [None, True, -1, 0, 1, 2, 1e308, float("nan"), 10**30, "", "x", "\ud800", [], [[]], {}, {"id": 1}, [1, 2, 3, 4]]


def _mutate(content: Any, chance: random.Random) -> None:
    spot = content
    while True:
        keys = list(spot) if isinstance(spot, dict) else list(range(len(spot)))
        if not keys:
            return
        key = chance.choice(keys)
        if not isinstance(spot[key], dict | list) or chance.random() < 0.15:
            break
        spot = spot[key]
    if chance.random() < 0.2:
        del spot[key]
    else:
        spot[key] = copy.deepcopy(chance.choice(ODD))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_runs_are_read_as_pycocotools_writes_them(data):
    height, width = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 40))
    chance = np.random.default_rng(data.draw(st.integers(0, 9999)))
    truth = chance.random((height, width)) < data.draw(st.sampled_from([0.0, 0.02, 0.5, 1.0]))
    runs: Any = coco.encode(np.asfortranarray(truth.astype(np.uint8)))
    compressed = {"size": [height, width], "counts": runs["counts"].decode()}
    column_by_column = np.concatenate([[0], truth.T.ravel().astype(int), [-1]])  # counting begins outside
    starts = np.flatnonzero(np.diff(column_by_column))
    plain = {"size": [height, width], "counts": np.diff(np.concatenate([[0], starts])).tolist()}
    for segmentation in (compressed, plain):
        assert polygons.problem(segmentation, height, width) == ""
        assert (polygons.mask(segmentation, height, width) == truth).all()
        packed = Polygons()
        for one in (None, segmentation, SQUARE):
            packed.add(one)
        assert [packed[i] for i in range(3)] == [None, segmentation, SQUARE]


@given(st.text(alphabet=[chr(48 + i) for i in range(64)], max_size=30))
@settings(max_examples=200, deadline=None)
def test_runs_of_any_letters_are_judged(text):
    runs = {"size": [6, 8], "counts": text}
    if polygons.problem(runs, 6, 8) == "":
        assert polygons.mask(runs, 6, 8).shape == (6, 8)
