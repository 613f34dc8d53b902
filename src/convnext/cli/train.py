"""convnext train [RECIPE] --data DIR [--any.setting VALUE ...]"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from convnext.cli.output import RUNS, emit, emit_json, parse
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.recipes.recipe import Recipe, read_recipe
from convnext.recipes.table import RECIPES, find_recipe


@dataclass(frozen=True)
class Train:
    """Train or fine-tune a classifier.

    For example:
      convnext train --data photos                    picks a recipe for your photos and says why
      convnext train --data photos --init model.pth   starts from pre-trained weights
      convnext train cifar10 --data cifar --optim.lr 1e-3
      convnext train runs/x/recipe.json               runs a recipe again
      convnext train --resume runs/x                  goes on where it was stopped

    photos/ holds one folder of images for each class, or train/ and val/ with such folders each.
    RECIPE comes first and is one of `convnext recipes` or a recipe.json; every setting of it can be changed below.
    """

    out: Path | None = None
    """Where to put the run; runs/RECIPE-TIME if left out."""
    overwrite: bool = False
    """Replace a run that stands there."""
    resume: Path | None = None
    """Go on with this run instead; it has its own recipe."""
    json: bool = False
    """Print the result as JSON."""
    recipe: Annotated[tyro.conf.SuppressFixed[Recipe], tyro.conf.arg(name="")] = dataclasses.field(
        default_factory=lambda: Recipe(name="imagenet")
    )


def run(argv: list[str]) -> None:
    base, reasons, rest = _base(argv)
    args = parse(Train, rest, command="train", default=Train(recipe=base))
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
    from convnext.study.evaluation import evaluate_run
    from convnext.study.report import write_report

    if not distributed.is_main():
        return
    figures = evaluate_run(folder)
    report = write_report(folder)
    if as_json:
        emit_json({"run": str(folder), "report": str(report), "top1": figures["top1"], "top5": figures["top5"]})
        return
    low, high = figures["top1_interval"]
    on = (
        f"{figures['n']} held-out images"
        if figures["held_out"]
        else f"the {figures['n']} TRAINING images (none were held out)"
    )
    say(f"top-1 {100 * figures['top1']:.1f} % ({100 * low:.1f} to {100 * high:.1f}) on {on}")
    emit(f"model:  {folder / 'best.safetensors'}")
    emit(f"report: {report}")


def _base(argv: list[str]) -> tuple[Recipe, tuple[str, ...], list[str]]:
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
        return Recipe(name="imagenet"), (), argv
    data = _value(argv, "--data")
    if not data:
        raise UserError("Which images? convnext train --data DIR, where DIR has one folder of images for each class.")
    from convnext.run import choose_recipe

    recipe, reasons = choose_recipe(data, init=_value(argv, "--init"))
    say(f"recipe picked for {data}:")
    return recipe, reasons, argv


def _value(argv: list[str], option: str) -> str:
    """The value of an option, before the full parse (what is picked depends on it)."""
    for place, word in enumerate(argv):
        if word == option:
            return argv[place + 1] if place + 1 < len(argv) else ""
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return ""
