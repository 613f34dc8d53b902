"""A study of scaling: families of models, sizes and budgets under one recipe, planned and trained as a sweep.

Compute is training FLOPs: 6 for each multiply-accumulate and image (2 forward, 4 backward), as the literature counts.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch

from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.logs import Progress, duration
from convnext.core.typed import to_dict
from convnext.data.config import LoaderConfig
from convnext.models.config import ModelConfig
from convnext.models.create import count_macs, count_parameters, from_config
from convnext.scaling.ladders import rung
from convnext.sweep.engine import EngineName, train_all
from convnext.sweep.runs import PLAN, RESULTS, Ended, Run, ended, read_plan, start_folder, threads_of
from convnext.sweep.timing import seconds_an_image, seconds_of_a_run
from convnext.tasks.classification.scaling_recipes import scaling_recipe
from convnext.tasks.recipes import check_recipe

COMMAND = "convnext scaling run"
FLOPS_PER_MAC = 6.0  # of training, for each image
LEAST_EPOCHS = 0.2  # a run that would see less of the data than this is left out
STEP = 3.0  # each budget that follows from a time is this many times the one before


@dataclass(frozen=True)
class Plan:
    """What a study trains. Whoever goes on with it keeps to it."""

    regime: str
    data: str
    images: int
    """Training images of the data."""
    classes: int
    families: tuple[str, ...]
    sizes: tuple[int, ...]
    """Rungs of each family's ladder, from 1."""
    compute: tuple[float, ...] = ()
    """Training FLOPs of a run: equal compute. Empty: equal data, as `epochs` says."""
    epochs: tuple[float, ...] = ()
    """Passes over the images that are trained on, where there is no `compute`."""
    fractions: tuple[float, ...] = (1.0,)
    """Shares of the training images that are trained on."""
    seeds: int = 2
    batch: int = 0
    """Images for each optimiser step; 0: the recipe's."""
    micro_batch: int = 0
    lr: float = 0.0
    """Learning rate at its height; 0: the recipe's."""

    def cells(self) -> list[Cell]:
        """Every run that is trained: each seed's whole grid before the next, cheapest first."""
        return [cell for cell in self._all() if cell.epochs >= LEAST_EPOCHS]

    def left_out(self) -> list[Cell]:
        """Runs of the grid that would see too little of the data to say anything."""
        return [cell for cell in self._all() if cell.epochs < LEAST_EPOCHS]

    def _all(self) -> Iterator[Cell]:
        for seed in range(self.seeds):
            for budget in self.compute or self.epochs:
                for fraction in self.fractions:
                    for size in self.sizes:
                        for family in self.families:
                            yield self._cell(family, size, budget, fraction, seed)

    def _cell(self, family: str, size: int, budget: float, fraction: float, seed: int) -> Cell:
        model = rung(self.regime, family, size)
        recipe = scaling_recipe(self.regime, family, model)
        costs = costs_of(model, recipe.input.size, self.classes)
        images, batch = self.images * fraction, self.batch or recipe.loop.global_batch
        seen = budget / (FLOPS_PER_MAC * costs.macs) if self.compute else budget * images
        steps = max(round(seen / batch), 1)
        part = "" if fraction == 1 else f"-of-{fraction:g}"
        label = f"{budget:.3g}{part}" if self.compute else f"{budget:g}epochs{part}"
        name = f"{family}{size}/{label}/seed{seed}"
        return Cell(name, family, size, seed, fraction, steps, batch, images=round(images), budget=budget, costs=costs)

    def recipe(self, cell: Cell) -> Any:
        """The recipe of one run: the common one, with its model, and as long a schedule as its budget pays for."""
        name, model = f"scaling/{self.regime}/{cell.family}{cell.size}", rung(self.regime, cell.family, cell.size)
        recipe = scaling_recipe(self.regime, name, model)
        share = recipe.schedule.warmup_epochs / recipe.schedule.epochs
        return replace(
            recipe,
            data=self.data,
            loader=LoaderConfig(train_fraction=cell.fraction),
            optim=replace(recipe.optim, lr=self.lr or recipe.optim.lr),
            schedule=replace(
                recipe.schedule, steps=cell.steps, warmup_steps=max(round(share * cell.steps), 1), warmup_epochs=0.0
            ),
            loop=replace(
                recipe.loop, seed=cell.seed, global_batch=cell.batch, micro_batch=self.micro_batch, eval_epochs=0.0
            ),
        )

    def run(self, cell: Cell) -> Run:
        """One run of the sweep."""
        return Run(cell.name, self.recipe(cell))


