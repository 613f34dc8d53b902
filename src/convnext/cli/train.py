"""convnext train [RECIPE] --data DIR [--any.setting VALUE ...]"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, NamedTuple, TypeVar

import tyro

from convnext.cli.output import RUNS, emit, emit_json, parse
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.core.places import check_folder
from convnext.recipes.advice import still_true, true_reasons
from convnext.recipes.limits import check_numbers, setting
from convnext.recipes.recipe import Recipe
from convnext.tasks.recipes import all_recipes, find_recipe, read_recipe, task_of
from convnext.tasks.start import AUTO, COMMERCIAL, NONE
from convnext.tasks.table import TASKS
from convnext.training.place import check_free

if TYPE_CHECKING:
    from convnext.data.dataset import DataModule
    from convnext.tasks.initial import Initial
    from convnext.tasks.spec import TaskSpec

R = TypeVar("R", bound=Recipe)


@dataclass(frozen=True)
class Train(Generic[R]):
    recipe: Annotated[tyro.conf.SuppressFixed[R], tyro.conf.arg(name="")]
    task: str = ""
    """Which task to train for, where the data could be for several."""
    licence: Annotated[Literal["commercial", "any"], tyro.conf.arg(aliases=["--license"])] = COMMERCIAL
    """Of the weights that `--init auto` picks. commercial: those that may be used commercially; any: better ones too
    that may not."""
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
        ("train --data photos --init model.pth", "starts from weights of your own"),
        ("train --data photos --init none", "starts from scratch: no download"),
        ("train runs/x/recipe.json", "runs a recipe again"),
        ("train --resume runs/x", "goes on where it was stopped"),
    )
    lines = "\n".join(f"  convnext {command:<62} {what}" for command, what in (*examples, *more))
    layouts = "\n\n".join(f"Data for a {spec.texts.model}: {spec.texts.data}." for spec in TASKS.values())
    return f"""Train or fine-tune {", ".join(models[:-1])} or {models[-1]}.

For example:
{lines}

{layouts}

What a run starts from: without a RECIPE, --init is auto, which fetches published weights that suit data and device, and
says which and under which licence (small images start from scratch); a RECIPE says itself what it starts from.

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
    initial: Initial | None = None
    """What it starts from, where that was found to pick it."""


def run(argv: list[str]) -> None:
    with ExitStack() as held:  # the run's folder, from before anything is read until all is written
        _check_init(argv)
        base = _with_whole_models(_base(argv, held))
        kind = Train[type(base.recipe)]  # pyright: ignore[reportInvalidTypeArguments]
        args = parse(kind, base.rest, command="train", default=kind(recipe=base.recipe))
        if args.task and args.task != args.recipe.task:
            model = TASKS[args.recipe.task].texts.model
            raise UserError(f"The recipe {args.recipe.name} trains a {model}: leave out --task {args.task}.")
        if args.resume:
            if len(base.rest) > (3 if args.json else 2):
                raise UserError("A run that is resumed keeps its recipe: --resume takes no other settings.")
            folder, data = _resumed(args.resume, held)
        else:
            folder, data = _trained(base, args, held)
        _finish(folder, data, as_json=args.json)


def _trained(base: _Base, args: Any, held: ExitStack) -> tuple[Path, DataModule[Any]]:
    """Trains, on the data that was opened to pick the recipe if there is any."""
    from convnext import run as runner
    from convnext.tasks.initial import advised

    recipe = _with_init(base, args.recipe)
    out = args.out or _new_folder(recipe.name, held)
    held.enter_context(runner.held(out))
    runner.check_before_opening(recipe, out, overwrite=args.overwrite)
    opened = base.data if _opened_alike(base, recipe) else None
    data = opened or runner.open_data(recipe)
    init = base.initial.file if base.initial and recipe.init == base.recipe.init else None
    reasons = base.reasons if base.data is None else tuple(true_reasons(base.reasons, base.recipe, recipe))
    with advised(task_of(recipe)):
        folder = runner.train(recipe, out, data=data, init=init, overwrite=args.overwrite, reasons=reasons)
    return folder, data


def _with_init(base: _Base, recipe: Recipe) -> Recipe:
    """The recipe with what `--init auto` and `--init none` mean in it."""
    return replace(recipe, init={NONE: "", AUTO: base.recipe.init}.get(recipe.init, recipe.init))


