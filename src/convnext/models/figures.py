"""What every model costs, counted once and written down: the command line answers from it without importing torch.

`python -m convnext.models.figures` counts all models again and writes the file; a test compares it with the models.
"""

from __future__ import annotations

import csv
from dataclasses import asdict, dataclass, fields
from functools import cache
from pathlib import Path

from convnext.core.errors import UserError, nearest

FILE = Path(__file__).with_name("figures.csv")


@dataclass(frozen=True)
class Figures:
    """What a model as published costs, with its own number of classes and 3 channels."""

    name: str
    parameters: int
    depths: tuple[int, ...]
    """Blocks of each stage."""
    dims: tuple[int, ...]
    """Channels of each stage's map."""
    num_classes: int
    macs_224: int
    """Multiply-accumulates for one image of 224 x 224 pixels."""
    macs_384: int
    """Multiply-accumulates for one image of 384 x 384 pixels."""


@cache
def all_figures() -> dict[str, Figures]:
    """The figures of every model by its name, in the order of `create.MODEL_NAMES`."""
    with FILE.open(encoding="utf-8", newline="") as file:
        return {row["name"]: _read(row) for row in csv.DictReader(file)}


def figures_of(name: str) -> Figures:
    """The figures of one model. Raises UserError for an unknown name, with the nearest ones."""
    found = all_figures().get(name)
    if found is None:
        known = nearest(name, all_figures())
        raise UserError(f"There is no model '{name}'.{known} `convnext models` lists them all.")
    return found


def _read(row: dict[str, str]) -> Figures:
    return Figures(
        row["name"],
        int(row["parameters"]),
        tuple(int(depth) for depth in row["depths"].split()),
        tuple(int(dim) for dim in row["dims"].split()),
        int(row["num_classes"]),
        int(row["macs_224"]),
        int(row["macs_384"]),
    )


def count(name: str) -> Figures:
    """The figures of a model, counted on the model itself, which is built without values."""
    import torch

    from convnext.models.create import count_macs, count_parameters, create_model

    with torch.device("meta"):
        model = create_model(name)
    macs = [count_macs(model, size) for size in (224, 384)]
    return Figures(name, count_parameters(model), tuple(model.depths), tuple(model.dims), model.num_classes, *macs)


def write(file: Path = FILE) -> None:
    """Counts every model and writes the file anew. Takes a minute."""
    from convnext.models.create import MODEL_NAMES

    with file.open("w", encoding="utf-8", newline="") as opened:
        writer = csv.DictWriter(opened, [field.name for field in fields(Figures)], lineterminator="\n")
        writer.writeheader()
        for name in MODEL_NAMES:
            row = asdict(count(name))
            writer.writerow({key: " ".join(map(str, v)) if isinstance(v, tuple) else v for key, v in row.items()})


if __name__ == "__main__":
    write()
