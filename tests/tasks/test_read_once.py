"""Data and weights are read once: every annotation file and every checkpoint, in train, evaluate and predict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from convnext.cli.main import main
from convnext.data.classification import folder
from convnext.data.detection import open as detection_open
from convnext.data.segmentation import open as segmentation_open
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import DetectorConfig, RoIConfig
from convnext.weights import locate
from labelmaps import labelled
from painted import OPTIONS, painted
from shapes import TINY, draw

pytestmark = pytest.mark.slow


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts what is read, by the file's name."""
    counts: Counter[str] = Counter()

    def counted(function: Callable[..., Any], name: Callable[..., str]) -> Callable[..., Any]:
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            counts[name(*args)] += 1
            return function(*args, **kwargs)

        return wrapper

    read_annotations, read_contents = detection_open.read_annotations, locate.read_contents
    monkeypatch.setattr(detection_open, "read_annotations", counted(read_annotations, lambda path, *_: path.name))
    monkeypatch.setattr(locate, "read_contents", counted(read_contents, lambda path: path.name))
    monkeypatch.setattr(folder, "scan", counted(folder.scan, lambda root: root.name))
    checked = segmentation_open.checked
    monkeypatch.setattr(segmentation_open, "checked", counted(checked, lambda parts, *_: f"label maps of {len(parts)}"))
    return counts


def test_a_detector(tmp_path: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    data, run = painted(tmp_path / "data"), tmp_path / "run"
    atto = DetectorConfig(ModelConfig("convnext_atto"), num_classes=2, width=16, roi=RoIConfig(width=16))
    torch.save(build_detector(atto).state_dict(), tmp_path / "init.pth")
    options = [*OPTIONS[OPTIONS.index("--input.short") :], "--schedule.epochs", "1", "--loop.eval-epochs", "0"]
    init = ["--init", str(tmp_path / "init.pth")]
    assert main(["train", "--data", str(data), "--out", str(run), *init, *options]) == 0
    assert reads == {
        "instances_train.json": 1,
        "instances_val.json": 1,
        "init.pth": 1,
        "best.safetensors": 1,
    }
    reads.clear()
    assert main(["evaluate", str(run)]) == 0
    assert reads == {"instances_val.json": 1, "best.safetensors": 1}  # training images are not looked at
    reads.clear()
    image = str(data / "images/val/08.png")
    assert main(["predict", image, image, "--model", str(run)]) == 0
    assert reads == {"best.safetensors": 1}
    reads.clear()
    assert main(["predict", image, "--model", str(tmp_path / "init.pth")]) == 0
    assert reads == {"init.pth": 1}  # a pickle, of which its tensors alone say whose it is


def test_a_classifier(tmp_path: Path, reads: Counter[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for part in ("train", "val"):
        for shape in ("circle", "square"):
            (tmp_path / "data" / part / shape).mkdir(parents=True)
            for number in range(8):
                draw(tmp_path / "data" / part / shape / f"{number}.png", shape, number)
    run, data = tmp_path / "run", str(tmp_path / "data")
    assert main(["train", "--data", data, "--out", str(run), *TINY, "--schedule.epochs", "1"]) == 0
    assert reads == {"train": 1, "val": 1, "best.safetensors": 1}
    reads.clear()
    assert main(["predict", f"{data}/val/circle", "--model", str(run)]) == 0
    assert reads == {"best.safetensors": 1}
    torch.save(from_config(ModelConfig("convnext_atto", num_classes=2)).state_dict(), tmp_path / "c.pth")
    reads.clear()
    assert main(["weights", "inspect", str(tmp_path / "c.pth")]) == 0
    assert reads == {"c.pth": 1}


def test_a_segmenter(tmp_path: Path, reads: Counter[str]) -> None:
    data, run = labelled(tmp_path / "data"), tmp_path / "run"
    options = [
        *("--model.backbone.depths", "1", "1", "1", "1", "--model.backbone.dims", "8", "8", "8", "8"),
        *("--model.width", "8", "--input.short", "48", "--input.long", "64", "--augment.crop", "32"),
        *("--loader.workers", "0", "--loop.global-batch", "4", "--schedule.epochs", "1"),
    ]
    assert main(["train", "--data", str(data), "--out", str(run), *options]) == 0
    assert reads == {"label maps of 2": 1, "best.safetensors": 1}
    reads.clear()
    assert main(["evaluate", str(run)]) == 0
    assert reads == {"best.safetensors": 1}  # what checking found stands in the run's split.json
    reads.clear()
    assert main(["evaluate", str(run), "--data", str(data)]) == 0
    assert reads == {"label maps of 1": 1, "best.safetensors": 1}
