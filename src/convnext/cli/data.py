"""convnext data check | show | mapping"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from convnext.cli.output import emit, emit_json, parse_part
from convnext.core.errors import UserError


@dataclass(frozen=True)
class _Data:
    data: tyro.conf.Positional[str]
    """The data, as `convnext train --data` takes it."""
    task: str = ""
    """The task that the data is for (classify, detect, segment); what it looks like if left out."""


@dataclass(frozen=True)
class Check(_Data):
    """Reads every image once: what cannot be read, what is left out, counts of each class, sizes, images that are in
    training and in validation, equal images of different classes, images that look alike.

    The exit status is 1 where something should be repaired.

    For example:
      convnext data check photos
    """

    workers: int = -1
    """Processes that read images; -1: one for each core."""
    json: bool = False
    """Print everything as JSON."""


@dataclass(frozen=True)
class Show(_Data):
    """Draws a contact sheet: images with their labels, boxes or masks, and each as training will see it.

    For example:
      convnext data show photos --out sheet.png
    """

    out: Path = Path("sheet.png")
    """The PNG to write."""
    images: int = 12
    """How many images."""
    recipe: str = ""
    """The recipe whose augmentation is shown; the one that `train` would pick if left out."""
    force: bool = False
    """Write over a file that is there."""


PARTS: dict[str, type[Any]] = {"check": Check, "show": Show}

HELP = """convnext data - data looked at before it is trained on

usage: convnext data PART [...]

parts:
  check     what is wrong with it, what is left out, what is there twice
  show      a contact sheet: images with their labels, as they are and as training sees them

convnext data PART --help says more about one.
"""


def run(argv: list[str]) -> int:
    args = parse_part(PARTS, argv, command="data", text=HELP)
    if isinstance(args, Check):
        return _check(args)
    if isinstance(args, Show):
        _show(args)
    return 0


def _check(args: Check) -> int:
    from convnext.tasks.choose import recognise
    from convnext.tasks.inspection import check, check_text

    if args.workers < -1:
        raise UserError(f"--workers is 0 or more, or -1, not {args.workers}.")
    spec, _ = recognise(args.data, {}, task=args.task)
    found = check(spec, spec.open_data(args.data, {}), workers=args.workers)
    if args.json:
        emit_json(found)
    else:
        emit(check_text(found))
    return 1 if found["wrong"] else 0


def _show(args: Show) -> None:
    if args.images < 1:
        raise UserError(f"--images is at least 1, not {args.images}.")
    if args.out.suffix.lower() != ".png":
        raise UserError(f"--out is a .png file, not {args.out}.")
    if args.out.exists() and not args.force:
        raise UserError(f"{args.out} is there already. Give another --out, or --force to write over it.")
    if not args.out.parent.is_dir():
        raise UserError(f"There is no folder {args.out.parent} for --out.")
    from convnext.data.config import LoaderConfig
    from convnext.tasks.choose import recognise
    from convnext.tasks.inspection import sheet
    from convnext.tasks.recipes import find_recipe

    spec, _ = recognise(args.data, {}, task=args.task)
    data = spec.open_data(args.data, {})
    recipe = find_recipe(args.recipe) if args.recipe else spec.choose_recipe(data, None, {})[0]
    if recipe.task != spec.name:
        raise UserError(f"The recipe {args.recipe} is not for a {spec.texts.model}, and {args.data} is data for one.")
    train = data.splits(LoaderConfig(skip_bad=True), seed=recipe.loop.seed).train
    sheet(spec, recipe, train, images=args.images).save(args.out)
    emit(f"wrote {args.out}")
