"""Runs commands in this process, and makes a small folder of real image files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from convnext.cli.main import main
from shapes import Answer, draw


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


@pytest.fixture
def shapes(tmp_path: Path) -> Path:
    """A folder with 20 circles and 20 squares, as JPEG and PNG."""
    for shape in ("circle", "square"):
        (tmp_path / "shapes" / shape).mkdir(parents=True)
        for number in range(20):
            draw(tmp_path / "shapes" / shape / f"{number}.{'png' if number % 2 else 'jpg'}", shape, number)
    return tmp_path / "shapes"
