"""What commands share: results on standard output, parsing, and which run is meant."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tyro

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


def percent(share: float | None) -> str:
    """A share of 0..1 for people; a dash where there is none."""
    return "-" if share is None else f"{100 * share:.1f} %"


def emit_json(value: Any) -> None:
    """A result for programs."""
    emit(json.dumps(value, indent=2, ensure_ascii=False))


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str]) -> str:
    """Rows as columns: the first to the left, numbers to the right."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    right = [i > 0 and all(row[i][:1].isdigit() or not row[i] for row in rows) for i in range(len(header))]
    lines = []
    for row in [header, *rows]:
        cells = [
            cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def refuse_others(kind: str, model: str, args: Any, plain: Any, of_tasks: Mapping[str, Sequence[str]]) -> None:
    """Raises UserError for an option that was given and serves another sort of model.

    plain: the arguments as they are by default. of_tasks: which sorts an option serves; others serve all.
    """
    for name, kinds in of_tasks.items():
        if kind not in kinds and getattr(args, name) != getattr(plain, name):
            raise UserError(f"{model} is a {kind}: --{name.replace('_', '-')} is for {'s and '.join(kinds)}s.")


def newest_run() -> Path:
    """The run in ./runs that was trained last. Raises UserError where there is none."""
    runs = [path.parent for path in RUNS.glob("*/best.safetensors")]
    if not runs:
        raise UserError(
            "Which model? There is no trained one in ./runs; give --model RUN, or train: convnext train --data DIR"
        )
    return max(runs, key=lambda run: (run / "best.safetensors").stat().st_mtime)
