"""Layouts: what is accepted, how it is split, how a saved split comes back, and what people read."""

from __future__ import annotations

import json
import os
import sys
import tarfile
import unicodedata

import pytest
import torch

from convnext.core.errors import UserError
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.classification.digits import DigitsDataset
from convnext.data.classification.open import ClassificationData, recognise
from convnext.data.config import LoaderConfig
from convnext.data.recognise import Mine
from convnext.data.splits import Splits


def opened(data, fraction: float = 0.5, seed: int = 0, saved=None) -> Splits[ClassificationDataset]:
    result = ClassificationData(data).splits(LoaderConfig(val_fraction=fraction), seed=seed, saved=saved)
    assert json.loads(json.dumps(result.record)) == result.record
    assert result.train.classes == result.val.classes
    assert result.held_out == (result.record["kind"] != "none")
    return result


def evaluated(data) -> ClassificationDataset:
    return ClassificationData(data).for_evaluation(LoaderConfig())


def names(dataset) -> list[str]:
    return [dataset.name(i) for i in range(len(dataset))]


def folder(tiny, *paths: str) -> dict[str, bytes]:
    return dict(zip(paths, tiny, strict=False))


@pytest.fixture
def pets(tmp_path, tiny, write):
    return write(tmp_path / "pets", {f"{kind}/{i}.png": tiny[i] for kind in ("cat", "dog") for i in range(4)})


def test_class_folders_are_split(pets):
    result = opened(pets)
    assert sorted(names(result.train) + names(result.val)) == [f"{k}/{i}.png" for k in ("cat", "dog") for i in range(4)]
    assert result.val.targets.tolist() == [0, 0, 1, 1]
    assert result.record == {"seed": 0, "fraction": 0.5, "kind": "stratified", "val": names(result.val)}
    assert result.note == (
        "Found class folders: 8 images of 2 classes; 4 of them, some of each class, are held out to validate on "
        "(seed 0)."
    )
    assert names(evaluated(pets)) == sorted(names(result.train) + names(result.val))


def test_a_saved_split_comes_back(pets, tiny, write):
    first = opened(pets, seed=3)
    write(pets, {"cat/0a.png": tiny[5]})  # one more image, which shifts every index
    again = opened(pets, fraction=0.1, seed=9, saved=json.loads(json.dumps(first.record)))
    assert again.record == first.record
    assert names(again.val) == names(first.val)
    assert set(names(again.train)) == {*names(first.train), "cat/0a.png"}
    (pets / first.record["val"][0]).unlink()
    with pytest.raises(UserError, match=r"1 of 4 held-out images are no longer in .*cat/"):
        opened(pets, saved=first.record)
    with pytest.raises(UserError, match="saved split is not one"):
        opened(pets, saved={"kind": "stratified"})


@pytest.mark.parametrize("val", ["val", "valid", "validation", "test"])
def test_train_and_val_folders(tmp_path, tiny, write, val):
    root = write(
        tmp_path, folder(tiny, "train/a/1.png", "train/b/2.png", "train/c/3.png", f"{val}/c/1.png", "notes/x.png")
    )
    result = opened(root)
    assert names(result.train) == ["train/a/1.png", "train/b/2.png", "train/c/3.png"]
    assert (names(result.val), result.val.targets.tolist()) == ([f"{val}/c/1.png"], [2])  # lacks classes, keeps places
    assert result.record["kind"] == "given"
    assert ("choose the best model" in result.note) == (val == "test")
    assert evaluated(root).targets.tolist() == [2]
    again = opened(root, saved=result.record)
    assert names(again.val) == names(result.val)
    write(root, {f"{val}/b/new.png": tiny[7]})
    assert names(opened(root, saved=result.record).val) == names(result.val)  # as it was, in its order
    write(root, {f"{val}/d/1.png": tiny[8]})
    with pytest.raises(UserError, match="has a class 'd' that the training images do not have"):
        opened(root)


def test_val_is_preferred_to_test(tmp_path, tiny, write):
    root = write(tmp_path, folder(tiny, "train/a/1.png", "train/b/2.png", "test/a/1.png", "val/b/9.png"))
    assert names(opened(root).val) == ["val/b/9.png"]


