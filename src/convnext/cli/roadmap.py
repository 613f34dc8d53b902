"""convnext roadmap show | run | draw | speed"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from convnext.cli.output import emit, emit_json, parse_part, table
from convnext.core.errors import UserError, nearest
from convnext.core.logs import seconds_in
from convnext.core.places import check_file, check_folder
from convnext.models.roadmap import REGIMES, STEPS, name_of

Regime = Literal["resnet50", "resnet200", "small"]


@dataclass(frozen=True)
class Show:
    """Every step: what it costs, computed here, and what the paper published."""

    regime: tyro.conf.Positional[Regime] = "resnet50"
    """resnet50 (to ConvNeXt-T), resnet200 (to ConvNeXt-B), or small: the same steps for small machines."""
    json: bool = False
    """Print as JSON."""


@dataclass(frozen=True)
class Run:
    """Trains every step with the same recipe and several seeds; the same command goes on where it was stopped.

    For example:
      convnext roadmap run --data IMAGENET --regime resnet50 --seeds 3     the paper's, 300 epochs each
      convnext roadmap run --data CIFAR10 --regime small --budget 1h       an hour, on any machine
    """

    data: str = ""
    """As for `convnext train`: class folders, or shards."""
    regime: Regime = "small"
    """resnet50 and resnet200 are the paper's; small has a quarter of the width, for images of 32 pixels."""
    seeds: int = 2
    """Runs of each step, which differ in every random choice."""
    budget: str = ""
    """About how long all of it may take, as 90m, 8h or 1h30m: epochs follow from it. Empty: as --epochs says."""
    epochs: float = 0.0
    """Passes over the images in every run; 0: the recipe's own number (300 in the paper)."""
    steps: tuple[str, ...] = ()
    """Some steps alone."""
    batch: int = 0
    """Images for each optimiser step; 0: the recipe's."""
    micro_batch: int = 0
    """Images on a device at a time; 0: all of its share of a step at once."""
    lr: float = 0.0
    """Learning rate for that batch; 0: the recipe's."""
    jobs: int = 0
    """Runs at the same time; 0: one for each GPU. Without one, each gets its share of the processors."""
    engine: Literal["local", "ray"] = "local"
    """local: on this machine. ray: on the Ray cluster that this machine belongs to (pip install 'convnext[ray]')."""
    out: Path = Path("roadmap")
    """The sweep's folder."""
    json: bool = False
    """Print the results as JSON."""


@dataclass(frozen=True)
class Draw:
    """Draws Figure 2: accuracy step by step with error bars, your runs beside the paper's.

    For example:
      convnext roadmap draw roadmap            figure.png and figure.svg in the sweep's folder
      convnext roadmap draw                    the paper's alone
    """

    sweep: tyro.conf.Positional[Path | None] = None
    """The folder of `convnext roadmap run`."""
    regime: Literal["resnet50", "resnet200"] = "resnet50"
    """Which of the paper's roads to draw; beside a sweep of one of them, that one."""
    out: Path | None = None
    """Where to put the images, without a suffix; the sweep's folder (or here) and the name figure if left out."""
    json: bool = False
    """Print the paths as JSON."""


@dataclass(frozen=True)
class Speed:
    """Images a second and memory of every step, and of the Swin it is compared with, measured in one run."""

    regime: tyro.conf.Positional[Regime] = "resnet50"
    """Which road."""
    models: tuple[str, ...] = ()
    """Other models instead, as resnet50 convnext_tiny vit_small."""
    works: tuple[Literal["forward", "train"], ...] = ("forward", "train")
    """Inference, and a training step."""
    batch: int = 1
    """Images at a time."""
    size: int = 224
    """Height and width of the images."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Floating type."""
    rounds: int = 5
    """How often every model is started afresh and timed."""
    seconds: float = 1.0
    """Time slice of a model in each round."""
    threads: int = 0
    """Threads; 0: as many as this machine has processors."""
    device: str = "auto"
    """auto, cpu or cuda."""
    json: bool = False
    """Print as JSON."""


