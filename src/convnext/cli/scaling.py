"""convnext scaling fit | plan | run | draw"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from convnext.cli.output import emit, emit_json, parse_part, table
from convnext.core.errors import UserError
from convnext.core.logs import duration, say, seconds_in
from convnext.core.places import check_folder
from convnext.scaling.ladders import FAMILIES, Regime

if TYPE_CHECKING:
    from convnext.scaling.study import Plan as StudyPlan
    from convnext.scaling.study import Row

Family = Literal["convnext", "convnextv2", "isotropic", "vit", "swin", "resnet"]


@dataclass(frozen=True)
class Grid:
    data: str = ""
    """As for `convnext train`: class folders, shards, a table."""
    regime: Regime = "small"
    """small: reduced models for images of 32 pixels. imagenet: models as published, at 224 pixels."""
    families: tuple[Family, ...] = ("convnext", "vit", "swin")
    """Which ladders of models: convnext convnextv2 isotropic vit swin resnet."""
    sizes: tuple[int, ...] = (1, 2, 3, 4)
    """Rungs of each ladder, from 1, the smallest."""
    compute: tuple[float, ...] = ()
    """Training FLOPs of a run, as 1e12 3e12 9e12: equal compute, whatever the model (6 for each multiply-accumulate)."""
    epochs: tuple[float, ...] = ()
    """Passes over the training images: equal data, whatever the model. In place of --compute."""
    budget: str = ""
    """About how long all of it may take, as 50m or 8h: --compute follows from it. In place of both."""
    levels: int = 3
    """With --budget: how many budgets of compute, each three times the one before."""
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the training images, as 0.1 0.3 1: every run again with fewer images."""
    seeds: int = 2
    """Runs of each point, which differ in every random choice; each seed holds out other images."""
    batch: int = 0
    """Images for each optimiser step; 0: the recipe's."""
    micro_batch: int = 0
    """Images on a device at a time; 0: all of its share of a step at once."""
    lr: float = 0.0
    """Learning rate of every run; 0: the recipe's."""
    jobs: int = 0
    """Runs at the same time; 0: one for each GPU. Without one, each gets its share of the processors."""
    json: bool = False
    """Print as JSON."""


@dataclass(frozen=True)
class Plan(Grid):
    """The grid that `run` would train: models, images, compute, and about how long it takes here. Trains nothing.

    For example:
      convnext scaling plan --data CIFAR10 --budget 50m --jobs 2
    """


@dataclass(frozen=True)
class Run(Grid):
    """Trains a grid of models and budgets under one recipe; the same command goes on where it was stopped.

    For example:
      convnext scaling run --data CIFAR10 --budget 50m --jobs 2                       an hour, on any machine
      convnext scaling run --data IMAGENET --regime imagenet --families convnext vit --epochs 30 90 300 --engine ray
    """

    engine: Literal["local", "ray"] = "local"
    """local: on this machine. ray: on the Ray cluster that this machine belongs to (pip install 'convnext[ray]')."""
    out: Path = Path("scaling")
    """The study's folder."""


PARTS: dict[str, type[Any]] = {"plan": Plan, "run": Run}

HELP = """convnext scaling - how error falls with size and compute: ConvNets beside vision transformers

usage: convnext scaling PART [...]

parts:
  fit      power laws through published points, or your own, with intervals; whether two families differ
  plan     the grid that run would train, and about how long it takes
  run      train models of several sizes and budgets under one recipe
  draw     error against compute, with fits: published points beside your own

convnext scaling PART --help says more about one.
"""


def run(argv: list[str]) -> int:
    args = parse_part(PARTS, argv, command="scaling", text=HELP)
    if isinstance(args, Run):
        return _run(args)
    if isinstance(args, Plan):
        _plan(args)
    return 0


def _checked(args: Grid) -> float | None:
    """Refuses a grid that cannot be, before data is read; the seconds of --budget."""
    if not args.data:
        raise UserError("Which images? Give --data DIR: a folder with one folder of images for each class.")
    if args.seeds < 1 or args.jobs < 0 or args.levels < 1:
        raise UserError("--seeds and --levels are at least 1, --jobs is not negative.")
    if not (args.families and args.sizes and args.fractions):
        raise UserError("--families, --sizes and --fractions each name at least one.")
    if sum(map(bool, (args.compute, args.epochs, args.budget))) != 1:
        raise UserError(
            "How long is a run? Give one of --compute (equal compute), --epochs (equal data) or --budget (a time)."
        )
    return seconds_in(args.budget) if args.budget else None