def test_a_train_folder_alone_is_split_and_a_val_folder_alone_is_evaluated(tmp_path, tiny, write):
    root = write(tmp_path / "t", folder(tiny, "train/a/1.png", "train/a/2.png", "train/b/1.png", "train/b/2.png"))
    assert opened(root).val.targets.tolist() == [0, 1]
    alone = write(tmp_path / "v", folder(tiny, "val/a/1.png"))
    assert names(evaluated(alone)) == ["val/a/1.png"]
    with pytest.raises(UserError, match="has a 'val' part but no 'train' part"):
        opened(alone)


def test_train_can_be_a_class(tmp_path, tiny, write):
    root = write(tmp_path, folder(tiny, "train/1.png", "bus/1.png", "train/2.png", "bus/2.png"))
    assert opened(root).train.classes == ("bus", "train")


def test_shards_of_two_parts(tmp_path, tiny, pack):
    pack(tmp_path / "imagenet-train-0.tar", folder(tiny, "a/1.png", "b/1.png"))
    pack(tmp_path / "imagenet-train-1.tar", folder(tiny, "c/2.png"))
    pack(tmp_path / "imagenet-validation-0.tar", folder(tiny, "c/1.png"))
    result = opened(tmp_path)
    assert (len(result.train), result.val.targets.tolist()) == (3, [2])
    assert "3 shards" in result.note
    assert names(evaluated(tmp_path)) == ["imagenet-validation-0.tar:c/1.png"]
    pack(tmp_path / "more.tar", folder(tiny, "c/1.png"))
    with pytest.raises(UserError, match=r"more.tar, which say neither"):
        opened(tmp_path)


def test_folders_of_shards(tmp_path, tiny, pack):
    pack(tmp_path / "train" / "0.tar", folder(tiny, "a/1.png", "b/1.png"))
    pack(tmp_path / "val" / "0.tar", folder(tiny, "b/1.png"))
    assert opened(tmp_path).val.targets.tolist() == [1]


def test_one_shard_and_any_shards(tmp_path, tiny, pack):
    path = pack(tmp_path / "x" / "train.tar.gz", folder(tiny, "a/1.png", "a/2.png", "b/1.png", "b/2.png"))
    for data in (path, str(path), tmp_path / "x"):
        result = opened(data)
        assert (len(result.train), len(result.val), result.record["kind"]) == (2, 2, "stratified")
    pack(tmp_path / "x" / "b.tar", folder(tiny, "c/1.png", "c/2.png"))
    assert opened(tmp_path / "x").train.classes == ("a", "b", "c")


def test_a_shard_unpacked_beside_itself(tmp_path, tiny, pack, write):
    files = folder(tiny, "set/a/1.png", "set/b/1.png")
    pack(tmp_path / "set.tar", files)
    write(tmp_path, files)
    assert names(evaluated(tmp_path))[0] == "set.tar:set/a/1.png"
    write(tmp_path, folder(tiny, "other/1.png", "third/1.png"))  # folders with images: the tar is something else
    assert evaluated(tmp_path).classes == ("other", "set", "third")


@pytest.mark.parametrize("fraction", [0.0, 0.3])
def test_nothing_to_hold_out(tmp_path, tiny, write, fraction):
    result = opened(write(tmp_path, folder(tiny, "a/1.png", "b/1.png")), fraction)
    assert result.val is result.train
    assert result.record["kind"] == "none"
    assert result.note.endswith("All figures are on the training images themselves.")
    assert ("single image" in result.note) == (fraction > 0)
    again = opened(tmp_path, saved=result.record)
    assert not again.held_out


def test_one_class_is_too_few(tmp_path, tiny, write):
    root = write(tmp_path / "up", folder(tiny, "set/a/1.png", "set/b/1.png"))
    with pytest.raises(UserError, match=r"single class, 'set'; .*give .*up/set instead"):
        opened(root)
    with pytest.raises(UserError, match=r"single class, 'a'; a classifier needs at least two\.$"):
        opened(write(tmp_path / "one", folder(tiny, "a/1.png")))
    assert len(evaluated(tmp_path / "one")) == 1  # enough to evaluate on


def test_what_is_not_there(tmp_path, pets):
    with pytest.raises(UserError, match=r"There is no .*pest. Did you mean 'pets'\?"):
        opened(tmp_path / "pest")
    with pytest.raises(UserError, match="There is no /nowhere/at/all"):
        opened("/nowhere/at/all")
    (tmp_path / "pets.zip").write_bytes(b"PK")
    with pytest.raises(UserError, match=r"pets.zip is a file.*unpack"):
        opened(tmp_path / "pets.zip")


