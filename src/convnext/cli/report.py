"""convnext report [RUN]"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from convnext.cli.output import emit, emit_json, newest_run, parse


@dataclass(frozen=True)
class Report:
    """Draws a run as one HTML page and prints its path. Works while the run is still training.

    For example:
      convnext report runs/x
    """

    run: tyro.conf.Positional[Path | None] = None
    """A run's folder; the run trained last if left out."""
    json: bool = False
    """Print the path as JSON."""


def run(argv: list[str]) -> None:
    args = parse(Report, argv, command="report")
    from convnext.run import write_report

    path = write_report(args.run or newest_run(going=True))
    if args.json:
        emit_json({"report": str(path)})
    else:
        emit(str(path))
