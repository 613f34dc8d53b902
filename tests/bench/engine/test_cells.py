"""The cells, the modes of their work, and the candidates of each contestant."""

from __future__ import annotations

import subprocess
import sys

import pytest

from convnext.bench.engine.cells import (
    LIBRARIES,
    MODES,
    Candidate,
    Cell,
    Settings,
    all_cells,
    candidates_for,
    estimate_seconds,
    modes_for,
)


def test_plan_is_every_combination_once_cheap_ones_first() -> None:
    cells = all_cells(("a", "b"), ("float32", "bfloat16"), (16, 1, 16), ("forward", "train"))
    assert len(cells) == len(set(cells)) == 2 * 2 * 2 * 2
    assert cells[0] == Cell("a", "float32", 1, "forward")
    assert cells[-1] == Cell("b", "bfloat16", 16, "train")
    assert [cell.work for cell in cells] == ["forward"] * 8 + ["train"] * 8
    assert [cell.batch for cell in cells] == [1, 1, 1, 1, 16, 16, 16, 16] * 2
    assert all_cells(("a", "a"), ("float32",), (1,), ("train",)) == (Cell("a", "float32", 1, "train"),)


def test_a_package_cannot_train() -> None:
    assert modes_for("forward", MODES) == ("eager", "compile", "aoti")
    assert modes_for("train", MODES) == ("eager", "compile")
    assert modes_for("train", ("aoti",)) == ()


@pytest.mark.parametrize(
    ("device", "mode", "work", "names"),
    [
        ("cpu", "eager", "forward", ["NCHW", "NHWC"]),
        ("cpu", "compile", "forward", ["NCHW", "NCHW frozen", "NHWC", "NHWC frozen"]),
        ("cpu", "aoti", "forward", ["NCHW", "NCHW frozen", "NHWC", "NHWC frozen"]),
        ("cpu", "eager", "train", ["NCHW", "NHWC"]),
        ("cpu", "compile", "train", ["NCHW", "NHWC"]),
        ("cuda", "eager", "forward", ["NCHW", "NHWC"]),
        ("cuda:1", "compile", "forward", ["NCHW", "NCHW graphs", "NHWC", "NHWC graphs"]),
        ("cuda", "aoti", "forward", ["NCHW", "NHWC"]),
        ("cuda", "eager", "train", ["NCHW", "NHWC"]),
        ("cuda", "compile", "train", ["NCHW", "NCHW graphs", "NHWC", "NHWC graphs"]),
    ],
)
def test_what_is_tried(device, mode, work, names) -> None:
    found = candidates_for(mode, work, device)
    assert [candidate.name for candidate in found] == names
    ends = names[-1].split()[1:]
    assert found[-1] == Candidate(channels_last=True, frozen=ends == ["frozen"], graphs=ends == ["graphs"])


def test_estimate_grows_with_what_is_asked() -> None:
    cell, settings = Cell("a", "float32", 1, "forward"), Settings(seconds=1.0, starts=2, rounds=4)
    eager = estimate_seconds(cell, settings, ("eager",), 1, call=0.1)
    assert 8 <= eager < 60  # eight slices of a second, and the rest
    assert estimate_seconds(cell, settings, ("eager",), 4, call=0.1) > 2 * eager
    assert estimate_seconds(cell, settings, MODES, 1, call=0.1) > eager + 100  # the compiler
    # Where a call takes longer than a slice, it is what takes the time.
    assert estimate_seconds(cell, settings, ("eager",), 1, call=100.0) > 8 * 100.0


@pytest.mark.slow
def test_no_torch() -> None:
    """So that the command's help is there at once."""
    modules = ("cells", "timing", "speedup", "results", "tables", "chart", "dense_results")
    names = ", ".join(f"convnext.bench.engine.{name}" for name in modules)
    code = f"import sys, convnext.cli.bench, {names}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert LIBRARIES[0] == "convnext"
