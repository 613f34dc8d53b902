"""convnext compare MODEL MODEL [--data DIR]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from convnext.cli.output import emit, emit_json, parse
from convnext.core.errors import UserError


@dataclass(frozen=True)
class Compare:
    """Two models on the same images: is one better, beyond chance? Accuracies, their difference with a 95 % interval,
    and McNemar's test on the images that one alone is right about.

    For example:
      convnext compare runs/a runs/b                   on what runs/a held out
      convnext compare runs/a runs/b --data photos     on other images
    """

    models: tyro.conf.Positional[tuple[str, str]]
    """Two runs, files of weights or names of published weights."""
    data: str = ""
    """Images; what the first model's run held out if left out. The second must not have been trained on them: runs of
    the same data and seed hold out the same images."""
    split: Literal["auto", "train", "val", "test"] = "auto"
    """The part of the data. auto: what the run held out; of --data the validation part, else all."""
    batch: int = 0
    """Images at a time; 0: 64."""
    workers: int = -1
    """Processes that read images; -1: as many as this machine can use."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device is fast at it."""
    json: bool = False
    """Print as JSON."""


def run(argv: list[str]) -> None:
    args = parse(Compare, argv, command="compare")
    if args.batch < 0:
        raise UserError(f"--batch is 0 or more, not {args.batch}.")
    from convnext.tasks.choose import check_path
    from convnext.tasks.comparison import compare

    if args.data:
        check_path(args.data)  # before a model is loaded, or even fetched
    options = {name: getattr(args, name) for name in ("split", "batch", "workers", "device", "dtype")}
    figures, text = compare(*args.models, data=args.data, options=options)
    if args.json:
        emit_json(figures)
    else:
        emit(text)
