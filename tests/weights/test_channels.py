"""Weights for images of other than three channels: they predict and are evaluated, or are refused by name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.core.errors import UserError
from convnext.data.detection.config import DetectionInputConfig
from convnext.data.inputs import WrongImage
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.models.detection.build import build_detector
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.run import evaluate
from convnext.tasks.classification.options import ClassificationEvaluateOptions
from convnext.tasks.classification.predict import Classifier
from convnext.tasks.detection.predict import Detector
from convnext.tasks.detection.recipe import DetectionMetadata
from convnext.tasks.segmentation.predict import Segmenter
from convnext.tasks.segmentation.recipe import SegmentationMetadata
from convnext.weights.files import save_model
from painted import SMALL

MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def images(folder: Path, channels: int) -> Path:
    chance = np.random.default_rng(0)
    for name in ("a", "b"):
        (folder / name).mkdir(parents=True)
        for number in range(2):
            pixels = chance.integers(0, 256, (20, 24, channels), dtype=np.uint8)
            Image.fromarray(pixels.squeeze(), MODES[channels]).save(folder / name / f"{number}.png")
    return folder


@pytest.mark.parametrize("channels", [1, 4])
def test_a_classifier_of_others(channels: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.manual_seed(0)
    path = tmp_path / "c.pth"
    torch.save(from_config(ModelConfig("convnext_atto", num_classes=2, in_chans=channels)).state_dict(), path)
    data = images(tmp_path / "data", channels)
    model = Classifier(path, device="cpu")
    assert f"takes {channels} channels and does not say how they are normalised" in capsys.readouterr().err
    assert model.metadata.input.mean == pytest.approx((0.449,) * channels, abs=1e-3)
    result = model(data / "a" / "0.png")
    assert sum(p.probability for p in result) == pytest.approx(1, abs=1e-3)
    with pytest.raises(WrongImage, match=f"takes images of {channels} bands"):
        model.predict([torch.zeros(3, 20, 20, dtype=torch.uint8)])
    figures = evaluate(path, data=data, options=ClassificationEvaluateOptions(device="cpu", workers=0))
    assert figures["n"] == 4
    assert "does not name its 2 classes: they are taken to be the data's" in capsys.readouterr().err


def test_detectors_and_segmenters_of_others_are_refused(tmp_path: Path) -> None:
    config = replace(SMALL, backbone=replace(SMALL.backbone, in_chans=1))
    metadata = DetectionMetadata(config, DetectionInputConfig(), ("box", "disc"), (1, 2))
    save_model(tmp_path / "d.safetensors", build_detector(config).state_dict(), metadata)
    with pytest.raises(UserError, match="The detector takes images of 1 channel, and images are read with 3"):
        Detector(tmp_path / "d.safetensors", device="cpu")
    backbone = ModelConfig("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 16, 16), in_chans=4)
    dense = SegmenterConfig(backbone, 3, head="mlp", width=3, auxiliary_width=0)
    named = SegmentationMetadata(dense, SegmentationInputConfig(), ("a", "b", "c"))
    save_model(tmp_path / "s.safetensors", build_segmenter(dense).state_dict(), named)
    with pytest.raises(UserError, match="The segmenter takes images of 4 channels, and images are read with 3"):
        Segmenter(tmp_path / "s.safetensors", device="cpu")
