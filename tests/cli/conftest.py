"""Runs commands in this process, and makes a small folder of real image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from PIL import Image, ImageDraw

from convnext.cli.main import main

TINY = [
    *("--model.depths", "1", "1", "1", "1", "--model.dims", "8", "8", "16", "16"),
    *("--input.size", "32", "--loader.workers", "0", "--loop.global-batch", "16"),
]
"""Settings that make any recipe train in a second."""


class Answer(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def convnext(capsys: pytest.CaptureFixture[str]) -> Callable[..., Answer]:
    """`convnext("train", "demo")`: exit status, standard output and standard error of a command."""

    def run(*argv: str | Path) -> Answer:
        try:
            status = main([str(word) for word in argv])
        except SystemExit as stop:  # tyro's way of refusing arguments
            status = int(stop.code or 0)
        captured = capsys.readouterr()
        return Answer(status, captured.out, captured.err)

    return run


def draw(path: Path, shape: str, number: int) -> None:
    image = Image.new("RGB", (60 + number % 7, 50 + number % 5), (20, 20, 20 + 3 * number))
    box = (8 + number % 9, 8, 40 + number % 9, 40)
    pen = ImageDraw.Draw(image)
    (pen.ellipse if shape == "circle" else pen.rectangle)(box, fill=(220, 200, 40))
    image.save(path)


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A folder with 20 circles and 20 squares, as JPEG and PNG."""
    for shape in ("circle", "square"):
        (tmp_path / "shapes" / shape).mkdir(parents=True)
        for number in range(20):
            draw(tmp_path / "shapes" / shape / f"{number}.{'png' if number % 2 else 'jpg'}", shape, number)
    return tmp_path / "shapes"