@dataclass(frozen=True)
class Costs:
    """What a model costs."""

    parameters: int
    macs: int
    """Multiply-accumulates of one image."""


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    name: str
    family: str
    size: int
    seed: int
    fraction: float
    steps: int
    batch: int
    images: int
    """Images that it is trained on, again and again."""
    budget: float
    costs: Costs

    @property
    def seen(self) -> int:
        """Images that it trains on, each as often as it comes."""
        return self.steps * self.batch

    @property
    def epochs(self) -> float:
        return self.seen / self.images

    @property
    def compute(self) -> float:
        """Training FLOPs, of the steps as they are."""
        return FLOPS_PER_MAC * self.costs.macs * self.seen


@dataclass(frozen=True)
class Row:
    """How one run of a study ended: figures of its last evaluation."""

    name: str
    family: str
    size: int
    seed: int
    parameters: int
    macs: int
    images: int
    """Images that it was trained on, each counted once."""
    seen: int
    budget: float
    compute: float
    loss: float
    """Cross-entropy of held-out images, in nats."""
    error: float
    """Share of held-out images that are wrong at first guess, 0 to 1."""
    val_images: int
    seconds: float = field(compare=False)


@cache
def costs_of(model: ModelConfig, pixels: int, classes: int) -> Costs:
    """Parameters and multiply-accumulates of a model, counted without building its values."""
    with torch.device("meta"):
        built = from_config(replace(model, num_classes=classes))
    return Costs(count_parameters(built), count_macs(built, pixels))


def check(plan: Plan) -> None:
    """Raises UserError for a grid that cannot be trained, or that has a single point."""
    budgets = plan.compute or plan.epochs
    if not budgets or min(budgets) <= 0 or not all(0 < fraction <= 1 for fraction in plan.fractions):
        raise UserError("--compute and --epochs are above 0, --fractions lie above 0 and up to 1.")
    for family in plan.families:
        for size in plan.sizes:
            rung(plan.regime, family, size)
    names = [cell.name for cell in plan.cells()]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise UserError(f"{twice} stands twice in this grid: name each family, size, budget and fraction once.")
    points = {(cell.family, cell.size, cell.budget, cell.fraction) for cell in plan.cells()}
    fewest = min((sum(p[0] == family for p in points) for family in plan.families), default=0)
    if fewest < 2:
        raise UserError(
            f"This grid has {'a single point' if fewest == 1 else 'no point'} for a family: any line goes through it. "
            "Give several --sizes or several budgets (--compute, --epochs), "
            f"each long enough for {LEAST_EPOCHS:g} epochs."
        )
    check_recipe(plan.recipe(plan.cells()[0]))


def speeds(plan: Plan, *, jobs: int) -> dict[tuple[str, int], float]:
    """Seconds of training for one image of every model, measured here, `jobs` at a time."""
    models = {(cell.family, cell.size): cell for cell in plan.cells() or list(plan._all())}
    found = {}
    with Progress("measuring the models", len(models), unit="model") as progress:
        for number, (key, cell) in enumerate(models.items()):
            found[key] = seconds_an_image(plan.recipe(cell), plan.classes, threads=threads_of(jobs))
            progress.update(number + 1, f"{cell.family} {cell.size}")
    return found


def seconds_of(plan: Plan, image: Mapping[tuple[str, int], float], *, val: int, jobs: int) -> float:
    """About how long the study takes in all, `jobs` runs at a time. val: held-out images."""
    runs = (seconds_of_a_run(image[cell.family, cell.size], train=cell.seen, val=val) for cell in plan.cells())
    return sum(runs) / jobs


