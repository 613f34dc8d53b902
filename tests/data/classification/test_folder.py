"""Class folders: what is found, what is passed over, how classes are called, and what people read."""

from __future__ import annotations

import os
import pickle

import pytest
import torch

from convnext.core.errors import UserError
from convnext.data.classification.folder import FolderDataset
from convnext.data.classification.names import names_of_folders, names_of_numbers
from convnext.data.classification.scan import scan
from convnext.data.decode import BadImage

LIMIT = 10_000


@pytest.fixture
def pets(tmp_path, tiny, write):
    return write(
        tmp_path / "pets",
        {"dog/b.png": tiny[0], "dog/a.PNG": tiny[1], "cat/old/deep/x.png": tiny[2], "cat/z.png": tiny[3]},
    )


def test_images_classes_and_order(pets):
    source = FolderDataset(pets, max_pixels=LIMIT)
    assert source.classes == ("cat", "dog")
    assert [source.name(i) for i in range(len(source))] == ["cat/old/deep/x.png", "cat/z.png", "dog/a.PNG", "dog/b.png"]
    assert source.targets.tolist() == [0, 0, 1, 1]
    assert source.targets.dtype == torch.int64
    assert source.read(0).shape == (3, 6, 8)
    assert not torch.equal(source.read(0), source.read(1))


def test_hidden_and_other_files_are_passed_over(pets, tiny, write):
    before = scan(pets).images
    write(
        pets,
        {
            ".git/a.png": tiny[0],
            "cat/.hidden.png": tiny[0],
            "dog/.cache/a.png": tiny[0],
            "dog/notes.txt": b"x",
            "__MACOSX/cat/z.png": tiny[0],
            "readme.md": b"x",
            "loose.csv": b"a,b",
        },
    )
    found = scan(pets)
    assert found.images == before
    assert found.passed == {".txt": 1}
    assert found.notes(pets) == [f"Passed over in {pets}: 1 .txt."]


def test_links_are_followed_and_circles_end(pets, tmp_path, tiny, write):
    elsewhere = write(tmp_path / "elsewhere", {"one.png": tiny[4]})
    (pets / "cat" / "linked.png").symlink_to(elsewhere / "one.png")
    (pets / "cat" / "linked").symlink_to(elsewhere)
    (pets / "cat" / "round").symlink_to(pets / "cat")
    (pets / "dog" / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found = scan(pets).images
    assert found["cat"] == ["cat/linked.png", "cat/linked/one.png", "cat/old/deep/x.png", "cat/z.png"]
    source = FolderDataset(pets, max_pixels=LIMIT)
    gone = [source.name(i) for i in range(len(source))].index("dog/gone.png")
    with pytest.raises(BadImage, match=r"dog/gone.png: the file cannot be read \(No such file"):
        source.read(gone)


def test_a_source_survives_pickling(pets):
    source = FolderDataset(pets, max_pixels=LIMIT)
    again = pickle.loads(pickle.dumps(source))  # noqa: S301 - our own
    assert torch.equal(again.read(3), source.read(3))


def test_the_classes_of_the_training_part(pets, tmp_path, tiny, write):
    part = write(tmp_path / "val", {"dog/1.png": tiny[0], "emu/1.png": tiny[1]})
    (part / "cat").mkdir()
    source = FolderDataset(part, max_pixels=LIMIT, class_dirs=("cat", "dog", "emu"), prefix="val/")
    assert (source.targets.tolist(), source.name(0)) == ([1, 2], "val/dog/1.png")
    with pytest.raises(UserError, match=r"has a class 'emu' that the training images do not have"):
        FolderDataset(part, max_pixels=LIMIT, class_dirs=("cat", "dog"))


def test_names_from_a_table(tmp_path):
    table = (
        'index,wnid,name,simple_name\n0,n01,"tench, Tinca",tench\n1,n02,crane bird,crane\n2,n03,,crane\n3,n04,bare,\n'
    )
    (tmp_path / "classes.csv").write_text("\ufeff" + table)
    inside, beside = tmp_path, tmp_path / "train"
    for root in (inside, beside):
        names = names_of_folders(("n01", "n02", "n04", "n05"), root)
        assert names == ("tench", "crane (n02)", "bare", "n05")  # of two cranes one is here: called as ever
    assert names_of_numbers(beside) == ("tench", "crane (1)", "crane (2)", "bare")


def test_names_from_lines(tmp_path):
    (tmp_path / "classes.txt").write_text("n01 tench fish\nn02,gold\tfish\nsome folder\tSome name\nn04\n\n")
    folders = ("n01", "n02", "n04", "some folder")
    names = names_of_folders(folders, tmp_path)
    assert names == ("tench fish", "n02", "n04", "Some name")  # a tab wins: 'n02,gold' is no folder here
    assert (names_of_numbers(tmp_path) or ("",))[0] == "n01 tench fish"


def test_a_folder_with_a_space_is_no_name(tmp_path):
    (tmp_path / "golden retriever").mkdir()
    (tmp_path / "golden").mkdir()
    (tmp_path / "classes.txt").write_text("golden retriever\ngolden\n")
    assert names_of_folders(("golden", "golden retriever"), tmp_path) == ("golden", "golden retriever")


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("classes.csv", b"a,b\n1,2\n", "needs a first line such as 'wnid,name'; its first line names a, b"),
        ("classes.csv", b"index,name\n0,a\n2,b\n", "should count 0..1; 1 is missing"),
        ("classes.txt", b"\xff\xfe\x00a", "is not UTF-8 text"),
    ],
)
def test_names_that_cannot_be_read(tmp_path, file, content, told):
    (tmp_path / file).write_bytes(content)
    with pytest.raises(UserError, match=told):
        names_of_numbers(tmp_path)


def test_no_such_folder(tmp_path):
    with pytest.raises(UserError, match="There is no folder"):
        scan(tmp_path / "nothing")


def test_images_without_class_folders(tmp_path, tiny, write):
    write(tmp_path, {"a.png": tiny[0], "b.jpg": tiny[1]})
    with pytest.raises(UserError, match=r"has 2 images directly inside(.|\n)*cat/anything\.jpg"):
        scan(tmp_path)


def test_an_empty_folder_shows_the_layout(tmp_path):
    with pytest.raises(UserError, match=r"no folders inside(.|\n)*one folder for each class"):
        scan(tmp_path)


def test_class_folders_without_images_are_named(pets, write):
    write(pets, {"emu/1.heic": b"x", "emu/2.heic": b"x"})
    with pytest.raises(UserError, match=r"'emu' in .* holds no images \(2 .heic; convert"):
        scan(pets)
    assert list(scan(pets, missing_allowed=True).images) == ["cat", "dog"]


def test_no_images_at_all(tmp_path, write):
    write(tmp_path, {"a/1.txt": b"x", "b/1.txt": b"x"})
    with pytest.raises(UserError, match=r"No folder in .* holds an image \(2 .txt; convert"):
        scan(tmp_path)


def test_a_folder_that_may_not_be_opened(pets, monkeypatch):
    scandir = os.scandir

    def guarded(path):
        if str(path).endswith("cat"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(UserError, match=r"pets/cat cannot be opened: Permission denied"):
        scan(pets)
