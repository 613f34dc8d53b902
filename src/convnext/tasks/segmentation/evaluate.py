"""A segmenter on images: mIoU, and in a run's folder also images of what it found.

B batch, H W space, K classes.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
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
from convnext.core.strict_json import to_json
from convnext.data.config import InputConfig, LoaderConfig
from convnext.data.dataset import DataModule
from convnext.data.loader import BadImages
from convnext.data.mix import prepare
from convnext.data.resize import resized_image
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.data.segmentation.dataset import SegmentationDataset
from convnext.data.segmentation.transforms import SegmentationBatch, fitted_size, load_eval_batch
from convnext.data.splits import Record
from convnext.metrics.miou import SegmentationFigures, confusion, segmentation_figures
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.models.segmentation.sliding_window import MEGABYTES, AugmentedImage, SlidingWindow, segment_tta
from convnext.models.tta import NO_TTA, TTA
from convnext.recipes.recipe import Recipe
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
from convnext.tasks.segmentation.draw import overlaid
from convnext.tasks.segmentation.options import SegmentationEvaluateOptions
from convnext.tasks.segmentation.weights import LoadedSegmenter, load_segmenter
from convnext.weights.locate import WeightFile

WIDE = 640  # pixels of the longer side of each half of an image in a report
_CONFUSED = 10  # pairs of classes that are listed
_AT_A_TIME = 4  # windows, on a GPU


@dataclass(frozen=True)
class Evaluation:
    """The figures of a segmenter on images, and the speed they came at."""

    figures: SegmentationFigures
    counts: Tensor
    """int64 (K, K), on the CPU: pixels of a class (row) that were taken for a class (column)."""
    images_per_second: float
    invalid: int = 0
    """Images for which the outputs were not finite; they are in no figure."""


def log_figures(evaluation: Evaluation) -> dict[str, float | None]:
    """The figures that a log holds; None where undefined."""
    figures = {name: getattr(evaluation.figures, name) for name in ("mIoU", "mAcc", "aAcc")}
    return figures | ({"invalid": float(evaluation.invalid)} if evaluation.invalid else {})


@torch.inference_mode()
def evaluate(
    model: EncoderDecoder,
    dataset: SegmentationDataset,
    *,
    input: SegmentationInputConfig,
    loader: LoaderConfig,
    device: torch.device,
    bad: BadImages,
    dtype: torch.dtype = torch.float32,
    tta: TTA = NO_TTA,
) -> Evaluation:
    """Every image once, over all ranks, evaluated at its own size. Rates count images a second, reading included."""
    classes = len(dataset.classes)
    counts = torch.zeros(classes, classes, dtype=torch.int64, device=device)
    invalid = torch.zeros((), dtype=torch.int64, device=device)

    def visit(batch: SegmentationBatch) -> int:
        try:
            found = segment(model, batch.images[0], input=input, device=device, dtype=dtype, tta=tta)
        except NotFinite:
            invalid.add_(1)
            return 1
        counts.add_(confusion(found, batch.targets[0].to(device), classes))
        return 1

    rate = visit_all(
        partial(load_eval_batch, dataset=dataset),
        visit,
        num_images=len(dataset),
        batch_size=1,  # images have sizes of their own; the windows of one are predicted together
        loader=loader,
        image_size=input.short or input.long,
        bad=bad,
    )
    distributed.sum_over_ranks([counts, invalid])
    on_cpu = counts.cpu()
    return Evaluation(segmentation_figures(on_cpu, dataset.classes), on_cpu, rate, int(invalid))


def segment(
    model: EncoderDecoder,
    image: Tensor,
    *,
    input: SegmentationInputConfig,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
    tta: TTA = NO_TTA,
    megabytes: int = MEGABYTES,
) -> Tensor:
    """The class of each pixel of an image, uint8 (3, H, W): uint8 (H, W), on the device.

    megabytes: for logits; a large image is predicted in parts within it, whatever its size
    (`models.segmentation.sliding_window`).
    """
    height, width = image.shape[1:]
    views = []
    for scale in tta.scales:
        resized = resized_image(image, fitted_size(height, width, input, scale))
        views += [AugmentedImage(resized, mirrored) for mirrored in ((False, True) if tta.flip else (False,))]

    def prepared(windows: Tensor) -> Tensor:
        return prepare(windows.to(device, non_blocking=True), InputConfig(mean=input.mean, std=input.std))

    windows = SlidingWindow(input.window, input.stride, batch=1 if device.type == "cpu" else _AT_A_TIME)
    with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
        return segment_tta(model, views, (height, width), window=windows, prepare=prepared, megabytes=megabytes)


def evaluate_on(
    file: WeightFile,
    options: SegmentationEvaluateOptions,
    data: DataModule[SegmentationDataset],
    recipe: Recipe | None = None,
    saved: Record | None = None,
) -> dict[str, Any]:
    """The figures of a segmenter on data.

    With the recipe and the saved split of its run: on what that held out. Raises UserError where the data's classes are
    not the segmenter's.
    """
    loaded = load_segmenter(file, device=options.device)
    check_channels(loaded.metadata.model.backbone.in_chans, "segmenter")
    input = loaded.metadata.input.adapted(short=options.short, window=options.window)
    loader = LoaderConfig(skip_bad=options.skip_bad)
    dataset, held_out = part_to_evaluate(data, loader, recipe, saved, split=options.split)
    check_same_classes(loaded.metadata.classes, dataset.classes, model="segmenter", data=data.data)
    dtype, tta = pick_dtype(options.dtype, pick_device(options.device)), TTA(options.scales, options.flip)
    evaluation, bad = _evaluate(loaded, dataset, input=input, workers=options.workers, dtype=dtype, tta=tta)
    return _figures(loaded, dataset, evaluation, bad, data=str(data.data), held_out=held_out)


def evaluate_run(run: Path, data: DataModule[SegmentationDataset], recipe: Recipe, saved: Record) -> dict[str, Any]:
    """Evaluates a run's best segmenter on what it held out; writes evaluation.json and pictures/; returns the
    figures."""
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    loaded, val = load_segmenter(run, device=recipe.loop.device), splits.val
    input, workers = loaded.metadata.input, recipe.loader.workers
    evaluation, bad = _evaluate(loaded, val, input=input, workers=workers, dtype=torch.float32, tta=NO_TTA)
    figures = _figures(loaded, val, evaluation, bad, data=recipe.data, held_out=splits.held_out)
    figures["pictures"] = _draw_some(run, val, loaded)
    write_text(run / "evaluation.json", to_json(figures) + "\n")
    return figures


def _evaluate(
    loaded: LoadedSegmenter,
    dataset: SegmentationDataset,
    *,
    input: SegmentationInputConfig,
    workers: int,
    dtype: torch.dtype,
    tta: TTA,
) -> tuple[Evaluation, BadImages]:
    bad = bad_images_of(dataset)
    evaluation = evaluate(
        loaded.model,
        dataset,
        input=input,
        loader=LoaderConfig(workers=workers),
        device=next(loaded.model.parameters()).device,
        bad=bad,
        dtype=dtype,
        tta=tta,
    )
    outputs_are_finite(evaluation.invalid, len(dataset), loaded.metadata.model.backbone.name)
    return evaluation, bad


def _figures(
    loaded: LoadedSegmenter,
    dataset: SegmentationDataset,
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
        "pixels": int(evaluation.counts.sum()),
        **dataclasses.asdict(evaluation.figures),
        "confused": confused(evaluation.counts, dataset.classes),
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
def _draw_some(run: Path, dataset: SegmentationDataset, loaded: LoadedSegmenter) -> list[dict[str, str]]:
    """Draws some images, with the classes that are there and those that were found."""
    classes, colours, device = dataset.classes, dataset.colours, next(loaded.model.parameters()).device

    def draw(index: int) -> Image:
        image, truth = dataset.read(index), dataset.labels(index)
        found = segment(loaded.model, image, input=loaded.metadata.input, device=device).cpu()
        return annotated_and_found(
            overlaid(image, truth, classes, colours, longest=WIDE, named=False),
            overlaid(image, found, classes, colours, longest=WIDE),
        )

    return draw_some(run, dataset, draw)
