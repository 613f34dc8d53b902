"""A classifier on what its training did not show: ImageNet's robustness suites, and corrupted images of any data.

K classes. An error is a share of images, 0 to 1.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from convnext.core.atomic import write_text
from convnext.core.console import percent
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.core.seeding import mix_seed
from convnext.core.strict_json import to_json
from convnext.core.text import printable
from convnext.data.classification.batch import ClassificationBatch, load_eval_batch
from convnext.data.classification.dataset import ClassificationDataset, Subset, several_labels
from convnext.data.classification.files import ImageFiles
from convnext.data.classification.scan import images_below
from convnext.data.config import InputConfig, LoaderConfig
from convnext.data.corruptions.apply import Corruption, frost_files
from convnext.data.corruptions.config import kinds_of
from convnext.data.mix import prepare
from convnext.metrics.corruption import corruption_errors, mce, mean_error, relative_mce
from convnext.metrics.intervals import wilson_interval
from convnext.tasks.classification import suites
from convnext.tasks.classification.options import ClassificationEvaluateOptions
from convnext.tasks.classification.recipe import TASK
from convnext.tasks.classification.robustness_text import FILE, is_robustness, read_figures
from convnext.tasks.classification.weights import LoadedClassifier, load_model
from convnext.tasks.evaluation import bad_images_of, outputs_are_finite, skipped, spread, visit_all
from convnext.weights.locate import WeightFile

_BATCH = 64
_SEED = 0  # of corruption: the same for every model
_NUMBER = re.compile(r"(\d{8})\.jpe?g$", re.IGNORECASE)  # of a validation image of ImageNet
_VALIDATION = 50_000


@dataclass(frozen=True)
class Judged:
    """How often a classifier is right."""

    right: int
    n: int
    skipped: tuple[dict[str, str], ...] = ()

    @property
    def top1(self) -> float | None:
        """None of no image."""
        return self.right / self.n if self.n else None

    @property
    def error(self) -> float | None:
        return None if self.top1 is None else 1 - self.top1

    def values(self) -> dict[str, Any]:
        """As JSON values."""
        interval = list(wilson_interval(self.right, self.n)) if self.n else None
        return {"n": self.n, "top1": self.top1, "interval": interval, "skipped": list(self.skipped)}


Right = Callable[[Tensor, Tensor], Tensor]
"""Logits (B, K) and the images' places in the data set (B,) -> bool (B,), which are right."""


@torch.inference_mode()
def judge(
    loaded: LoadedClassifier,
    dataset: ClassificationDataset,
    right: Right,
    *,
    input: InputConfig,
    options: ClassificationEvaluateOptions,
    change: Callable[[Tensor, int], Tensor] | None = None,
) -> Judged:
    """Every image once. change: what is done to each, as the model takes it, by its place; None: nothing."""
    weight, bad = next(loaded.model.parameters()), bad_images_of(dataset)
    counts = [0, 0, 0]  # right, seen, not finite

    def visit(batch: ClassificationBatch) -> int:
        images = prepare(batch.images.to(weight.device, non_blocking=True), input)
        logits = loaded.model(images.to(weight.dtype)).float().cpu()
        finite = logits.isfinite().all(dim=1)
        counts[0] += int((right(logits, batch.indices) & finite).sum())
        counts[1] += len(logits)
        counts[2] += int((~finite).sum())
        return len(logits)

    visit_all(
        partial(load_eval_batch, dataset=dataset, input=input, change=change),
        visit,
        num_images=len(dataset),
        batch_size=options.batch or _BATCH,
        loader=LoaderConfig(workers=options.workers),
        image_size=input.size if change is None else 224,  # corrupting takes long: in other processes
        bad=bad,
    )
    if counts[2] == counts[1]:  # fewer, as in half precision, count as wrong and are told
        outputs_are_finite(counts[2], counts[1], loaded.metadata.model.name)
    elif counts[2]:
        say(f"- {counts[2]:,} images gave no numbers; they count as wrong (--dtype float32 may help)")
    return Judged(counts[0], counts[1], tuple(skipped(bad)))


def by_targets(dataset: ClassificationDataset) -> Right:
    """Right is the data's class."""
    return lambda logits, indices: logits.argmax(dim=1) == dataset.targets[indices]


@dataclass(frozen=True)
class _Changed:
    """What corrupts an image; picklable, for worker processes."""

    corruption: Corruption

    def __call__(self, image: Tensor, index: int) -> Tensor:
        return self.corruption(image, mix_seed(_SEED, index))


# Corruptions of any data


