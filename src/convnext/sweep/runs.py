"""Many runs of `convnext train`, each in a folder and a process of its own: side by side, and gone on with.

A sweep is a folder: plan.json says what it trains, NAME is a run's folder, NAME.json its recipe, NAME.txt what it
printed, results.json the figures so far. A sweep that was stopped goes on exactly where each of its runs was saved.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch

from convnext.core.atomic import write_text
from convnext.core.device import available_cpus
from convnext.core.errors import UserError
from convnext.core.logs import read_log
from convnext.core.typed import from_dict, to_dict
from convnext.recipes.recipe import Recipe
from convnext.tasks.recipes import save_recipe

PLAN, RESULTS = "plan.json", "results.json"
STOPPED = "stopped"
P = TypeVar("P")


@dataclass(frozen=True)
class Run:
    """One run of a sweep."""

    name: str
    """Its folder, within the sweep's: "k7/seed0"."""
    recipe: Recipe


Endings = Iterator[tuple[Run, str]]
"""Runs in the order in which they end, each with "" or why it failed."""


@dataclass(frozen=True)
class Ended:
    """How a run ended: figures of its last evaluation, of the weights as trained, not of an average."""

    figures: Mapping[str, float]
    images: int
    """Held-out images that they are of."""
    train_images: int
    classes: int
    seconds: float
    """Of training, since its last start."""


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


def start_folder(out: Path, plan: Any) -> None:
    """Writes the plan of a new sweep, a dataclass. Raises UserError where `out` holds something else."""
    if out.exists() and (out.is_file() or any(out.iterdir())):
        raise UserError(f"{out} is not empty and not a sweep's folder; give another --out.")
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / PLAN, json.dumps(to_dict(plan), indent=2) + "\n")


def read_plan(kind: type[P], out: Path, *, command: str) -> P:
    """The plan of the sweep in `out`. command: what makes such a folder. Raises UserError where there is none, or none
    that can be read."""
    try:
        return from_dict(kind, json.loads((out / PLAN).read_text()))
    except OSError:
        raise UserError(f"{out} is no sweep's folder (it has no {PLAN}); `{command}` makes one.") from None
    except ValueError as error:
        raise UserError(f"{out / PLAN} is not JSON: {error}.") from None


def ended(folder: Path) -> Ended | None:
    """How the run in `folder` ended; None where it has not."""
    events = read_log(folder / "log.jsonl")
    evals = [event for event in events if event.get("event") == "eval" and not event.get("ema")]
    ends = [event for event in events if event.get("event") == "end"]
    starts = [event for event in events if event.get("event") == "start"]
    if not (evals and ends and starts):
        return None
    figures = {name: float(v) for name, v in evals[-1].items() if isinstance(v, (int, float)) and name != "ema"}
    first = starts[0]
    return Ended(
        figures,
        images=int(first["val_images"]),
        train_images=int(first["train_images"]),
        classes=int(first["classes"]),
        seconds=float(ends[-1]["seconds"]),
    )


def train_one(run: Run, out: Path, place: Mapping[str, str], stopped: threading.Event | None = None) -> str:
    """Trains one run to its end, or on to its end, in a process of its own; "" or why it failed.

    place: environment variables that say where it runs. stopped: ends the process when it is set.
    """
    folder = out / run.name
    printed = folder.with_suffix(".txt")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if (folder / "recipe.json").is_file():
        arguments = ["--resume", str(folder)]
    else:
        recipe = folder.with_suffix(".json")
        save_recipe(recipe, run.recipe)
        arguments = [str(recipe), "--out", str(folder)]
    with printed.open("a", encoding="utf-8") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", "convnext", "train", *arguments],
            stdout=file,
            stderr=subprocess.STDOUT,
            env={**os.environ, **place},
        )
        try:
            while process.poll() is None:
                if stopped is None:
                    process.wait()
                elif stopped.wait(0.5):
                    return STOPPED
        finally:
            if process.poll() is None:  # this one is being stopped: the run does not stay behind alone
                process.terminate()
                process.wait()
    lines = printed.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return "" if process.returncode == 0 else f"{lines[-1] if lines else 'no word of it'} ({printed})"
