"""Every data set of images with label maps keeps the contract of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from dataset_contract import ReadsFiles, Selects, some

from convnext.data.config import LoaderConfig
from convnext.data.decode import BadImage
from convnext.data.segmentation.dataset import SegmentationDataset
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.open import SegmentationData
from convnext.ops.losses import IGNORE_INDEX
from labelmaps import labelled


class SegmentationContract(ReadsFiles, Selects):
    """What holds beside for images with label maps."""

    def test_each_pixel_has_a_class_or_none(self, dataset: SegmentationDataset) -> None:
        for index in some(dataset):
            labels = dataset.labels(index)
            assert (labels.dtype, labels.shape) == (torch.uint8, dataset.read(index).shape[1:])
            assert set(labels.unique().tolist()) <= {*range(len(dataset.classes)), IGNORE_INDEX}

    def test_classes_have_colours_and_values(self, dataset: SegmentationDataset) -> None:
        assert len(dataset.colours) == len(dataset.values) == len(dataset.classes)
        assert all(len(colour) == 3 and all(0 <= part <= 255 for part in colour) for colour in dataset.colours)
        assert len(set(dataset.values)) == len(dataset.values)
        if dataset.pixels is not None:
            assert dataset.pixels.shape == (len(dataset.classes),)

    def check_same_labels(self, one: SegmentationDataset, other: SegmentationDataset, indices: Sequence[int]) -> None:
        assert (one.colours, one.values) == (other.colours, other.values)
        assert len(one) == len(indices)
        for place, index in enumerate(indices):
            assert torch.equal(one.labels(place), other.labels(index))


class TestLabelMapDataset(SegmentationContract):
    @pytest.fixture
    def dataset(self, tmp_path: Path) -> LabelMapDataset:
        return SegmentationData(labelled(tmp_path)).for_evaluation(LoaderConfig())

    @pytest.fixture
    def broken(self, tmp_path: Path, dataset: LabelMapDataset) -> tuple[LabelMapDataset, int]:
        (tmp_path / "images" / "val" / "1.png").write_bytes(b"\x89PNG cut")
        return dataset, 1

    def test_an_unreadable_label_map_says_so(self, tmp_path: Path, dataset: LabelMapDataset) -> None:
        (tmp_path / "annotations" / "val" / "1.png").write_bytes(b"\x89PNG cut")
        with pytest.raises(BadImage):
            dataset.labels(1)
        assert dataset.labels(0).dtype == dataset.read(1).dtype