def corrupted_figures(
    loaded: LoadedClassifier,
    dataset: ClassificationDataset,
    options: ClassificationEvaluateOptions,
    *,
    data: str,
    held_out: bool | None,
) -> dict[str, Any]:
    """Errors on corrupted images of a data set, at each severity, and on the clean ones.

    Raises UserError for images that can have several labels.
    """
    if several_labels(dataset):
        raise UserError("--corruptions goes with one class for each image, and here an image can have several labels.")
    if len(loaded.metadata.input.mean) != 3:
        raise UserError("--corruptions takes images of three bands: red, green, blue.")
    frost = Path(options.frost) if options.frost else None
    kinds = kinds_of(options.corruptions)
    if "frost" in kinds and frost is None:
        say("- frost is drawn: the photographs of the original are not shipped; --frost DIR takes them")
    if frost is not None:
        frost_files(frost)
    dataset = _some(dataset, options.limit)
    right, input = by_targets(dataset), loaded.metadata.input
    clean = judge(loaded, dataset, right, input=input, options=options)
    errors: dict[str, list[float | None]] = {}
    for kind in kinds:
        errors[kind] = [None] * suites.SEVERITIES
        for severity in options.severities:
            change = _Changed(Corruption(kind, severity, frost))
            found = judge(loaded, dataset, right, input=input, options=options, change=change)
            errors[kind][severity - 1] = found.error
            say(f"{kind} {severity}: top-1 {percent(found.top1)}")
    common = {"task": TASK, "model": loaded.metadata.model.name, "data": data, "held_out": held_out}
    figures = {**common, "n": clean.n, "clean": clean.values()}
    frosted = None if "frost" not in kinds else ("photographs" if frost else "drawn")
    return {**figures, **_of_errors(errors, clean.error, _is_imagenet(loaded)), "generated": True, "frost": frosted}


def _of_errors(errors: Mapping[str, Sequence[float | None]], clean: float | None, imagenet: bool) -> dict[str, Any]:
    """Means over errors. AlexNet's divide those of ImageNet-1K's classes alone: elsewhere there is no mCE."""
    return {
        "errors": {kind: list(values) for kind, values in errors.items()},
        "ce": corruption_errors(errors) if imagenet else None,
        "mce": mce(errors) if imagenet else None,
        "relative_mce": relative_mce(errors, clean) if imagenet and clean is not None else None,
        "mean_error": mean_error(errors),
    }


def _some(dataset: ClassificationDataset, limit: int) -> ClassificationDataset:
    """So many images, spread over all; 0: all."""
    if not 0 < limit < len(dataset):
        return dataset
    say(f"- {limit:,} of {len(dataset):,} images, spread over all (--limit)")
    return Subset(dataset, list(spread(len(dataset), limit)))


def _is_imagenet(loaded: LoadedClassifier) -> bool:
    known, metadata = suites.imagenet_classes(), loaded.metadata
    return tuple(metadata.class_dirs) == known.ids or tuple(metadata.classes) in (known.ids, known.names)


# Suites


def suite_figures(file: WeightFile, options: ClassificationEvaluateOptions, data: str) -> dict[str, Any]:
    """The figures of a classifier of ImageNet-1K's classes on suites.

    Raises UserError for a model of other classes, and for a suite that is not there, lacks classes or has others,
    before anything is evaluated.
    """
    found = {name: suites.find_suite(name, data) for name in options.suite}
    for name, folder in found.items():
        suites.check_suite(name, folder)
    loaded = load_model(file, device=options.device, dtype=options.dtype)
    if not _is_imagenet(loaded):
        raise UserError(
            f"The suites are of ImageNet-1K's classes, and {file.source} is not of these, in their order. "
            "--corruptions evaluates on corrupted images of any data."
        )
    figures = {}
    for name, folder in found.items():
        kind = suites.SUITES[name].kind
        say(f"- {suites.SUITES[name].title}, in {folder}")
        of_kind = {"classes": _on_classes, "real": _on_real, "corrupted": _on_corrupted}[kind]
        figures[name] = of_kind(loaded, name, folder, options)
    return {"task": TASK, "model": loaded.metadata.model.name, "data": data, "suites": figures}


class _Listed(ImageFiles):
    """Images with a class each, by their paths. border: pixels around every image that are cut off."""

    def __init__(
        self, root: Path, paths: Sequence[str], targets: Sequence[int], names: Sequence[str], border: int
    ) -> None:
        super().__init__(root, paths, max_pixels=LoaderConfig().max_pixels)
        self.classes, self.border = tuple(names), border
        self.targets = torch.tensor(targets, dtype=torch.int64)

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W); raises BadImage."""
        image, cut = super().read(index), self.border
        return image[:, cut : image.shape[1] - cut, cut : image.shape[2] - cut] if cut else image


def _listed(name: str, folder: Path) -> _Listed:
    """The images of a suite's class folders; targets are positions among its classes."""
    names = list(suites.classes_of(name))
    paths, targets = [], []
    for place, directory in enumerate(names):
        here = sorted(images_below(folder, directory))
        if not here:
            raise UserError(f"{folder / directory} holds no images.")
        paths += here
        targets += [place] * len(here)
    return _Listed(folder, paths, targets, names, suites.BORDER.get(name, 0))


