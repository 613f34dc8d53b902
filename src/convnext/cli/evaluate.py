"""convnext evaluate RUN [--data DIR]"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import tyro

from convnext.cli.output import (
    check_outputs,
    emit,
    emit_json,
    joined_options,
    newest_run,
    options_of,
    parse,
    refuse,
)
from convnext.core.logs import say
from convnext.tasks.table import TASKS


@dataclass(frozen=True)
class Evaluate:
    """How good a model is: of a classifier top-1 and top-5 with 95 % confidence intervals, each class, calibration;
    of a detector COCO's twelve figures for boxes and masks; of a segmenter mIoU and accuracies, and each class.

    For example:
      convnext evaluate                        the run trained last, on the images it held out
      convnext evaluate runs/x --data photos   on other images (class folders named as in training)
      convnext evaluate runs/x --corruptions main      on corrupted images too, as ImageNet-C's
      convnext evaluate convnext_tiny.fb_in1k --suite imagenet-a imagenet-r sketch --data SETS
      convnext evaluate mask_rcnn_convnext_tiny.fb_coco --data coco --results r.json
      convnext evaluate upernet_convnext_tiny.fb_ade20k --data ade20k
      convnext evaluate runs/ade --window 0 --scales 0.5 0.75 1 1.25 1.5 1.75 --flip
    """

    model: tyro.conf.Positional[str] = ""
    """A run's folder, a file of weights, a name from `convnext weights list` or hf-hub:owner/name; the run trained last
    if left out."""
    data: str = ""
    """Images to evaluate on; what the run held out if left out."""
    json: bool = False
    """Print everything as JSON."""


def arguments() -> type[Any]:
    """The command's arguments with those that tasks add."""
    return joined_options("Evaluate", Evaluate, _of_tasks())


def _of_tasks() -> dict[str, type[Any]]:
    return {name: spec.evaluate_options() for name, spec in TASKS.items()}


def run(argv: list[str]) -> None:
    args = parse(arguments(), argv, command="evaluate")
    check_outputs(args)
    refuse(args, _of_tasks())
    from convnext.run import evaluate
    from convnext.tasks.choose import check_path, find_weights

    model = args.model or str(newest_run())
    if args.data:
        check_path(args.data)  # before a model is loaded, or even fetched
    spec, file = find_weights(model)
    kinds = {name: other.texts.model for name, other in TASKS.items()}
    options = options_of(args, spec.name, _of_tasks(), model=model, kinds=kinds)
    figures = evaluate(file, data=args.data, options=options)
    if spec.keep is not None and (written := spec.keep(figures, file.source)):
        say(f"- written to {written}; `convnext report {file.source}` shows it")
    if args.json:
        emit_json(figures)
    else:
        emit(spec.evaluation_text(figures))
        if figures.get("chosen"):
            say(figures["chosen"])
