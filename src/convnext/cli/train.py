"""convnext train [RECIPE] --data DIR [--any.setting VALUE ...]"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from convnext.cli.output import RUNS, emit, emit_json, parse, percent
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.recipes.recipe import AnyRecipe, ClassificationRecipe, DetectionRecipe, SegmentationRecipe, read_recipe
from convnext.recipes.table import RECIPES, find_recipe

R = TypeVar("R", ClassificationRecipe, DetectionRecipe, SegmentationRecipe)


@dataclass(frozen=True)
class Train(Generic[R]):
    """Train or fine-tune a classifier, a detector or a segmenter.

    For example:
      convnext train --data photos                    picks a recipe for your photos and says why
      convnext train --data photos --init model.pth   starts from pre-trained weights
      convnext train cifar10 --data cifar --optim.lr 1e-3
      convnext train coco/mask_rcnn_convnext_tiny --data coco
      convnext train ade20k/upernet_convnext_tiny --data ADEChallengeData2016
      convnext train runs/x/recipe.json               runs a recipe again
      convnext train --resume runs/x                  goes on where it was stopped

    photos/ holds one folder of images for each class, or train/ and val/ with such folders each; or, for a detector,
    annotations in COCO's form: annotations/instances_train.json with images/train/ (COCO's own folders, and
    train/_annotations.coco.json, do too), or one .json file beside its images; or, for a segmenter, pictures and label
    maps of the same names: images/train/ and annotations/train/ (and the same for val; ADE20K's folders do too), with
    the names of the classes in classes.txt or labels.json.
    RECIPE comes first and is one of `convnext recipes` or a recipe.json; every setting of it can be changed below.
    """

    recipe: Annotated[tyro.conf.SuppressFixed[R], tyro.conf.arg(name="")]
    out: Path | None = None
    """Where to put the run; runs/RECIPE-TIME if left out."""
    overwrite: bool = False
    """Replace a run that stands there."""
    resume: Path | None = None
    """Go on with this run instead; it has its own recipe."""
    json: bool = False
    """Print the result as JSON."""


_KINDS: dict[type[AnyRecipe], type[Train[Any]]] = {
    ClassificationRecipe: Train[ClassificationRecipe],
    DetectionRecipe: Train[DetectionRecipe],
    SegmentationRecipe: Train[SegmentationRecipe],
}


def run(argv: list[str]) -> None:
    base, reasons, rest = _base(argv)
    kind = _KINDS[type(base)]
    args = parse(kind, rest, command="train", default=kind(recipe=base))
    from convnext import run as assembler

    if args.resume:
        if len(rest) > (3 if args.json else 2):
            raise UserError("A run that is resumed keeps its recipe: --resume takes no other settings.")
        folder = assembler.resume(args.resume)
    else:
        out = args.out or RUNS / f"{args.recipe.name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
        folder = assembler.train(args.recipe, out, overwrite=args.overwrite, reasons=reasons)
    _finish(folder, as_json=args.json)


def _finish(folder: Path, *, as_json: bool) -> None:
    """Evaluates the best model, draws the report, and says where everything is."""
    from convnext.core import distributed
    from convnext.report.page import write_report
    from convnext.run import RECIPE

    if not distributed.is_main():
        return
    judges = {
        ClassificationRecipe: _judge_classifier,
        DetectionRecipe: _judge_detector,
        SegmentationRecipe: _judge_segmenter,
    }
    figures, said = judges[type(read_recipe(folder / RECIPE))](folder)
    report = write_report(folder)
    if as_json:
        emit_json({"run": str(folder), "report": str(report), **figures})
        return
    say(said)
    emit(f"model:  {folder / 'best.safetensors'}")
    emit(f"report: {report}")


def _judge_classifier(folder: Path) -> tuple[dict[str, Any], str]:
    """The figures of a run's best classifier, and a sentence that says them."""
    from convnext.tasks.classification.evaluate import evaluate_run

    figures = evaluate_run(folder)
    low, high = figures["top1_interval"]
    said = (
        f"top-1 {100 * figures['top1']:.1f} % ({100 * low:.1f} to {100 * high:.1f}) on {_held_out(figures, 'images')}"
    )
    return {"top1": figures["top1"], "top5": figures["top5"]}, said


def _judge_detector(folder: Path) -> tuple[dict[str, Any], str]:
    """The figures of a run's best detector, and a sentence that says them."""
    from convnext.tasks.detection.evaluate import evaluate_detector_run

    figures = evaluate_detector_run(folder)
    kinds = {kind: figures[kind] for kind in ("box", "mask") if figures[kind]}
    short = {f"{kind}_{name}": found[name] for kind, found in kinds.items() for name in ("AP", "AP50")}
    said = ", ".join(f"{name.replace('_', ' ')} {percent(value)}" for name, value in short.items())
    return short, f"{said} on {_held_out(figures, 'pictures')}"


def _judge_segmenter(folder: Path) -> tuple[dict[str, Any], str]:
    """The figures of a run's best segmenter, and a sentence that says them."""
    from convnext.tasks.segmentation.evaluate import evaluate_segmenter_run

    figures = evaluate_segmenter_run(folder)
    short = {name: figures[name] for name in ("mIoU", "mAcc", "aAcc")}
    said = ", ".join(f"{name} {percent(value)}" for name, value in short.items())
    return short, f"{said} on {_held_out(figures, 'pictures')}"


def _held_out(figures: dict[str, Any], what: str) -> str:
    if figures["held_out"]:
        return f"{figures['n']} held-out {what}"
    return f"the {figures['n']} TRAINING {what} (none were held out)"


def _base(argv: list[str]) -> tuple[AnyRecipe, tuple[str, ...], list[str]]:
    """The recipe that settings are applied to, why it was picked, and the arguments that are left."""
    if argv and not argv[0].startswith("-"):
        name, rest = argv[0], argv[1:]
        if name.endswith(".json"):
            return read_recipe(Path(name)), (), rest
        if Path(name).is_dir() and name not in RECIPES:
            raise UserError(f"{name} is a folder, not a recipe. Did you mean: convnext train --data {name}")
        return find_recipe(name), (), rest
    wants_help = any(word in ("-h", "--help") for word in argv)
    if wants_help or _value(argv, "--resume"):
        return ClassificationRecipe(name="imagenet"), (), argv
    data = _value(argv, "--data")
    if not data:
        raise UserError("Which images? convnext train --data DIR, where DIR has one folder of images for each class.")
    say(f"recipe picked for {data}:")
    recipe, reasons = _picked(data, _value(argv, "--init"), _value(argv, "--labels"))
    return recipe, reasons, argv


def _picked(data: str, init: str, labels: str) -> tuple[AnyRecipe, tuple[str, ...]]:
    """A recipe for the data: for a detector, where it is annotated in COCO's form; for a segmenter, where there are
    label maps."""
    from convnext.data.detection.open import looks_like_coco
    from convnext.data.segmentation.open import looks_like_label_maps
    from convnext.tasks.classification.setup import choose_recipe
    from convnext.tasks.detection.setup import choose_detection_recipe
    from convnext.tasks.segmentation.setup import choose_segmentation_recipe

    if looks_like_coco(data) and not labels:
        return choose_detection_recipe(data, init=init)
    if looks_like_label_maps(data, labels):
        return choose_segmentation_recipe(data, labels=labels, init=init)
    return choose_recipe(data, init=init)


def _value(argv: list[str], option: str) -> str:
    """The value of an option, before the full parse (what is picked depends on it)."""
    for place, word in enumerate(argv):
        if word == option:
            return argv[place + 1] if place + 1 < len(argv) else ""
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return ""
