"""convnext scaling fit | plan | run | draw"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from convnext.cli.output import emit, emit_json, parse_part, table
from convnext.core.errors import UserError
from convnext.core.logs import duration, say, seconds_in
from convnext.core.places import check_file, check_folder
from convnext.scaling.ladders import Family, Regime, rung

if TYPE_CHECKING:
    from convnext.scaling.report import Fitted, How, Pair
    from convnext.scaling.study import Plan as StudyPlan
    from convnext.scaling.study import Row


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
    """Training FLOPs of a run, as 1e12 3e12 9e12: equal compute, whatever the model. 6 for each multiply-accumulate."""
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


@dataclass(frozen=True)
class Fitting:
    what: tyro.conf.Positional[tuple[str, ...]] = ()
    """Published series by name, csv files and folders of `run`; none: all published series."""
    x: Literal["own", "gmacs", "params", "compute"] = "own"
    """Cost: gmacs (10^9 multiply-accumulates of an image), params (millions), compute (training FLOPs); own: compute
    for CLIP and your own points, gmacs for the others."""
    y: Literal["error", "loss"] = "error"
    """error: share wrong at first guess. loss: cross-entropy, which your own runs have."""
    law: Literal["power", "floor"] = "power"
    """power: a x^b. floor: a x^b + c, with an error that no cost removes; it needs more points."""
    loss: Literal["squares", "huber"] = "squares"
    """Least squares of logarithms, or a robust loss (Huber, delta 1e-3)."""
    pareto: bool = False
    """Fit only the points that no cheaper one beats: the envelope."""
    slack: float = 1.25
    """Series are compared where their costs meet; that range is widened by this factor, so that models of nearly the
    same cost are not cut off."""
    noise: float = 0.1
    """Standard deviation of a top-1 from run to run, in points."""
    draws: int = 2000
    """Resamples of the points for the 95 % interval of an exponent."""
    json: bool = False
    """Print as JSON."""


@dataclass(frozen=True)
class Fit(Fitting):
    """A power law through each series of points, with intervals; every two that are named are compared.

    For example:
      convnext scaling fit                                                  all published series
      convnext scaling fit convnext_v1_in1k_224 deit3_in1k_224              and whether their exponents differ
      convnext scaling fit scaling --y loss --pareto                        a study of yours
      convnext scaling fit mine.csv --x gmacs --law floor --loss huber      columns family, gmacs, top1
    """


@dataclass(frozen=True)
class Draw(Fitting):
    """Draws figure against cost with the laws, as PNG and SVG, and writes the numbers as csv and JSON.

    For example:
      convnext scaling draw                     the published points: the figure of docs/scaling.md
      convnext scaling draw scaling             your study, beside published points
    """

    out: Path | None = None
    """Where to put the files, without a suffix; `scaling` here, or in the study's folder, if left out."""
    published: bool = True
    """Beside points of your own, draw the published ones too."""


PARTS: dict[str, type[Any]] = {"fit": Fit, "plan": Plan, "run": Run, "draw": Draw}

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
    elif isinstance(args, Fit):
        _fit(args)
    elif isinstance(args, Draw):
        _draw(args)
    return 0


def _how(args: Fitting) -> How:
    from convnext.scaling.fit import Settings
    from convnext.scaling.report import How

    if args.slack < 1 or args.noise < 0 or args.draws < 100:
        raise UserError("--slack is at least 1, --noise not negative, --draws at least 100.")
    return How(
        axis=None if args.x == "own" else args.x,
        figure=args.y,
        slack=args.slack,
        settings=Settings(args.law == "floor", args.loss, args.pareto, noise=args.noise / 100, draws=args.draws),
    )


def _fit(args: Fit) -> None:
    how = _how(args)
    from convnext.scaling.report import fitted, pairs, read_series

    found = [fitted(series, how) for series in read_series(args.what)]
    compared = pairs(found, how) if args.what else []
    if args.json:
        emit_json({"fits": [one.values() for one in found], "comparisons": [pair.values() for pair in compared]})
        return
    if not any(one.fit for one in found):
        raise UserError("No law can be fitted: " + "; ".join(f"{one.series.name}: {one.why_not}" for one in found))
    emit(fits_table(found, how))
    for pair in compared:
        emit("\n" + pair_in_words(pair))


def fits_table(found: list[Fitted], how: How) -> str:
    """The laws, a line each."""
    from convnext.scaling.report import law_in_words

    lines = []
    for one in found:
        if one.fit is None:
            say(f"{one.series.name} has no law: {one.why_not}")
            continue
        fit = one.fit
        interval = "too few points" if fit.interval is None else f"{fit.interval[0]:.3f} to {fit.interval[1]:.3f}"
        interval += " (seeds)" if fit.basis == "repeats" else ""
        noise = "" if fit.noise is None else f"{fit.noise:.4f}"
        r2 = "" if fit.r2 is None else f"{fit.r2:.3f}"
        span = f"{fit.low * one.unit:.3g} to {fit.high * one.unit:.3g}"
        lines.append((one.series.name, str(fit.n), one.axis, span, law_in_words(one), interval, noise, r2))
    head = ("series", "points", "x", "range of x", how.figure, "95 % of exponent", "± from noise", "R2")
    return table(lines, header=head)


