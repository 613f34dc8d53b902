"""Every option that a message names exists in a command that can show the message."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from convnext.cli import completion, data, roadmap, scaling, weights
from convnext.cli.completion import options
from convnext.cli.main import COMMANDS
from convnext.tasks.table import TASKS

SOURCE = Path(completion.__file__).parents[1]
FILES = sorted(SOURCE.rglob("*.py"))
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z0-9]*(?:[-.][a-z0-9]+)*")
OF_OTHERS = {"--shm-size", "--nproc-per-node", "--help", "--version"}
"""Options of other programs (docker, torchrun), and what every command has."""
PARTS = {"weights": weights.PARTS, "roadmap": roadmap.PARTS, "data": data.PARTS, "scaling": scaling.PARTS}


def of_commands() -> dict[str, set[str]]:
    """The options of every command, those of its parts and of every task's recipe included."""
    found: dict[str, set[str]] = {}
    recipes = [spec.recipe_type() for spec in TASKS.values()]
    for command, kind in completion._arguments().items():
        found[command] = {option for recipe in recipes for option in options(kind, recipe=recipe)}
    for command, parts in PARTS.items():
        found[command] = {
            option for kind in parts.values() for recipe in recipes for option in options(kind, recipe=recipe)
        }
    return {command: found.get(command, set()) for command in COMMANDS}


def imported_by(file: Path) -> set[Path]:
    """The files of the program that a file imports, wherever in it, and the modules of a task's package."""
    found: set[Path] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        for name in names:
            path = SOURCE.parent.joinpath(*name.split("."))
            found |= {target for target in (path.with_suffix(".py"), path / "__init__.py") if target.is_file()}
    if file.name == "spec.py" and file.parent.parent.name == "tasks":  # its modules are named in words
        found |= set(file.parent.glob("*.py"))
    if file == SOURCE / "tasks" / "table.py":
        found |= set((SOURCE / "tasks").glob("*/spec.py"))
    return found


def reached_from(file: Path, imports: dict[Path, set[Path]]) -> set[Path]:
    """A file and all that it imports."""
    found, waiting = set[Path](), [file]
    while waiting:
        if (one := waiting.pop()) not in found:
            found.add(one)
            waiting += imports.get(one, ())
    return found


def messages(file: Path) -> Iterator[tuple[int, str]]:
    """The texts of a file, f-strings with "{}" for their values, without docstrings: (line, text)."""
    tree = ast.parse(file.read_text())
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef)
    skipped = {
        id(part.value)
        for node in ast.walk(tree)
        if isinstance(node, documented)
        for part in node.body
        if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
    }
    inside: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            inside |= {id(part) for part in ast.walk(node) if part is not node and not isinstance(part, ast.JoinedStr)}
            yield node.lineno, "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in node.values)
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in skipped | inside:
            yield node.lineno, node.value


def exists(option: str, accepted: set[str]) -> bool:
    """Whether it is one of them, or the opposite of one ("--augment.no-flip")."""
    return option in accepted or re.sub(r"(--|\.)no-([^.]*)$", r"\1\2", option) in accepted


def named(text: str) -> set[str]:
    """The options in a text; not those that are put together from parts, as "--loader.{}"."""
    if (text.startswith("--") and len(text.split()) == 1) or "style=" in text:
        return set()  # a word of a command line, or a page's markup
    found = {match.group() for match in OPTION.finditer(text) if text[match.end() : match.end() + 1] not in (".", "{")}
    return {option for option in found if not re.search(rf"{re.escape(option)}(-?\{{|\.\{{)", text)} - OF_OTHERS


@pytest.fixture(scope="module")
def commands_of() -> dict[Path, set[str]]:
    """The commands that can come to a file."""
    imports = {file: imported_by(file) for file in FILES}
    found: dict[Path, set[str]] = {}
    for command in COMMANDS:
        for file in reached_from(SOURCE / "cli" / f"{command}.py", imports):
            found.setdefault(file, set()).add(command)
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_named_options_exist(file: Path, commands_of: dict[Path, set[str]]) -> None:
    accepted = of_commands()
    commands = commands_of.get(file) or set(accepted)
    wrong: list[str] = []
    for line, text in messages(file):
        for option in sorted(named(text)):
            # a command that the text names ("--skip-bad in `convnext evaluate`") counts too
            told = {command for command in COMMANDS if re.search(rf"convnext {command}\b", text)}
            if not any(exists(option, accepted[command]) for command in commands | told):
                wrong.append(f"{file.name}:{line}: {option} in {text[:80]!r}")
    assert wrong == []


@pytest.mark.parametrize("command", list(COMMANDS))
def test_a_commands_own_messages_name_its_own_options(command: str) -> None:
    """Or say whose they are: "convnext train ... --out"."""
    accepted = of_commands()

    def wrong() -> Iterator[str]:
        for line, text in messages(SOURCE / "cli" / f"{command}.py"):
            others = {name for name in COMMANDS if re.search(rf"(convnext |`){name}\b", text)}
            for option in sorted(named(text)):
                if not any(exists(option, accepted[name]) for name in {command, *others}):
                    yield f"{command}.py:{line}: {option} in {text[:80]!r}"

    assert list(wrong()) == []


def test_the_test_sees_what_it_should() -> None:
    assert named("Use --optim.lr, or --loop.micro-batch {} --loader.{} --no-such") == {
        "--optim.lr",
        "--loop.micro-batch",
        "--no-such",
    }
    accepted = of_commands()
    assert "--optim.lr" in accepted["train"]
    assert "--balance" in accepted["train"]
    assert "--skip-bad" in accepted["evaluate"]
    assert "--optim.lr" not in accepted["evaluate"]
