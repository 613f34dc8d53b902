"""Segmentation: the task contract, and figures by hand."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from task_contract import TaskContract
from torch import nn

from convnext.data.config import LoaderConfig
from convnext.data.loader import BadImages
from convnext.data.segmentation.config import SegmentationAugmentConfig, SegmentationInputConfig
from convnext.data.segmentation.open import SegmentationData
from convnext.metrics.miou import segmentation_figures
from convnext.models.config import ModelConfig
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.tasks.segmentation.console import evaluation_text
from convnext.tasks.segmentation.evaluate import confused, evaluate, log_figures
from convnext.tasks.segmentation.setup import missing_classes
from convnext.tasks.segmentation.task import SegmentationTask
from labelmaps import labelled

CPU = torch.device("cpu")
INPUT = SegmentationInputConfig(short=48, long=64, window=32, stride=21)
BACKBONE = ModelConfig("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8), layer_scale_init_value=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return labelled(tmp_path_factory.mktemp("maps"), train=8)


class TestSegmentationTask(TaskContract):
    @pytest.fixture(autouse=True)
    def where(self, data: Path) -> None:
        self.data = data

    def task(self, seed: int = 0) -> SegmentationTask:
        splits = SegmentationData(self.data).splits(LoaderConfig(), seed=0)
        return SegmentationTask(
            train=splits.train,
            val=splits.val,
            input=INPUT,
            augment=SegmentationAugmentConfig(crop=32),
            loader=LoaderConfig(workers=0),
            device=CPU,
            seed=seed,
            bad=BadImages(11, max_bad=0.1),
        )

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return build_segmenter(SegmenterConfig(BACKBONE, 3, head="mlp", width=8, auxiliary_width=8, dropout=0.0))


class Knowing(nn.Module):
    """Stands in for a segmenter: says class `says` for every pixel."""

    def __init__(self, says: int) -> None:
        super().__init__()
        self.says, self.num_classes, self.weight = says, 3, nn.Parameter(torch.zeros(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits = torch.zeros(len(images), 3, *images.shape[2:])
        logits[:, self.says] = 1
        return logits


def test_figures_by_hand(data: Path) -> None:
    """All pixels are said to be ground: its IoU and the pixel accuracy are its share."""
    val = SegmentationData(data).for_evaluation(LoaderConfig())
    found = evaluate(
        Knowing(1),  # type: ignore[arg-type]
        val,
        input=INPUT,
        loader=LoaderConfig(workers=0),
        device=CPU,
        bad=BadImages(3, max_bad=0),
    )
    labels = torch.cat([val.labels(i).flatten() for i in range(len(val))])
    share = float((labels == 1).sum() / (labels != 255).sum())
    figures = log_figures(found)
    assert figures["aAcc"] == pytest.approx(share)
    assert figures["mIoU"] == pytest.approx(share / 3)
    assert figures["mAcc"] == pytest.approx(1 / 3)
    assert {entry["name"]: entry["taken_for"] for entry in confused(found.counts, val.classes)} == {
        "sky": "ground",
        "box": "ground",
    }


def test_classes_that_never_occur_are_warned_of(tmp_path: Path) -> None:
    root = labelled(tmp_path)
    (root / "classes.txt").write_text("sky\nground\nbox\ncar\n")
    train = SegmentationData(root).splits(LoaderConfig(), seed=0).train
    (warning,) = missing_classes(train)
    assert warning.startswith("1 of 4 classes never occur in the training images (car)")
    (root / "classes.txt").write_text("sky\nground\nbox\n")
    assert missing_classes(SegmentationData(root).splits(LoaderConfig(), seed=0).train) == []


def test_which_classes_miou_is_the_mean_of_is_said() -> None:
    counts = torch.tensor([[5, 1, 0], [0, 4, 0], [0, 0, 0]])
    figures = dataclasses.asdict(segmentation_figures(counts, ("sky", "ground", "box")))
    assert figures["per_class"][2]["IoU"] is None
    common = {"model": "x", "n": 1, "held_out": True, "images_per_second": 1.0, "pixels": 10, "skipped": []}
    assert "mIoU is the mean over 2 classes; 1 others" in evaluation_text({**common, "data": "d", **figures})
    nothing = segmentation_figures(torch.zeros(3, 3, dtype=torch.int64), ("sky", "ground", "box"))
    assert (nothing.mIoU, nothing.mAcc, nothing.aAcc) == (None, None, None)
