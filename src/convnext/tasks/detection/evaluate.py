"""A detector on images: COCO's figures, and in a run's folder also its results and images of what it found.

B batch, H W space, K classes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor

from convnext.core import distributed
from convnext.core.atomic import write_text
from convnext.core.device import pick_device, pick_dtype
from convnext.core.errors import NotFinite
from convnext.core.places import check_file, make_folder
from convnext.core.strict_json import to_json
from convnext.data.config import LoaderConfig
from convnext.data.dataset import DataModule
from convnext.data.detection.config import DetectionInputConfig
from convnext.data.detection.dataset import DetectionDataset
from convnext.data.detection.transforms import DetectionBatch, image_batch, load_eval_batch
from convnext.data.loader import BadImages
from convnext.data.mix import prepare_padded
from convnext.data.splits import Record
from convnext.metrics.coco_ap import CocoFigures, coco_figures, results_of
from convnext.models.detection.rcnn import RCNN
from convnext.models.detection.tta import AugmentedImage, detect_tta
from convnext.models.tta import NO_TTA, TTA
from convnext.ops.instances import Detections, above_score
from convnext.recipes.recipe import Recipe
from convnext.tasks.detection.draw import drawn
from convnext.tasks.detection.options import DetectionEvaluateOptions
from convnext.tasks.detection.weights import LoadedDetector, load_detector
from convnext.tasks.evaluation import (
    annotated_and_found,
    bad_images_of,
    check_same_classes,
    common_figures,
    draw_some,
    outputs_are_finite,
    part_to_evaluate,
    visit_all,
)
from convnext.tasks.predictor import check_channels
from convnext.weights.locate import WeightFile

WIDE = 640  # pixels of the longer side of each half of an image in a report
DRAWN_FROM = 0.5  # score from which a detection is drawn
Size = tuple[int, int]


@dataclass(frozen=True)
class Evaluation:
    """The figures of a detector on images, what it found in them, and the speed they came at."""

    box: CocoFigures
    mask: CocoFigures | None
    """None where the detector or the data has no masks."""
    results: list[dict[str, Any]]
    """Every detection, in COCO's form."""
    images_per_second: float
    invalid: int = 0
    """Images for which the outputs were not finite: as if nothing were found in them."""


def log_figures(evaluation: Evaluation) -> dict[str, float | None]:
    """The figures that a log holds: box_AP, box_AP50, box_AP75 and the same of masks; None where undefined."""
    kinds = {"box": evaluation.box, "mask": evaluation.mask}
    known = {
        f"{kind}_{name}": getattr(figures, name)
        for kind, figures in kinds.items()
        if figures is not None
        for name in ("AP", "AP50", "AP75")
    }
    return known | ({"invalid": float(evaluation.invalid)} if evaluation.invalid else {})


@torch.inference_mode()
def evaluate(
    model: RCNN,
    dataset: DetectionDataset,
    *,
    input: DetectionInputConfig,
    loader: LoaderConfig,
    batch_size: int,
    device: torch.device,
    bad: BadImages,
    dtype: torch.dtype = torch.float32,
    tta: TTA = NO_TTA,
) -> Evaluation:
    """Every image once, over all ranks. Rates count images a second, reading included.

    With test-time augmentation, images are taken one at a time.
    """
    results: list[dict[str, Any]] = []
    invalid = torch.zeros((), dtype=torch.int64, device=device)

    def visit(batch: DetectionBatch) -> int:
        try:
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                found = detect(model, batch, input=input, device=device, tta=tta)
        except NotFinite:
            invalid.add_(len(batch.indices))
            return len(batch.indices)
        for index, detections in zip(batch.indices.tolist(), found, strict=True):
            results.extend(results_of(dataset.image_id(index), detections, dataset.category_ids))
        return len(found)

    rate = visit_all(
        partial(load_eval_batch, dataset=dataset, config=input if tta.single else None),
        visit,
        num_images=len(dataset),
        batch_size=batch_size if tta.single else 1,
        loader=loader,
        image_size=input.short,
        bad=bad,
    )
    distributed.sum_over_ranks([invalid])
    every = [result for of_rank in distributed.gather_objects(results) for result in of_rank]
    truth, masks = dataset.truth(), dataset.has_masks and bool(model.roi_head.mask_stages)
    return Evaluation(
        box=coco_figures(truth, every, kind="bbox"),
        mask=coco_figures(truth, every, kind="segm") if masks else None,
        results=every,
        images_per_second=rate,
        invalid=int(invalid),
    )


def detect(
    model: RCNN, batch: DetectionBatch, *, input: DetectionInputConfig, device: torch.device, tta: TTA = NO_TTA
) -> list[Detections]:
    """What the detector finds in the images of a batch, in pixels of the images as they were read.

    With test-time augmentation, the batch holds images as they are, one of them.
    """
    originals = size_pairs(batch.originals)
    if tta.single:
        images = prepared(batch, input, device)
        return model(images, size_pairs(batch.sizes), originals=originals)
    (height, width), views = originals[0], []
    image = batch.images[0, :, :height, :width]
    for scale in tta.scales:
        scaled = replace(input, short=round(scale * input.short), long=round(scale * input.long))
        for mirrored in (False, True) if tta.flip else (False,):
            seen = image_batch([image.flip(2) if mirrored else image], scaled)
            views.append(AugmentedImage(prepared(seen, input, device), size_pairs(seen.sizes)[0], mirrored))
    return [detect_tta(model, views, originals[0])]