PARTS: dict[str, type[Any]] = {"show": Show, "run": Run, "draw": Draw, "speed": Speed}

HELP = """convnext roadmap - from ResNet to ConvNeXt, step by step (the paper's section 2)

usage: convnext roadmap PART [...]

parts:
  show     every step: parameters, multiply-accumulates, published accuracy
  run      train every step with one recipe and several seeds
  draw     Figure 2 with your runs beside the paper's
  speed    images a second and memory of every step

One step alone: convnext train roadmap/resnet50/k7 --data DIR, or create_model("roadmap_resnet50_k7").
convnext roadmap PART --help says more about one.
"""


def run(argv: list[str]) -> int:
    args = parse_part(PARTS, argv, command="roadmap", text=HELP)
    if isinstance(args, Show):
        _show(args)
    elif isinstance(args, Run):
        return _run(args)
    elif isinstance(args, Draw):
        _draw(args)
    elif isinstance(args, Speed):
        _speed(args)
    return 0


def _show(args: Show) -> None:
    from convnext.roadmap.costs import rows

    found = rows(args.regime)
    if args.json:
        emit_json(found)
        return
    lines = [
        (
            row["step"],
            row["title"] + ("" if row["adopted"] else " (not adopted)"),
            f"{row['parameters'] / 1e6:.2f}",
            f"{row['gmacs']:.4f}",
            ""
            if row["gmacs_published"] is None
            else f"{row['gmacs_published']:.2f}" + ("*" if row["gmacs_shifted_in_print"] else ""),
            _accuracy(row),
        )
        for row in found
    ]
    emit(f"{args.regime}: {REGIMES[args.regime].title}\n")
    emit(table(lines, header=("step", "change", "million parameters", "GMACs", "published", "top-1 % published")))
    if any(row["gmacs_shifted_in_print"] for row in found):
        emit("\n* in print these two stand a row too high: 4.46 is ConvNeXt-T's own figure, 4.49 Swin-T's.")


def _accuracy(row: dict[str, Any]) -> str:
    if row["accuracy_published"] is None:
        return ""
    spread = row["deviation_published"]
    return f"{row['accuracy_published']:.2f}" + ("" if spread is None else f" ± {spread:.2f}")


def _run(args: Run) -> int:
    steps = args.steps or tuple(step.name for step in STEPS)
    for step in steps:
        name_of(args.regime, step)
    if not args.data:
        raise UserError("Which images? Give --data DIR: a folder with one folder of images for each class.")
    if args.seeds < 1 or args.jobs < 0 or args.epochs < 0:
        raise UserError("--seeds is at least 1, --jobs and --epochs are not negative.")
    if args.budget and args.epochs:
        raise UserError("Give --budget or --epochs, not both: the one decides the other.")
    seconds = seconds_in(args.budget) if args.budget else None
    check_folder(args.out, "--out")
    from dataclasses import replace

    from convnext.core.logs import duration, say
    from convnext.core.typed import to_dict
    from convnext.roadmap import sweep
    from convnext.sweep.facts import look_at
    from convnext.sweep.runs import PLAN, slots
    from convnext.tasks.classification.roadmap_recipes import roadmap_step

    data = str(Path(args.data).resolve()) if Path(args.data).exists() else args.data
    usual = roadmap_step(args.regime, steps[0]).schedule.epochs
    plan = sweep.Plan(
        args.regime,
        data,
        epochs=args.epochs or usual,
        seeds=args.seeds,
        steps=steps,
        batch=args.batch,
        micro_batch=args.micro_batch,
        lr=args.lr,
    )
    facts = look_at(data, plan.recipe(steps[0], 0))
    places = len(slots(args.jobs))
    if (args.out / PLAN).is_file():
        plan = sweep.start(plan, args.out)
        say(f"going on with {args.out}: {plan.epochs:g} epochs a run")
    else:
        if seconds is not None:
            plan = replace(plan, epochs=sweep.epochs_within(plan, facts, seconds=seconds, jobs=places))
            say(f"{plan.epochs:g} epochs a run fit into {duration(seconds)}")
        plan = sweep.start(plan, args.out)
    at_once = f", {places} at a time" if args.engine == "local" else ""
    say(f"{len(plan.cells())} runs{at_once}, in {args.out}")
    failed = sweep.run_sweep(plan, args.out, jobs=args.jobs, engine=args.engine)
    found = sweep.results(plan, args.out)
    if args.json:
        emit_json([to_dict(result) for result in found])
    else:
        emit(sweep_table(found))
        emit(f"\nDraw it: convnext roadmap draw {args.out}")
    return 1 if failed else 0