def within(
    plan: Plan, image: Mapping[tuple[str, int], float], *, levels: int, seconds: float, val: int, jobs: int
) -> Plan:
    """The plan with `levels` budgets of compute, each three times the one before, that fit into `seconds`.

    Raises UserError where they are too short for anything.
    """
    low, high = 1e6, 1e26
    for _ in range(60):  # by halves, in logarithms: about the greatest that fits
        middle = (low * high) ** 0.5
        tried = replace(plan, compute=tuple(middle * STEP**level for level in range(levels)), epochs=())
        fits = seconds_of(tried, image, val=val, jobs=jobs) <= seconds
        low, high = (middle, high) if fits else (low, middle)
    smallest = low * (1 - 1e-12)
    digit = 10.0 ** (math.floor(math.log10(smallest)) - 1)
    smallest = math.floor(smallest / digit) * digit  # two digits are enough, and less than the time allows
    found = replace(plan, compute=tuple(smallest * STEP**level for level in range(levels)), epochs=())
    if not found.cells():
        raise UserError(
            f"{duration(seconds)} are too short for this grid. Give more time, fewer families, sizes or seeds."
        )
    return found


def start(plan: Plan, out: Path) -> Plan:
    """Writes the plan of a new study, or reads that of the study in `out`.

    Raises UserError where `out` holds something else, or another study (budgets apart: those are its own).
    """
    check(plan)
    if (out / PLAN).is_file():
        kept = plan_of(out)
        if replace(plan, compute=kept.compute, epochs=kept.epochs) != kept:
            raise UserError(
                f"{out} holds another study ({', '.join(kept.families)}; {kept.seeds} seeds); give another --out."
            )
        return kept
    start_folder(out, plan)
    return plan


def plan_of(out: Path) -> Plan:
    """The plan of the study in `out`. Raises UserError where there is none, or none that can be read."""
    return read_plan(Plan, out, command=COMMAND)


def run_study(plan: Plan, out: Path, *, jobs: int, engine: EngineName = "local") -> list[str]:
    """Trains what is still to train; returns which runs failed, and why, in sentences. results.json grows meanwhile."""

    def heard(run: Run) -> str:
        found = rows(plan, out)
        write_text(out / RESULTS, json.dumps([to_dict(row) for row in found], indent=2) + "\n")
        mine = next(row for row in found if row.name == run.name)
        return (
            f"{mine.name}: {mine.parameters / 1e6:.2f}M parameters, {mine.compute:.2g} FLOPs, "
            f"loss {mine.loss:.3f}, top-1 {100 * (1 - mine.error):.1f} %, {duration(mine.seconds)}"
        )

    runs = [plan.run(cell) for cell in plan.cells()]
    return train_all(runs, out, title="scaling", jobs=jobs, heard=heard, engine=engine)


def rows(plan: Plan, out: Path) -> list[Row]:
    """The runs of the plan that have ended well, in its order."""
    ends = ((cell, ended(out / cell.name)) for cell in plan.cells())
    return [_row(cell, end) for cell, end in ends if end]


def _row(cell: Cell, end: Ended) -> Row:
    return Row(
        **{key: getattr(cell, key) for key in ("name", "family", "size", "seed", "seen", "budget", "compute")},
        **asdict(cell.costs),
        images=end.train_images,
        loss=end.figures["loss"],
        error=1 - end.figures["top1"],
        val_images=end.images,
        seconds=end.seconds,
    )


def as_table(plan: Plan) -> list[dict[str, Any]]:
    """The grid, a row for each point and its seeds together."""
    seen: dict[str, dict[str, Any]] = {}
    for cell in plan.cells():
        name = cell.name.rsplit("/", 1)[0]
        seen.setdefault(
            name,
            {
                "name": name,
                "family": cell.family,
                "size": cell.size,
                "parameters": cell.costs.parameters,
                "macs": cell.costs.macs,
                "images": cell.images,
                "images_seen": cell.seen,
                "epochs": cell.epochs,
                "compute_flops": cell.compute,
                "seeds": plan.seeds,
            },
        )
    return list(seen.values())
