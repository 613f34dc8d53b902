"""Flat folders, where the names of the files start with the class."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
from tabled import Made, labels, note

from convnext.data.classification.files import FileFinder
from convnext.data.classification.flat import classes_in_names
from convnext.data.classification.open import recognise
from convnext.data.recognise import Mine

NAMED = {"cat": 2, "dog": 2}


@pytest.mark.parametrize(
    ("names", "found"),
    [
        (("cat_001.jpg", "cat_002.jpg", "dog_1.jpg", "dog_2.jpg"), NAMED),
        (("cat.0.jpg", "cat.1.jpg", "dog.0.jpg", "dog.1.jpg"), NAMED),
        (("cat (1).jpg", "cat (2).jpg", "dog (1).jpg", "dog (2).jpg"), NAMED),
        (("great dane-1.jpg", "great dane-2.jpg", "dog-1.jpg", "dog-2.jpg"), {"dog": 2, "great dane": 2}),
        (("n01440764_1.jpg", "n01440764_2.jpg", "n02_1.jpg", "n02_2.jpg"), {"n01440764": 2, "n02": 2}),
        (("cat_1.jpg", "cat_2.jpg", "dog_1.jpg"), {}),
        (("cat_1.jpg", "cat_2.jpg"), {}),
        (("IMG_1.jpg", "IMG_2.jpg", "DSC_1.jpg", "DSC_2.jpg"), {}),
        (("cat1.jpg", "cat2.jpg", "dog1.jpg", "dog2.jpg"), {}),
        (("cat_1.jpg", "cat_2.jpg", "dog_1.jpg", "dog_2.jpg", "readme.jpg"), {}),
        (("2024-01-01.jpg", "2024-01-02.jpg", "2023-01-01.jpg", "2023-01-02.jpg"), {}),
    ],
)
def test_classes_in_the_names_of_files(names: tuple[str, ...], found: Mapping[str, int]) -> None:
    assert classes_in_names(names) == found


@pytest.mark.parametrize("place", ["", "images/", "train/"])
def test_a_flat_folder(made: Made, place: str) -> None:
    names = [f"{place}{kind}_{i}.png" for kind in ("cat", "dog") for i in range(3)]
    path = made("readme.md", "x", *names)
    assert isinstance(recognise(str(path)), Mine)
    assert "start with the class ('cat' 3, 'dog' 3)" in note(path)
    assert labels(path)[names[0]] == "cat"


def test_a_flat_folder_with_annotations_beside_is_not_guessed(made: Made) -> None:
    names = [f"{kind}_{i}.png" for kind in ("cat", "dog") for i in range(3)]
    path = made("cat_0.json", "{}", *names)
    assert not isinstance(recognise(str(path)), Mine)


def test_files_are_listed_once_not_asked_for_one_by_one(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made("labels.csv", "file,label\n0.png,dog\n1.png,cat\n")
    finder = FileFinder(path)
    monkeypatch.setattr("os.stat", None)
    assert [finder.find(name)[0] for name in ("0.png", "images/1.png", "x.png")] == ["images/0.png", "images/1.png", ""]