def sweep_table(found: list[Any]) -> str:
    """Mean and deviation of each step's runs."""
    from convnext.roadmap.sweep import by_step

    top1, time = by_step(found, lambda result: 100 * result.top1), by_step(found, lambda result: result.seconds)
    lines = [
        (step, f"{mean:.2f}" + ("" if spread is None else f" ± {spread:.2f}"), str(count), f"{time[step][0]:.0f}")
        for step, (mean, spread, count) in top1.items()
    ]
    return table(lines, header=("step", "top-1 %", "runs", "seconds"))


def _draw(args: Draw) -> None:
    from convnext.roadmap import sweep
    from convnext.roadmap.figure import draw, of_paper, of_sweep

    regime, panels = args.regime, []
    if args.out is not None:
        check_file(args.out.with_suffix(".png"), "--out")
    if args.sweep is not None:
        plan = sweep.plan_of(args.sweep)
        found = sweep.results(plan, args.sweep)
        if not found:
            raise UserError(f"No run of {args.sweep} has ended yet; `convnext roadmap run` goes on with it.")
        regime = plan.regime if plan.regime != "small" else regime
        panels = [of_sweep(plan, found)]
    base = args.out or (args.sweep or Path()) / "figure"
    if not base.parent.is_dir():
        raise UserError(f"There is no folder {base.parent} to draw into.")
    paths = [base.with_suffix(".png"), base.with_suffix(".svg")]
    draw([of_paper(regime), *panels], paths, heading="From ResNet to ConvNeXt, step by step")
    if args.json:
        emit_json([str(path) for path in paths])
    else:
        emit("\n".join(str(path) for path in paths))


def _speed(args: Speed) -> None:
    from convnext.bench.engine.cells import Settings
    from convnext.bench.roadmap import measure
    from convnext.core.device import available_cpus, describe, pick_device
    from convnext.models.create import MODEL_NAMES
    from convnext.roadmap.costs import SWIN_NAMES

    models = args.models or (*(name_of(args.regime, step.name) for step in STEPS), *SWIN_NAMES[args.regime])
    for name in models:
        if name not in MODEL_NAMES:
            raise UserError(
                f"There is no model '{name}'.{nearest(name, MODEL_NAMES)} `convnext models` lists them all."
            )
    if min(args.batch, args.rounds) < 1 or args.seconds <= 0 or args.size < 32:
        raise UserError("--batch and --rounds are at least 1, --seconds more than 0, --size at least 32 pixels.")
    device = pick_device(args.device)
    threads = args.threads or available_cpus()
    settings = Settings(size=args.size, seconds=args.seconds, rounds=args.rounds, threads=threads, device=str(device))
    found = measure(models, args.works, settings, batch=args.batch, dtype=args.dtype)
    if args.json:
        emit(json.dumps({"device": describe(device), "speeds": [asdict(speed) for speed in found]}, indent=2))
        return
    emit(f"on {describe(device)}, batch {args.batch}, {args.size} pixels, {args.dtype}, {args.rounds} rounds\n")
    lines = [
        (s.model, s.work, f"{s.images_per_second:.3g}", f"{100 * s.noise:.0f} %", _megabytes(s.memory), s.layout)
        if s.seconds
        else (s.model, s.work, "failed", "", "", s.note)
        for s in found
    ]
    emit(table(lines, header=("model", "work", "images/s", "noise", "memory", "layout")))


def _megabytes(memory: int | None) -> str:
    return "" if memory is None else f"{memory / 1e6:.0f} MB"
