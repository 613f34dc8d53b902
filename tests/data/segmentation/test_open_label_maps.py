"""From a folder to images with label maps: every layout, every mistake."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.decode import BadImage
from convnext.data.recognise import Mine, NotMine
from convnext.data.segmentation import validate
from convnext.data.segmentation.decode_map import read_codes
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.open import SegmentationData, recognise
from convnext.data.splits import Splits
from convnext.ops.losses import IGNORE_INDEX
from labelmaps import labelled, save, scene

LIMIT = 10_000_000
SHARED = Path(os.environ.get("CONVNEXT_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))


def opened(
    root: Path,
    *,
    labels: str = "",
    val_fraction: float = 0.25,
    seed: int = 0,
    skip_bad: bool = False,
    saved: dict[str, Any] | None = None,
) -> Splits[LabelMapDataset]:
    loader = LoaderConfig(val_fraction=val_fraction, skip_bad=skip_bad)
    return SegmentationData(root, labels=labels).splits(loader, seed=seed, saved=saved)


def test_parts_that_the_data_has(tmp_path: Path) -> None:
    data = opened(labelled(tmp_path))
    assert (len(data.train), len(data.val), data.held_out) == (6, 3, True)
    assert data.train.classes == ("sky", "ground", "box")
    assert data.note.startswith("Found 6 images, 3 classes (rarest: ")
    assert "3 images in 'val' to validate on" in data.note
    looked = data.record.pop("looked")
    assert data.record == {"seed": 0, "fraction": 0.25, "kind": "given", "val": ["0.png", "1.png", "2.png"]}
    assert (looked["values"], looked["left_out"]) == (None, [[], []])
    assert [sum(part) for part in looked["pixels"]] == [6 * (48 * 64 - 1), 3 * (48 * 64 - 1)]
    picture, labels = scene(1)
    assert torch.equal(data.train.read(1), torch.from_numpy(picture).permute(2, 0, 1))
    found = data.train.labels(1)
    assert found[0, 0] == IGNORE_INDEX
    assert torch.equal(found.flatten()[1:], torch.from_numpy(labels).flatten()[1:])
    assert data.train.pixels is not None
    assert data.train.pixels.sum() == 6 * (48 * 64 - 1)


def test_a_share_is_held_out_and_held_out_again(tmp_path: Path) -> None:
    for number in range(8):
        picture, labels = scene(number)
        save(tmp_path / "images" / "town" / f"{number}.jpg", picture)
        save(tmp_path / "masks" / "town" / f"{number}.png", labels)
    first = opened(tmp_path)
    assert (len(first.train), len(first.val)) == (6, 2)
    assert first.train.classes == ("class 0", "class 1", "class 2")
    again = opened(tmp_path, saved=first.record, seed=9, val_fraction=0.5)
    assert again.record == first.record
    assert [again.val.name(i) for i in range(2)] == first.record["val"]
    assert [again.val.name(i) for i in range(2)] != [opened(tmp_path, seed=9).val.name(i) for i in range(2)]
    everything = SegmentationData(tmp_path).for_evaluation(LoaderConfig())
    assert len(everything) == 8


def test_ade20k_as_it_comes(tmp_path: Path) -> None:
    for part in ("training", "validation"):
        picture, labels = scene(3)
        save(tmp_path / "images" / part / "ADE_1.jpg", picture)
        save(tmp_path / "annotations" / part / "ADE_1.png", labels)
    assert opened(tmp_path).train.classes == ("class 0", "class 1", "class 2")  # folder names alone show nothing
    assert len(opened(tmp_path, labels="ade20k").train.classes) == 150
    (tmp_path / "objectInfo150.txt").touch()
    data = opened(tmp_path)
    assert len(data.train.classes) == 150
    assert sorted(data.train.labels(0).unique().tolist()) == [0, 1, IGNORE_INDEX]
    assert "of which 148 do not occur" in data.note


def test_a_mapping_names_folders_suffix_and_colours(tmp_path: Path) -> None:
    picture, labels = scene(5)
    save(tmp_path / "left" / "aachen" / "a.png", picture)
    colours = np.array([[0, 0, 255], [0, 255, 0], [255, 0, 0]], dtype=np.uint8)
    save(tmp_path / "fine" / "aachen" / "a_color.png", colours[labels])
    content = {
        "classes": [{"name": "sky", "colour": "#0000ff"}, {"name": "ground", "colour": [0, 255, 0]}],
        "ignored": ["#ff0000"],
        "train": {"images": "left", "labels": "fine"},
        "suffix": "_color",
    }
    file = tmp_path / "labels.json"
    file.write_text(json.dumps(content))
    data = opened(tmp_path, val_fraction=0.0)
    expected = np.where(labels == 2, IGNORE_INDEX, labels)
    assert np.array_equal(data.train.labels(0).numpy(), expected)
    assert (data.held_out, data.train.colours[0]) == (False, (0, 0, 255))
    file.rename(tmp_path / "elsewhere.json")
    assert recognise(str(tmp_path)) == NotMine()
    assert isinstance(recognise(str(tmp_path), str(tmp_path / "elsewhere.json")), Mine)
    named = opened(tmp_path, labels=str(tmp_path / "elsewhere.json"), val_fraction=0.0)
    assert np.array_equal(named.train.labels(0).numpy(), expected)


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"images": "../x", "labels": "fine"}, "outside of"),
        ({"images": "/etc", "labels": "fine"}, "outside of"),
        ({"images": "none", "labels": "fine"}, "there is no folder"),
        ({"images": 3, "labels": "fine"}, "is {"),
        ("left", "is {"),
    ],
)
def test_folders_of_a_mapping_lie_in_the_data(tmp_path: Path, part: Any, says: str) -> None:
    (tmp_path / "data" / "fine").mkdir(parents=True)
    (tmp_path / "data" / "labels.json").write_text(json.dumps({"classes": ["a", "b"], "train": part}))
    with pytest.raises(UserError, match=says):
        opened(tmp_path / "data")


def test_class_folders_are_no_label_maps(tmp_path: Path) -> None:
    picture, _ = scene(0)
    for name in ("cat", "dog", "images"):
        save(tmp_path / name / "a.png", picture)
    assert recognise(str(tmp_path)) == NotMine()
    with pytest.raises(UserError, match="holds no label maps"):
        opened(tmp_path)
    with pytest.raises(UserError, match="is not there"):
        opened(tmp_path / "nowhere")


def spoiled(root: Path) -> Path:
    labelled(root)
    maps, images = root / "annotations" / "train", root / "images" / "train"
    (maps / "0.png").unlink()  # no label map
    save(maps / "1.png", np.full((48, 64), 9, dtype=np.uint8))  # no class
    save(maps / "2.png", np.zeros((40, 64), dtype=np.uint8))  # another size
    (maps / "3.png").write_bytes((maps / "3.png").read_bytes()[:60])  # cut short
    save(maps / "extra.png", np.zeros((48, 64), dtype=np.uint8))  # no image
    assert len(list(images.iterdir())) == 6
    return root


def test_all_that_is_wrong_in_label_maps_is_reported_at_once(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        opened(spoiled(tmp_path))
    text = str(caught.value)
    assert "has 5 problems" in text
    assert "1 images without a label map" in text
    assert "1 label maps without an image" in text
    assert "1 label maps with values that are no class (the 3 classes have 0 to 2)" in text
    assert "1.png: values that are no class: 9" in text
    assert "label maps of another size than their image, as 2.png: it has 64 x 48 pixels, its label map 64 x 40" in text
    assert "label maps that cannot be read, as 3.png" in text
    assert "--loader.skip-bad" in text


def test_what_is_wrong_can_be_left_out(tmp_path: Path) -> None:
    data = opened(spoiled(tmp_path), skip_bad=True)
    assert [data.train.name(i) for i in range(len(data.train))] == ["4.png", "5.png"]
    assert "Left out of" in data.note
    assert "1.png" in data.note


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    labelled(tmp_path, train=1, val=1)
    for part in ("train", "val"):
        save(tmp_path / "annotations" / part / "0.png", np.full((48, 64), 9, dtype=np.uint8))
    with pytest.raises(UserError, match=r"3 classes, which are the values 0 to 2, but .* have 9"):
        opened(tmp_path, skip_bad=True)


def test_images_and_label_maps_that_do_not_belong_together(tmp_path: Path) -> None:
    picture, labels = scene(0)
    save(tmp_path / "images" / "town" / "a.png", picture)
    save(tmp_path / "annotations" / "village" / "a.png", labels)
    with pytest.raises(UserError, match=r"1 images without a label map in .*, as town/a.png"):
        opened(tmp_path)


def test_a_saved_split_spares_looking_label_maps_through_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in split.json gives the same images, classes and counts; pairs that were left out stay out."""
    root = spoiled(tmp_path)
    (root / "classes.txt").unlink()
    save(root / "annotations" / "train" / "1.png", np.full((48, 64), 77, dtype=np.uint8))  # now a class of its own
    first = opened(root, skip_bad=True)
    record = json.loads(json.dumps(first.record))
    monkeypatch.setattr(validate, "looked_through", None)
    again = opened(root, saved=record)
    assert again.record == first.record
    for one, other in ((first.train, again.train), (first.val, again.val)):
        assert [one.name(i) for i in range(len(one))] == [other.name(i) for i in range(len(other))]
        assert one.palette == other.palette
        assert np.array_equal(one.pixels, other.pixels)  # type: ignore[arg-type]
    assert [again.train.name(i) for i in range(len(again.train))] == ["1.png", "4.png", "5.png"]
    assert again.train.classes == ("class 0", "class 1", "class 2", "class 77")
    for broken in ({"values": [1]}, {"values": [1, 2], "pixels": [[1]], "left_out": []}, 7):
        with pytest.raises(UserError, match="other classes, images or parts"):
            opened(root, saved=record | {"looked": broken})


