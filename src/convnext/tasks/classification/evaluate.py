"""A classifier on images: its figures, and in a run's folder also its confusion and images of its mistakes.

B batch, H W space, K classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.core.strict_json import to_json
from convnext.data.classification.batch import ClassificationBatch, load_eval_batch
from convnext.data.classification.dataset import ClassificationDataset, labels_of, several_labels
from convnext.data.classification.remap import RemappedDataset
from convnext.data.config import InputConfig, LoaderConfig
from convnext.data.dataset import DataModule
from convnext.data.loader import BadImages
from convnext.data.mix import prepare
from convnext.data.splits import Record
from convnext.metrics.accuracy import ClassificationCounts, ClassificationFigures
from convnext.metrics.multilabel import MultiLabelFigures, MultiLabelScores
from convnext.recipes.recipe import Recipe
from convnext.report.drawing import thumbnail
from convnext.tasks.classification import multilabel
from convnext.tasks.classification.figures import Mistake, Skipped, evaluation_dict
from convnext.tasks.classification.options import ClassificationEvaluateOptions
from convnext.tasks.classification.recipe import ClassificationMetadata
from convnext.tasks.classification.robustness import corrupted_figures
from convnext.tasks.classification.weights import LoadedClassifier, load_model
from convnext.tasks.evaluation import bad_images_of, new_folder, outputs_are_finite, part_to_evaluate, visit_all
from convnext.weights.files import read_state, save_model
from convnext.weights.locate import BEST, WeightFile

MISTAKES = 24  # images in a report
THUMBNAIL = 160  # pixels
_BATCH = 64


@dataclass(frozen=True)
class Wrong:
    """An image that was taken for another class: its index in the data set, the wrong class and the confidence in it.

    Of several labels: one that is given and does not hold, or the other way round, and how far its probability is off.
    """

    index: int
    prediction: int
    confidence: float


@dataclass(frozen=True)
class Evaluation:
    """The figures of a model on images, its most confident mistakes, and the speed they came at."""

    result: ClassificationFigures | MultiLabelFigures
    mistakes: list[Wrong]
    images_per_second: float
    thresholds: tuple[float, ...] = ()
    """Of several labels: those that the figures are taken at, K."""


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
    thresholds: Sequence[float] | None = (),
) -> Evaluation:
    """Every image once, over all ranks. Rates count images a second, reading included.

    `mistakes` asks for that many most confident mistakes (of this rank). Sums are of float32 logits. thresholds: of
    several labels, K or none (0.5 for each); None: those with the best F1 on these images.
    """
    k = len(dataset.classes)
    meter: ClassificationCounts | MultiLabelScores = ClassificationCounts(k, device=device)
    if several_labels(dataset):
        meter = MultiLabelScores(len(dataset), k, device=device)
    wrong: list[Wrong] = []

    def visit(batch: ClassificationBatch) -> int:
        images = prepare(batch.images.to(device, non_blocking=True), input)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            logits = model(images).float()
        if isinstance(meter, MultiLabelScores):
            meter.update(logits, batch.targets > 0, batch.indices)
            return len(batch.images)
        meter.update(logits, batch.targets.to(device))
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
    distributed.sum_over_ranks(meter.tensors())
    if isinstance(meter, MultiLabelScores):
        chosen = meter.thresholds() if thresholds is None else tuple(thresholds)
        wrong = [Wrong(*entry) for entry in meter.wrong(chosen, mistakes)]
        return Evaluation(meter.result(chosen), wrong, rate, chosen)
    return Evaluation(meter.result(), wrong, rate)


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
    bands, white = loaded.metadata.model.in_chans, loaded.metadata.input.white
    loader = LoaderConfig(bands=bands, white=white, skip_bad=options.skip_bad)
    dataset, held_out = part_to_evaluate(data, loader, recipe, saved, split=options.split)
    _check_kind(loaded.metadata, dataset, str(data.data))
    if recipe is None:
        dataset = remapped(dataset, loaded.metadata)
    if options.corruptions:
        return corrupted_figures(loaded, dataset, options, data=str(data.data), held_out=held_out)
    evaluation, skipped = _evaluate(loaded, dataset, batch=options.batch or _BATCH, workers=options.workers)
    return _figures(loaded, dataset, evaluation, skipped, data=str(data.data), held_out=held_out)


def remapped(dataset: ClassificationDataset, metadata: ClassificationMetadata) -> ClassificationDataset:
    """Data under a model's classes; what had to be assumed is said. Raises UserError where they are others."""
    count = metadata.model.num_classes
    if not count:
        why = "it gives features. Fine-tune it: convnext train --init"
        raise UserError(f"The model has no classifier to evaluate: {why}.")
    if metadata.classes or all(name.isdigit() for name in dataset.classes):
        remapped = RemappedDataset(
            dataset, metadata.classes or [f"class {i}" for i in range(count)], metadata.class_dirs
        )
        for note in remapped.notes:
            say(f"- {note}")
        return remapped
    if len(dataset.classes) != count:
        raise UserError(
            f"The model gives {count} classes, which it does not name, and the data has {len(dataset.classes)}."
        )
    say(f"- the model does not name its {count} classes: they are taken to be the data's, in its order")
    return dataset


