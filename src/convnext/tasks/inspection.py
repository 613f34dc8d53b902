"""A data set looked at before anything is trained: what is wrong, what is left out, and some of its images drawn."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from PIL.Image import Image

from convnext.core.console import pairs
from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.config import LoaderConfig
from convnext.data.dataset import DataModule, Dataset
from convnext.data.decode import BadImage
from convnext.data.fingerprints import NEAR, Fingerprint, Survey, look_alikes, same_pixels, survey
from convnext.data.loader import balanced_order, train_order
from convnext.recipes.recipe import Recipe
from convnext.report.panels import contact_sheet
from convnext.tasks.base_task import BaseTask
from convnext.tasks.evaluation import spread
from convnext.tasks.spec import TaskSpec

Values = dict[str, Any]
FIRST_BATCH = "first_batch.png"
_FIRST = 8  # images of a run's first batch that are drawn
_SHOWN = 5  # examples of each kind in a text


def check(spec: TaskSpec, data: DataModule[Any], loader: LoaderConfig, *, workers: int = -1) -> Values:
    """Reads every image once and says what a training run would not: plain JSON values.

    "wrong" counts what should be repaired: problems of the annotations (what has one is left out of the rest), images
    that cannot be read, images that are in training and in validation ("leaks"), and equal images of different classes
    ("contradictions"). "alike" are pairs that look alike: their perceptual hashes differ in at most 3 of 64 bits; those
    between training and validation are in "alike_across". loader: how images are read. Raises UserError where the data
    cannot be opened at all.
    """
    problems = _problems(data, loader)
    splits = data.splits(replace(loader, skip_bad=True), seed=0)
    parts: dict[str, Dataset] = {"train": splits.train} | ({"val": splits.val} if splits.held_out else {})
    begun = time.monotonic()
    surveys = {name: survey(part, workers=workers, title=f"Looking at {name}") for name, part in parts.items()}
    seconds = time.monotonic() - begun
    every = [(name, one) for name in parts for one in surveys[name].found]
    named = [(name, printable(parts[name].name(one.image)), _label(parts[name], one)) for name, one in every]
    prints = [one for _, one in every]
    same = [[named[place] for place in group] for group in same_pixels(prints)]
    pairs_alike, not_compared = look_alikes(prints)
    alike = [(named[a], named[b]) for a, b in pairs_alike]
    leaks = [[name for _, name, _ in group] for group in same if len({part for part, _, _ in group}) > 1]
    contradictions = [[f"{name} ({label})" for _, name, label in group] for group in same if _labels(group) > 1]
    bad = [entry for looked in surveys.values() for entry in looked.unreadable.items()]
    unreadable = [{"name": printable(name), "reason": reason} for name, reason in bad]
    return {
        "task": spec.name,
        "data": str(data.data),
        "found": splits.note.splitlines(),
        "parts": {name: _part(spec, part, surveys[name]) for name, part in parts.items()},
        "problems": problems,
        "unreadable": unreadable,
        "duplicates": [[name for _, name, _ in group] for group in same],
        "leaks": leaks,
        "contradictions": contradictions,
        "alike": len(alike),
        "not_compared": not_compared,
        "alike_across": [[a[1], b[1]] for a, b in alike if a[0] != b[0]],
        "wrong": len(problems) + len(unreadable) + len(leaks) + len(contradictions),
        "images_per_second": len(prints) / max(seconds, 1e-9),
    }


def _problems(data: DataModule[Any], loader: LoaderConfig) -> list[str]:
    """What training would refuse the data for, as it says it; empty where it takes it."""
    try:
        splits = data.splits(loader, seed=0)
        _ = splits.train, splits.val
    except UserError as error:
        return [str(error)]
    return []


def _label(dataset: Dataset, one: Fingerprint) -> str:
    """The class of an image, where the whole image has one."""
    targets = getattr(dataset, "targets", None)
    if targets is None or targets.ndim > 2:
        return ""
    if targets.ndim == 2:  # several labels, or none
        return ", ".join(dataset.classes[k] for k in targets[one.image].nonzero().flatten().tolist()) or "no label"
    return dataset.classes[int(targets[one.image])]


def _labels(group: Sequence[tuple[str, str, str]]) -> int:
    return len({label for _, _, label in group})


def _part(spec: TaskSpec, dataset: Dataset, looked: Survey) -> Values:
    unit, counts = spec.class_counts(dataset)
    sides = sorted((one.height, one.width) for one in looked.found)
    return {
        "images": len(dataset),
        "counted": unit,
        "classes": {printable(name): count for name, count in zip(dataset.classes, counts, strict=True)},
        "smallest": list(min(sides, key=lambda s: s[0] * s[1])) if sides else None,
        "largest": list(max(sides, key=lambda s: s[0] * s[1])) if sides else None,
        "median_side": int(statistics.median(min(size) for size in sides)) if sides else None,
    }


def check_text(found: Values) -> str:
    """What `check` found, for a terminal."""
    return "\n".join(_lines(found))


def _lines(found: Values) -> Iterator[str]:
    yield from found["found"]
    for name, part in found["parts"].items():
        yield f"\n{name}: {part['images']:,} images{_sizes(part)}"
        yield from pairs(_class_rows(part))
    yield ""
    for problem in found["problems"]:
        yield f"Training refuses this data:\n{problem}\n"
    bad = [f"{entry['name']}: {entry['reason']}" for entry in found["unreadable"]]
    yield from _kind("Images that cannot be read", bad)
    yield from _kind("Images that are in training and in validation", [_equal(group) for group in found["leaks"]])
    yield from _kind("Equal images of different classes", [_equal(group) for group in found["contradictions"]])
    yield from _kind("Groups of equal images", [_equal(group) for group in found["duplicates"]])
    across = [f"{a} ~ {b}" for a, b in found["alike_across"]]
    yield from _kind(f"Pairs across training and validation that look alike ({NEAR} of 64 bits apart at most)", across)
    yield f"Pairs of images that look alike, in all: {found['alike']:,}"
    if found["not_compared"]:
        yield f"Images not compared (plain, or too many that are nearly the same): {found['not_compared']:,}"
    yield f"Images a second: {found['images_per_second']:,.0f}"
    yield f"Things to repair: {found['wrong']:,}" if found["wrong"] else "Nothing is wrong."


def _sizes(part: Values) -> str:
    if part["smallest"] is None:
        return ""
    (low, left), (high, right) = part["smallest"], part["largest"]
    return f", {left} x {low} to {right} x {high} pixels (median shorter side {part['median_side']})"


def _class_rows(part: Values) -> list[tuple[str, str]]:
    """The most frequent and the rarest classes, with their counts."""
    ranked = sorted(part["classes"].items(), key=lambda entry: -entry[1])
    shown = ranked if len(ranked) <= 2 * _SHOWN else [*ranked[:_SHOWN], *ranked[-_SHOWN:]]
    rows = [(f"  {name}", f"{count:,} {part['counted']}") for name, count in shown]
    if len(ranked) > len(shown):
        rows.insert(_SHOWN, (f"  ... {len(ranked) - len(shown):,} classes more", ""))
    return rows


def _kind(what: str, examples: Sequence[str]) -> Iterator[str]:
    if examples:
        more = len(examples) - _SHOWN
        yield f"{what}: {len(examples):,}"
        yield from (f"    {example}" for example in examples[:_SHOWN])
        if more > 0:
            yield f"    and {more:,} more"


def _equal(group: Sequence[str]) -> str:
    """The names of equal images on one line; the first few of them where there are many."""
    more = len(group) - _SHOWN
    return " = ".join(group) if more <= 0 else " = ".join([*group[:_SHOWN], f"{more:,} more"])


def first_batch(spec: TaskSpec, recipe: Recipe, task: BaseTask[Any, Any]) -> Image | None:
    """The first images of a run as its first batch holds them; None where none of them can be read."""
    classes = task.sampling().classes
    if classes is None:
        order = train_order(task.num_images, seed=task.seed, epoch=0)
    else:
        order = balanced_order(classes, seed=task.seed, epoch=0)
    images = spec.draw_augmented(recipe, task.train, order[:_FIRST].tolist())
    return contact_sheet([(image, "") for image in images]) if images else None


def sheet(spec: TaskSpec, recipe: Recipe, dataset: Dataset, *, images: int) -> Image:
    """A contact sheet of images spread over a data set: each as it is with its labels, and beside it as the first epoch
    of training sees it. Images that cannot be read are left out."""
    cells: list[tuple[Image, str]] = []
    for index in spread(len(dataset), images):
        try:
            (before,) = spec.draw_samples(dataset, [index])
        except BadImage:
            continue
        after = spec.draw_augmented(recipe, dataset, [index])
        cells += [(before, dataset.name(index)), *((image, "as training sees it") for image in after)]
    return contact_sheet(cells)
