"""A classifier on images: its figures, and in a run's folder also its confusion and images of its mistakes.

B batch, H W space, K classes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.atomic import write_text
from convnext.data.classification.batch import ClassificationBatch, load_eval_batch
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.classification.remap import RemappedDataset
from convnext.data.config import InputConfig, LoaderConfig
from convnext.data.dataset import DataModule
from convnext.data.loader import BadImages
from convnext.data.mix import prepare
from convnext.data.splits import Record
from convnext.metrics.accuracy import ClassificationCounts, ClassificationFigures
from convnext.recipes.recipe import Recipe
from convnext.report.drawing import thumbnail
from convnext.tasks.classification.figures import Mistake, Skipped, evaluation_dict
from convnext.tasks.classification.options import ClassificationEvaluateOptions
from convnext.tasks.classification.weights import LoadedClassifier, load_model
from convnext.tasks.evaluation import bad_images_of, new_folder, part_to_evaluate, visit_all
from convnext.weights.locate import WeightFile

MISTAKES = 24  # images in a report
THUMBNAIL = 160  # pixels
_BATCH = 64


@dataclass(frozen=True)
class Wrong:
    """An image that was taken for another class: its index in the data set, the wrong class and the confidence in
    it."""

    index: int
    prediction: int
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on images, its most confident mistakes, and the speed they came at."""

    result: ClassificationFigures
    mistakes: list[Wrong]
    images_per_second: float


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: ClassificationDataset,
    *,
    input: InputConfig,
    loader: LoaderConfig,
    batch_size: int,
    device: torch.device,
    bad: BadImages,
    dtype: torch.dtype = torch.float32,
    mistakes: int = 0,
) -> Evaluation:
    """Every image once, over all ranks. Rates count images a second, reading included.

    `mistakes` asks for that many most confident mistakes (of this rank). Sums are of float32 logits.
    """
    counts = ClassificationCounts(len(dataset.classes), device=device)
    wrong: list[Wrong] = []

    def visit(batch: ClassificationBatch) -> int:
        images = prepare(batch.images.to(device, non_blocking=True), input)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(images).float()
        counts.update(logits, batch.targets.to(device))
        if mistakes:
            wrong[:] = _most_confident(wrong + _wrong(logits.cpu(), batch), mistakes)
        return len(batch.images)

    rate = visit_all(
        partial(load_eval_batch, dataset=dataset, input=input),
        visit,
        num_images=len(dataset),
        batch_size=batch_size,
        loader=loader,
        image_size=input.size,
        bad=bad,
    )
    distributed.sum_over_ranks(counts.tensors())
    return Evaluation(counts.result(), wrong, rate)


def _wrong(logits: Tensor, batch: ClassificationBatch) -> list[Wrong]:
    confidence, prediction = logits.softmax(dim=1).max(dim=1)
    return [
        Wrong(int(batch.indices[i]), int(prediction[i]), float(confidence[i]))
        for i in (prediction != batch.targets).nonzero().flatten().tolist()
    ]


def _most_confident(wrong: list[Wrong], count: int) -> list[Wrong]:
    return sorted(wrong, key=lambda entry: -entry.confidence)[:count]


def evaluate_on(
    file: WeightFile,
    options: ClassificationEvaluateOptions,
    data: DataModule[ClassificationDataset],
    recipe: Recipe | None = None,
    saved: Record | None = None,
) -> dict[str, Any]:
    """The figures (see `figures.evaluation_dict`) of a classifier on data.

    With the recipe and the saved split of its run: on what that held out. Raises UserError where the data's classes are
    not the model's.
    """
    loaded = load_model(file, device=options.device, dtype=options.dtype)
    dataset, held_out = part_to_evaluate(data, LoaderConfig(), recipe, saved)
    if recipe is None:
        dataset = RemappedDataset(dataset, loaded.metadata.classes, loaded.metadata.class_dirs)
    evaluation, skipped = _evaluate(loaded, dataset, batch=options.batch or _BATCH, workers=options.workers)
    return _figures(loaded, dataset, evaluation, skipped, data=str(data.data), held_out=held_out)


def evaluate_run(run: Path, data: DataModule[ClassificationDataset], recipe: Recipe, saved: Record) -> dict[str, Any]:
    """Evaluates a run's best model on what it held out; writes evaluation.json and mistakes/; returns the figures."""
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    loaded, val = load_model(run, device=recipe.loop.device), splits.val
    evaluation, skipped = _evaluate(loaded, val, batch=_BATCH, workers=recipe.loader.workers, mistakes=MISTAKES)
    new_folder(run / "mistakes")
    mistakes = []
    for number, wrong in enumerate(evaluation.mistakes):
        file = f"mistakes/{number:03d}.png"
        thumbnail(val.read(wrong.index), THUMBNAIL).save(run / file)
        target, found = val.classes[int(val.targets[wrong.index])], val.classes[wrong.prediction]
        mistakes.append(Mistake(val.name(wrong.index), target, found, wrong.confidence, file))
    figures = _figures(loaded, val, evaluation, skipped, data=recipe.data, held_out=splits.held_out, mistakes=mistakes)
    write_text(run / "evaluation.json", json.dumps(figures) + "\n")
    return figures


def _evaluate(
    loaded: LoadedClassifier, dataset: ClassificationDataset, *, batch: int, workers: int, mistakes: int = 0
) -> tuple[Evaluation, list[Skipped]]:
    bad, weight = bad_images_of(dataset), next(loaded.model.parameters())
    evaluation = evaluate(
        loaded.model,
        dataset,
        input=loaded.metadata.input,
        loader=LoaderConfig(workers=workers),
        batch_size=batch,
        device=weight.device,
        dtype=weight.dtype,
        bad=bad,
        mistakes=mistakes,
    )
    return evaluation, [Skipped(name, reason) for name, reason in bad.found.items()]


def _figures(
    loaded: LoadedClassifier,
    dataset: ClassificationDataset,
    evaluation: Evaluation,
    skipped: Sequence[Skipped],
    *,
    data: str,
    held_out: bool | None,
    mistakes: Sequence[Mistake] = (),
) -> dict[str, Any]:
    return evaluation_dict(
        evaluation.result,
        classes=dataset.classes,
        model=loaded.metadata.model.name,
        data=data,
        held_out=held_out,
        images_per_second=evaluation.images_per_second,
        skipped=skipped,
        mistakes=mistakes,
    )