def prepared(batch: DetectionBatch, input: DetectionInputConfig, device: torch.device) -> Tensor:
    """A batch's images, normalised on the device: float32 (B, 3, H, W)."""
    images = batch.images.to(device, non_blocking=True)
    return prepare_padded(images, batch.sizes, mean=input.mean, std=input.std)


def size_pairs(sizes: Tensor) -> list[Size]:
    """int64 (B, 2) as plain numbers."""
    return [(height, width) for height, width in sizes.tolist()]


def evaluate_on(
    file: WeightFile,
    options: DetectionEvaluateOptions,
    data: DataModule[DetectionDataset],
    recipe: Recipe | None = None,
    saved: Record | None = None,
) -> dict[str, Any]:
    """The figures of a detector on data.

    With the recipe and the saved split of its run: on what that held out. Raises UserError where the data's classes are
    not the detector's.
    """
    if options.results is not None:
        check_file(options.results, "--results")
    loaded = load_detector(file, device=options.device)
    check_channels(loaded.metadata.model.backbone.in_chans, "detector")
    loader = LoaderConfig(skip_bad=options.skip_bad)
    dataset, held_out = part_to_evaluate(data, loader, recipe, saved, split=options.split)
    check_same_classes(loaded.metadata.classes, dataset.classes, model="detector", data=data.data)
    evaluation, bad = _evaluate(
        loaded,
        dataset,
        batch=options.batch or 1,
        workers=options.workers,
        dtype=pick_dtype(options.dtype, pick_device(options.device)),
        tta=TTA(options.scales, options.flip),
    )
    if options.results is not None:
        make_folder(options.results.parent)
        write_text(options.results, to_json(evaluation.results) + "\n")
    return _figures(loaded, dataset, evaluation, bad, data=str(data.data), held_out=held_out)


def evaluate_run(run: Path, data: DataModule[DetectionDataset], recipe: Recipe, saved: Record) -> dict[str, Any]:
    """Evaluates a run's best detector on what it held out; writes evaluation.json, results.json (every detection, in
    COCO's form) and pictures/; returns the figures."""
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    loaded, val = load_detector(run, device=recipe.loop.device), splits.val
    evaluation, bad = _evaluate(loaded, val, batch=1, workers=recipe.loader.workers, dtype=torch.float32, tta=NO_TTA)
    write_text(run / "results.json", to_json(evaluation.results) + "\n")
    figures = _figures(loaded, val, evaluation, bad, data=recipe.data, held_out=splits.held_out)
    figures["pictures"] = _draw_some(run, val, loaded)
    write_text(run / "evaluation.json", to_json(figures) + "\n")
    return figures


def _evaluate(
    loaded: LoadedDetector, dataset: DetectionDataset, *, batch: int, workers: int, dtype: torch.dtype, tta: TTA
) -> tuple[Evaluation, BadImages]:
    bad = bad_images_of(dataset)
    evaluation = evaluate(
        loaded.model,
        dataset,
        input=loaded.metadata.input,
        loader=LoaderConfig(workers=workers),
        batch_size=batch,
        device=next(loaded.model.parameters()).device,
        bad=bad,
        dtype=dtype,
        tta=tta,
    )
    outputs_are_finite(evaluation.invalid, len(dataset), loaded.metadata.model.backbone.name)
    return evaluation, bad


def _figures(
    loaded: LoadedDetector,
    dataset: DetectionDataset,
    evaluation: Evaluation,
    bad: BadImages,
    *,
    data: str,
    held_out: bool | None,
) -> dict[str, Any]:
    rate = evaluation.images_per_second
    common = common_figures(loaded.metadata, dataset, bad, data=data, held_out=held_out, rate=rate)
    return {
        **common,
        "objects": int(dataset.counts.sum()),
        "box": dataclasses.asdict(evaluation.box),
        "mask": None if evaluation.mask is None else dataclasses.asdict(evaluation.mask),
    }


@torch.inference_mode()
def _draw_some(run: Path, dataset: DetectionDataset, loaded: LoadedDetector) -> list[dict[str, str]]:
    """Draws some images, with what is in them and what was found."""
    classes, device = loaded.metadata.classes, next(loaded.model.parameters()).device

    def draw(index: int) -> Image:
        image, truth = dataset.read(index), dataset.instances(index)
        batch = image_batch([image], loaded.metadata.input)
        found = above_score(detect(loaded.model, batch, input=loaded.metadata.input, device=device)[0], DRAWN_FROM)
        views = (drawn(image, instances, classes, longest=WIDE) for instances in (truth, found))
        return annotated_and_found(*views)

    return draw_some(run, dataset, draw)
