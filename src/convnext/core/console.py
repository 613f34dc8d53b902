"""Text for terminals: columns and percentages."""

from __future__ import annotations

from collections.abc import Sequence


def percent(share: float | None, digits: int = 1) -> str:
    """A share in 0..1 as a percentage; a dash where it is undefined."""
    return "-" if share is None else f"{100 * share:.{digits}f} %"


def table(rows: Sequence[Sequence[str]], *, header: Sequence[str]) -> str:
    """Formats rows as a table. Columns of numbers are aligned right, unless they come first."""
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    right = [i > 0 and all(row[i][:1].isdigit() or not row[i] for row in rows) for i in range(len(header))]
    lines: list[str] = []
    for row in [header, *rows]:
        cells = [
            cell.rjust(width) if r else cell.ljust(width) for cell, width, r in zip(row, widths, right, strict=True)
        ]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def pairs(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Formats names and values as lines, with the values aligned."""
    width = max(len(name) for name, _ in entries) + 2
    return [f"{name.ljust(width)}{value}" for name, value in entries]


def few(names: Sequence[str], most: int = 4) -> str:
    """The first `most` names, with dots if there are more."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")
