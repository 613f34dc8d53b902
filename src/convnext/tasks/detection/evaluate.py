"""A saved detector on pictures: its figures, and in a run's folder also its results and pictures of what it found."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from convnext.core.atomic import write_text
from convnext.core.device import Precision, pick_device, pick_dtype
from convnext.core.errors import UserError
from convnext.data.config import LoaderConfig
from convnext.data.decode import BadImage
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.open import open_coco_for_evaluation
from convnext.data.detection.transforms import image_batch
from convnext.data.loader import BadImages
from convnext.models.tta import NO_TTA, TTA
from convnext.ops.instances import above_score
from convnext.recipes.recipe import read_recipe
from convnext.report.panels import beside
from convnext.run import RECIPE, reopen_scenes
from convnext.tasks.detection.draw import drawn
from convnext.tasks.detection.evaluation import Evaluation, detect, evaluate
from convnext.tasks.detection.weights import LoadedDetector, load_detector

PICTURES, WIDE = 12, 640  # in a report: how many, and pixels of each half's longer side
SHOWN = 0.5  # score from which a detection is drawn


def evaluate_detector_on(
    model: str | Path,
    *,
    data: str = "",
    results: Path | None = None,
    batch: int = 1,
    workers: int = -1,
    device: str = "auto",
    dtype: Precision = "auto",
    views: TTA = NO_TTA,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """The figures of a detector (whatever `load_detector` takes) on `data`; without it, on what the run held out.

    results: where to write every detection, in COCO's form. Raises UserError where the data's classes are not the
    detector's.
    """
    if results is not None:
        make_folder_for(results)
    loaded, held_out = load_detector(model, device=device), None
    if data:
        source = open_coco_for_evaluation(data, max_pixels=LoaderConfig().max_pixels, skip_bad=skip_bad)
        _check_classes(loaded, source, data)
    else:
        run = Path(model) if Path(model).is_dir() else Path(model).parent
        opened = reopen_scenes(run)
        source, held_out = opened.val, opened.held_out
        data = read_recipe(run / RECIPE).data
    where = pick_device(device)
    evaluation, bad = _evaluate(
        loaded, source, batch=batch, workers=workers, dtype=pick_dtype(dtype, where), views=views
    )
    if results is not None:
        write_text(results, json.dumps(evaluation.results) + "\n")
    return _figures(loaded, source, evaluation, bad, data=data, held_out=held_out)


def evaluate_detector_run(run: Path) -> dict[str, Any]:
    """Evaluates a run's best detector on what it held out; writes evaluation.json, results.json (every detection, in
    COCO's form) and pictures/; returns the figures."""
    recipe, opened = read_recipe(run / RECIPE), reopen_scenes(run)
    loaded = load_detector(run, device=recipe.loop.device)
    evaluation, bad = _evaluate(
        loaded, opened.val, batch=1, workers=recipe.loader.workers, dtype=torch.float32, views=NO_TTA
    )
    write_text(run / "results.json", json.dumps(evaluation.results) + "\n")
    figures = _figures(loaded, opened.val, evaluation, bad, data=recipe.data, held_out=opened.held_out)
    figures["pictures"] = _pictures(run, opened.val, loaded)
    write_text(run / "evaluation.json", json.dumps(figures) + "\n")
    return figures


def make_folder_for(results: Path) -> None:
    """Makes the folder of a file that is to be written after a long time. Raises UserError where there can be none."""
    try:
        results.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"There can be no {results}: {error.strerror} ({results.parent}).") from None
    if results.is_dir():
        raise UserError(f"{results} is a folder; --results takes a file, as {results / 'results.json'}.")


def _check_classes(loaded: LoadedDetector, source: CocoDataset, data: str) -> None:
    check_same_classes(loaded.metadata.classes, source.classes, what="detector", data=data)


def check_same_classes(known: Sequence[str], given: Sequence[str], *, what: str, data: str) -> None:
    """Raises UserError where the data's classes are not the network's, in the same order; one that does not know its
    classes takes any."""
    if known and tuple(given) != tuple(known):
        strange = [name for name in given if name not in known]
        why = f"'{strange[0]}' is none of the {what}'s" if strange else "some are missing, or in another order"
        raise UserError(
            f"{data} has {len(given)} classes and the {what} {len(known)}: {why}. Evaluate on data with the classes "
            "that it was trained on."
        )


def fresh_folder(path: Path) -> Path:
    """An empty folder, in place of the one that may stand there."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def picked(n: int, most: int) -> range:
    """Which of n pictures are shown: `most` of them, spread over all."""
    step = max(n // most, 1)
    return range(0, n, step)[:most]


def _evaluate(
    loaded: LoadedDetector, source: CocoDataset, *, batch: int, workers: int, dtype: torch.dtype, views: TTA
) -> tuple[Evaluation, BadImages]:
    bad = BadImages(len(source), max_bad=LoaderConfig().max_bad)
    evaluation = evaluate(
        loaded.model,
        source,
        input=loaded.metadata.input,
        loader=LoaderConfig(workers=workers),
        batch_size=batch,
        device=next(loaded.model.parameters()).device,
        bad=bad,
        dtype=dtype,
        views=views,
    )
    return evaluation, bad


def _figures(
    loaded: LoadedDetector,
    source: CocoDataset,
    evaluation: Evaluation,
    bad: BadImages,
    *,
    data: str,
    held_out: bool | None,
) -> dict[str, Any]:
    return {
        "task": "detect",
        "model": loaded.metadata.model.backbone.name,
        "data": data,
        "held_out": held_out,
        "n": len(source),
        "objects": int(source.counts.sum()),
        "box": dataclasses.asdict(evaluation.box),
        "mask": None if evaluation.mask is None else dataclasses.asdict(evaluation.mask),
        "images_per_second": evaluation.images_per_second,
        "skipped": [{"name": name, "reason": reason} for name, reason in bad.found.items()],
        "pictures": [],
    }


@torch.inference_mode()
def _pictures(run: Path, source: CocoDataset, loaded: LoadedDetector) -> list[dict[str, str]]:
    """Draws some pictures, over all of the source, with what is in them and what was found."""
    fresh_folder(run / "pictures")
    entries, classes, device = [], loaded.metadata.classes, next(loaded.model.parameters()).device
    for number, index in enumerate(picked(len(source), PICTURES)):
        try:
            image, truth = source.read(index), source.instances(index)
        except BadImage:
            continue  # said already, while it was evaluated
        batch = image_batch([image], loaded.metadata.input)
        found = above_score(detect(loaded.model, batch, input=loaded.metadata.input, device=device)[0], SHOWN)
        name = f"pictures/{number:03d}.png"
        truth_drawn, found_drawn = (drawn(image, objects, classes, longest=WIDE) for objects in (truth, found))
        beside(truth_drawn, found_drawn, titles=("annotated", "found")).save(run / name)
        entries.append({"name": source.name(index), "picture": name})
    return entries
