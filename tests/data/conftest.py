"""What the tests of the data room share: made-up images, packed as files, folders and tars."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image


def _picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Smooth colours with some noise, uint8 (height, width, 3)."""
    slopes = np.array([3, 5, 7]) * (1 + seed % 3)
    smooth = (np.add.outer(np.arange(height), np.arange(width))[:, :, None] * slopes + 40 * seed) % 256
    noise = np.random.default_rng(seed).integers(0, 30, (height, width, 3))
    return np.clip(smooth + noise, 0, 255).astype(np.uint8)


def _encode(picture: np.ndarray | Image.Image, format: str, **options: Any) -> bytes:
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def _write(root: Path, files: Mapping[str, bytes]) -> Path:
    for name, data in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return root


def _pack(path: Path, files: Mapping[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def picture() -> Callable[..., np.ndarray]:
    """picture(height, width, seed) -> uint8 (height, width, 3)."""
    return _picture


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """encode(array or Pillow image, format, **options) -> the file's bytes."""
    return _encode


@pytest.fixture
def write() -> Callable[..., Path]:
    """write(root, {path: bytes}) -> root."""
    return _write


@pytest.fixture
def pack() -> Callable[..., Path]:
    """pack(path, {member: bytes}) -> path of the .tar or .tar.gz."""
    return _pack


@pytest.fixture(scope="session")
def tiny() -> list[bytes]:
    """Twelve different PNG files of 6 x 8 pixels."""
    return [_encode(_picture(6, 8, seed), "PNG") for seed in range(12)]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The real images beside the project; the test is skipped where they are absent."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    place = Path(os.environ.get("CONVNEXT_TEST_DATA", default))
    if not place.is_dir():
        pytest.skip(f"no real images at {place} (set CONVNEXT_TEST_DATA)")
    return place


@pytest.fixture
def file(tmp_path, picture, encode) -> Path:
    path = tmp_path / "cat.png"
    path.write_bytes(encode(picture(6, 9), "PNG"))
    return path


@pytest.fixture
def pixels(picture) -> torch.Tensor:
    """What that file holds, uint8 (3, 6, 9)."""
    return torch.from_numpy(picture(6, 9)).permute(2, 0, 1)
