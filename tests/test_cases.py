"""Inputs as people have them (../shared/cases): each case's commands are run, and must end right.

What is right stands in README.md beside the cases: either training works and says what was decided, or it is refused
with one message that says what was found and what to do. Never a traceback, never another task.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

CASES = Path(os.environ.get("CONVNEXT_TEST_CASES", Path(__file__).parents[2] / "shared" / "cases"))
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CASES.is_dir(), reason=f"the cases are not here: {CASES}"),
]


@dataclass(frozen=True)
class Right:
    """How a case ends: the task that is trained ("" where it is refused), and what is said."""

    task: str
    says: tuple[str, ...] = ()
    never: tuple[str, ...] = ()


def trains(task: str, *says: str, never: tuple[str, ...] = ()) -> Right:
    return Right(task, says, never)


def refused(*says: str) -> Right:
    return Right("", says)


RIGHT = {
    "all-iscrowd": refused(r"crowd", r"--[\w.-]*crowds? objects"),
    "annotations-twice": trains("detect", r"(same|twice|identical)"),
    "bbox-normalised": refused(r"0\s?(\.\.|to|and)\s?1"),
    "bbox-xyxy": refused(r"x0[ ,]+y0[ ,]+x1[ ,]+y1"),
    "best-stays-first": trains("detect"),
    "cls-csv": trains("classify", r"labels\.csv"),
    "cls-extra-formats": trains("classify", r"2 \.txt"),
    "cls-imbalance": trains("classify", r"200", r"\b3\b"),
    "cls-model-name": trains("classify", r"convnext_tiny"),
    "coco-train-val-json-root": trains("detect", r"val"),
    "cvat-brush-iscrowd": Right("detect?", (r"crowd", r"6")),
    "cvat-default": trains("detect"),
    "cvat-default-folder": trains("detect"),
    "duplicate-annotation-ids": trains("detect", r"annotation ids"),
    "ids-floats": trains("detect"),
    "image-ids-strings": trains("detect"),
    "labelme-json-beside": trains("detect", r"(?i)labelme"),
    "labelstudio-backslash": trains("detect"),
    "mixed-boxes-polygons": trains("detect", r"without (an )?outlines?|without (a )?masks?"),
    "no-bbox": trains("detect", r"bbox"),
    "percent-encoded": trains("detect"),
    "roboflow-masks": trains("segment"),
    "seg-ade-layout": trains("segment", never=(r"150 classes", r"building")),
    "seg-best-stays-first": trains("segment"),
    "seg-binary-0-255": trains("segment", r"2 classes"),
    "seg-binary-0-255-named": trains("segment", r"2 classes"),
    "seg-classes-bom": trains("segment", never=("\ufeff", r"\\ufeff")),
    "seg-image-mask": trains("segment"),
    "seg-mapping-bom": trains("segment"),
    "seg-mask-jpeg": refused(r"JPEG|lossy"),
    "seg-mask-jpeg-as-png": refused(r"lossy|JPEG"),
    "seg-palettes-differ": Right("segment?", (r"palette|colours",)),
    "seg-rgb-masks": refused(r"(?i)colours?", r"#[0-9a-f]{6}|mapping"),
    "size-swapped": Right("detect?", (r"\d+ x \d+",), ("EXIF",)),
    "voc": trains("detect", r"(?i)voc"),
    "yolo": trains("detect", r"(?i)yolo"),
}


def command(line: str, folder: Path) -> tuple[int, str]:
    """Exit status and everything that is said by a line of run.txt; no network."""
    words = line.split()[1:]
    environment = {**os.environ, "CONVNEXT_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    answer = subprocess.run(
        [sys.executable, "-m", "convnext", *words],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
    )
    return answer.returncode, answer.stdout + answer.stderr


def test_every_case_has_its_answer() -> None:
    assert {path.name for path in CASES.iterdir() if path.is_dir()} == set(RIGHT)


@pytest.mark.parametrize("name", RIGHT)
def test_a_case(name: str, tmp_path: Path) -> None:
    right, folder = RIGHT[name], tmp_path / "case"
    shutil.copytree(CASES / name, folder, ignore=shutil.ignore_patterns("pred", "run"))
    lines = [line for line in (folder / "run.txt").read_text().splitlines() if line.startswith("convnext train")]
    said = ""
    for line in lines:
        (status, words), said = command(line, folder), said
        said += words
        assert "Traceback" not in words, words
        if right.task.endswith("?"):
            continue
        assert (status == 0) == bool(right.task), words
    if right.task and (folder / "run" / "recipe.json").is_file():
        task = json.loads((folder / "run" / "recipe.json").read_text()).get("task", "classify")
        assert task == right.task.rstrip("?")
    for pattern in right.says:
        assert re.search(pattern, said), f"nothing like {pattern} is said:\n{said}"
    for pattern in right.never:
        assert not re.search(pattern, said), f"{pattern} is said:\n{said}"


FOLDERS = {
    "Training_Testing": r"'Training' and 'Testing': 12 images of 2 classes",
    "Train_Test": r"'Train' and 'Test': 12 images of 2 classes",
    "train_set_val_set": r"'train_set' and 'val_set': 12 images of 2 classes",
    "unicode": r"'train' and 'val': 12 images of 2 classes",
    "foreign_json": r"12 images of 2 classes",
    "parts.tar": r"8 images of 2 classes to train on, 8 images in 'val'",
}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What folders.py and weights.py make."""
    folder = tmp_path_factory.mktemp("made")
    for script in ("folders.py", "weights.py"):
        subprocess.run([sys.executable, str(CASES / script)], cwd=folder, check=True)
    return folder


@pytest.mark.parametrize("name", FOLDERS)
def test_folders(made: Path, tmp_path: Path, name: str) -> None:
    line = f"convnext train --data {made / 'folders' / name} --out run --schedule.epochs 1 --loader.workers 0"
    status, said = command(line, tmp_path)
    assert status == 0, said
    assert re.search(FOLDERS[name], said), said


WEIGHTS = {  # None: loads; else what is said
    "lightning.ckpt": None,
    "lightning_compiled.ckpt": None,
    "wrapped.ckpt": None,
    "timm_train_with_ema.pth.tar": None,
    "sharded": None,
    "saved_pretrained": None,
    "not_finite.pth": r"not finite",
    "lfs_pointer.safetensors": r"LFS",
}


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights(made: Path, tmp_path: Path, name: str) -> None:
    status, said = command(f"convnext weights inspect {made / 'weights' / name}", tmp_path)
    assert "Traceback" not in said, said
    if WEIGHTS[name] is None:
        assert status == 0, said
        assert "convnext_atto" in said
    else:
        assert status == 1
        assert re.search(WEIGHTS[name] or "", said), said
    if "ema" in name:
        assert re.search(r"(?i)\bema\b|average", said), said
