"""Every data set of images with objects keeps the contract of data sets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from dataset_contract import ReadsFiles, Selects, some

from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.dataset import DetectionDataset
from painted import paint, validation


class DetectionContract(ReadsFiles, Selects):
    """What holds beside for images with objects."""

    def test_objects_lie_in_their_image(self, dataset: DetectionDataset) -> None:
        assert (dataset.sizes.dtype, dataset.sizes.shape) == (torch.int64, (len(dataset), 2))
        for index in some(dataset):
            height, width = dataset.read(index).shape[1:]
            assert dataset.sizes[index].tolist() == [height, width]
            boxes = dataset.instances(index).boxes
            assert (boxes.dtype, boxes.shape[1]) == (torch.float32, 4)
            assert (boxes[:, :2] >= 0).all()
            assert (boxes[:, :2] < boxes[:, 2:]).all()
            assert (boxes[:, 2:] <= torch.tensor([width, height])).all()

    def test_objects_have_classes_and_masks(self, dataset: DetectionDataset) -> None:
        assert (dataset.counts.dtype, dataset.counts.shape) == (torch.int64, (len(dataset),))
        for index in some(dataset):
            objects = dataset.instances(index)
            assert (objects.labels.dtype, objects.labels.shape) == (torch.int64, (int(dataset.counts[index]),))
            assert set(objects.labels.tolist()) <= set(range(len(dataset.classes)))
            assert (objects.masks is not None) == dataset.has_masks
            if objects.masks is not None:
                assert objects.masks.dtype == torch.bool
                assert objects.masks.shape == (len(objects.labels), *dataset.sizes[index].tolist())

    def test_cocos_tools_are_given_the_same_images_and_classes(self, dataset: DetectionDataset) -> None:
        truth, ids = dataset.truth(), [dataset.image_id(index) for index in range(len(dataset))]
        assert len(set(ids)) == len(ids)
        assert [entry["id"] for entry in truth["images"]] == ids
        assert [entry["id"] for entry in truth["categories"]] == list(dataset.category_ids)
        assert [entry["name"] for entry in truth["categories"]] == list(dataset.classes)
        assert sorted(dataset.category_ids) == list(dataset.category_ids)
        counted = [sum(entry["image_id"] == number for entry in truth["annotations"]) for number in ids]
        assert counted == dataset.counts.tolist()  # no crowds in this data

    def check_same_labels(self, one: DetectionDataset, other: DetectionDataset, indices: Sequence[int]) -> None:
        assert (one.category_ids, one.has_masks) == (other.category_ids, other.has_masks)
        assert one.sizes.tolist() == [other.sizes[index].tolist() for index in indices]
        assert one.counts.tolist() == [int(other.counts[index]) for index in indices]
        for place, index in enumerate(indices):
            ours, theirs = one.instances(place), other.instances(index)
            assert one.image_id(place) == other.image_id(index)
            assert torch.equal(ours.boxes, theirs.boxes)
            assert torch.equal(ours.labels, theirs.labels)
            assert (ours.masks is None) == (theirs.masks is None)
            assert ours.masks is None or torch.equal(ours.masks, theirs.masks)


@pytest.mark.parametrize("masks", [True, False])
class TestCocoDataset(DetectionContract):
    """The last image has no object."""

    @pytest.fixture
    def dataset(self, tmp_path: Path, masks: bool) -> CocoDataset:
        paint(tmp_path, "val", range(4), empty=(3,), masks=masks)
        return validation(tmp_path)

    @pytest.fixture
    def broken(self, tmp_path: Path, dataset: CocoDataset) -> tuple[CocoDataset, int]:
        (tmp_path / "images" / "val" / "01.png").write_bytes(b"\x89PNG cut")
        return dataset, 1
