"""convnext train [RECIPE] --data DIR [--any.setting VALUE ...]"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, NamedTuple, TypeVar

import tyro

from convnext.cli.output import RUNS, emit, emit_json, parse
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.recipes.recipe import Recipe
from convnext.tasks.recipes import all_recipes, find_recipe, read_recipe, task_of
from convnext.tasks.table import TASKS

if TYPE_CHECKING:
    from convnext.data.dataset import DataModule
    from convnext.weights.locate import WeightFile

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Train(Generic[R]):
    recipe: Annotated[tyro.conf.SuppressFixed[R], tyro.conf.arg(name="")]
    task: str = ""
    """Which task to train for, where the data could be for several."""
    out: Path | None = None
    """Where to put the run; runs/RECIPE-TIME if left out."""
    overwrite: bool = False
    """Replace a run that stands there."""
    resume: Path | None = None
    """Go on with this run instead; it has its own recipe."""
    json: bool = False
    """Print the result as JSON."""


def _help() -> str:
    """The command's help, of what every task says about itself."""
    models = [f"a {spec.texts.model}" for spec in TASKS.values()]
    examples = [example for spec in TASKS.values() for example in spec.texts.examples]
    more = (
        ("train --data photos --init model.pth", "starts from pre-trained weights"),
        ("train runs/x/recipe.json", "runs a recipe again"),
        ("train --resume runs/x", "goes on where it was stopped"),
    )
    lines = "\n".join(f"  convnext {command:<62} {what}" for command, what in (*examples, *more))
    layouts = "\n\n".join(f"Data for a {spec.texts.model}: {spec.texts.data}." for spec in TASKS.values())
    return f"""Train or fine-tune {", ".join(models[:-1])} or {models[-1]}.

For example:
{lines}

{layouts}

RECIPE comes first and is one of `convnext recipes` or a recipe.json; every setting of it can be changed below.
"""


Train.__doc__ = _help()


class _Base(NamedTuple):
    """What settings are applied to."""

    recipe: Recipe
    reasons: tuple[str, ...]
    """Why it was picked."""
    rest: list[str]
    """The arguments that are left."""
    data: DataModule[Any] | None = None
    """The data, where it was opened to pick a recipe."""
    init: WeightFile | None = None


def run(argv: list[str]) -> None:
    base = _base(argv)
    kind = Train[type(base.recipe)]  # pyright: ignore[reportInvalidTypeArguments]
    args = parse(kind, base.rest, command="train", default=kind(recipe=base.recipe))
    if args.task and args.task != args.recipe.task:
        model = TASKS[args.recipe.task].texts.model
        raise UserError(f"The recipe {args.recipe.name} trains a {model}: leave out --task {args.task}.")
    if args.resume:
        if len(base.rest) > (3 if args.json else 2):
            raise UserError("A run that is resumed keeps its recipe: --resume takes no other settings.")
        folder, data = _resumed(args.resume)
    else:
        folder, data = _trained(base, args)
    _finish(folder, data, as_json=args.json)


def _trained(base: _Base, args: Any) -> tuple[Path, DataModule[Any]]:
    """Trains, on the data that was opened to pick the recipe if there is any."""
    from convnext import run as runner

    recipe = args.recipe
    out = args.out or RUNS / f"{recipe.name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    runner.check_before_opening(recipe, out, overwrite=args.overwrite)
    opened = base.data if _opened_alike(base, recipe) else None
    data = opened or runner.open_data(recipe)
    init = base.init if recipe.init == base.recipe.init else None
    folder = runner.train(recipe, out, data=data, init=init, overwrite=args.overwrite, reasons=base.reasons)
    return folder, data


def _resumed(run: Path) -> tuple[Path, DataModule[Any]]:
    """Goes on with a run."""
    from convnext import run as runner

    data = runner.open_data(runner.recipe_of(run))
    return runner.resume(run, data=data), data


def _opened_alike(base: _Base, recipe: Recipe) -> bool:
    """Whether the data that was opened to pick a recipe is the data of the recipe with all settings."""
    names = ("data", *task_of(recipe).data_options)
    return all(getattr(base.recipe, name) == getattr(recipe, name) for name in names)


def _finish(folder: Path, data: DataModule[Any] | None, *, as_json: bool) -> None:
    """Evaluates the best model, draws the report, and says where everything is."""
    from convnext.core import distributed
    from convnext.run import RECIPE, evaluate_run, write_report

    if not distributed.is_main():
        return
    spec = task_of(read_recipe(folder / RECIPE))
    figures = evaluate_run(folder, data=data)
    report = write_report(folder)
    if as_json:
        emit_json({"run": str(folder), "report": str(report), **spec.summary(figures)})
        return
    say(spec.headline(figures))
    emit(f"model:  {folder / 'best.safetensors'}")
    emit(f"report: {report}")


def _base(argv: list[str]) -> _Base:
    """The recipe that settings are applied to."""
    task = _value(argv, "--task")
    if argv and not argv[0].startswith("-"):
        name, rest = argv[0], argv[1:]
        if name.endswith(".json"):
            return _Base(read_recipe(Path(name)), (), rest)
        if Path(name).is_dir() and name not in all_recipes():
            raise UserError(f"{name} is a folder, not a recipe. Did you mean: convnext train --data {name}")
        return _Base(find_recipe(name), (), rest)
    wants_help = any(word in ("-h", "--help") for word in argv)
    if wants_help or _value(argv, "--resume"):
        from convnext.tasks.choose import task_named

        spec = task_named(task) if task else next(iter(TASKS.values()))
        return _Base(spec.recipe_type()(name="imagenet"), (), argv)
    data = _value(argv, "--data")
    if not data:
        raise UserError("Which images? convnext train --data DIR; convnext train --help says what DIR may hold.")
    return _picked(data, argv, task)


def _picked(data: str, argv: list[str], task: str) -> _Base:
    """A recipe for the data, of the task that knows it."""
    from convnext.tasks.choose import find_file, recognise

    names = {name for spec in TASKS.values() for name in spec.data_options}
    options = {name: value for name in sorted(names) if (value := _value(argv, f"--{name.replace('_', '-')}"))}
    spec, reason = recognise(data, options, task=task)
    say(f"recipe picked for {data}, as data for a {spec.texts.model} ({reason}):")
    opened, words = spec.open_data(data, options), _value(argv, "--init")
    init = find_file(words) if words else None
    recipe, reasons = spec.choose_recipe(opened, init, options)
    return _Base(recipe, reasons, argv, opened, init)


def _value(argv: list[str], option: str) -> str:
    """The value of an option, before the full parse (what is picked depends on it)."""
    for place, word in enumerate(argv):
        if word == option:
            return argv[place + 1] if place + 1 < len(argv) else ""
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return ""
