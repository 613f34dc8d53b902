"""Two classifiers on the same images, image by image. N images."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from convnext.core.console import pairs, percent
from convnext.core.errors import UserError
from convnext.data.classification.dataset import ClassificationDataset, several_labels
from convnext.data.config import LoaderConfig
from convnext.data.dataset import DataModule
from convnext.data.splits import Record
from convnext.metrics.intervals import wilson_interval
from convnext.recipes.recipe import Recipe
from convnext.tasks.classification.evaluate import remapped
from convnext.tasks.classification.options import ClassificationEvaluateOptions
from convnext.tasks.classification.recipe import TASK
from convnext.tasks.classification.robustness import Right, judge
from convnext.tasks.classification.weights import LoadedClassifier, load_model
from convnext.tasks.evaluation import part_to_evaluate
from convnext.weights.locate import WeightFile

_DRAWS = 2000
_LEVEL = 0.95


def compare(
    first: WeightFile,
    second: WeightFile,
    options: ClassificationEvaluateOptions,
    data: DataModule[ClassificationDataset],
    recipe: Recipe | None = None,
    saved: Record | None = None,
) -> dict[str, Any]:
    """Top-1 of two classifiers on the same images, their difference with an interval, and whether it is chance.

    With the recipe and the saved split of the first one's run: on what that held out. Raises UserError where a model
    cannot be evaluated on the data, and where an image can have several labels.
    """
    loaded = [load_model(file, device=options.device, dtype=options.dtype) for file in (first, second)]
    dataset, held_out = part_to_evaluate(data, LoaderConfig(), recipe, saved, split=options.split)
    if several_labels(dataset):
        raise UserError("Models are compared on images with one class each, and here an image can have several labels.")
    right = [_right(model, dataset, options) for model in loaded]
    both = right[0].known & right[1].known
    a, b = right[0].right[both], right[1].right[both]
    names = [file.source for file in (first, second)]
    return {
        "task": TASK,
        "models": names,
        "data": str(data.data),
        "held_out": held_out,
        "skipped": int((~both).sum()),
        **paired(a, b),
    }


class _Answers:
    """Which images of a data set a classifier is right about, and of which that is known: bool (N,)."""

    def __init__(self, count: int) -> None:
        self.right, self.known = torch.zeros(count, dtype=torch.bool), torch.zeros(count, dtype=torch.bool)


def _right(
    loaded: LoadedClassifier, dataset: ClassificationDataset, options: ClassificationEvaluateOptions
) -> _Answers:
    mine, answers = remapped(dataset, loaded.metadata), _Answers(len(dataset))

    def right(logits: Tensor, indices: Tensor) -> Tensor:
        found = logits.argmax(dim=1) == mine.targets[indices]
        answers.right[indices], answers.known[indices] = found, True
        return found

    asked: Right = right
    judge(loaded, mine, asked, input=loaded.metadata.input, options=options)
    return answers


def paired(a: Tensor, b: Tensor, *, draws: int = _DRAWS, seed: int = 0) -> dict[str, Any]:
    """Two models' right answers on the same images, bool (N,): accuracies, and the first's less the second's.

    "interval": of the difference, 95 %, over images drawn with replacement. "p": of McNemar's exact test, of as uneven
    a split of the images that one alone is right about; 1 where there are none.
    """
    n = len(a)
    if not n:
        raise UserError("There is no image that both models could be asked about.")
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    # drawing images is drawing how many of each kind: both, one alone, neither
    shares = torch.tensor([only_a, only_b, n - only_a - only_b], dtype=torch.float64) / n
    chance = torch.Generator().manual_seed(seed)
    drawn = torch.multinomial(shares.expand(draws, -1), n, replacement=True, generator=chance)
    differences = ((drawn == 0).sum(dim=1) - (drawn == 1).sum(dim=1)).double() / n
    ends = torch.quantile(differences, torch.tensor([(1 - _LEVEL) / 2, (1 + _LEVEL) / 2], dtype=torch.float64))
    p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    right = [int(one.sum()) for one in (a, b)]
    return {
        "n": n,
        "top1": [count / n for count in right],
        "top1_intervals": [list(wilson_interval(count, n)) for count in right],
        "only_first": only_a,
        "only_second": only_b,
        "difference": (only_a - only_b) / n,
        "interval": ends.tolist(),
        "p": p,
    }


def comparison_text(figures: Mapping[str, Any]) -> str:
    """A comparison for a terminal."""
    low, high = figures["interval"]
    lines = [("images", f"{figures['n']:,} of {figures['data']}")]
    for name, top1, (least, most) in zip(figures["models"], figures["top1"], figures["top1_intervals"], strict=True):
        lines.append((name, f"{percent(top1, 2)}  ({100 * least:.2f} to {100 * most:.2f})"))
    lines += [
        ("difference", f"{100 * figures['difference']:+.2f} points  ({100 * low:+.2f} to {100 * high:+.2f})"),
        (
            "right alone",
            f"the first on {figures['only_first']:,} images, the second on {figures['only_second']:,}",
        ),
        ("McNemar", f"p = {figures['p']:.2g}: {_verdict(figures)}"),
    ]
    if figures["skipped"]:
        lines.append(("skipped", f"{figures['skipped']} unreadable images"))
    if figures["held_out"] is False:
        lines.append(("note", "the first model WAS TRAINED on these images: no measure of new ones"))
    return "\n".join(pairs(lines))


def _verdict(figures: Mapping[str, Any]) -> str:
    if figures["p"] >= 0.05:
        return "the two cannot be told apart on these images"
    return f"the {'first' if figures['difference'] > 0 else 'second'} is better, beyond chance"
