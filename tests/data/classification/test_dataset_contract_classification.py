"""Every data set of images with a class each keeps the contract of data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from dataset_contract import LIMIT, DatasetContract, ReadsFiles, Selects

from convnext.data.classification.cached import CachedDataset
from convnext.data.classification.dataset import ClassificationDataset, Subset, class_dirs
from convnext.data.classification.digits import DigitsDataset
from convnext.data.classification.folder import FolderDataset
from convnext.data.classification.remap import RemappedDataset
from convnext.data.classification.shards import ShardDataset

FILES = ("cat/a.png", "cat/deep/b.png", "dog/a.png", "dog/c\n.png", "eel/a.png")
DAMAGED = 2  # of FILES


class ClassificationContract(DatasetContract):
    """What holds beside for images with a class each."""

    def test_each_image_has_a_class(self, dataset: ClassificationDataset) -> None:
        assert (dataset.targets.dtype, dataset.targets.shape) == (torch.int64, (len(dataset),))
        assert set(dataset.targets.tolist()) <= set(range(len(dataset.classes)))
        assert len(class_dirs(dataset)) == len(set(class_dirs(dataset)))

    def check_same_labels(
        self, one: ClassificationDataset, other: ClassificationDataset, indices: Sequence[int]
    ) -> None:
        assert one.targets.tolist() == [int(other.targets[index]) for index in indices]
        assert class_dirs(one) == class_dirs(other)


@pytest.fixture
def images(tiny: list[bytes]) -> dict[str, bytes]:
    return dict(zip(FILES, tiny, strict=False))


@pytest.fixture
def damaged(images: dict[str, bytes]) -> dict[str, bytes]:
    """The same, one of them cut off after its header."""
    return images | {FILES[DAMAGED]: images[FILES[DAMAGED]][:40]}


@pytest.fixture
def folder(tmp_path: Path, images: dict[str, bytes], write: Callable[..., Path]) -> FolderDataset:
    return FolderDataset(write(tmp_path / "whole", images), max_pixels=LIMIT)


@pytest.fixture
def damaged_folder(tmp_path: Path, damaged: dict[str, bytes], write: Callable[..., Path]) -> FolderDataset:
    return FolderDataset(write(tmp_path / "damaged", damaged), max_pixels=LIMIT)


class TestFolderDataset(ClassificationContract, ReadsFiles):
    @pytest.fixture
    def dataset(self, folder: FolderDataset) -> FolderDataset:
        return folder

    @pytest.fixture
    def broken(self, damaged_folder: FolderDataset) -> tuple[FolderDataset, int]:
        return damaged_folder, DAMAGED


@pytest.mark.parametrize("ending", [".tar", ".tar.gz"])
class TestShardDataset(ClassificationContract, ReadsFiles):
    """Classes are folders."""

    @pytest.fixture
    def dataset(self, tmp_path: Path, images: dict[str, bytes], pack: Callable[..., Path], ending: str) -> ShardDataset:
        one, other = list(images.items())[:2], list(images.items())[2:]
        paths = [pack(tmp_path / f"{i}{ending}", dict(part)) for i, part in enumerate((one, other))]
        return ShardDataset(paths, max_pixels=LIMIT)

    @pytest.fixture
    def broken(
        self, tmp_path: Path, damaged: dict[str, bytes], pack: Callable[..., Path], ending: str
    ) -> tuple[ShardDataset, int]:
        return ShardDataset([pack(tmp_path / f"damaged{ending}", damaged)], max_pixels=LIMIT), DAMAGED


class TestShardDatasetOfNumbers(ClassificationContract):
    """Classes are numbers."""

    @pytest.fixture
    def dataset(self, tmp_path: Path, tiny: list[bytes], pack: Callable[..., Path]) -> ShardDataset:
        members = {f"{i}.png": image for i, image in enumerate(tiny)}
        members |= {f"{i}.cls": str(i % 3).encode() for i in range(len(tiny))}
        return ShardDataset([pack(tmp_path / "0.tar", members)], max_pixels=LIMIT)


class TestDigitsDataset(ClassificationContract):
    @pytest.fixture
    def dataset(self) -> DigitsDataset:
        pytest.importorskip("sklearn")
        return DigitsDataset()


class TestSubset(ClassificationContract, ReadsFiles, Selects):
    @pytest.fixture
    def dataset(self, folder: FolderDataset) -> Subset:
        return Subset(folder, [4, 0, 2])

    @pytest.fixture
    def broken(self, damaged_folder: FolderDataset) -> tuple[Subset, int]:
        return Subset(damaged_folder, [4, 0, DAMAGED]), 2


class TestRemappedDataset(ClassificationContract, ReadsFiles):
    CLASSES = ("ant", "eel", "dog", "cat")

    @pytest.fixture
    def dataset(self, folder: FolderDataset) -> RemappedDataset:
        return RemappedDataset(folder, self.CLASSES)

    @pytest.fixture
    def broken(self, damaged_folder: FolderDataset) -> tuple[RemappedDataset, int]:
        return RemappedDataset(damaged_folder, self.CLASSES), DAMAGED


@pytest.mark.parametrize("megabytes", [0, 1])
class TestCachedDataset(ClassificationContract, ReadsFiles):
    """With room for no image, and for all."""

    @pytest.fixture
    def dataset(self, folder: FolderDataset, megabytes: int) -> CachedDataset:
        return CachedDataset(folder, megabytes=megabytes)

    @pytest.fixture
    def broken(self, damaged_folder: FolderDataset, megabytes: int) -> tuple[CachedDataset, int]:
        return CachedDataset(damaged_folder, megabytes=megabytes), DAMAGED