def pair_in_words(pair: Pair) -> str:
    """Whether two series differ, in sentences."""
    names = f"{pair.first.series.name} and {pair.second.series.name}"
    if isinstance(pair.result, str):
        return f"{names}: not compared; {pair.result}."
    found = pair.result
    verdict = "differ" if found.p < 0.05 else "do not differ beyond chance"
    basis = "" if found.basis == "residuals" else ", from the noise of each point alone: lines taken as exact"
    text = (
        f"{names}, compared from {found.low:.3g} to {found.high:.3g} ({found.n[0]} and {found.n[1]} points): exponents "
        f"{found.exponents[0]:.3f} and {found.exponents[1]:.3f} {verdict} (difference {found.difference:+.3f}, 95 % "
        f"{found.interval[0]:+.3f} to {found.interval[1]:+.3f}, p = {found.p:.2g}{basis})."
    )
    if pair.dearer:
        second = pair.second.series.name
        costs = ", ".join(f"{name} {ratio:.2f}x" for name, ratio in pair.dearer)
        text += f"\n  For the same figure {second} costs: {costs}."
    beyond = pair.beyond
    if beyond:
        first, second = pair.first.series.name, pair.second.series.name
        text += f"\n  {beyond} point{'s' if beyond != 1 else ''} of {first} beyond what {second} covers: no claim."
    return text


def _draw(args: Draw) -> None:
    how = _how(args)
    studies = [Path(name) for name in args.what if Path(name).is_dir()]
    base = args.out or (studies[0] if studies else Path()) / "scaling"
    if not base.parent.is_dir():
        raise UserError(f"There is no folder {base.parent} to draw into.")
    paths = [base.with_suffix(suffix) for suffix in (".png", ".svg")]
    for path in (*paths, base.with_suffix(".csv"), base.with_suffix(".json")):
        check_file(path, "--out")
    from convnext.scaling.figure import draw, of_named, of_published, write_tables
    from convnext.scaling.points import SERIES
    from convnext.scaling.report import pairs

    own = any(name not in SERIES for name in args.what)
    panels = of_named(args.what, how) if args.what else []
    panels += of_published() if args.published and (own or not args.what) else []
    if not panels:
        raise UserError("None of these points has both a cost and a figure: there is nothing to draw.")
    draw(panels, paths, heading="How error falls with cost" if args.what else "Published models: error and cost")
    compared = [pair for panel in panels for pair in pairs(panel.fitted, panel.how)]
    paths += write_tables(panels, compared, base)
    if args.json:
        emit_json([str(path) for path in paths])
    else:
        emit("\n".join(str(path) for path in paths))


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
    from convnext.scaling import study
    from convnext.sweep.facts import look_at
    from convnext.sweep.runs import slots
    from convnext.tasks.classification.scaling_recipes import scaling_recipe

    data = str(Path(args.data).resolve()) if Path(args.data).exists() else args.data
    facts = look_at(data, scaling_recipe(args.regime, "scaling", rung(args.regime, args.families[0], 1)))
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
        if (args.compute and args.compute != kept.compute) or (args.epochs and args.epochs != kept.epochs):
            what = f"--compute {_spaced(kept.compute)}" if kept.compute else f"--epochs {_spaced(kept.epochs)}"
            raise UserError(f"The study that stands there goes on with {what}: give that, or another --out.")
        return replace(plan, compute=kept.compute, epochs=kept.epochs), 0.0
    if seconds is None:
        study.check(plan)
    places = len(slots(args.jobs))
    image = study.speeds(replace(plan, epochs=(1.0,)) if seconds else plan, jobs=places)
    if seconds is not None:
        plan = study.within(plan, image, levels=args.levels, seconds=seconds, val=facts.val, jobs=places)
    study.check(plan)
    return plan, study.seconds_of(plan, image, val=facts.val, jobs=places)


def _spaced(values: tuple[float, ...]) -> str:
    return " ".join(f"{value:g}" for value in values)


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
    from convnext.scaling.points import of_study, write_points
    from convnext.sweep.runs import PLAN

    kept = study.plan_of(args.out) if (args.out / PLAN).is_file() else None
    plan, about = _planned(args, seconds, kept)
    plan = study.start(plan, args.out)
    _say_left_out(plan)
    what = f"going on with {args.out}" if kept else f"about {duration(about)} here"
    say(f"{len(plan.cells())} runs in {args.out}: {what}")
    failed = study.run_study(plan, args.out, jobs=args.jobs, engine=args.engine)
    found = study.rows(plan, args.out)
    write_points(args.out / "points.csv", of_study(found))
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
