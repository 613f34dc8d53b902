"""What evaluations share: every image once over all ranks, the part to evaluate on, the same classes, some drawings."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from PIL.Image import Image

from convnext.core import distributed
from convnext.core.errors import UserError
from convnext.core.logs import Progress
from convnext.data.batch import Loaded, Work
from convnext.data.config import LoaderConfig
from convnext.data.dataset import DataModule, Dataset
from convnext.data.decode import BadImage
from convnext.data.loader import BadImages, eval_batches, resolved_workers
from convnext.data.splits import Record
from convnext.recipes.recipe import Recipe
from convnext.report.panels import beside
from convnext.tasks.predictor import no_numbers
from convnext.tasks.spec import Figures
from convnext.weights.files import Metadata

SHOWN = 12  # images in a report
B = TypeVar("B")
D = TypeVar("D", bound=Dataset)


def visit_all(
    load: Callable[[Work], Loaded[B]],
    visit: Callable[[B], int],
    *,
    num_images: int,
    batch_size: int,
    loader: LoaderConfig,
    image_size: int,
    bad: BadImages,
) -> float:
    """Every image once over all ranks, in order, with progress; returns images a second, reading included.

    load: makes a batch in a worker process. visit: takes it, and returns how many images it has. image_size: pixels of
    a side, about, by which the number of workers is decided.
    """
    world = distributed.world_size()
    batches = eval_batches(
        load,
        num_images=num_images,
        batch_size=batch_size,
        bad=bad,
        workers=resolved_workers(loader, size=image_size, world_size=world),
        ranks=(distributed.rank(), world),
    )
    begun, seen = time.monotonic(), 0
    with Progress("evaluating", num_images, unit="image") as progress:
        for batch in batches:
            seen += visit(batch)
            progress.update(min(seen * world, num_images))
    return seen * world / max(time.monotonic() - begun, 1e-9)


def part_to_evaluate(
    data: DataModule[D], loader: LoaderConfig, recipe: Recipe | None, saved: Record | None, *, split: str = "auto"
) -> tuple[D, bool | None]:
    """The images to evaluate on, and whether they were held out (None: not known).

    With the recipe and the saved split of a run: what it held out. Else: the data's validation part, or all. split: the
    part to take instead; of a run's data "train" is what it was trained on. Raises UserError where there is none.
    """
    if recipe is None:
        return data.for_evaluation(loader, "" if split == "auto" else split), None
    if split == "test":
        return data.for_evaluation(recipe.loader, split), True
    splits = data.splits(recipe.loader, seed=recipe.loop.seed, saved=saved)
    if split == "train" or not splits.held_out:
        return splits.train, False
    return splits.val, True


def outputs_are_finite(invalid: int, n: int, model: object) -> None:
    """Raises NotFinite where a model's outputs were not numbers for `invalid` of n images that it was evaluated on."""
    if invalid:
        raise no_numbers(f"{model} gives for {invalid:,} of {n:,} images")


def bad_images_of(dataset: Dataset) -> BadImages:
    """The count of unreadable images of an evaluation."""
    return BadImages(len(dataset), max_bad=LoaderConfig().max_bad)


def skipped(bad: BadImages) -> list[dict[str, str]]:
    """The images that could not be read, as evaluation.json lists them."""
    return [{"name": name, "reason": reason} for name, reason in bad.found.items()]


def common_figures(
    metadata: Metadata,
    dataset: Dataset,
    bad: BadImages,
    *,
    data: str,
    held_out: bool | None,
    rate: float,
) -> Figures:
    """What evaluation.json says of every detector and segmenter; the task's own figures are added to it.

    held_out: whether the images were held out of training; None: not known. rate: images a second.
    """
    return {
        "task": metadata.task,
        "model": metadata.model.backbone.name,
        "data": data,
        "held_out": held_out,
        "n": len(dataset),
        "images_per_second": rate,
        "skipped": skipped(bad),
        "pictures": [],
    }


def draw_some(run: Path, dataset: Dataset, draw: Callable[[int], Image]) -> list[dict[str, str]]:
    """Draws some images, spread over all of a data set, into a run's folder; returns what evaluation.json lists.

    draw: makes the drawing of image i; raises BadImage.
    """
    new_folder(run / "pictures")
    entries: list[dict[str, str]] = []
    for number, index in enumerate(spread(len(dataset), SHOWN)):
        try:
            drawing = draw(index)
        except BadImage:
            continue  # said already, while it was evaluated
        name = f"pictures/{number:03d}.png"
        drawing.save(run / name)
        entries.append({"name": dataset.name(index), "picture": name})
    return entries


def annotated_and_found(annotated: Image, found: Image) -> Image:
    """Two drawings of an image side by side: as it is annotated, and as it was predicted."""
    return beside(annotated, found, titles=("annotated", "found"))


def check_same_classes(known: Sequence[str], given: Sequence[str], *, model: str, data: Any) -> None:
    """Raises UserError where the data's classes are not the model's, in the same order; a model that does not know its
    classes takes any. model: what it is called, as "detector"."""
    if known and tuple(given) != tuple(known):
        strange = [name for name in given if name not in known]
        why = f"'{strange[0]}' is none of the {model}'s" if strange else "some are missing, or in another order"
        raise UserError(
            f"{data} has {len(given)} classes and the {model} {len(known)}: {why}. Evaluate on data with the classes "
            "that it was trained on."
        )


def new_folder(path: Path) -> Path:
    """An empty folder, in place of the one that may stand there."""
    shutil.rmtree(path, ignore_errors=True)
    path.mkdir()
    return path


def spread(n: int, most: int) -> range:
    """Which of n images are shown: `most` of them, spread over all."""
    step = max(n // most, 1)
    return range(0, n, step)[:most]