def right_among(places: Sequence[Sequence[int]], targets: Tensor) -> Right:
    """Right where the likeliest of the outputs that mean one of some classes means the target's; the logits of all
    others are left out. places: of each class its outputs. targets: int64 (N,), positions among the classes."""
    allowed = torch.tensor([index for of_class in places for index in of_class])
    meaning = torch.tensor([place for place, of_class in enumerate(places) for _ in of_class])
    return lambda logits, indices: meaning[logits[:, allowed].argmax(dim=1)] == targets[indices]


def _on_classes(
    loaded: LoadedClassifier, name: str, folder: Path, options: ClassificationEvaluateOptions
) -> dict[str, Any]:
    dataset = _listed(name, folder)
    right = right_among(list(suites.classes_of(name).values()), dataset.targets)
    found = judge(loaded, dataset, right, input=loaded.metadata.input, options=options)
    return {**found.values(), "classes": len(suites.classes_of(name))}


def _on_corrupted(
    loaded: LoadedClassifier, name: str, folder: Path, options: ClassificationEvaluateOptions
) -> dict[str, Any]:
    """The images are cropped already: they go to the model's size as they are."""
    input = InputConfig(**{**vars(loaded.metadata.input), "resize": "warp"})
    errors: dict[str, list[float | None]] = {}
    images = 0
    for kind in suites.CORRUPTIONS[name]:
        place = suites.corruption_folder(folder, kind)
        if place is None:
            say(f"- {folder} has no {kind}: it is left out, and with it every mean")
            errors[kind] = [None] * suites.SEVERITIES
            continue
        errors[kind] = []
        for severity in range(1, suites.SEVERITIES + 1):
            dataset = _listed(name, place / str(severity))
            found = judge(loaded, dataset, by_targets(dataset), input=input, options=options)
            errors[kind].append(found.error)
            images = max(images, found.n)
    means = _of_errors(errors, None, name == "c")
    return {"n": images, **means, "mean_error": mean_error(errors, suites.CORRUPTIONS[name]), "generated": False}


def _on_real(
    loaded: LoadedClassifier, name: str, folder: Path, options: ClassificationEvaluateOptions
) -> dict[str, Any]:
    """Right is each label that people gave (arXiv 2006.07159); images without one do not count."""
    labels = real_labels(folder)
    files = sorted(images_below(folder))
    numbers = [int(match[1]) if (match := _NUMBER.search(path)) else 0 for path in files]
    if not files or min(numbers) < 1 or max(numbers) > len(labels):
        odd = next((path for path, n in zip(files, numbers, strict=True) if not 1 <= n <= len(labels)), "none")
        raise UserError(
            f"{folder} should hold ImageNet's validation images, as ILSVRC2012_val_00000001.JPEG, not {printable(odd)}."
        )
    kept = [(path, n) for path, n in zip(files, numbers, strict=True) if labels[n - 1]]
    allowed = [torch.tensor(labels[n - 1]) for _, n in kept]
    dataset = _Listed(folder, [path for path, _ in kept], [0] * len(kept), ["image"], 0)

    def right(logits: Tensor, indices: Tensor) -> Tensor:
        best = logits.argmax(dim=1)
        return torch.stack([(allowed[i] == guess).any() for i, guess in zip(indices.tolist(), best, strict=True)])

    found = judge(loaded, dataset, right, input=loaded.metadata.input, options=options)
    return {**found.values(), "without_label": len(files) - len(kept)}


def real_labels(folder: Path) -> list[list[int]]:
    """The labels of ImageNet's validation images, by their numbers, from real.json in the folder or beside it.

    Raises UserError where it is not there or holds something else.
    """
    places = [place / "real.json" for place in (folder, folder.parent)]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(
            f"There is no {places[0]} and no {places[1]}: it is real.json of google-research/reassessed-imagenet."
        )
    try:
        labels = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{file} cannot be read: {error}.") from None
    fits = isinstance(labels, list) and all(
        isinstance(one, list) and all(type(k) is int and 0 <= k < 1000 for k in one) for one in labels
    )
    if not fits or len(labels) > _VALIDATION or not labels:
        raise UserError(f"{file} is not a list of lists of classes, 0 to 999, one for each of 50,000 images.")
    return labels


def keep(figures: Mapping[str, Any], source: str) -> Path | None:
    """Writes figures into the folder of the run that they are of, where its report finds them; beside those of suites
    that were evaluated before. None where `source` is no run."""
    run = Path(source)
    if not (run / "recipe.json").is_file():
        return None
    if not is_robustness(figures):
        return None
    known = read_figures(run)
    if known is None and (run / FILE).exists():
        say(f"- {run / FILE} could not be read; it is written anew")
    known = known or {}
    before = known.get("suites")
    if "suites" in figures:
        new = {"suites": {**(before if isinstance(before, dict) else {}), **figures["suites"]}}
    else:
        new = dict(figures)
    write_text(run / FILE, to_json({**known, **new}) + "\n")
    return run / FILE
