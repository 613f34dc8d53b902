"""What the tests of the weights room share: a model of a few kilobytes, saved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

from convnext.data.config import InputConfig
from convnext.models.config import ModelConfig
from convnext.models.create import Model, from_config
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.weights.files import save_model
from server import Server, clean


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        yield server


@pytest.fixture
def metadata() -> ClassificationMetadata:
    model = ModelConfig(name="convnextv2_atto", num_classes=3, depths=(1, 1, 1, 1), dims=(4, 4, 8, 8))
    return ClassificationMetadata(model, InputConfig(size=32), classes=("cat", "Größe", "犬"), note='{"top1": 0.5}')


@pytest.fixture
def model(metadata: ClassificationMetadata) -> Model:
    torch.manual_seed(0)
    model = from_config(metadata.model).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_()
    return model


@pytest.fixture
def state(model: Model) -> dict[str, Tensor]:
    return dict(model.state_dict())


@pytest.fixture
def saved(tmp_path: Path, state: dict[str, Tensor], metadata: ClassificationMetadata) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(path, state, metadata)
    return path


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """An empty cache of downloads, and no setting of the machine's own."""
    clean(monkeypatch, tmp_path / "cache")
    return tmp_path / "cache"
