"""Every data set of images with a class each keeps the contract of data sets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from dataset_contract import LIMIT, DatasetContract, ReadsFiles, Selects

from convnext.data.classification.cached import CachedDataset
from convnext.data.classification.config import AS_FOUND
from convnext.data.classification.dataset import ClassificationDataset, Subset, class_dirs
from convnext.data.classification.digits import DigitsDataset
from convnext.data.classification.folder import FolderDataset
from convnext.data.classification.listed import TableDataset
from convnext.data.classification.remap import RemappedDataset
from convnext.data.classification.shards import ShardDataset
from convnext.data.classification.tables import find_tables

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
        assert one.targets.tolist() == [other.targets[index].tolist() for index in indices]
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


class TableContract(ClassificationContract, ReadsFiles):
    """Of a table."""

    HEADER = "file,label\n"
    LABELS: tuple[str, ...] = ("cat", "dog", "cat", "dog", "eel")

    def opened(self, root: Path) -> TableDataset:
        rows = "".join(f"{i}.png,{label}\n" for i, label in enumerate(self.LABELS))
        (root / "labels.csv").write_text(f"{self.HEADER}{rows}")
        found = find_tables(root, AS_FOUND)
        assert found is not None
        return TableDataset(found.reader(AS_FOUND), "train", max_pixels=LIMIT)

    @pytest.fixture
    def dataset(self, tmp_path: Path, tiny: list[bytes], write: Callable[..., Path]) -> TableDataset:
        return self.opened(write(tmp_path, {f"images/{i}.png": tiny[i] for i in range(len(self.LABELS))}))

    @pytest.fixture
    def broken(self, tmp_path: Path, tiny: list[bytes], write: Callable[..., Path]) -> tuple[TableDataset, int]:
        files = {f"images/{i}.png": tiny[i][: 40 if i == DAMAGED else None] for i in range(len(self.LABELS))}
        return self.opened(write(tmp_path, files)), DAMAGED


class TestTableDataset(TableContract):
    """One class each."""


class TestTableDatasetOfSeveralLabels(TableContract):
    HEADER = "file,labels\n"
    LABELS = ("a|b", "", "b|c", "c|a", "b")

    def test_each_image_has_a_class(self, dataset: ClassificationDataset) -> None:
        assert (dataset.targets.dtype, dataset.targets.shape) == (torch.uint8, (5, 3))
        assert dataset.targets.tolist() == [[1, 1, 0], [0, 0, 0], [0, 1, 1], [1, 0, 1], [0, 1, 0]]
        assert class_dirs(dataset) == ("a", "b", "c")

    def test_a_model_with_the_labels_in_another_order(self, dataset: ClassificationDataset) -> None:
        remapped = RemappedDataset(dataset, ("c", "x", "b", "a"))
        assert remapped.targets.tolist() == [[0, 0, 1, 1], [0, 0, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 0, 1, 0]]


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
