"""All steps of the roadmap trained with one recipe, each with several seeds: planned, run side by side, gone on with.

A sweep is a folder: plan.json says what it trains, STEP/seedN is a run's folder, STEP/seedN.txt what that run printed,
results.json the figures so far. Every run is a process of its own, `convnext train`, so a sweep that was stopped goes
on exactly where each of its runs was saved.
"""

from __future__ import annotations

import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from convnext.core.atomic import write_text
from convnext.core.device import available_cpus, pick_device, pick_dtype
from convnext.core.errors import UserError
from convnext.core.logs import Progress, duration, read_log, say
from convnext.core.seeding import seed_everything
from convnext.core.typed import from_dict, to_dict
from convnext.data.classification.open import ClassificationData
from convnext.models.create import from_config
from convnext.models.roadmap import STEPS, name_of
from convnext.tasks.classification.roadmap_recipes import roadmap_step
from convnext.tasks.recipes import check_recipe, save_recipe
from convnext.training.optim import build_optimizer

PLAN, RESULTS = "plan.json", "results.json"
_START = 12.0  # seconds until a run's process trains, and from its last step to its end, beside the evaluation
_LARGEST_TRIAL = 128  # images at a time, where a step's speed is measured
_READ = 2e-4  # seconds to read and augment a small image where no other process does it


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

    def runs(self) -> list[tuple[str, int]]:
        """Step and seed of every run: each seed's whole road before the next."""
        return [(step, seed) for seed in range(self.seeds) for step in self.steps]


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


@dataclass(frozen=True)
class Facts:
    """What a plan needs to know of the data."""

    train: int
    val: int
    classes: int


def look_at(data: str, recipe: Any) -> Facts:
    """Opens the data as every run will. Raises UserError for a layout that is not accepted, before anything is run."""
    opened = ClassificationData(data).splits(recipe.loader, seed=recipe.loop.seed)
    if not opened.held_out:
        raise UserError(f"{data} has no images to hold out, on which steps are compared: add some, or a folder val.")
    say(f"- {opened.note}")
    return Facts(len(opened.train), len(opened.val), len(opened.train.classes))


def epochs_within(plan: Plan, facts: Facts, *, seconds: float, jobs: int) -> float:
    """For how many epochs every run of the plan can train within about `seconds` in all, `jobs` at a time.

    Every step's speed is measured here first, on random images. Raises UserError where it is less than one epoch.
    """
    per_epoch = fixed = 0.0
    with Progress("measuring the steps", len(plan.steps), unit="step") as progress:
        for number, step in enumerate(plan.steps):
            image = _seconds_an_image(plan.recipe(step, 0), facts.classes, threads=threads_of(jobs))
            per_epoch += plan.seeds * facts.train * image
            fixed += plan.seeds * (
                _START + 2 * facts.val * image / 3
            )  # a run is evaluated, and evaluated again at its end
            progress.update(number + 1, step)
    epochs = (seconds * jobs - fixed) / per_epoch
    if epochs < 1:
        least = duration(1.05 * (per_epoch + fixed) / jobs)
        raise UserError(
            f"{duration(seconds)} are too short: {len(plan.runs())} runs of one epoch each take about {least} here. "
            "Give more time, fewer steps or fewer seeds."
        )
    usual = roadmap_step(plan.regime, plan.steps[0]).schedule.epochs
    return min(int(10 * epochs) / 10, max(usual, 300.0))