def _planned(args: Grid, seconds: float | None, kept: StudyPlan | None = None) -> tuple[StudyPlan, float]:
    """The plan of these arguments, and about how many seconds it takes (0: not measured, where a plan is kept)."""
    from convnext.roadmap.sweep import look_at
    from convnext.scaling import study
    from convnext.sweep.runs import slots
    from convnext.tasks.classification.recipe import ClassificationRecipe

    data = str(Path(args.data).resolve()) if Path(args.data).exists() else args.data
    facts = look_at(data, ClassificationRecipe(name="scaling"))
    plan = study.Plan(
        args.regime,
        data,
        facts.train,
        facts.classes,
        families=args.families,
        sizes=args.sizes,
        compute=args.compute,
        epochs=args.epochs,
        fractions=args.fractions,
        seeds=args.seeds,
        batch=args.batch,
        micro_batch=args.micro_batch,
        lr=args.lr,
    )
    if kept is not None:
        return replace(plan, compute=kept.compute, epochs=kept.epochs), 0.0
    places = len(slots(args.jobs))
    image = study.speeds(replace(plan, epochs=(1.0,)) if seconds else plan, jobs=places)
    if seconds is not None:
        plan = study.within(plan, image, levels=args.levels, seconds=seconds, val=facts.val, jobs=places)
    study.check(plan)
    return plan, study.seconds_of(plan, image, val=facts.val, jobs=places)


def _plan(args: Plan) -> None:
    from convnext.scaling import study

    plan, seconds = _planned(args, _checked(args))
    _say_left_out(plan)
    rows = study.as_table(plan)
    if args.json:
        emit_json({"seconds": round(seconds), "runs": rows})
        return
    lines = [
        (
            row["name"],
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['macs'] / 1e6:.1f}",
            f"{row['images']:,}",
            f"{row['epochs']:.2g}",
            f"{row['compute_flops']:.2g}",
        )
        for row in rows
    ]
    emit(table(lines, header=("run", "million parameters", "MMACs", "images", "epochs", "training FLOPs")))
    emit(f"\n{len(plan.cells())} runs ({plan.seeds} of each): about {duration(seconds)} here.")


def _say_left_out(plan: StudyPlan) -> None:
    from convnext.scaling.study import LEAST_EPOCHS

    names = sorted({cell.name.rsplit("/", 1)[0] for cell in plan.left_out()})
    if names:
        say(
            f"{len(names)} points are left out, for they would see less than {LEAST_EPOCHS:g} of the images once: "
            f"{', '.join(names)}"
        )


def _run(args: Run) -> int:
    seconds = _checked(args)
    check_folder(args.out, "--out")
    from convnext.core.typed import to_dict
    from convnext.scaling import study
    from convnext.sweep.runs import PLAN

    kept = study.plan_of(args.out) if (args.out / PLAN).is_file() else None
    plan, about = _planned(args, seconds, kept)
    plan = study.start(plan, args.out)
    _say_left_out(plan)
    what = f"going on with {args.out}" if kept else f"about {duration(about)} here"
    say(f"{len(plan.cells())} runs in {args.out}: {what}")
    failed = study.run_study(plan, args.out, jobs=args.jobs, engine=args.engine)
    found = study.rows(plan, args.out)
    if args.json:
        emit_json([to_dict(row) for row in found])
    else:
        emit(study_table(found))
        emit(f"\nFit and draw it: convnext scaling fit {args.out}; convnext scaling draw {args.out}")
    return 1 if failed else 0


def study_table(rows: list[Row]) -> str:
    """Loss and error of each point, the mean of its seeds."""
    points: dict[str, list[Row]] = {}
    for row in rows:
        points.setdefault(row.name.rsplit("/", 1)[0], []).append(row)
    lines = [
        (
            name,
            f"{same[0].parameters / 1e6:.2f}",
            f"{same[0].compute:.2g}",
            f"{sum(row.loss for row in same) / len(same):.3f}",
            f"{100 * sum(1 - row.error for row in same) / len(same):.1f}",
            str(len(same)),
        )
        for name, same in points.items()
    ]
    return table(lines, header=("point", "million parameters", "training FLOPs", "loss", "top-1 %", "runs"))


_ = (FAMILIES, tyro)
