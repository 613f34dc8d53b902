"""A saved model on images: its figures, and in a run's folder also its confusion and the pictures of its mistakes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from convnext.core.atomic import write_text
from convnext.core.device import Precision
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.classification.open import open_classification_for_evaluation
from convnext.data.classification.remap import RemappedDataset
from convnext.data.config import LoaderConfig
from convnext.data.loader import BadImages
from convnext.recipes.recipe import read_recipe
from convnext.report.drawing import thumbnail
from convnext.run import RECIPE, reopen
from convnext.tasks.classification.evaluation import Evaluation, evaluate
from convnext.tasks.classification.figures import Mistake, Skipped, evaluation_dict
from convnext.tasks.classification.weights import Loaded, load_model

MISTAKES = 24  # pictures in a report
THUMBNAIL = 160  # pixels


def evaluate_on(
    model: str | Path,
    *,
    data: str = "",
    batch: int = 64,
    workers: int = -1,
    device: str = "auto",
    dtype: Precision = "auto",
) -> dict[str, Any]:
    """The figures (see `metrics.evaluation.evaluation_dict`) of a model (whatever `load_model` takes) on `data`.

    Without `data`: on what the run held out. Raises UserError where the data's classes are not the model's.
    """
    loaded = load_model(model, device=device, dtype=dtype)
    if data:
        source = _labelled_for(loaded, data)
        held_out = None  # whether the model was trained on some of them, we cannot know
    else:
        run = Path(model) if Path(model).is_dir() else Path(model).parent
        opened = reopen(run)
        source, held_out = opened.val, opened.held_out
        data = read_recipe(run / RECIPE).data
    evaluation, skipped = _evaluate(loaded, source, batch=batch, workers=workers)
    return _figures(loaded, source, evaluation, skipped, data=data, held_out=held_out)


def evaluate_run(run: Path) -> dict[str, Any]:
    """Evaluates a run's best model on what it held out; writes evaluation.json and mistakes/; returns the figures."""
    recipe, opened = read_recipe(run / RECIPE), reopen(run)
    loaded = load_model(run, device=recipe.loop.device)
    evaluation, skipped = _evaluate(loaded, opened.val, batch=64, workers=recipe.loader.workers, mistakes=MISTAKES)
    folder = run / "mistakes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    mistakes = []
    for number, wrong in enumerate(evaluation.mistakes):
        picture = f"mistakes/{number:03d}.png"
        thumbnail(opened.val.read(wrong.index), THUMBNAIL).save(run / picture)
        classes, target = opened.val.classes, int(opened.val.targets[wrong.index])
        name = opened.val.name(wrong.index)
        mistakes.append(Mistake(name, classes[target], classes[wrong.prediction], wrong.confidence, picture))
    figures = _figures(
        loaded, opened.val, evaluation, skipped, data=recipe.data, held_out=opened.held_out, mistakes=mistakes
    )
    write_text(run / "evaluation.json", json.dumps(figures) + "\n")
    return figures


def _labelled_for(loaded: Loaded, data: str) -> RemappedDataset:
    return RemappedDataset(
        open_classification_for_evaluation(data, max_pixels=LoaderConfig().max_pixels),
        loaded.metadata.classes,
        loaded.metadata.class_dirs,
    )


def _evaluate(
    loaded: Loaded, source: ClassificationDataset, *, batch: int, workers: int, mistakes: int = 0
) -> tuple[Evaluation, list[Skipped]]:
    bad = BadImages(len(source), max_bad=LoaderConfig().max_bad)
    weight = next(loaded.model.parameters())
    evaluation = evaluate(
        loaded.model,
        source,
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
    loaded: Loaded,
    source: ClassificationDataset,
    evaluation: Evaluation,
    skipped: list[Skipped],
    *,
    data: str,
    held_out: bool | None,
    mistakes: list[Mistake] | None = None,
) -> dict[str, Any]:
    return evaluation_dict(
        evaluation.result,
        classes=source.classes,
        model=loaded.metadata.model.name,
        data=data,
        held_out=held_out,
        images_per_second=evaluation.images_per_second,
        skipped=skipped,
        mistakes=mistakes or [],
    )
