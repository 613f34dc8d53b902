"""What every data set promises, as `data.dataset.Dataset` says: tests that those of each class of data sets inherit.

A subclass gives its data set as the fixture `dataset`: two images or more, no two of them alike.
"""

from __future__ import annotations

import pickle
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import pytest
import torch

from convnext.data.dataset import Dataset
from convnext.data.decode import BadImage

LIMIT = 1_000_000  # pixels of an image


def some(dataset: Dataset) -> range:
    """Indices to look at: all, or the first of many."""
    return range(min(len(dataset), 12))


def same_images(one: Dataset, other: Dataset, indices: Sequence[int]) -> bool:
    """Whether images 0, 1, ... of `one` are those of `other` at `indices`: names and pixels."""
    return all(
        one.name(place) == other.name(index) and torch.equal(one.read(place), other.read(index))
        for place, index in enumerate(indices)
    )


class DatasetContract(ABC):
    """What holds for every data set."""

    @abstractmethod
    @pytest.fixture
    def dataset(self) -> Any:
        """The data set to be tested."""

    def test_its_length_is_a_number_of_images(self, dataset: Dataset) -> None:
        assert type(len(dataset)) is int
        assert len(dataset) > 1

    def test_names_are_unique_and_printable(self, dataset: Dataset) -> None:
        names = [dataset.name(index) for index in range(len(dataset))]
        assert all(type(name) is str and name and name.isprintable() for name in names)
        assert len(set(names)) == len(names)

    def test_classes_have_names(self, dataset: Dataset) -> None:
        assert type(dataset.classes) is tuple
        assert dataset.classes
        assert all(type(name) is str and name and name.isprintable() for name in dataset.classes)

    def test_images_are_bytes_in_three_channels(self, dataset: Dataset) -> None:
        for index in some(dataset):
            image = dataset.read(index)
            assert (image.dtype, image.dim(), len(image)) == (torch.uint8, 3, 3)
            assert image.numel() > 0
            assert image.is_contiguous()

    def test_each_index_is_an_image_of_its_own(self, dataset: Dataset) -> None:
        assert len({dataset.read(index).numpy().tobytes() for index in some(dataset)}) == len(some(dataset))

    def test_an_image_has_the_same_pixels_in_any_order(self, dataset: Dataset) -> None:
        forwards = [dataset.read(index).clone() for index in some(dataset)]
        backwards = [dataset.read(index) for index in reversed(some(dataset))]
        assert all(torch.equal(one, other) for one, other in zip(forwards, reversed(backwards), strict=True))

    def test_it_can_be_pickled(self, dataset: Dataset) -> None:
        """Before anything is read, and with files open."""
        fresh = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - our own
        dataset.read(0)
        for copy in (fresh, pickle.loads(pickle.dumps(dataset))):  # noqa: S301 - our own
            assert (len(copy), copy.classes) == (len(dataset), dataset.classes)
            assert same_images(copy, dataset, some(dataset))
            self.check_same_labels(copy, dataset, range(len(dataset)))

    @abstractmethod
    def check_same_labels(self, one: Any, other: Any, indices: Sequence[int]) -> None:
        """Fails unless images 0, 1, ... of `one`, and no more, are labelled as those of `other` at `indices` are."""


class ReadsFiles(DatasetContract):
    """What holds beside for one whose images lie in files."""

    @abstractmethod
    @pytest.fixture
    def broken(self) -> tuple[Any, int]:
        """Such a data set with one damaged image, and the index of that."""

    def test_an_unreadable_image_says_so_and_the_others_are_read(self, broken: tuple[Dataset, int]) -> None:
        dataset, damaged = broken
        for _ in range(2):
            with pytest.raises(BadImage) as raised:
                dataset.read(damaged)
            assert raised.value.name == dataset.name(damaged)
            assert raised.value.reason
            assert str(raised.value).isprintable()
        for index in some(dataset):
            if index != damaged:
                assert dataset.read(index).dtype == torch.uint8


class Selects(DatasetContract):
    """What holds beside for one that can give some of its images."""

    def test_some_images_come_in_the_given_order(self, dataset: Any) -> None:
        last = len(dataset) - 1
        for indices in ([last, 0], [1], [0, 0], []):
            for given in (indices, torch.tensor(indices, dtype=torch.int64)):
                chosen = dataset.selected(given)
                assert (type(chosen), len(chosen), chosen.classes) == (type(dataset), len(indices), dataset.classes)
                assert same_images(chosen, dataset, indices)
                self.check_same_labels(chosen, dataset, indices)

    def test_some_of_some_images(self, dataset: Any) -> None:
        turned = dataset.selected(range(len(dataset))[::-1])
        again = turned.selected([len(dataset) - 1, 0])
        assert same_images(again, dataset, [0, len(dataset) - 1])
        self.check_same_labels(again, dataset, [0, len(dataset) - 1])