@pytest.mark.parametrize("change", ["a class has another name", "a label map is gone", "classes changed places"])
def test_a_saved_split_is_refused_for_data_that_changed(tmp_path: Path, change: str) -> None:
    root = labelled(tmp_path)
    record = json.loads(json.dumps(opened(root).record))
    opened(root, saved=record)
    if change == "a label map is gone":
        (root / "annotations" / "train" / "0.png").unlink()
    else:
        names = (root / "classes.txt").read_text().split()
        names = names[::-1] if change == "classes changed places" else ["other", *names[1:]]
        (root / "classes.txt").write_text("\n".join(names))
    with pytest.raises(UserError, match="other classes, images or parts"):
        opened(root, saved=record)


def test_the_number_of_images_is_known_before_any_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those to train on: with a label map, and not held out."""
    given, drawn = labelled(tmp_path / "given", train=5, val=2), tmp_path / "drawn"
    save(given / "images" / "train" / "without.png", np.zeros((8, 8, 3), dtype=np.uint8))
    for i in range(10):
        picture, labels = scene(i)
        save(drawn / "images" / f"{i}.png", picture)
        save(drawn / "annotations" / f"{i}.png", labels)
    expected = len(opened(drawn, val_fraction=0.3).train)
    monkeypatch.setattr(validate, "looked_through", None)
    assert SegmentationData(given).num_train_images(0.3) == 5
    assert SegmentationData(drawn).num_train_images(0.3) == expected == 7


def test_a_depth_map_is_no_label_map(tmp_path: Path) -> None:
    """Values in their thousands, of which few are kept in memory."""
    root = labelled(tmp_path, names=False)
    depth = np.arange(48 * 64, dtype=np.uint16).reshape(48, 64)
    save(root / "annotations" / "train" / "0.png", depth)
    with pytest.raises(UserError, match="more than 255 different values"):
        opened(root)


def test_pixels_are_counted_beside_any_number_of_other_colours(tmp_path: Path) -> None:
    """Borders that an editor smoothed have thousands of colours: "others" leaves them out, and nothing else."""
    pixels = np.zeros((60, 60, 3), dtype=np.uint8)
    pixels[..., 1] = np.arange(60)[:, None] * 4
    pixels[..., 2] = np.arange(60)[None] * 4
    pixels[:10] = (255, 0, 0)
    pixels[10:20] = (0, 0, 1)
    save(tmp_path / "images" / "a.png", pixels)
    save(tmp_path / "annotations" / "a.png", pixels)
    classes = [{"name": "a", "colour": "#ff0000"}, {"name": "b", "colour": "#000001"}]
    (tmp_path / "labels.json").write_text(json.dumps({"classes": classes, "others": "ignored"}))
    data = opened(tmp_path, val_fraction=0.0)
    assert data.train.pixels is not None
    assert data.train.pixels.tolist() == [600, 600]
    (tmp_path / "labels.json").write_text(json.dumps({"classes": classes}))
    with pytest.raises(UserError, match="colours that are no class"):
        opened(tmp_path)


def test_names_above_the_data_are_told_and_never_replace_ade20ks(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("sky\nground\nbox\n")
    data = opened(labelled(tmp_path / "mine", names=False))
    assert data.train.classes == ("sky", "ground", "box")
    assert f"The classes' names are those of {tmp_path / 'classes.txt'}." in data.note
    picture, labels = scene(3)
    for part in ("training", "validation"):
        save(tmp_path / "ade" / "images" / part / "ADE_1.jpg", picture)
        save(tmp_path / "ade" / "annotations" / part / "ADE_1.png", labels)
    assert len(opened(tmp_path / "ade").train.classes) == 3
    (tmp_path / "classes.txt").unlink()
    (tmp_path / "ade" / "sceneCategories.txt").touch()
    assert len(opened(tmp_path / "ade").train.classes) == 150


@pytest.mark.parametrize("suffix", [3, "../x", None])
def test_a_suffix_is_a_part_of_a_name(tmp_path: Path, suffix: Any) -> None:
    root = labelled(tmp_path)
    (root / "labels.json").write_text(json.dumps({"classes": ["a", "b", "c"], "suffix": suffix}))
    with pytest.raises(UserError, match="what is added to the names"):
        opened(root)


def test_a_label_map_that_changed_later_is_a_bad_image(tmp_path: Path) -> None:
    data = opened(labelled(tmp_path))
    save(tmp_path / "annotations" / "train" / "2.png", np.full((48, 64), 77, dtype=np.uint8))
    with pytest.raises(BadImage, match="no class: 77"):
        data.train.labels(2)
    (tmp_path / "annotations" / "train" / "2.png").unlink()
    with pytest.raises(BadImage, match="cannot be read"):
        data.train.labels(2)


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def codes(image: Image.Image, *, by_colour: bool = False, limit: int = LIMIT) -> list[list[int]]:
    return read_codes(encoded(image), name="x", max_pixels=limit, by_colour=by_colour).tolist()


def test_every_mode_of_png() -> None:
    values = np.array([[0, 1], [7, 255]], dtype=np.uint8)
    palette = Image.fromarray(values, mode="P")
    palette.putpalette([9] * 768)
    assert codes(palette) == values.tolist()
    assert codes(Image.fromarray(values)) == values.tolist()
    assert codes(Image.fromarray(np.stack([values] * 3, axis=-1))) == values.tolist()
    assert codes(Image.fromarray(values.astype(np.uint16) * 200)) == (values.astype(int) * 200).tolist()
    assert codes(Image.fromarray(values > 0)) == [[0, 1], [1, 1]]
    colour = np.zeros((1, 2, 3), dtype=np.uint8)
    colour[0, 1] = (1, 2, 3)
    assert codes(Image.fromarray(colour), by_colour=True) == [[0, 0x010203]]
    palette.putpalette([0, 0, 0, 1, 2, 3] + [0] * 762)
    assert codes(palette, by_colour=True)[0] == [0, 0x010203]
    with pytest.raises(BadImage, match="a colour image"):
        codes(Image.fromarray(colour))
    with pytest.raises(BadImage, match="more than the limit"):
        codes(Image.fromarray(values), limit=3)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 40])
def test_what_is_no_label_map(data: bytes) -> None:
    with pytest.raises(BadImage, match="no label map that can be read"):
        read_codes(data, name="x", max_pixels=LIMIT, by_colour=False)


def unpacked(tmp_path: Path, *names: str) -> Path:
    for name in names:
        file = SHARED / name
        if not file.is_file():
            pytest.skip(f"{file} is not there: real data is not part of the project")
        with tarfile.open(file) as tar:
            tar.extractall(tmp_path, filter="data")
    return tmp_path


def test_camvid(tmp_path: Path) -> None:
    root = unpacked(tmp_path, "camvid/camvid_train.tar", "camvid/camvid_val.tar")
    (tmp_path / "classes.txt").write_text((SHARED / "camvid" / "classes.txt").read_text())
    data = opened(root / "camvid")
    assert (len(data.train), len(data.val), len(data.train.classes)) == (367, 101, 11)
    assert (data.train.classes[0], data.train.classes[-1]) == ("sky", "bicyclist")
    assert data.train.labels(0).shape == (360, 480)
    assert IGNORE_INDEX in data.train.labels(0)  # the twelfth value, "unlabelled", is no class


def test_ade20k_sample(tmp_path: Path) -> None:
    data = opened(unpacked(tmp_path, "ade20k-sample/ade20k-sample.tar") / "ade20k-sample")
    assert (len(data.train), len(data.val), len(data.train.classes)) == (1, 3, 150)


def test_coco_mini_by_a_mapping(tmp_path: Path) -> None:
    root = unpacked(tmp_path, "coco-mini/images_train.tar", "coco-mini/annotations.tar") / "coco-mini"
    content = {
        "classes": [{"name": f"thing {value}", "value": value} for value in range(1, 134)],
        "ignored": [0],
        "train": {"images": "images/train", "labels": "annotations/semantic_train"},
    }
    (tmp_path / "coco.json").write_text(json.dumps(content))
    data = opened(root, labels=str(tmp_path / "coco.json"), val_fraction=0.1)
    assert (len(data.train), len(data.val), len(data.train.classes)) == (90, 10, 133)
