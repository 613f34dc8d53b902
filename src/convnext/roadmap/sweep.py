"""All steps of the roadmap trained with one recipe, each with several seeds: what a sweep of them plans and finds."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.logs import Progress, duration
from convnext.core.typed import to_dict
from convnext.models.roadmap import STEPS, name_of
from convnext.sweep.engine import EngineName, train_all
from convnext.sweep.facts import Facts
from convnext.sweep.runs import PLAN, RESULTS, Run, ended, read_plan, start_folder, threads_of
from convnext.sweep.timing import seconds_an_image, seconds_of_a_run
from convnext.tasks.classification.roadmap_recipes import roadmap_step
from convnext.tasks.recipes import check_recipe

COMMAND = "convnext roadmap run"


@dataclass(frozen=True)
class Plan:
    """What a sweep trains. Whoever goes on with it keeps to it."""

    regime: str
    data: str
    epochs: float
    seeds: int = 2
    steps: tuple[str, ...] = tuple(step.name for step in STEPS)
    batch: int = 0
    """Images for each optimiser step; 0: the recipe's."""
    micro_batch: int = 0
    """Images on a device at a time; 0: all of its share of a step at once."""
    lr: float = 0.0
    """Learning rate at its height; 0: the recipe's."""

    def recipe(self, step: str, seed: int) -> Any:
        """The recipe of one run: that of the regime, for this many epochs, with as large a share of warm-up."""
        recipe = roadmap_step(self.regime, step)
        warmup = recipe.schedule.warmup_epochs / recipe.schedule.epochs * self.epochs
        return replace(
            recipe,
            data=self.data,
            optim=replace(recipe.optim, lr=self.lr or recipe.optim.lr),
            schedule=replace(recipe.schedule, epochs=self.epochs, warmup_epochs=warmup),
            loop=replace(
                recipe.loop,
                seed=seed,
                global_batch=self.batch or recipe.loop.global_batch,
                micro_batch=self.micro_batch,
            ),
        )

    def cells(self) -> list[tuple[str, int]]:
        """Step and seed of every run: each seed's whole road before the next."""
        return [(step, seed) for seed in range(self.seeds) for step in self.steps]

    def run(self, step: str, seed: int) -> Run:
        """One run of the sweep."""
        return Run(f"{step}/seed{seed}", self.recipe(step, seed))


@dataclass(frozen=True)
class Result:
    """How one run ended: top-1 of its last evaluation, not of its best, on how many held-out images."""

    step: str
    seed: int
    top1: float
    images: int
    classes: int
    seconds: float
    """Of training, since its last start."""


def epochs_within(plan: Plan, facts: Facts, *, seconds: float, jobs: int) -> float:
    """For how many epochs every run of the plan can train within about `seconds` in all, `jobs` at a time.

    Every step's speed is measured here first, on random images. Raises UserError where it is less than one epoch.
    """
    per_epoch = fixed = 0.0
    with Progress("measuring the steps", len(plan.steps), unit="step") as progress:
        for number, step in enumerate(plan.steps):
            image = seconds_an_image(plan.recipe(step, 0), facts.classes, threads=threads_of(jobs))
            per_epoch += plan.seeds * facts.train * image
            fixed += plan.seeds * seconds_of_a_run(image, train=0, val=facts.val)
            progress.update(number + 1, step)
    epochs = (seconds * jobs - fixed) / per_epoch
    if epochs < 1:
        least = duration(1.05 * (per_epoch + fixed) / jobs)
        raise UserError(
            f"{duration(seconds)} are too short: {len(plan.cells())} runs of one epoch each take about {least} here. "
            "Give more time, fewer steps or fewer seeds."
        )
    usual = roadmap_step(plan.regime, plan.steps[0]).schedule.epochs
    return min(int(10 * epochs) / 10, max(usual, 300.0))


def start(plan: Plan, out: Path) -> Plan:
    """Writes the plan of a new sweep, or reads that of the sweep in `out`.

    Raises UserError where `out` holds something else, or a sweep of another plan (epochs apart: those are its own).
    """
    for step in plan.steps:
        name_of(plan.regime, step)
    check_recipe(plan.recipe(plan.steps[0], 0))
    if (out / PLAN).is_file():
        kept = plan_of(out)
        if replace(plan, epochs=kept.epochs) != kept:
            raise UserError(f"{out} holds another sweep ({kept.regime}, {kept.seeds} seeds); give another --out.")
        return kept
    start_folder(out, plan)
    return plan


def plan_of(out: Path) -> Plan:
    """The plan of the sweep in `out`. Raises UserError where there is none, or none that can be read."""
    return read_plan(Plan, out, command=COMMAND)


def run_sweep(plan: Plan, out: Path, *, jobs: int, engine: EngineName = "local") -> list[str]:
    """Trains what is still to train; returns which runs failed, and why, in sentences. results.json grows meanwhile."""

    def heard(run: Run) -> str:
        found = results(plan, out)
        write_text(out / RESULTS, json.dumps([to_dict(result) for result in found], indent=2) + "\n")
        mine = next(r for r in found if plan.run(r.step, r.seed).name == run.name)
        return f"{mine.step}, seed {mine.seed}: top-1 {100 * mine.top1:.2f} % after {duration(mine.seconds)}"

    runs = [plan.run(*cell) for cell in plan.cells()]
    return train_all(runs, out, title="roadmap", jobs=jobs, heard=heard, engine=engine)


def results(plan: Plan, out: Path) -> list[Result]:
    """The runs of the plan that have ended well, in its order."""
    found = []
    for step, seed in plan.cells():
        if end := ended(out / plan.run(step, seed).name):
            found.append(
                Result(
                    step,
                    seed,
                    top1=end.figures["top1"],
                    images=end.images,
                    classes=end.classes,
                    seconds=end.seconds,
                )
            )
    return found


def by_step(found: Sequence[Result], value: Callable[[Result], float]) -> dict[str, tuple[float, float | None, int]]:
    """Mean, standard deviation (None of one) and number of a value over each step's runs."""
    grouped: dict[str, list[float]] = {}
    for result in found:
        grouped.setdefault(result.step, []).append(value(result))
    return {
        step: (statistics.fmean(values), statistics.stdev(values) if len(values) > 1 else None, len(values))
        for step, values in grouped.items()
    }
