"""An autoencoder on images: how much of the masked cells' variance it explains, and in a run's folder some drawings.

B batch, C channels, H W space, h w cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import nn

from convnext.core import distributed
from convnext.core.atomic import write_text
from convnext.core.device import pick_device, pick_dtype
from convnext.core.strict_json import to_json
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.config import InputConfig, LoaderConfig
from convnext.data.dataset import DataModule
from convnext.data.loader import BadImages
from convnext.data.mix import prepare
from convnext.data.preprocess import eval_transform
from convnext.data.pretraining.batch import MaskedBatch, Masking, load_masked_eval_batch, mask_of
from convnext.data.splits import Record
from convnext.recipes.recipe import Recipe
from convnext.tasks.evaluation import (
    bad_images_of,
    common_figures,
    draw_some,
    outputs_are_finite,
    part_to_evaluate,
    visit_all,
)
from convnext.tasks.pretraining.draw import panels, reconstruct
from convnext.tasks.pretraining.options import PretrainingEvaluateOptions
from convnext.tasks.pretraining.weights import LoadedAutoencoder, load_autoencoder
from convnext.weights.locate import WeightFile

_BATCH = 64


@dataclass(frozen=True)
class Evaluation:
    """Figures over the masked cells of all images."""

    loss: float | None
    """Mean squared error of a pixel; of normalised ones where the model is taught those. None: no image."""
    explained: float | None
    """1 - the sum of squared errors by that of squared distances from each cell's mean: 1 is perfect, 0 what the means
    themselves reach, and below 0 it is worse than they are. None: nothing varies."""
    invalid: int
    """Images for which the outputs were not finite."""
    images_per_second: float


@torch.inference_mode()
def evaluate(
    model: nn.Module,
    dataset: ClassificationDataset,
    *,
    input: InputConfig,
    masking: Masking,
    loader: LoaderConfig,
    batch_size: int,
    device: torch.device,
    bad: BadImages,
    dtype: torch.dtype = torch.float32,
) -> Evaluation:
    """Every image once, over all ranks, masked as in epoch 0. Sums are float64."""
    sums = torch.zeros(4, dtype=torch.float64, device=device)  # errors, variances, masked cells, invalid images

    def visit(batch: MaskedBatch) -> int:
        images = prepare(batch.images.to(device, non_blocking=True), input)
        mask = batch.mask.to(device)
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            found = model(images, mask)
        errors = found.losses.double().sum(dim=1)
        variances = (found.target.double().var(dim=-1, unbiased=False) * mask.flatten(1)).sum(dim=1)
        valid = errors.isfinite()
        cells = mask.flatten(1).sum(dim=1)
        sums.add_(torch.stack([errors[valid].sum(), variances[valid].sum(), cells[valid].sum(), (~valid).sum()]))
        return len(batch.images)

    rate = visit_all(
        partial(load_masked_eval_batch, dataset=dataset, input=input, masking=masking),
        visit,
        num_images=len(dataset),
        batch_size=batch_size,
        loader=loader,
        image_size=input.size,
        bad=bad,
    )
    distributed.sum_over_ranks([sums])
    errors, variances, cells, invalid = sums.tolist()
    return Evaluation(
        loss=errors / cells if cells else None,
        explained=1 - errors / variances if variances else None,
        invalid=int(invalid),
        images_per_second=rate,
    )


def evaluate_on(
    file: WeightFile,
    options: PretrainingEvaluateOptions,
    data: DataModule[ClassificationDataset],
    recipe: Recipe | None = None,
    saved: Record | None = None,
) -> dict[str, Any]:
    """The figures of an autoencoder on data; with the recipe and the saved split of its run, on what that held out."""
    loaded = load_autoencoder(file, device=options.device)
    dataset, held_out = part_to_evaluate(data, LoaderConfig(), recipe, saved, split=options.split)
    dtype = pick_dtype(options.dtype, pick_device(options.device))
    batch, workers = options.batch or _BATCH, options.workers
    evaluation, bad = _evaluate(loaded, dataset, batch=batch, workers=workers, dtype=dtype)
    return _figures(loaded, dataset, evaluation, bad, data=str(data.data), held_out=held_out)


def evaluate_run(run: Path, data: DataModule[ClassificationDataset], recipe: Recipe, saved: Record) -> dict[str, Any]:
    """Evaluates a run's best autoencoder on what it held out; writes evaluation.json and pictures/; returns the
    figures."""
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    loaded, val = load_autoencoder(run, device=recipe.loop.device), splits.val
    evaluation, bad = _evaluate(loaded, val, batch=_BATCH, workers=recipe.loader.workers, dtype=torch.float32)
    figures = _figures(loaded, val, evaluation, bad, data=recipe.data, held_out=splits.held_out)
    figures["pictures"] = _draw_some(run, val, loaded)
    write_text(run / "evaluation.json", to_json(figures) + "\n")
    return figures


def masking_of(loaded: LoadedAutoencoder, seed: int = 0) -> Masking:
    """How an autoencoder's images are masked in evaluation."""
    return Masking(loaded.model.cell, loaded.metadata.model.mask_ratio, seed)


def _evaluate(
    loaded: LoadedAutoencoder, dataset: ClassificationDataset, *, batch: int, workers: int, dtype: torch.dtype
) -> tuple[Evaluation, BadImages]:
    bad = bad_images_of(dataset)
    evaluation = evaluate(
        loaded.model,
        dataset,
        input=loaded.metadata.input,
        masking=masking_of(loaded),
        loader=LoaderConfig(workers=workers),
        batch_size=batch,
        device=next(loaded.model.parameters()).device,
        bad=bad,
        dtype=dtype,
    )
    outputs_are_finite(evaluation.invalid, len(dataset), loaded.metadata.model.backbone.name)
    return evaluation, bad


def _figures(
    loaded: LoadedAutoencoder,
    dataset: ClassificationDataset,
    evaluation: Evaluation,
    bad: BadImages,
    *,
    data: str,
    held_out: bool | None,
) -> dict[str, Any]:
    rate, config = evaluation.images_per_second, loaded.metadata.model
    common = common_figures(loaded.metadata, dataset, bad, data=data, held_out=held_out, rate=rate)
    return {
        **common,
        "explained": evaluation.explained,
        "loss": evaluation.loss,
        "mask_ratio": config.mask_ratio,
        "norm_pix": config.norm_pix,
    }


@torch.inference_mode()
def _draw_some(run: Path, dataset: ClassificationDataset, loaded: LoadedAutoencoder) -> list[dict[str, str]]:
    """Draws some images as they are, as the encoder sees them, and as they are reconstructed."""
    input, masking = loaded.metadata.input, masking_of(loaded)

    def draw(index: int) -> Image:
        image = eval_transform(dataset.read(index), input)
        mask = mask_of(index, epoch=0, size=input.size, masking=masking)
        found, _ = reconstruct(loaded.model, image[None], mask[None], input)
        return panels(image, mask, found[0])

    return draw_some(run, dataset, draw)
