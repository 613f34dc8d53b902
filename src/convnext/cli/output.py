"""What commands share: results on standard output, parsing, and which run is meant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, TypeVar

import tyro

from convnext.core.console import percent as percent
from convnext.core.console import table as table
from convnext.core.errors import UserError, nearest

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
    """A line of result."""
    print(text)  # noqa: T201


def emit_json(value: Any) -> None:
    """A result for programs."""
    emit(json.dumps(value, indent=2, ensure_ascii=False))


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


def newest_run() -> Path:
    """The run in ./runs that was trained last. Raises UserError where there is none."""
    runs = [path.parent for path in RUNS.glob("*/best.safetensors")]
    if not runs:
        raise UserError(
            "Which model? There is no trained one in ./runs; give --model RUN, or train: convnext train --data DIR"
        )
    return max(runs, key=lambda run: (run / "best.safetensors").stat().st_mtime)
