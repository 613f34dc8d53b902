"""What people see: tables in a terminal, the page, the image."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from convnext.bench.engine.chart import draw
from convnext.bench.engine.results import CellResult, Entry, merge_results
from convnext.bench.engine.tables import markdown, print_tables, tally


def printed(results: list[CellResult], width: int) -> str:
    out = io.StringIO()
    print_tables(results, Console(file=out, width=width))
    return out.getvalue()


@pytest.mark.parametrize("width", [80, 120])
def test_terminal(result: CellResult, width: int) -> None:
    text = printed([result], width)
    lines = text.splitlines()
    assert max(len(line.rstrip()) for line in lines) <= width
    assert lines[0].rstrip() == "convnext_atto  forward  float32  batch 2  (limit 250 ms, noise 0 %)"
    rows = {tuple(line.split()[-6:]) for line in lines if "%" in line}
    assert ("4.00", "50", "%", "300", "MB") in {row[-5:] for row in rows}
    assert any(line.split()[:1] == ["timm"] and "1.50x (1.50-1.50)" in line for line in lines)
    assert "torchvision   not offered" in text
    assert "transformers is absent: pip install transformers" in text
    assert "timm compile: RuntimeError: no compiler" in text
    assert "…" not in text  # nothing is cut


def test_tally(result: CellResult, other: CellResult) -> None:
    assert tally([result]) == (
        "Like for like, in 1 pair: ours is faster in 1, slower in 0, and in 0 the interval holds 1."
    )
    assert "in 2 pairs: ours is faster in 1, slower in 1" in tally([result, other])
    assert tally([merge_results([result], [("timm", "eager")])]).startswith("Nothing to compare")


def test_page(result: CellResult, other: CellResult) -> None:
    page = markdown([result, other], command="convnext bench --batches 2", chart="bench.png")
    for part in (
        "`convnext bench --batches 2`",
        "![images a second of each library and mode](bench.png)",
        "A Processor, 2 processors, 16.0 GB",
        "torch 2.15.0, convnext 0.1.0, timm 1.0",
        "- date: 2026-11-22\n",
        "threads: 1; device: cpu; images of 32 x 32; 2 starts, 2 rounds of 0.01 s after each",
        "| convnext_atto | forward | float32 | 2 | **1.50x** |",
        "| convnext_atto | train | float32 | 16 | *0.50x* |",
        "| eager | timm | NHWC | 2.67 | 33 % | 1 MB | 1.50x (1.50-1.50) |",
        "| compile | timm | failed |",
        "timm compile: RuntimeError: no compiler",
    ):
        assert part in page, part
    widths = [line.count("|") for line in page.splitlines() if line.startswith("|")]
    assert set(widths) == {6, 8}  # at a glance (one peer in one mode), and the cells; a bar in a message breaks nothing


@pytest.fixture
def hurried(result: CellResult) -> CellResult:
    slow = Entry("timm", "eager", "given up", note="a call takes more than 1.49 s", least=1.49)
    settings = replace(result.settings, give_up=3.0)
    return replace(result, settings=settings, entries=(result.entries[0], slow, *result.entries[2:]))


def test_one_that_was_given_up(hurried: CellResult) -> None:
    """2.98 times, of which no more is told than is known."""
    text = printed([hurried], 80)
    assert any(
        line.split()[:3] == ["timm", "given", "up"] and line.rstrip().endswith("over 2.9x")
        for line in text.splitlines()
    )
    assert "timm eager: a call takes more than 1.49 s" in text
    assert tally([hurried]).startswith("Like for like, in 1 pair: ours is faster in 1,")
    page = markdown([hurried], command="convnext bench", chart="bench.png")
    for part in (
        "of 0.01 s after each; given up beyond 3 times ours",
        "| convnext_atto | forward | float32 | 2 | **over 2.9x** |",
        "| eager | timm | given up |  |  |  | over 2.9x |",
    ):
        assert part in page, part


def test_image_of_one_that_was_given_up(hurried: CellResult, tmp_path: Path) -> None:
    """An outline in its library's colour, of which no pixel is filled."""
    draw([hurried], tmp_path / "one.png")
    draw([replace(hurried, entries=hurried.entries[:1])], tmp_path / "alone.png")
    with Image.open(tmp_path / "one.png") as image, Image.open(tmp_path / "alone.png") as alone:
        counts = [
            sum(n for n, colour in image.convert("RGB").getcolors(1 << 24) or [] if colour == (0xE8, 0xA3, 0x3D))
            for image in (image, alone)
        ]
        assert image.size == alone.size
    assert counts[1] == 0
    assert 0 < counts[0] < 1500  # the legend's patch and dots; a bar has tens of thousands


def test_image(result: CellResult, other: CellResult, tmp_path: Path) -> None:
    sizes = []
    for name, results in (("one", [result]), ("two", [result, other])):
        draw(results, tmp_path / f"{name}.png")
        with Image.open(tmp_path / f"{name}.png") as image:
            sizes.append(image.size)
            colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}
        assert {(0x12, 0x65, 0x7F), (0xE8, 0xA3, 0x3D)} <= colours  # bars of ours and of timm
        assert (0xC3, 0xC8, 0xD0) not in colours  # torchvision was not measured
    assert sizes[0][0] == sizes[1][0] == pytest.approx(7.4 * 150, abs=2)
    assert sizes[1][1] > sizes[0][1] + 200  # a row more
    assert [path.name for path in tmp_path.iterdir() if path.suffix != ".png"] == []
