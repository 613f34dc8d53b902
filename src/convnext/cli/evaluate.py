"""convnext evaluate RUN [--data DIR]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import tyro

from convnext.cli.output import emit, emit_json, newest_run, parse, table


@dataclass(frozen=True)
class Evaluate:
    """How good a model is: top-1 and top-5 with 95 % intervals, each class, calibration, images a second.

    For example:
      convnext evaluate                        the run trained last, on the images it held out
      convnext evaluate runs/x --data photos   on other images (class folders named as in training)
    """

    model: tyro.conf.Positional[str] = ""
    """A run's folder, a file of weights, a name from `convnext weights list` or hf-hub:owner/name; the run trained last
    if left out."""
    data: str = ""
    """Images to evaluate on; what the run held out if left out."""
    batch: int = 64
    """Images at a time."""
    workers: int = -1
    """Processes that read images; -1: as many as this machine can use."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device is fast at it."""
    json: bool = False
    """Print everything as JSON."""


def run(argv: list[str]) -> None:
    args = parse(Evaluate, argv, command="evaluate")
    from convnext.study.evaluation import evaluate_on

    figures = evaluate_on(
        args.model or newest_run(),
        data=args.data,
        batch=args.batch,
        workers=args.workers,
        device=args.device,
        dtype=args.dtype,
    )
    if args.json:
        emit_json(figures)
        return
    low, high = figures["top1_interval"]
    low5, high5 = figures["top5_interval"]
    held = "  (THESE WERE TRAINED ON: no measure of new images)" if figures["held_out"] is False else ""
    emit(f"model        {figures['model']}")
    emit(f"data         {figures['data']}: {figures['n']} images{held}")
    emit(f"top-1        {100 * figures['top1']:.2f} %  ({100 * low:.2f} to {100 * high:.2f})")
    emit(f"top-{figures['top5_k']}        {100 * figures['top5']:.2f} %  ({100 * low5:.2f} to {100 * high5:.2f})")
    emit(f"per class    {100 * figures['mean_per_class']:.2f} % on average")
    if figures["ece"] is not None:
        emit(f"calibration  {100 * figures['ece']:.2f} % expected error of the confidence")
    emit(f"speed        {figures['images_per_second']:.1f} images/s, reading included")
    if figures["skipped"]:
        emit(f"skipped      {len(figures['skipped'])} unreadable images, e.g. {figures['skipped'][0]['name']}")
    rows = sorted((entry for entry in figures["per_class"] if entry["n"]), key=lambda entry: entry["top1"])
    lines = [(entry["name"], str(entry["n"]), f"{100 * entry['top1']:.1f} %") for entry in rows[:20]]
    emit("\n" + table(lines, header=("class, worst first", "images", "top-1")))
    if len(rows) > 20:
        emit(f"... and {len(rows) - 20} more (--json has them all)")