def test_digits():
    dataset = DigitsDataset()
    assert (len(dataset), dataset.classes, dataset.name(5)) == (1797, tuple("0123456789"), "digits:0005")
    from sklearn.datasets import load_digits

    values = load_digits(return_X_y=True)[0][11].reshape(8, 8)
    image = dataset.read(11)
    assert (image.shape, image.dtype, image.is_contiguous()) == ((3, 8, 8), torch.uint8, True)
    assert torch.equal(image[2], torch.from_numpy(values * 15.9375).round().to(torch.uint8))
    assert int(image.max()) == 255
    assert int(dataset.targets[11]) == 1
    result = opened("digits", 0.2)
    assert len(result.train) + len(result.val) == 1797
    assert len(result.val) == pytest.approx(359, abs=5)
    assert names(opened("digits", saved=result.record).val) == result.record["val"]


def test_digits_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(UserError, match=r'pip install "convnext\[demo\]"'):
        opened("digits")


@pytest.mark.data
@pytest.mark.slow
def test_cifar(shared_data):
    result = opened(shared_data / "cifar10", 0.1)
    assert (len(result.train), len(result.val), result.record["kind"]) == (45_000, 5_000, "stratified")
    assert torch.bincount(result.val.targets).tolist() == [500] * 10
    assert result.val.classes[3] == "cat"
    assert result.val.read(0).shape == (3, 32, 32)


@pytest.mark.data
def test_one_photo_for_each_class(shared_data, tmp_path):
    packed = opened(shared_data / "imagenet-sample", 0.1)
    with tarfile.open(shared_data / "imagenet-sample" / "imagenet-sample-288.tar") as archive:
        archive.extractall(tmp_path, filter="data")
    (tmp_path / "classes.csv").symlink_to(shared_data / "imagenet-sample" / "classes.csv")
    unpacked = opened(tmp_path / "imagenet-sample", 0.1)
    for result in (packed, unpacked):
        assert (len(result.train), len(result.train.classes), result.held_out) == (350, 350, False)
        assert result.train.classes[0] == "tench"
    assert packed.train.classes == unpacked.train.classes
    assert torch.equal(packed.train.read(123), unpacked.train.read(123))


# parts under other names


@pytest.mark.parametrize(
    ("train", "val"),
    [("Training", "Testing"), ("Train", "Test"), ("train_set", "val_set"), ("TRAIN", "DEV"), ("train2017", "val2017")],
)
def test_parts_in_other_spellings(tmp_path, tiny, write, train, val):
    root = write(tmp_path, folder(tiny, f"{train}/a/1.png", f"{train}/b/2.png", f"{val}/a/1.png", f"{val}/b/2.png"))
    assert isinstance(recognise(str(root)), Mine)
    result = opened(root)
    assert (result.train.classes, len(result.train), result.record["kind"]) == (("a", "b"), 2, "given")
    assert names(result.val) == [f"{val}/a/1.png", f"{val}/b/2.png"]
    assert ("choose the best model" in result.note) == val.lower().startswith("test")
    whole = ClassificationData(root, folders="classes").splits(LoaderConfig(val_fraction=0.0), seed=0)
    assert whole.train.classes == tuple(sorted((train, val)))


def test_what_lies_beside_the_parts_is_said(tmp_path, tiny, write):
    paths = ("train/a/1.png", "train/b/2.png", "val/a/1.png", "Test/a/1.png", "extra/a/1.png", "notes/readme.txt")
    assert opened(write(tmp_path, folder(tiny, *paths))).note.splitlines()[1:] == [
        f"Left out: 'extra' in {tmp_path}, beside the parts.",
        "Not used: 'Test'.",
    ]


def test_two_names_of_one_part_are_asked_about(tmp_path, tiny, write):
    root = write(tmp_path, folder(tiny, *(f"{part}/{k}/1.png" for part in ("train", "Training", "val") for k in "ab")))
    with pytest.raises(UserError, match=r"'Training', 'train' .* can each be the part 'train'"):
        opened(root)


def test_folders_that_hold_the_same_classes_are_asked_about(tmp_path, tiny, write):
    root = write(tmp_path, folder(tiny, *(f"{part}/{k}/1.png" for part in ("old", "new") for k in ("cat", "dog"))))
    with pytest.raises(UserError, match=r"'new', 'old' .* hold the same folders \('cat', 'dog'\).*--folders classes"):
        opened(root)
    assert ClassificationData(root, folders="classes").for_evaluation(LoaderConfig()).classes == ("new", "old")
    other = write(
        tmp_path / "x", folder(tiny, "cat/small/1.png", "cat/large/1.png", "dog/old/1.png", "dog/young/1.png")
    )
    assert opened(other, 0.0).train.classes == ("cat", "dog")


