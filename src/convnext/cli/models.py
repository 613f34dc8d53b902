"""convnext models [NAME]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tyro

from convnext.cli.output import emit, emit_json, parse, table


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
    from convnext.models.create import MODEL_NAMES

    if args.name:
        _show(_facts(args.name, sizes=(224, 384)), as_json=args.json)
        return
    rows = [_facts(name, sizes=()) for name in MODEL_NAMES]
    if args.json:
        emit_json(rows)
        return
    lines = [(r["name"], f"{r['parameters'] / 1e6:.1f}", str(r["depths"]), str(r["dims"])) for r in rows]
    emit(table(lines, header=("model", "million parameters", "depths", "dims")))


def _facts(name: str, *, sizes: tuple[int, ...]) -> dict[str, Any]:
    import torch

    from convnext.models.create import count_macs, count_parameters, create_model

    with torch.device("meta"):
        model = create_model(name)
    return {
        "name": name,
        "parameters": count_parameters(model),
        "depths": list(model.depths),
        "dims": list(model.dims),
        "num_classes": model.num_classes,
        **{f"macs_{size}": count_macs(model, size) for size in sizes},
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
