"""The house stands: imports only go down, rooms stay small, the picture in docs/architecture.md shows them all."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "convnext"
LEVELS = {
    "core": 0,
    "ops": 1,
    "models": 2,
    "data": 2,
    "metrics": 2,
    "training": 2,
    "weights": 3,
    "recipes": 3,
    "report": 3,
    "tasks": 4,
    "run": 5,
    "sweep": 5,
    "roadmap": 6,
    "scaling": 6,
    "bench": 6,
    "cli": 7,
    "__init__": 8,
    "__main__": 8,
}
MOST_ROOMS, MOST_FLOORS = 18, 9
FILES = sorted(path for path in SOURCE.rglob("*.py") if path.read_text().strip())


def module(path: Path) -> str:
    return ".".join(path.relative_to(SOURCE).with_suffix("").parts)


def imports(text: str) -> Iterator[str]:
    """Modules of ours that a file imports, anywhere in it, without the leading `convnext.`."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            yield from (alias.name[9:] for alias in node.names if alias.name.startswith("convnext."))
        elif isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "convnext":
            base = node.module.removeprefix("convnext").lstrip(".")
            for alias in node.names:
                inner = f"{base}.{alias.name}".lstrip(".")
                is_file = (SOURCE / (inner.replace(".", "/") + ".py")).exists()
                yield inner if is_file else base or "__init__"


def complaints(importer: str, text: str) -> list[str]:
    room = importer.split(".")[0]
    return [
        f"{importer} imports {name}"
        for name in imports(text)
        if name.split(".")[0] != room and LEVELS[name.split(".")[0]] >= LEVELS[room]
    ]


@pytest.mark.parametrize("path", FILES, ids=module)
def test_imports_go_down_or_stay_in_the_room(path: Path) -> None:
    if path.name == "__init__.py" and path.parent == SOURCE:
        return  # the public names, from everywhere
    found = [text for text in complaints(module(path), path.read_text()) if not text.endswith("imports __init__")]
    assert found == []


def test_an_upward_import_would_be_found() -> None:
    assert complaints("data.folder", "from convnext.training.loop import Loop") == ["data.folder imports training.loop"]
    assert complaints("data.folder", "def f():\n    import convnext.models.create") == [
        "data.folder imports models.create"
    ]
    assert complaints("training.loop", "from convnext.training.ema import Ema\nfrom convnext.core import logs") == []


@pytest.mark.parametrize("path", FILES, ids=module)
def test_private_names_stay_in_their_file(path: Path) -> None:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    names = [alias.name for node in nodes if (node.module or "").startswith("convnext") for alias in node.names]
    assert [name for name in names if name.startswith("_") and not name.startswith("__")] == []


def test_no_circles() -> None:
    graph = {module(path): set(imports(path.read_text())) for path in FILES}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"circular imports: {error.args[1]}")


@pytest.mark.parametrize("path", FILES, ids=module)
def test_rooms_are_small(path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= 60, f"{node.name} has {length} lines"
            arguments = [a.arg for a in node.args.args + node.args.kwonlyargs if a.arg not in ("self", "cls")]
            assert len(arguments) <= 10, f"{node.name} has {len(arguments)} arguments"


def test_the_house_has_few_rooms_and_floors() -> None:
    rooms = {module(path).split(".")[0] for path in FILES}
    assert rooms == set(LEVELS)
    assert len(rooms) <= MOST_ROOMS
    assert len(set(LEVELS.values())) <= MOST_FLOORS


def test_tasks_are_known_by_their_specs_alone() -> None:
    """Outside of `tasks/` and the page of public names, no file names a task's classes or asks which task it has."""
    kinds = "Recipe|Metadata|Task|Predictor|Result|EvaluateOptions|PredictOptions"
    classes = re.compile(rf"\b(Classification|Detection|Segmentation)({kinds})\b|\b(Classifier|Detector|Segmenter)\b")
    found = [
        f"{module(path)}: {match[0]}"
        for path in FILES
        if not path.is_relative_to(SOURCE / "tasks") and path != SOURCE / "__init__.py"
        for match in classes.finditer(path.read_text())
    ]
    assert found == []


def test_a_task_asks_no_other_task() -> None:
    tasks = [path.name for path in (SOURCE / "tasks").iterdir() if path.is_dir() and (path / "spec.py").is_file()]
    assert len(tasks) >= 3
    for path in FILES:
        task = path.parent.name
        if path.is_relative_to(SOURCE / "tasks") and task in tasks:
            others = [f"tasks.{other}." for other in tasks if other != task]
            assert [name for name in imports(path.read_text()) if name.startswith(tuple(others))] == [], module(path)


def test_the_picture_shows_every_room() -> None:
    picture = (ROOT / "docs" / "architecture.md").read_text().split("```")[1]
    words = set(re.findall(r"\w+", picture))
    missing = [module(path) for path in FILES if path.stem not in words and path.parent.name != "cli"]
    assert missing == [], "docs/architecture.md does not show these files"


@pytest.mark.parametrize("name", ["convnext", "convnext.cli.train", "convnext.cli.predict", "convnext.tasks.recipes"])
def test_the_command_line_answers_before_torch_is_loaded(name: str) -> None:
    code = f"import sys, {name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