def _check_init(argv: list[str]) -> None:
    """Refuses words about the weights to start from that go with no recipe that is named, or not with each other."""
    given, named = _given(argv), bool(argv) and not argv[0].startswith("-")
    if named and given.get("init") == AUTO:
        raise UserError(
            f"--init {AUTO} goes with a recipe that is picked for the data: leave {argv[0]} out, or say which weights, "
            f"as --init convnext_tiny.fb_in22k, or --init {NONE}."
        )
    if "licence" in given and (named or given.get("init", AUTO) != AUTO):
        raise UserError("--licence says which weights may be picked, and here none are picked: leave it out.")


def _new_folder(name: str, held: ExitStack) -> Path:
    """A folder for a run that was given none. Of processes that train together, the first makes it."""
    from convnext.core import distributed
    from convnext.training.place import new_place

    return held.enter_context(new_place(RUNS, name)) if distributed.is_main() else RUNS / name


def _resumed(run: Path, held: ExitStack) -> tuple[Path, DataModule[Any]]:
    """Goes on with a run."""
    from convnext import run as runner

    recipe = runner.recipe_of(run)
    held.enter_context(runner.held(run))
    data = runner.open_data(recipe)
    return runner.resume(run, data=data), data


def _opened_alike(base: _Base, recipe: Recipe) -> bool:
    """Whether the data that was opened to pick a recipe is the data of the recipe with all settings."""
    names = ("data", *task_of(recipe).data_options)
    return all(setting(base.recipe, name) == setting(recipe, name) for name in names)


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


def _base(argv: list[str], held: ExitStack) -> _Base:
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
        return _Base(spec.recipe_type()(name="imagenet", init=AUTO if wants_help else ""), (), argv)
    data = _value(argv, "--data")
    if not data:
        raise UserError("Which images? convnext train --data DIR; convnext train --help says what DIR may hold.")
    return _picked(data, argv, task, held)


def _picked(data: str, argv: list[str], task: str, held: ExitStack) -> _Base:
    """A recipe for the data, of the task that knows it."""
    from convnext.tasks.choose import find_file, recognise
    from convnext.tasks.initial import Initial, advised, picked_weights, wish_of

    names = {name for spec in TASKS.values() for name in spec.data_options}
    options = {name: value for name in sorted(names) if (value := _value(argv, f"--{name.replace('_', '-')}"))}
    spec, reason = recognise(data, options, task=task)
    _check_arguments(spec, argv, held)
    say(f"recipe picked for {data}, as data for a {spec.texts.model} ({reason}):")
    given = _given(argv)
    words = given.get("init", AUTO)
    initial = Initial(None)
    if words not in (AUTO, NONE, ""):
        with advised(spec):
            initial = Initial(find_file(words))  # before the data is read: it may not be there
    opened = spec.open_data(data, options)
    if words == AUTO:
        initial = picked_weights(spec, opened, options, wish_of(given))
    recipe, reasons = spec.choose_recipe(opened, initial.file, options)
    return _Base(recipe, (*initial.reasons, *reasons), argv, opened, initial)


def _with_whole_models(base: _Base) -> _Base:
    """The recipe with the models that were named as those are, and with what was dropped for them among the reasons."""
    from convnext.tasks.initial import Initial, with_named_models

    recipe, notes = with_named_models(base.recipe, _given(base.rest), base.initial or Initial(None))
    return base._replace(recipe=recipe, reasons=(*still_true(base.reasons, base.recipe, recipe), *notes))


def _check_arguments(spec: TaskSpec, argv: list[str], held: ExitStack) -> None:
    """Refuses, before data is read, what can be refused without a recipe, and takes the run's folder."""
    from convnext import run as runner

    plain = spec.recipe_type()(name="")
    kind = Train[type(plain)]  # pyright: ignore[reportInvalidTypeArguments]
    args = parse(kind, argv, command="train", default=kind(recipe=plain))
    check_numbers(args.recipe, spec.limits())
    if args.out:
        held.enter_context(runner.held(args.out))
        check_free(args.out, overwrite=args.overwrite)
    else:
        check_folder(RUNS, "The run's folder")


def _value(argv: list[str], option: str) -> str:
    """The value of an option, before the full parse (what is picked depends on it)."""
    for place, word in enumerate(argv):
        if word == option:
            return argv[place + 1] if place + 1 < len(argv) else ""
        if word.startswith(f"{option}="):
            return word.removeprefix(f"{option}=")
    return ""


def _given(argv: list[str]) -> dict[str, str]:
    """Every option that was given, as "model.stem_stride", and its value, before the full parse."""
    found: dict[str, str] = {}
    for place, word in enumerate(argv):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            found[name.replace("-", "_")] = value if equals else "".join(argv[place + 1 : place + 2])
    if "license" in found:
        found["licence"] = found.pop("license")
    return found