def test_names_in_several_unicode_forms_are_one_class(tmp_path, tiny, write):
    composed, apart = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))
    root = write(
        tmp_path, folder(tiny, f"train/{composed}/1.png", "train/tea/1.png", f"val/{apart}/1.png", "val/tea/2.png")
    )
    result = opened(root)
    assert (result.train.classes, result.val.targets.tolist()) == ((composed, "tea"), [0, 1])
    write(root, folder(tiny, f"train/{apart}/2.png"))
    merged = opened(root)
    assert merged.train.targets.tolist() == [0, 0, 1]
    assert "were taken for one class" in merged.note


def test_runs_are_no_data(tmp_path, tiny, write):
    root = write(tmp_path, folder(tiny, "cat/1.png", "cat/2.png", "dog/1.png", "dog/2.png", "runs/x/mistakes/1.png"))
    write(root, {"runs/x/recipe.json": b"{}", "mine/recipe.json": b"{}", "mine/a.png": tiny[0]})
    write(root, {"dog/old/recipe.json": b"{}", "dog/old/pictures/a.png": tiny[0]})
    result = opened(root, 0.0)
    assert (result.train.classes, len(result.train)) == (("cat", "dog"), 4)
    assert f"Passed over in {root}, since training runs are no data: 'mine', 'runs', 'dog/old'." in result.note
    assert isinstance(recognise(str(root)), Mine)


def test_parts_in_a_tar(tmp_path, tiny, pack):
    paths = [f"set/{part}/{k}/{i}.png" for part in ("train", "Val") for k in "ab" for i in range(2)]
    path = pack(tmp_path / "parts.tar", folder(tiny, *paths))
    result = opened(path)
    assert result.record["kind"] == "given"
    assert names(result.train) == [f"parts.tar:{name}" for name in paths if "train" in name]
    assert result.val.targets.tolist() == [0, 0, 1, 1]
    assert names(evaluated(path)) == names(result.val)
    odd = pack(tmp_path / "odd.tar", folder(tiny, "train/a/1.png", "val/a/1.png", "b/1.png"))
    with pytest.raises(UserError, match="images outside of them"):
        opened(odd)


def test_files_that_are_passed_over_are_counted(tmp_path, tiny, write):
    write(tmp_path, folder(tiny, "a/1.png", "b/1.png"))
    write(tmp_path, {"a/x.heic": b"", "b/y.HEIC": b"", "b/notes.txt": b"", "b/Thumbs.db": b"", "b/noend": b""})
    os.mkfifo(tmp_path / "b" / "pipe.png")
    said = opened(tmp_path, 0.0).note.splitlines()[-1]
    assert said.startswith(f"Passed over in {tmp_path}: 2 .heic, ")
    assert sorted(said.split(": ")[1].rstrip(".").split(", ")) == [
        "1 .txt",
        "1 pipe or device",
        "1 without an ending",
        "2 .heic",
    ]


def test_parts_inside_the_classes(tmp_path, tiny, write, pack):
    paths = [f"{kind}/{part}/{i}.png" for kind in ("cat", "dog") for part in ("Train", "test") for i in range(2)]
    files = folder(tiny, *paths)
    root, shard = write(tmp_path / "folder", files), pack(tmp_path / "all.tar", files)
    for data, prefix in ((root, ""), (shard, "all.tar:")):
        assert isinstance(recognise(str(data)), Mine)
        result = opened(data)
        assert result.train.classes == ("cat", "dog")
        assert names(result.train) == [prefix + path for path in paths if "Train" in path]
        assert names(result.val) == [prefix + path for path in paths if "test" in path]
        assert result.val.targets.tolist() == [0, 0, 1, 1]
        assert "the test images choose the best model" in result.note


def test_images_beside_the_class_folders_are_counted(tmp_path, tiny, write):
    root = write(tmp_path, folder(tiny, "train/a/1.png", "train/b/1.png", "train/x.png", "val/a/1.png", "train/y.png"))
    assert f"Left out: 2 images lie directly in {root / 'train'}, without a class." in opened(root).note
