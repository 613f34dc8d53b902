"""What tests of classification data share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tabled import Made


@pytest.fixture
def made(tmp_path: Path, tiny: list[bytes], write: Callable[..., Path]) -> Made:
    """made(table's name, its text or bytes, images...) -> the folder of both."""

    def make(name: str, content: str | bytes, *images: str) -> Path:
        files = {image: tiny[i % len(tiny)] for i, image in enumerate(images or [f"images/{i}.png" for i in range(6)])}
        data = content if isinstance(content, bytes) else content.encode()
        return write(tmp_path / "data", {**files, name: data})

    return make
