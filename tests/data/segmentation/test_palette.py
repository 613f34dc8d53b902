"""What values and colours of label maps mean."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from convnext.core.errors import UserError
from convnext.data.segmentation.mapping import read_mapping, read_names
from convnext.data.segmentation.palette import Palette, ade20k, chosen_colours, named, numbered
from convnext.ops.losses import IGNORE_INDEX


def palette_of(path: Path) -> Palette:
    said, _ = read_mapping(path)
    assert said.palette is not None
    return said.palette


def mapping(tmp_path: Path, **content: Any) -> Path:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    return path


def test_values_in_the_order_of_the_names() -> None:
    palette = named(["sky", "road"])
    classes, unknown = palette.decoded(np.array([[0, 1], [255, 7]]))
    assert classes[0].tolist() == [0, 1]
    assert classes[1, 0] == IGNORE_INDEX
    assert unknown.tolist() == [7]


@pytest.mark.parametrize("last", ["unlabelled", "Void", "ignore"])
def test_a_last_name_that_says_nothing_is_no_class(last: str) -> None:
    palette = named(["sky", "road", last])
    assert palette.classes == ("sky", "road")
    assert palette.decoded(np.array([[2, 255, 1]]))[0].tolist() == [[IGNORE_INDEX, IGNORE_INDEX, 1]]


def test_numbered_classes_leave_out_the_value_of_nothing() -> None:
    palette = numbered([0, 3, 7, 255])
    assert palette.classes == ("class 0", "class 3", "class 7")
    assert palette.decoded(np.array([[7, 3, 255]]))[0].tolist() == [[2, 1, IGNORE_INDEX]]
    assert palette.values == (0, 3, 7)


def test_ade20k_has_150_classes_from_value_1_on() -> None:
    palette = ade20k()
    assert (len(palette.classes), len(set(palette.colours))) == (150, 149)  # its own colours: two classes share one
    assert (palette.classes[0], palette.classes[12], palette.classes[149]) == ("wall", "person", "flag")
    assert palette.decoded(np.array([[0, 1, 13, 150]]))[0].tolist() == [[IGNORE_INDEX, 0, 12, 149]]
    assert palette.decoded(np.array([[151]]))[1].tolist() == [151]
    assert palette.colours[0] == (120, 120, 120)


def test_a_mapping_by_value(tmp_path: Path) -> None:
    palette = palette_of(
        mapping(
            tmp_path,
            classes=[{"name": "road", "values": [7, 8]}, {"name": "car", "value": 26, "draw": "#0000ff"}],
            ignored=[0],
        )
    )
    classes, unknown = palette.decoded(np.array([[7, 8, 26, 0, 255, 9]]))
    assert classes[0, :5].tolist() == [0, 0, 1, IGNORE_INDEX, IGNORE_INDEX]
    assert unknown.tolist() == [9]
    assert palette.colours[1] == (0, 0, 255)
    assert palette.values == (7, 26)


def test_a_mapping_by_colour(tmp_path: Path) -> None:
    path = mapping(
        tmp_path,
        classes=[{"name": "road", "colour": [128, 64, 128]}, {"name": "car", "colours": ["#00008e", [0, 0, 70]]}],
        ignored=["#000000"],
    )
    palette = palette_of(path)
    codes = np.array([[0x804080, 0x00008E, 70, 0, 1]])
    classes, unknown = palette.decoded(codes)
    assert classes[0, :4].tolist() == [0, 1, 1, IGNORE_INDEX]
    assert unknown.tolist() == [1]
    assert palette.colours == ((128, 64, 128), (0, 0, 142))
    assert palette.values == (0, 1)  # colours are no values: maps that are written have the classes' places


def test_other_values_can_be_no_class_too(tmp_path: Path) -> None:
    palette = palette_of(mapping(tmp_path, classes=["a", "b"], others="ignored"))
    classes, unknown = palette.decoded(np.array([[0, 1, 9, 60_000]]))
    assert classes.tolist() == [[0, 1, IGNORE_INDEX, IGNORE_INDEX]]
    assert len(unknown) == 0


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([], "is no mapping file"),
        ({"classes": []}, "2 to 255 classes"),
        ({"classes": ["one"]}, "names 1 classes"),
        ({"classes": [f"c{i}" for i in range(300)]}, "2 to 255 classes"),
        ({"classes": ["a", "a"]}, "name 'a' twice"),
        ({"classes": [{"name": "a", "value": 1}, {"name": "b", "value": 1}]}, "value or colour 1 twice"),
        ({"classes": ["a", "b"], "ignored": [1]}, "value or colour 1 twice"),
        ({"classes": [{"name": "a", "value": 1}, {"name": "b", "colour": "#000000"}]}, "some classes by value"),
        ({"classes": [{"name": "a", "value": -1}, "b"]}, "a value of 0 to 65535"),
        ({"classes": [{"name": "a", "value": 1.5}, "b"]}, "a value of 0 to 65535"),
        ({"classes": [{"name": "a", "colour": "red"}, {"name": "b", "colour": "#000000"}]}, "a colour as"),
        ({"classes": [{"name": "a", "colour": [1, 2]}, {"name": "b", "colour": "#000000"}]}, "a colour as"),
        ({"classes": [{"name": 3, "value": 1}, "b"]}, "a class is a name"),
        ({"classes": [{"name": "a"}, "b"]}, "a class is a name"),
        ({"classes": ["a", "b"], "others": "maybe"}, '"ignored", "nearest" or "error"'),
        ({"classes": ["a", "b"], "colors": []}, "'colors'"),
        ({"classes": ["a", "b"], "ignored": 3}, "a list of values"),
    ],
)
def test_what_a_mapping_cannot_mean_is_said(tmp_path: Path, content: Any, says: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=says):
        read_mapping(path)


@pytest.mark.parametrize("text", ["{", "\x00", '{"classes": ' + "[" * 5000])
def test_a_damaged_mapping_is_said(tmp_path: Path, text: str) -> None:
    path = tmp_path / "labels.json"
    path.write_text(text)
    with pytest.raises(UserError, match="is not JSON"):
        read_mapping(path)


def test_a_huge_or_missing_mapping_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big.json").write_text(" " * (1 << 21))
    with pytest.raises(UserError, match="more than 1,048,576 bytes"):
        read_mapping(tmp_path / "big.json")
    with pytest.raises(UserError, match="cannot be read"):
        read_mapping(tmp_path / "none.json")


def test_names_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sky\n\nroad\nvoid\n")
    assert read_names(tmp_path / "classes.txt") == ("sky", "road", "void")
    (tmp_path / "classes.txt").write_text("\n")
    with pytest.raises(UserError, match="names no classes"):
        read_names(tmp_path / "classes.txt")


def test_chosen_colours_differ_and_stay() -> None:
    colours = chosen_colours(255)
    assert len(set(colours)) == 255
    assert colours[:40] == chosen_colours(40)
    near = min(
        sum(abs(a - b) for a, b in zip(one, other, strict=True))
        for place, one in enumerate(colours[:20])
        for other in colours[:place]
    )
    assert near > 40


def test_it_is_handed_to_workers() -> None:
    palette = ade20k()
    palette.decoded(np.zeros((1, 1), dtype=np.int32))
    assert pickle.loads(pickle.dumps(palette)) == palette  # noqa: S301
