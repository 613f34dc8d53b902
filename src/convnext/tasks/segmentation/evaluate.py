"""A saved segmenter on pictures: its figures, and in a run's folder also pictures of what it found."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnext.core.atomic import write_text
from convnext.core.device import Precision, pick_device, pick_dtype
from convnext.data.config import LoaderConfig
from convnext.data.decode import BadImage
from convnext.data.loader import BadImages
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.open import open_label_maps_for_evaluation
from convnext.models.tta import NO_TTA, TTA
from convnext.recipes.recipe import read_recipe
from convnext.report.panels import beside
from convnext.run import RECIPE, reopen_labelled
from convnext.tasks.detection.evaluate import PICTURES, WIDE, check_same_classes, fresh_folder, picked
from convnext.tasks.segmentation.draw import overlaid
from convnext.tasks.segmentation.evaluation import Evaluation, evaluate, segment
from convnext.tasks.segmentation.weights import LoadedSegmenter, load_segmenter

_CONFUSED = 10  # pairs of classes that are told


def evaluate_segmenter_on(
    model: str | Path,
    *,
    data: str = "",
    labels: str = "",
    workers: int = -1,
    device: str = "auto",
    dtype: Precision = "auto",
    views: TTA = NO_TTA,
    short: int | None = None,
    window: int | None = None,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """The figures of a segmenter (whatever `load_segmenter` takes) on `data`; without it, on what the run held out.

    labels: a mapping file. short, window: in place of the segmenter's own sizes (`SegmentationInputConfig`). Raises UserError where
    the data's classes are not the segmenter's.
    """
    loaded, held_out = load_segmenter(model, device=device), None
    input = loaded.metadata.input.adapted(short=short, window=window)
    if data:
        limit = LoaderConfig().max_pixels
        source = open_label_maps_for_evaluation(data, labels=labels, max_pixels=limit, skip_bad=skip_bad)
        check_same_classes(loaded.metadata.classes, source.classes, what="segmenter", data=data)
    else:
        run = Path(model) if Path(model).is_dir() else Path(model).parent
        opened = reopen_labelled(run)
        source, held_out = opened.val, opened.held_out
        data = read_recipe(run / RECIPE).data
    chosen = pick_dtype(dtype, pick_device(device))
    evaluation, bad = _evaluate(loaded, source, input=input, workers=workers, dtype=chosen, views=views)
    return _figures(loaded, source, evaluation, bad, data=data, held_out=held_out)


def evaluate_segmenter_run(run: Path) -> dict[str, Any]:
    """Evaluates a run's best segmenter on what it held out; writes evaluation.json and pictures/; returns the
    figures."""
    recipe, opened = read_recipe(run / RECIPE), reopen_labelled(run)
    loaded = load_segmenter(run, device=recipe.loop.device)
    input, workers = loaded.metadata.input, recipe.loader.workers
    evaluation, bad = _evaluate(loaded, opened.val, input=input, workers=workers, dtype=torch.float32, views=NO_TTA)
    figures = _figures(loaded, opened.val, evaluation, bad, data=recipe.data, held_out=opened.held_out)
    figures["pictures"] = _pictures(run, opened.val, loaded)
    write_text(run / "evaluation.json", json.dumps(figures) + "\n")
    return figures


def _evaluate(
    loaded: LoadedSegmenter,
    source: LabelMapDataset,
    *,
    input: SegmentationInputConfig,
    workers: int,
    dtype: torch.dtype,
    views: TTA,
) -> tuple[Evaluation, BadImages]:
    bad = BadImages(len(source), max_bad=LoaderConfig().max_bad)
    evaluation = evaluate(
        loaded.model,
        source,
        input=input,
        loader=LoaderConfig(workers=workers),
        device=next(loaded.model.parameters()).device,
        bad=bad,
        dtype=dtype,
        views=views,
    )
    return evaluation, bad


def _figures(
    loaded: LoadedSegmenter,
    source: LabelMapDataset,
    evaluation: Evaluation,
    bad: BadImages,
    *,
    data: str,
    held_out: bool | None,
) -> dict[str, Any]:
    return {
        "task": "segment",
        "model": loaded.metadata.model.backbone.name,
        "data": data,
        "held_out": held_out,
        "n": len(source),
        "pixels": int(evaluation.counts.sum()),
        **dataclasses.asdict(evaluation.figures),
        "confused": confused(evaluation.counts, source.classes),
        "images_per_second": evaluation.images_per_second,
        "skipped": [{"name": name, "reason": reason} for name, reason in bad.found.items()],
        "pictures": [],
    }


def confused(counts: Tensor, classes: tuple[str, ...]) -> list[dict[str, Any]]:
    """Which classes are taken for which others most often, as shares of the class's pixels: the ten largest.

    counts: int64 (K, K), classes by what they were taken for.
    """
    shares = counts.double() / counts.sum(1, keepdim=True).clamp_min(1)
    shares.fill_diagonal_(0)
    order = torch.argsort(shares.flatten(), descending=True, stable=True)[:_CONFUSED].tolist()
    pairs = [(*divmod(place, len(classes)), float(shares.flatten()[place])) for place in order]
    return [{"name": classes[i], "taken_for": classes[j], "share": share} for i, j, share in pairs if share > 0]


@torch.inference_mode()
def _pictures(run: Path, source: LabelMapDataset, loaded: LoadedSegmenter) -> list[dict[str, str]]:
    """Draws some pictures, over all of the source, with the classes that are there and those that were found."""
    fresh_folder(run / "pictures")
    entries, device = [], next(loaded.model.parameters()).device
    for number, index in enumerate(picked(len(source), PICTURES)):
        try:
            image, truth = source.read(index), source.labels(index)
        except BadImage:
            continue  # said already, while it was evaluated
        found = segment(loaded.model, image, input=loaded.metadata.input, device=device).cpu()
        name = f"pictures/{number:03d}.png"
        halves = (
            overlaid(image, labels, source.classes, source.colours, longest=WIDE, named=labels is found)
            for labels in (truth, found)
        )
        beside(*halves, titles=("annotated", "found")).save(run / name)
        entries.append({"name": source.name(index), "picture": name})
    return entries
