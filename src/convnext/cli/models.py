"""convnext models [NAME]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tyro

from convnext.cli.output import emit, emit_json, parse, table
from convnext.models.figures import Figures, all_figures, figures_of


@dataclass(frozen=True)
class Models:
    """Lists the models, or tells what one costs.

    For example:
      convnext models                    all of them
      convnext models convnext_tiny      its parameters, and multiply-accumulates at several sizes
    """

    name: tyro.conf.Positional[str | None] = None
    """A model."""
    json: bool = False
    """Print as JSON."""


def run(argv: list[str]) -> None:
    args = parse(Models, argv, command="models")
    if args.name:
        figures = figures_of(args.name)
        macs = {"macs_224": figures.macs_224, "macs_384": figures.macs_384}
        _show({**_facts(figures), **macs}, as_json=args.json)
        return
    rows = [_facts(figures) for figures in all_figures().values()]
    if args.json:
        emit_json(rows)
        return
    lines = [(r["name"], f"{r['parameters'] / 1e6:.1f}", str(r["depths"]), str(r["dims"])) for r in rows]
    emit(table(lines, header=("model", "million parameters", "depths", "dims")))


def _facts(figures: Figures) -> dict[str, Any]:
    return {
        "name": figures.name,
        "parameters": figures.parameters,
        "depths": list(figures.depths),
        "dims": list(figures.dims),
        "num_classes": figures.num_classes,
    }


def _show(facts: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        emit_json(facts)
        return
    for key, value in facts.items():
        if key.startswith("macs_"):
            emit(f"at {key.removeprefix('macs_')} pixels: {value / 1e9:.3f} billion multiply-accumulates")
        else:
            emit(f"{key}: {f'{value:,}' if key == 'parameters' else value}")
