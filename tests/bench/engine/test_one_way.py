"""The engine knows no comparison, and the bench needs nothing of the tasks but functions."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import convnext.bench

BENCH = Path(convnext.bench.__file__).parent
FILES = sorted(BENCH.rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """Modules and the names that a file imports from them."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.module, alias.name) for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)


@pytest.mark.parametrize("path", sorted((BENCH / "engine").glob("*.py")), ids=lambda path: path.stem)
def test_the_engine_imports_no_comparison(path: Path) -> None:
    ours = [(module, name) for module, name in imports(path) if module.startswith("convnext.bench")]
    assert [module for module, name in ours if f"{module}.{name}.".split(".")[2] != "engine"] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_class_of_a_task_is_needed(path: Path) -> None:
    names = [name for module, name in imports(path) if module.startswith("convnext.tasks")]
    assert [name for name in names if name[:1].isupper()] == []
