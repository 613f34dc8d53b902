"""convnext evaluate RUN [--data DIR]"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from convnext.cli.output import emit, emit_json, newest_run, parse, percent, refuse_others, table
from convnext.core.errors import UserError


@dataclass(frozen=True)
class Evaluate:
    """How good a model is: top-1 and top-5 with 95 % intervals, each class, calibration, images a second; of a detector
    COCO's twelve figures for boxes and polygons, of a segmenter mIoU and accuracies, and each class.

    For example:
      convnext evaluate                        the run trained last, on the images it held out
      convnext evaluate runs/x --data photos   on other images (class folders named as in training)
      convnext evaluate mask_rcnn_convnext_tiny.fb_coco --data coco --results r.json
      convnext evaluate upernet_convnext_tiny.fb_ade20k --data ade20k
      convnext evaluate runs/ade --window 0 --scales 0.5 0.75 1 1.25 1.5 1.75 --flip
    """

    model: tyro.conf.Positional[str] = ""
    """A run's folder, a file of weights, a name from `convnext weights list` or hf-hub:owner/name; the run trained last
    if left out."""
    data: str = ""
    """Images to evaluate on; what the run held out if left out."""
    batch: int = 0
    """Images at a time; 0: 64, or 1 for a detector; a segmenter takes one."""
    workers: int = -1
    """Processes that read images; -1: as many as this machine can use."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device is fast at it."""
    scales: tuple[float, ...] = (1.0,)
    """Detector, segmenter: look at each picture at these sizes, as 0.5 1 1.5, and judge them together."""
    flip: bool = False
    """Detector, segmenter: look at mirror images too."""
    results: Path | None = None
    """Detector: a file for every detection, in COCO's form."""
    skip_bad: bool = False
    """Detector, segmenter: leave out annotations that cannot be used, and say which, instead of stopping."""
    labels: str = ""
    """Segmenter: what the values or colours of the label maps mean, as a JSON file."""
    short: int | None = None
    """Segmenter: pixels of the pictures' shorter side, in place of its own; 0: pictures as they are."""
    window: int | None = None
    """Segmenter: side of the windows that slide over a picture, in place of its own; 0: the whole picture at once."""
    json: bool = False
    """Print everything as JSON."""


_OF_TASKS = {
    "results": ("detector",),
    "batch": ("classifier", "detector"),
    "scales": ("detector", "segmenter"),
    "flip": ("detector", "segmenter"),
    "skip_bad": ("detector", "segmenter"),
    "labels": ("segmenter",),
    "short": ("segmenter",),
    "window": ("segmenter",),
}


def run(argv: list[str]) -> None:
    args = parse(Evaluate, argv, command="evaluate")
    if args.batch < 0:
        raise UserError(f"--batch is 0 or more, not {args.batch}.")
    from convnext.weights.kinds import kind_of

    model = args.model or str(newest_run())
    kind = kind_of(model)
    refuse_others(kind, model, args, Evaluate(), _OF_TASKS)
    {"classifier": _classifier, "detector": _detector, "segmenter": _segmenter}[kind](model, args)


def _detector(model: str, args: Evaluate) -> None:
    from convnext.models.tta import TTA
    from convnext.tasks.detection.evaluate import evaluate_detector_on

    figures = evaluate_detector_on(
        model,
        data=args.data,
        results=args.results,
        batch=args.batch or 1,
        workers=args.workers,
        device=args.device,
        dtype=args.dtype,
        views=TTA(args.scales, args.flip),
        skip_bad=args.skip_bad,
    )
    if args.json:
        emit_json(figures)
        return
    held = "  (THESE WERE TRAINED ON: no measure of new pictures)" if figures["held_out"] is False else ""
    emit(f"model  {figures['model']}")
    emit(f"data   {figures['data']}: {figures['n']} pictures, {figures['objects']} objects{held}")
    emit(f"speed  {figures['images_per_second']:.2f} pictures/s, reading included")
    if figures["skipped"]:
        emit(f"skipped {len(figures['skipped'])} unreadable pictures, e.g. {figures['skipped'][0]['name']}")
    kinds = [kind for kind in ("box", "mask") if figures[kind]]
    rows = [(name, *(percent(figures[kind][name]) for kind in kinds)) for name in figures["box"] if name != "per_class"]
    emit("\n" + table(rows, header=("", *kinds)))
    worst = sorted((c for c in figures["box"]["per_class"] if c["n"]), key=lambda c: c["AP"] or 0.0)
    lines = [(c["name"], str(c["n"]), percent(c["AP"]), percent(c["AP50"])) for c in worst[:20]]
    emit("\n" + table(lines, header=("class, worst first", "objects", "box AP", "box AP50")))
    if len(worst) > 20:
        emit(f"... and {len(worst) - 20} more (--json has them all)")


def _segmenter(model: str, args: Evaluate) -> None:
    from convnext.models.tta import TTA
    from convnext.tasks.segmentation.evaluate import evaluate_segmenter_on

    figures = evaluate_segmenter_on(
        model,
        data=args.data,
        labels=args.labels,
        workers=args.workers,
        device=args.device,
        dtype=args.dtype,
        views=TTA(args.scales, args.flip),
        short=args.short,
        window=args.window,
        skip_bad=args.skip_bad,
    )
    if args.json:
        emit_json(figures)
        return
    held = "  (THESE WERE TRAINED ON: no measure of new pictures)" if figures["held_out"] is False else ""
    emit(f"model           {figures['model']}")
    emit(f"data            {figures['data']}: {figures['n']} pictures{held}")
    emit(f"mIoU            {percent(figures['mIoU'])}")
    emit(f"mean accuracy   {percent(figures['mAcc'])}")
    emit(f"pixel accuracy  {percent(figures['aAcc'])}")
    emit(f"speed           {figures['images_per_second']:.2f} pictures/s, reading included")
    if figures["skipped"]:
        emit(f"skipped         {len(figures['skipped'])} unreadable pictures, e.g. {figures['skipped'][0]['name']}")
    worst = sorted((c for c in figures["per_class"] if c["IoU"] is not None), key=lambda c: c["IoU"])
    total = max(figures["pixels"], 1)
    lines = [
        (c["name"], f"{100 * c['pixels'] / total:.2f} %", percent(c["IoU"]), percent(c["Acc"])) for c in worst[:20]
    ]
    emit("\n" + table(lines, header=("class, worst first", "of all pixels", "IoU", "accuracy")))
    if len(worst) > 20:
        emit(f"... and {len(worst) - 20} more (--json has them all)")


def _classifier(model: str, args: Evaluate) -> None:
    from convnext.data.detection.open import looks_like_coco
    from convnext.tasks.classification.evaluate import evaluate_on

    try:
        figures = evaluate_on(
            model,
            data=args.data,
            batch=args.batch or 64,
            workers=args.workers,
            device=args.device,
            dtype=args.dtype,
        )
    except UserError as error:
        if not args.data or not looks_like_coco(args.data):
            raise
        raise UserError(f"{args.data} is annotated for a detector, and {model} is a classifier. {error}") from None
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
