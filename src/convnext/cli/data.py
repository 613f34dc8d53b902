"""convnext data check | show | mapping"""

from __future__ import annotations

from dataclasses import dataclass, field, make_dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from convnext.cli.output import emit, emit_json, parse_part
from convnext.core.errors import UserError
from convnext.core.places import check_file
from convnext.tasks.spec import TaskSpec
from convnext.tasks.table import TASKS


@dataclass(frozen=True)
class _Data:
    data: tyro.conf.Positional[str]
    """The data, as `convnext train --data` takes it."""
    task: str = ""
    """The task that the data is for (classify, detect, segment); what it looks like if left out."""


@dataclass(frozen=True)
class _Check(_Data):
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
class _Show(_Data):
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


@dataclass(frozen=True)
class Mapping:
    """Writes which class each colour or value of label maps is into a file, with names to edit. The file stands beside
    the images, as labels.json, where training reads it.

    For example:
      convnext data mapping scans
    """

    data: tyro.conf.Positional[Path]
    """The folder of images and label maps."""
    out: Path | None = None
    """The file to write, in place of labels.json in that folder."""
    force: bool = False
    """Write over a file that is there."""


def _with_data_options(name: str, base: type[_Data]) -> type[Any]:
    """The arguments of a part with the settings by which tasks open data, as `convnext train` has them."""
    names = dict.fromkeys(option for spec in TASKS.values() for option in spec.data_options)
    options = [(_field(option), _option(option), field(default="")) for option in names]
    kind = make_dataclass(name, options, bases=(base,), frozen=True)
    kind.__doc__ = base.__doc__
    return kind


def _option(name: str) -> Any:
    shown = name.replace("_", "-")
    return Annotated[str, tyro.conf.arg(name=shown, help=f"As `convnext train` takes --{shown}.")]


def _field(name: str) -> str:
    """The attribute that holds a setting such as "loader.bands"."""
    return name.replace(".", "_")


PARTS: dict[str, type[Any]] = {
    "check": _with_data_options("Check", _Check),
    "show": _with_data_options("Show", _Show),
    "mapping": Mapping,
}

HELP = """convnext data - data looked at before it is trained on

usage: convnext data PART [...]

parts:
  check     what is wrong with it, what is left out, what is there twice
  show      a contact sheet: images with their labels, as they are and as training sees them
  mapping   a file that says which class each colour or value of label maps is, ready to edit

convnext data PART --help says more about one.
"""


def run(argv: list[str]) -> int:
    args = parse_part(PARTS, argv, command="data", text=HELP)
    if isinstance(args, _Check):
        return _check(args)
    if isinstance(args, _Show):
        _show(args)
    if isinstance(args, Mapping):
        _mapping(args)
    return 0


def _opened(args: Any) -> tuple[TaskSpec, Any, dict[str, str]]:
    """The task of the data, the data, and the settings that it was opened by."""
    from convnext.tasks.choose import recognise

    names = {option for spec in TASKS.values() for option in spec.data_options}
    given = {name: value for name in sorted(names) if (value := getattr(args, _field(name)))}
    spec, _ = recognise(args.data, given, task=args.task)
    others = [name for name in given if name not in spec.data_options]
    if others:
        raise UserError(f"{args.data} is data for a {spec.texts.model}, for which there is no --{others[0]}.")
    return spec, spec.open_data(args.data, given), given


def _check(args: Any) -> int:
    from convnext.data.config import loader_for
    from convnext.tasks.inspection import check, check_text

    if args.workers < -1:
        raise UserError(f"--workers is 0 or more, or -1, not {args.workers}.")
    spec, data, given = _opened(args)
    found = check(spec, data, loader_for(given), workers=args.workers)
    if args.json:
        emit_json(found)
    else:
        emit(check_text(found))
    return 1 if found["wrong"] else 0


def _show(args: Any) -> None:
    if args.images < 1:
        raise UserError(f"--images is at least 1, not {args.images}.")
    if args.out.suffix.lower() != ".png":
        raise UserError(f"--out is a .png file, not {args.out}.")
    if args.out.exists() and not args.force:
        raise UserError(f"{args.out} is there already. Give another --out, or --force to write over it.")
    if not args.out.parent.is_dir():
        raise UserError(f"There is no folder {args.out.parent} for --out.")
    check_file(args.out, "--out")
    from convnext.data.config import loader_for
    from convnext.tasks.inspection import sheet
    from convnext.tasks.recipes import find_recipe

    spec, data, given = _opened(args)
    recipe = find_recipe(args.recipe) if args.recipe else spec.choose_recipe(data, None, given)[0]
    if recipe.task != spec.name:
        raise UserError(f"The recipe {args.recipe} is not for a {spec.texts.model}, and {args.data} is data for one.")
    loader = loader_for(given, skip_bad=True)
    recipe, _ = spec.measure(replace(recipe, loader=loader), data)
    train = data.splits(recipe.loader, seed=recipe.loop.seed).train
    sheet(spec, recipe, train, images=args.images).save(args.out)
    emit(f"wrote {args.out}")


def _mapping(args: Mapping) -> None:
    from convnext.data.segmentation.colours import write_mapping

    file, found = write_mapping(args.data, args.out, force=args.force)
    emit(f"found {found}")
    emit(f"wrote {file}: give the classes their names there. `convnext train --data {args.data}` reads labels.json.")
