"""Small drawn images of two shapes, and settings with which any recipe trains on them in a second."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from PIL import Image, ImageDraw

TINY = [
    *("--model.depths", "1", "1", "1", "1", "--model.dims", "8", "8", "16", "16"),
    *("--input.size", "32", "--loader.workers", "0", "--loop.global-batch", "16"),
]
"""Settings that make any recipe train in a second."""


class Answer(NamedTuple):
    status: int
    out: str
    err: str


def assert_refused(answer: Answer, *says: str) -> None:
    """One message, and no traceback."""
    assert answer.status == 1
    assert len([line for line in answer.err.splitlines() if line.startswith("convnext: ")]) == 1
    assert answer.err.count("convnext: ") == 1
    assert "Traceback" not in answer.err
    for text in says:
        assert text in answer.err


def draw(path: Path, shape: str, number: int) -> None:
    image = Image.new("RGB", (60 + number % 7, 50 + number % 5), (20, 20, 20 + 3 * number))
    box = (8 + number % 9, 8, 40 + number % 9, 40)
    pen = ImageDraw.Draw(image)
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=(220, 200, 40))
    image.save(path)