def _check_kind(metadata: ClassificationMetadata, dataset: ClassificationDataset, data: str) -> None:
    """Raises UserError where model and data differ in whether an image can have several labels."""
    if several_labels(dataset) == metadata.multi_label:
        return
    one, several = "one class for each image", "several labels for an image"
    knows, has = (several, one) if metadata.multi_label else (one, several)
    which = "several" if metadata.multi_label else "one"
    raise UserError(
        f"The model gives {knows}, and {data} has {has}. Evaluate it on data of its own kind; of a table, "
        f"--table.per-image {which} says how cells are meant."
    )


def _keep_thresholds(run: Path, loaded: LoadedClassifier, thresholds: tuple[float, ...]) -> None:
    """Writes the thresholds that were chosen in validation into a run's best weights, for predicting."""
    if distributed.is_main() and loaded.metadata.thresholds != thresholds:
        save_model(run / BEST, read_state(run / BEST), replace(loaded.metadata, thresholds=thresholds))


def evaluate_run(run: Path, data: DataModule[ClassificationDataset], recipe: Recipe, saved: Record) -> dict[str, Any]:
    """Evaluates a run's best model on what it held out; writes evaluation.json and mistakes/; returns the figures."""
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    loaded, val = load_model(run, device=recipe.loop.device), splits.val
    evaluation, skipped = _evaluate(
        loaded, val, batch=_BATCH, workers=recipe.loader.workers, mistakes=MISTAKES, choose=True
    )
    new_folder(run / "mistakes")
    mistakes = []
    for number, wrong in enumerate(evaluation.mistakes):
        file = f"mistakes/{number:03d}.png"
        thumbnail(val.read(wrong.index), THUMBNAIL).save(run / file)
        target, found = labels_of(val, wrong.index), val.classes[wrong.prediction]
        if several_labels(val) and val.targets[wrong.index, wrong.prediction] > 0:
            found = f"not {found}"
        mistakes.append(Mistake(val.name(wrong.index), target, found, wrong.confidence, file))
    figures = _figures(loaded, val, evaluation, skipped, data=recipe.data, held_out=splits.held_out, mistakes=mistakes)
    if evaluation.thresholds:
        figures["thresholds_chosen_here"] = True
        _keep_thresholds(run, loaded, evaluation.thresholds)
    write_text(run / "evaluation.json", to_json(figures) + "\n")
    return figures


def _evaluate(
    loaded: LoadedClassifier,
    dataset: ClassificationDataset,
    *,
    batch: int,
    workers: int,
    mistakes: int = 0,
    choose: bool = False,
) -> tuple[Evaluation, list[Skipped]]:
    """choose: of several labels, thresholds for the best F1 on these images, in place of the model's."""
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
        thresholds=None if choose else loaded.metadata.thresholds,
    )
    result = evaluation.result
    if result.invalid == result.n:  # fewer, as in half precision, count as wrong and are told
        outputs_are_finite(result.invalid, result.n, loaded.metadata.model.name)
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
    common: dict[str, Any] = {
        "classes": dataset.classes,
        "model": loaded.metadata.model.name,
        "data": data,
        "held_out": held_out,
        "images_per_second": evaluation.images_per_second,
        "skipped": skipped,
        "mistakes": mistakes,
    }
    if isinstance(evaluation.result, MultiLabelFigures):
        return multilabel.evaluation_dict(evaluation.result, **common)
    return evaluation_dict(evaluation.result, **common)
