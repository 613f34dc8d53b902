"""What commands share: results on standard output, parsing, and which run is meant."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import tyro

from convnext.core.console import percent as percent
from convnext.core.console import table as table
from convnext.core.errors import UserError, nearest
from convnext.core.lock import is_taken
from convnext.core.logs import say
from convnext.core.places import check_file
from convnext.core.strict_json import to_json
from convnext.core.text import escaped, safe

T = TypeVar("T")
RUNS = Path("runs")


def parse(kind: type[T], argv: list[str], *, command: str, default: T | None = None) -> T:
    """The arguments of one command as the dataclass `kind`; its docstring is the help."""
    if default is None:
        return tyro.cli(kind, prog=f"convnext {command}", args=argv)
    return tyro.cli(kind, prog=f"convnext {command}", args=argv, default=default)


def parse_part(parts: Mapping[str, type[Any]], argv: list[str], *, command: str, text: str) -> Any:
    """The arguments of one part of a command, as `convnext weights list`; None where help was asked for: `text`.

    Raises UserError for an unknown part, with the nearest.
    """
    if not argv or argv[0] in ("-h", "--help"):
        emit(text.rstrip())
        return None
    if argv[0] not in parts:
        raise UserError(f"convnext {command} has no part '{argv[0]}': {', '.join(parts)}.{nearest(argv[0], parts)}")
    return parse(parts[argv[0]], argv[1:], command=f"{command} {argv[0]}")


def emit(text: str) -> None:
    """A line of result; control characters, as a file's name may have, are "?"."""
    print(safe(text))  # noqa: T201


def emit_json(value: Any) -> None:
    """A result for programs: strict JSON (no NaN); what the terminal cannot show is escaped, and nothing is lost."""
    text = escaped(to_json(value, indent=2, ensure_ascii=False))
    try:
        text.encode(sys.stdout.encoding or "utf-8")
    except UnicodeEncodeError:
        text = to_json(value, indent=2)
    print(text)  # noqa: T201


def joined_options(name: str, base: type[Any], of_tasks: Mapping[str, type[Any]]) -> type[Any]:
    """The arguments of a command as one frozen dataclass: those of `base`, and those that tasks add.

    of_tasks: name of a task -> the dataclass of its options. Its docstring is that of `base`.
    """
    parents = [kind for kind in of_tasks.values() if not issubclass(base, kind)]
    return dataclass(frozen=True)(type(name, (base, *_ordered(parents)), {"__doc__": base.__doc__}))


def _ordered(kinds: Sequence[type[Any]]) -> list[type[Any]]:
    """Dataclasses without those that another one contains."""
    unique = list(dict.fromkeys(kinds))
    return [kind for kind in unique if not any(other is not kind and issubclass(other, kind) for other in unique)]


def options_of(args: Any, task: str, of_tasks: Mapping[str, type[Any]], *, model: str, kinds: Mapping[str, str]) -> Any:
    """The options of one task among the arguments of a command.

    kinds: name of a task -> what its models are called. Raises UserError for an option that was given and is another
    task's, and for one whose value cannot work.
    """
    own = {field.name for field in fields(of_tasks[task])}
    plain = type(args)()
    owners: dict[str, list[str]] = {}
    for other, kind in of_tasks.items():
        for field in fields(kind):
            owners.setdefault(field.name, []).append(kinds[other])
    for name, models in owners.items():
        if name not in own and getattr(args, name) != getattr(plain, name):
            option = f"--{name.replace('_', '-')}"
            raise UserError(f"{model} is a {kinds[task]}: {option} is for {' and '.join(f'{m}s' for m in models)}.")
    options = of_tasks[task](**{name: getattr(args, name) for name in own})
    if problem := options.problem():
        raise UserError(problem)
    return options


def refuse(args: Any, of_tasks: Mapping[str, type[Any]]) -> None:
    """Raises UserError for an option of any task whose value cannot work: before a model is loaded."""
    for kind in of_tasks.values():
        if problem := kind(**{field.name: getattr(args, field.name) for field in fields(kind)}).problem():
            raise UserError(problem)


def check_outputs(options: Any) -> None:
    """Raises UserError where a file that a command is to write cannot be written: each of its options that is a Path
    names one."""
    for field in fields(options):
        value = getattr(options, field.name)
        if isinstance(value, Path):
            check_file(value, f"--{field.name.replace('_', '-')}")


def newest_run(*, going: bool = False) -> Path:
    """The run in ./runs that was trained last. One that is still going is left out (going: taken), which is said.

    Raises UserError where there is none.
    """
    runs = sorted(RUNS.glob("*/best.safetensors"), key=_changed, reverse=True)
    busy = [path.parent for path in runs if is_taken(path.parent)]
    done = [path.parent for path in runs if going or path.parent not in busy]
    if not done:
        running = f" {busy[0]} is still being trained; --model {busy[0]} takes its best weights so far." if busy else ""
        raise UserError(
            "Which model? There is no trained one in ./runs; give --model RUN, or train: convnext train --data DIR"
            if not running
            else f"Which model? Every run in ./runs is still going.{running}"
        )
    newest = runs[0].parent
    if newest in busy:
        what = "its figures so far" if going else f"{done[0]} is used; --model {newest} takes its best weights so far"
        say(f"{newest} is still being trained: {what}.")
    return done[0]


def _changed(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except OSError:  # removed in between
        return 0.0
