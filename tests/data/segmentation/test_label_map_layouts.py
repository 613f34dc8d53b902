"""Where images and label maps lie, as people and tools lay them out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from convnext.core.errors import UserError
from convnext.data.classification.open import recognise as recognise_classes
from convnext.data.config import LoaderConfig
from convnext.data.recognise import Mine, Nearly, NotMine
from convnext.data.segmentation.open import SegmentationData, recognise
from labelmaps import save, scene

PARTS = {  # where an image and its label map lie, in data with parts
    "parts below": ("images/{part}/{i}.jpg", "masks/{part}/{i}.png"),
    "parts above": ("{part}/images/{i}.jpg", "{part}/masks/{i}.png"),
    "other spellings": ("IMG/{part}ing_set/{i}.JPG", "Ground Truth/{part}-data/{i}.PNG"),
    "Cityscapes": ("leftImg8bit/{part}/town/{i}_leftImg8bit.jpg", "gtFine/{part}/town/{i}_gtFine_labelTrainIds.png"),
    "CamVid": ("{part}/{i}.jpg", "{part}_labels/{i}_L.png"),
    "SegNet's CamVid": ("{part}/{i}.jpg", "{part}annot/{i}.png"),
    "two words": ("{part}_images/{i}.jpg", "{part}_masks/{i}.png"),
    "mmsegmentation": ("img_dir/{part}/{i}.jpg", "ann_dir/{part}/{i}.png"),
    "Roboflow": ("{part}/{i}.jpg", "{part}/{i}_mask.png"),
}
WHOLE = {
    "image, mask": ("image/{i}.jpg", "mask/{i}.png"),
    "called as the whole file": ("imgs/{i}.jpg", "masks/{i}.jpg.png"),
    "a word before": ("images/image_{i}.jpg", "masks/mask_{i}.png"),
    "a word behind each": ("{i}_sat.jpg", "{i}_mask.png"),
    "another ending": ("{i}.jpg", "{i}.png"),
    "in folders, beside": ("town/{i}.jpg", "town/{i}_mask.png"),
    "two words": ("Original Images/{i}.jpg", "Label Images/{i}.png"),
}


def laid_out(root: Path, layout: tuple[str, str], *parts: str) -> Path:
    for part in parts or ("",):
        for number in range(3):
            picture, labels = scene(number)
            picture_name, map_name = (name.format(part=part, i=f"{part}{number}") for name in layout)
            save(root / picture_name, picture)
            save(root / map_name, labels)
    return root


@pytest.mark.parametrize("layout", PARTS.values(), ids=PARTS)
def test_data_with_parts(tmp_path: Path, layout: tuple[str, str]) -> None:
    other = "test" if "ing_set" in layout[0] else "val"
    laid_out(tmp_path, layout, "train", other)
    assert isinstance(recognise(str(tmp_path)), Mine)
    splits = SegmentationData(tmp_path).splits(LoaderConfig(), seed=0)
    assert (len(splits.train), len(splits.val), len(splits.train.classes)) == (3, 3, 3)
    assert "train" in splits.train.name(0)
    assert other in splits.val.name(0)
    for number in range(3):
        assert np.array_equal(splits.val.labels(number).numpy(), scene(number)[1])


@pytest.mark.parametrize("layout", WHOLE.values(), ids=WHOLE)
def test_data_without_parts(tmp_path: Path, layout: tuple[str, str]) -> None:
    laid_out(tmp_path, layout)
    assert isinstance(recognise(str(tmp_path)), Mine)
    splits = SegmentationData(tmp_path).splits(LoaderConfig(val_fraction=0.3), seed=0)
    assert (len(splits.train), len(splits.val), len(splits.train.classes)) == (2, 1, 3)


@pytest.mark.parametrize("layout", [*PARTS.values(), *WHOLE.values()], ids=[*PARTS, *WHOLE])
def test_it_is_no_classifiers(tmp_path: Path, layout: tuple[str, str]) -> None:
    laid_out(tmp_path, layout, *(("train", "val") if "{part}" in layout[0] else ()))
    assert not isinstance(recognise_classes(str(tmp_path)), Mine)


def test_vocs_lists_say_which_images_are_meant(tmp_path: Path) -> None:
    laid_out(tmp_path, ("JPEGImages/{i}.jpg", "SegmentationClass/{i}.png"), "a", "b")
    save(tmp_path / "JPEGImages" / "more.jpg", scene(7)[0])  # without a label map, and in no list
    lists = tmp_path / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_bytes(b"\xef\xbb\xbfa0\r\na1\r\n")
    (lists / "val.txt").write_text("b0\n")
    (lists / "trainval.txt").write_text("a0\na1\nb0\n")
    splits = SegmentationData(tmp_path).splits(LoaderConfig(), seed=0)
    assert [splits.train.name(i) for i in range(len(splits.train))] == ["a0.jpg", "a1.jpg"]
    assert [splits.val.name(i) for i in range(len(splits.val))] == ["b0.jpg"]
    (lists / "val.txt").write_text("b0\nnone\n")
    with pytest.raises(UserError, match=r"images of the list of 'val' that are not in .*, as none"):
        SegmentationData(tmp_path).splits(LoaderConfig(), seed=0)
    (lists / "val.txt").unlink()
    (lists / "train.txt").unlink()
    assert len(SegmentationData(tmp_path).for_evaluation(LoaderConfig())) == 3


def test_what_is_not_read_is_counted(tmp_path: Path) -> None:
    layout = PARTS["Cityscapes"]
    laid_out(tmp_path, layout, "train")
    for what in ("color", "instanceIds"):
        laid_out(tmp_path, (layout[0], layout[1].replace("labelTrainIds", what)), "train")
    (tmp_path / "leftImg8bit" / "train" / "town" / "x.heic").touch()
    (tmp_path / "gtFine" / "train" / "town" / "x.json").touch()
    note = SegmentationData(tmp_path).splits(LoaderConfig(), seed=0).note
    assert "3 files ..._gtFine_color, 3 files ..._gtFine_instanceIds" in note
    assert "neither images nor label maps: 1 .heic, 1 .json" in note


def test_parts_that_are_not_used_are_said(tmp_path: Path) -> None:
    laid_out(tmp_path, PARTS["parts above"], "train", "val", "test")
    assert "Not used: 'test'." in SegmentationData(tmp_path).splits(LoaderConfig(), seed=0).note
    save(tmp_path / "b" / "images" / "train" / "0.jpg", scene(0)[0])
    save(tmp_path / "b" / "images" / "test" / "0.jpg", scene(0)[0])
    save(tmp_path / "b" / "masks" / "train" / "0.png", scene(0)[1])
    assert "'test' has no label maps" in SegmentationData(tmp_path / "b").splits(LoaderConfig(), seed=0).note


def test_several_folders_are_asked_about(tmp_path: Path) -> None:
    laid_out(tmp_path, ("images/{i}.jpg", "masks/{i}.png"))
    laid_out(tmp_path, ("images/{i}.jpg", "labels/{i}.png"))
    verdict = recognise(str(tmp_path))
    assert isinstance(verdict, Nearly)
    assert "labels, masks in" in verdict.missing
    (tmp_path / "both").mkdir()
    laid_out(tmp_path / "both", PARTS["parts above"], "train", "Training")
    with pytest.raises(UserError, match="can each be the part 'train'"):
        SegmentationData(tmp_path / "both")


def test_a_folder_around_the_data_is_said(tmp_path: Path) -> None:
    laid_out(tmp_path / "unpacked", WHOLE["image, mask"])
    verdict = recognise(str(tmp_path))
    assert isinstance(verdict, Nearly)
    assert str(tmp_path / "unpacked") in verdict.missing


def test_photographs_in_two_formats_are_no_label_maps(tmp_path: Path) -> None:
    for number in range(3):
        picture, _ = scene(number)
        save(tmp_path / f"{number}.jpg", picture)
        save(tmp_path / f"{number}.png", picture)
    assert recognise(str(tmp_path)) == NotMine()


def test_a_labels_json_of_another_meaning_is_passed_over(tmp_path: Path) -> None:
    laid_out(tmp_path / "masks", WHOLE["image, mask"])
    (tmp_path / "masks" / "labels.json").write_text('{"0": "cat"}')
    note = SegmentationData(tmp_path / "masks").splits(LoaderConfig(), seed=0).note
    assert "labels.json is no mapping file" in note
    (tmp_path / "cats").mkdir()
    (tmp_path / "cats" / "labels.json").write_text("[1]")
    assert recognise(str(tmp_path / "cats")) == NotMine()


def test_a_runs_folder_is_no_data(tmp_path: Path) -> None:
    laid_out(tmp_path, WHOLE["another ending"])
    laid_out(tmp_path / "runs" / "one", ("pictures/{i}.jpg", "pictures/{i}.labels.png"))
    (tmp_path / "runs" / "one" / "recipe.json").write_text("{}")
    assert len(SegmentationData(tmp_path).for_evaluation(LoaderConfig())) == 3