def _seconds_an_image(recipe: Any, classes: int, *, threads: int) -> float:
    """Seconds of training for one image: forward, backward and the optimiser's step, the fastest of a few."""
    device, before = pick_device(recipe.loop.device), torch.get_num_threads()
    seed_everything(0)
    if device.type == "cpu":
        torch.set_num_threads(threads)
    try:
        model = from_config(replace(recipe.model, num_classes=classes)).to(device).train()
        optimizer = build_optimizer(model, recipe.optim)
        batch = min(recipe.loop.micro_batch or recipe.loop.global_batch, _LARGEST_TRIAL)
        dtype = pick_dtype(recipe.loop.precision, device)
        images = torch.randn(batch, 3, recipe.input.size, recipe.input.size, device=device)
        targets = torch.randint(classes, (batch,), device=device)
        taken = []
        for _ in range(4):
            begun = time.perf_counter()
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                loss = F.cross_entropy(model(images).float(), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()  # the device is done
            taken.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return min(taken) / batch + (_READ if device.type == "cpu" else 0.0)


def slots(jobs: int) -> list[dict[str, str]]:
    """The environment of each run that goes on at the same time: one for each CUDA device, else on the processor.

    jobs: how many; 0 for as many as there are devices.
    """
    devices = torch.cuda.device_count()
    if devices:
        seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
        names = seen.split(",") if seen else [str(i) for i in range(devices)]
        return [{"CUDA_VISIBLE_DEVICES": name} for name in names[: jobs or devices]]
    return [{"OMP_NUM_THREADS": str(threads_of(max(jobs, 1)))} for _ in range(max(jobs, 1))]


def threads_of(jobs: int) -> int:
    """Threads for each of so many runs on the processor."""
    return max(available_cpus() // max(jobs, 1), 1)


def start(plan: Plan, out: Path) -> Plan:
    """Writes the plan of a new sweep, or reads that of the sweep in `out`.

    Raises UserError where `out` holds something else, or a sweep of another plan (epochs apart: those are its own).
    """
    for step in plan.steps:
        name_of(plan.regime, step)
    check_recipe(plan.recipe(plan.steps[0], 0))
    if (out / PLAN).is_file():
        kept = read_plan(out)
        if replace(plan, epochs=kept.epochs) != kept:
            raise UserError(f"{out} holds another sweep ({kept.regime}, {kept.seeds} seeds); give another --out.")
        return kept
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and not a sweep's folder; give another --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / PLAN, json.dumps(to_dict(plan), indent=2) + "\n")
    return plan


def read_plan(out: Path) -> Plan:
    """The plan of the sweep in `out`. Raises UserError where there is none, or none that can be read."""
    try:
        return from_dict(Plan, json.loads((out / PLAN).read_text()))
    except OSError:
        raise UserError(f"{out} is no sweep's folder (it has no {PLAN}); `convnext roadmap run` makes one.") from None
    except ValueError as error:
        raise UserError(f"{out / PLAN} is not JSON: {error}.") from None


def run_sweep(plan: Plan, out: Path, *, jobs: int) -> list[str]:
    """Trains what is still to train; returns which runs failed, and why, in sentences. results.json grows meanwhile."""
    found = results(plan, out)
    done = {(result.step, result.seed) for result in found}
    left = [run for run in plan.runs() if run not in done]
    free: queue.Queue[dict[str, str]] = queue.Queue()
    places = slots(jobs)
    for place in places:
        free.put(place)
    failed: list[str] = []
    stopped = threading.Event()

    def one(step: str, seed: int) -> str:
        place = free.get()
        try:
            return "" if stopped.is_set() else _train(plan, out, step, seed, place, stopped)
        finally:
            free.put(place)

    total = len(plan.runs())
    with Progress("roadmap", total, unit="run", start=len(done)) as progress, ThreadPoolExecutor(len(places)) as pool:
        waiting = {pool.submit(one, step, seed): (step, seed) for step, seed in left}
        try:
            for ended in as_completed(waiting):
                step, seed = waiting[ended]
                if why := ended.result():
                    failed.append(f"{step}, seed {seed}: {why}")
                    say(f"failed: {failed[-1]}")
                else:
                    found = results(plan, out)
                    write_text(out / RESULTS, json.dumps([to_dict(result) for result in found], indent=2) + "\n")
                    mine = next(r for r in found if (r.step, r.seed) == (step, seed))
                    say(f"{step}, seed {seed}: top-1 {100 * mine.top1:.2f} % after {duration(mine.seconds)}")
                progress.update(total - len(left) + sum(future.done() for future in waiting), step)
        except KeyboardInterrupt:
            stopped.set()
            pool.shutdown(cancel_futures=True)
            say("Stopped. The same command goes on where every run was last saved.")
            raise
    return failed


def _train(plan: Plan, out: Path, step: str, seed: int, place: dict[str, str], stopped: threading.Event) -> str:
    """One run to its end, or on to its end; "" or why it failed."""
    folder, printed = _folder(out, step, seed), _folder(out, step, seed).with_suffix(".txt")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (folder / "recipe.json").is_file():
        arguments = ["--resume", str(folder)]
    else:
        recipe = folder.with_suffix(".json")
        save_recipe(recipe, plan.recipe(step, seed))
        arguments = [str(recipe), "--out", str(folder)]
    with printed.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "convnext", "train", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **place},
        )
        while process.poll() is None:
            if stopped.wait(0.5):
                process.terminate()
                process.wait()
                return "stopped"
    lines = printed.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "" if process.returncode == 0 else f"{lines[-1] if lines else 'no word of it'} ({printed})"


def _folder(out: Path, step: str, seed: int) -> Path:
    return out / step / f"seed{seed}"


def results(plan: Plan, out: Path) -> list[Result]:
    """The runs of the plan that have ended well, in its order."""
    found = []
    for step, seed in plan.runs():
        events = read_log(_folder(out, step, seed) / "log.jsonl")
        evals = [event for event in events if event.get("event") == "eval" and not event.get("ema")]
        ends = [event for event in events if event.get("event") == "end"]
        starts = [event for event in events if event.get("event") == "start"]
        if evals and ends and starts:
            found.append(
                Result(
                    step,
                    seed,
                    top1=float(evals[-1]["top1"]),
                    images=int(starts[0]["val_images"]),
                    classes=int(starts[0]["classes"]),
                    seconds=float(ends[-1]["seconds"]),
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
