"""Every command with every path argument replaced: by a missing path, a file for a folder, a folder for a file, a place
that cannot be written, an empty file, a dangling link, a pipe. Nothing is left behind, deleted or waited for."""

from __future__ import annotations

import dataclasses
import os
import shutil
import typing
from collections.abc import Callable
from pathlib import Path

import pytest

from convnext.cli import completion, data, roadmap, scaling, weights
from shapes import TINY, Answer, assert_refused, draw

pytestmark = pytest.mark.slow

Convnext = Callable[..., Answer]
SHORT = (*TINY, "--schedule.epochs", "1")
OF_PARTS = {"weights": weights.PARTS, "roadmap": roadmap.PARTS, "data": data.PARTS, "scaling": scaling.PARTS}
IN = ("missing", "text", "empty", "folder", "below a file", "dangling", "pipe", "long", "odd")
"""What an argument that is read may be instead."""
OUT = ("below a file", "dangling", "system", "long", "below a link")
"""What one that is written may be."""

# "@" is the argument that is replaced; DATA, RUN and IMAGE are good ones. "file", "folder": what else is refused.
READ = {
    "train --data": ("train", "--data", "@", *SHORT),
    "train RECIPE --data": ("train", "demo", "--data", "@", *SHORT),
    "train --init": ("train", "--data", "DATA", "--init", "@", *SHORT),
    "train --resume": ("train", "--resume", "@"),
    "train RECIPE": ("train", "@.json"),
    "evaluate MODEL": ("evaluate", "@"),
    "evaluate --data": ("evaluate", "RUN", "--data", "@"),
    "predict PATHS": ("predict", "@", "--model", "RUN"),
    "predict --model": ("predict", "IMAGE", "--model", "@"),
    "report RUN": ("report", "@"),
    "weights inspect SOURCE": ("weights", "inspect", "@"),
    "weights convert SOURCE": ("weights", "convert", "@", "new.safetensors"),
    "weights verify --data": ("weights", "verify", "convnext_atto.d2_in1k", "--data", "@"),
    "data check DATA": ("data", "check", "@"),
    "data show DATA": ("data", "show", "@"),
    "roadmap run --data": ("roadmap", "run", "--data", "@", "--out", "new"),
    "roadmap draw SWEEP": ("roadmap", "draw", "@"),
    "train TASK --data": ("train", "--task", "pretrain", "--data", "@", "--schedule.epochs", "1"),
    "evaluate --suite --data": ("evaluate", "RUN", "--suite", "c", "--data", "@"),
    "evaluate --frost": ("evaluate", "RUN", "--corruptions", "frost", "--severities", "1", "--frost", "@"),
    "compare MODELS": ("compare", "@", "RUN"),
    "compare MODEL MODELS": ("compare", "RUN", "@"),
    "compare --data": ("compare", "RUN", "RUN", "--data", "@"),
    "scaling fit WHAT": ("scaling", "fit", "@"),
    "scaling draw WHAT": ("scaling", "draw", "@"),
    "scaling plan --data": ("scaling", "plan", "--data", "@", "--epochs", "1"),
    "scaling run --data": ("scaling", "run", "--data", "@", "--epochs", "1", "--out", "new"),
}
WRITTEN = {
    "train --out": (("train", "--data", "DATA", "--out", "@", *SHORT), "text"),
    "train RECIPE --out": (("train", "demo", "--out", "@"), "text"),
    "evaluate --results": (("evaluate", "RUN", "--results", "@"), "folder"),
    "predict --pictures": (("predict", "IMAGE", "--model", "RUN", "--pictures", "@"), "text"),
    "predict --results": (("predict", "IMAGE", "--model", "RUN", "--results", "@"), "folder"),
    "weights convert OUT": (("weights", "convert", "RUN", "@.safetensors"), ""),
    "data show --out": (("data", "show", "DATA", "--out", "@.png"), ""),
    "roadmap run --out": (("roadmap", "run", "--data", "digits", "--out", "@"), "text"),
    "roadmap draw --out": (("roadmap", "draw", "--out", "@"), ""),
    "scaling run --out": (("scaling", "run", "--data", "digits", "--epochs", "1", "--out", "@"), "text"),
    "scaling draw --out": (("scaling", "draw", "--out", "@"), ""),
    "bench --out": (("bench", "--models", "convnext_atto", "--out", "@"), "text"),
}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data, a run that was trained on it, and what arguments are replaced by; each test has a copy."""
    from convnext.cli.main import main

    root = tmp_path_factory.mktemp("world")
    for shape in ("circle", "square"):
        (root / "data" / shape).mkdir(parents=True)
        for number in range(8):
            draw(root / "data" / shape / f"{number}.png", shape, number)
    assert main(["train", "--data", str(root / "data"), "--out", str(root / "run"), *SHORT]) == 0
    (root / "text").write_text("mine\n")
    (root / "empty").touch()
    (root / "folder").mkdir()
    (root / "dangling").symlink_to("nowhere")
    (root / "link").symlink_to("text")
    return root


@pytest.fixture
def place(world: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    copy = tmp_path / "w"
    shutil.copytree(world, copy, symlinks=True)
    os.mkfifo(copy / "pipe")
    for suffix in (".json", ".safetensors", ".png"):  # for arguments that must end so
        for name in ("text", "empty"):
            shutil.copy(copy / name, copy / f"{name}{suffix}")
        (copy / f"folder{suffix}").mkdir()
        (copy / f"dangling{suffix}").symlink_to("nowhere")
        os.mkfifo(copy / f"pipe{suffix}")
    monkeypatch.chdir(copy)
    monkeypatch.setenv("CONVNEXT_OFFLINE", "1")
    return copy


def kinds(kind: str) -> str:
    return {
        "below a file": "text/deeper",
        "below a link": "link/deeper",
        "system": "/proc/here/new",
        "long": "x" * 300,
        "odd": "no\x1b[31m such",
    }.get(kind, kind)


def everything(root: Path) -> dict[str, object]:
    """All that is there: files with their content."""
    return {
        str(path.relative_to(root)): path.read_bytes() if path.is_file() and not path.is_symlink() else path.is_dir()
        for path in sorted(root.rglob("*"))
    }


def called(words: tuple[str, ...], kind: str, place: Path) -> list[str]:
    good = {"DATA": "data", "RUN": "run", "IMAGE": "data/circle/0.png"}
    return [good.get(word, word.replace("@", kinds(kind)) if word.startswith("@") else word) for word in words]


def check(convnext: Convnext, words: tuple[str, ...], kind: str, place: Path) -> None:
    before, argv = everything(place), called(words, kind, place)
    answer = convnext(*argv)
    (given,) = [word for word, was in zip(argv, words, strict=True) if was.startswith("@")]
    if words[:2] == ("predict", "@") and kind in ("text", "empty"):  # an image that cannot be read: the others go on
        assert (answer.status, answer.err.count("skipped ")) == (1, 1)
    else:
        assert_refused(answer)
    assert "\x1b" not in answer.out + answer.err
    shown = given.replace("\x1b", "?")
    assert any(part and part in answer.err for part in (shown[:40], Path(shown).name[:40], Path(shown).parent.name))
    assert everything(place) == before


@pytest.mark.parametrize("kind", IN)
@pytest.mark.parametrize("words", READ.values(), ids=READ)
def test_what_is_read(convnext: Convnext, place: Path, words: tuple[str, ...], kind: str) -> None:
    check(convnext, words, kind, place)


@pytest.mark.parametrize("kind", [*OUT, "wrong kind"])
@pytest.mark.parametrize("words", WRITTEN.values(), ids=WRITTEN)
def test_what_is_written(convnext: Convnext, place: Path, words: tuple[tuple[str, ...], str], kind: str) -> None:
    line, other = words
    if kind == "dangling" and other != "text":
        pytest.skip("a file is written where the link leads")
    if kind == "wrong kind" and not other:
        pytest.skip("there is no wrong kind: what is there is refused, or written over with --force")
    check(convnext, line, other if kind == "wrong kind" else kind, place)


def test_no_path_is_left_out() -> None:
    """Every argument that is a path, or is called as those are, stands in a table above."""
    swept = {name.split(" ", 1)[0] + " " + name.split()[-1].strip("-").lower() for name in (*READ, *WRITTEN)}
    swept |= {"train model", "weights source", "bench resume"}
    swept |= {"bench models", "roadmap models"}  # names, not paths
    kinds_of = {**completion._arguments()}
    for command, parts in OF_PARTS.items():
        kinds_of |= {f"{command} {part}": kind for part, kind in parts.items()}
    for name, kind in kinds_of.items():
        hints = typing.get_type_hints(kind)
        for field in dataclasses.fields(kind):
            is_path = Path in (hints[field.name], *typing.get_args(hints[field.name]))
            if is_path or (
                field.name in ("data", "source", "paths", "what", "models", "frost") and name != "roadmap show"
            ):
                assert f"{name.split()[0]} {field.name}" in swept, f"{name}: {field.name}"
