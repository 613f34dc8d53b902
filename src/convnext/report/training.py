"""The report's sections on how the run went: what is amiss, curves, facts, notes, the recipe. Drawn from the log."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from convnext.core.logs import duration
from convnext.report.charts import Curve, Point, line_chart, smoothed
from convnext.report.html import count, decimal, details, section, text
from convnext.report.run_folder import RunFolder, Values, finite

_LOOKS = ("main", "second", "third", "fourth", "fifth")
_LARGEST = 1e30  # beyond that a value is a run gone wrong, and no axis can hold it


def amiss(run: RunFolder) -> str:
    """What is missing or went wrong, in a box; nothing if all is well."""
    found = [text(sentence) for sentence in run.missing]
    broken = [event for event in run.of("step") if "loss" in event and finite(event["loss"]) is None]
    if broken:
        first = text(broken[0].get("step", "?"))
        found.append(
            f"The training loss was not a number at {count(len(broken))} of the logged steps (first at step {first}). "
            "A smaller learning rate or float32 usually helps."
        )
    if isinstance(chosen := run.last("end").get("chosen"), str):
        found.append(text(chosen))
    invalid = finite((run.evaluation or {}).get("invalid"))
    if invalid:
        found.append(
            f"For {count(invalid)} images the model's output was not a number. They count as wrong in every accuracy "
            "and stand outside loss, calibration and confusion."
        )
    items = "".join(f"<li>{sentence}</li>" for sentence in found)
    return f'<aside class="amiss"><h2>To keep in mind</h2><ul>{items}</ul></aside>' if found else ""


def across(steps: Sequence[Values], evals: Sequence[Values]) -> str:
    """What the charts have below: the epoch, or the step where an event lacks the epoch."""
    return "epoch" if all(finite(event.get("epoch")) is not None for event in [*steps, *evals]) else "step"


def steering(steps: Sequence[Values], x: str) -> list[str]:
    """The charts of the learning rate and the gradient norm."""
    norms = series(steps, x, "grad_norm")
    return [
        line_chart("Learning rate", [Curve("learning rate", series(steps, x, "lr"))], x_label=x, floor=0.0),
        line_chart(
            "Gradient norm",
            [Curve("each step", norms, "faint"), Curve("gradient norm", smoothed(norms))],
            x_label=x,
            floor=0.0,
        ),
    ]


def went(charts: Sequence[str]) -> str:
    """The section of the curves; none if there are none."""
    drawn = "".join(charts)
    return section("How training went", f'<div class="charts">{drawn}</div>' if drawn else "")


def series(events: Iterable[Values], x: str, y: str) -> list[Point]:
    """The points of two keys, those left out where either is not a number that can be drawn."""
    pairs = ((finite(event.get(x)), finite(event.get(y))) for event in events)
    points = [(a, b) for a, b in pairs if a is not None and b is not None and abs(a) < 1e12 and abs(b) < _LARGEST]
    return sorted(points, key=lambda point: point[0])


def loss_parts(steps: Sequence[Values], x: str, *, names: Mapping[str, str] | None = None) -> list[Curve]:
    """The parts of the loss, those of a cascade's stages added up; the first five names if there are more.

    names: what parts are called for people, where that is not their name in the log.
    """
    sums: list[Values] = []
    for event in steps:
        losses, parts = event.get("losses"), {}
        for name, value in losses.items() if isinstance(losses, dict) else ():
            number, part = finite(value), re.sub(r"^\d+_", "", name)  # "0_class", "1_class": stages of a cascade
            parts[part] = None if number is None or parts.get(part, 0.0) is None else parts.get(part, 0.0) + number
        sums.append({x: event.get(x), **{f"part {part}": value for part, value in parts.items()}})
    found = list(dict.fromkeys(key for entry in sums for key in entry if key != x))
    return [
        Curve((names or {}).get(name[5:], name[5:]), smoothed(series(sums, x, name)), look)
        for name, look in zip(found, _LOOKS, strict=False)
    ]


def facts(run: RunFolder) -> str:
    """The run in figures: what was trained, on what, where, how long."""
    start, end = run.last("start"), run.last("end")
    speeds = [speed for event in run.of("step") if (speed := finite(event.get("images_per_second"))) is not None]
    known: list[tuple[str, Any, Callable[[Any], str]]] = [
        ("Model", start.get("model"), text),
        ("Parameters", start.get("parameters"), count),
        ("Training images", start.get("train_images"), count),
        ("Validation images", start.get("val_images"), count),
        ("Classes", start.get("classes"), count),
        ("Steps", _steps(run), text),
        ("Steps an epoch", start.get("steps_per_epoch"), count),
        ("Time", finite(end.get("seconds")), duration),
        ("Training speed", statistics.median(speeds) if speeds else None, lambda speed: f"{decimal(speed)} images/s"),
        ("Device", start.get("device"), text),
        ("Type", start.get("dtype"), text),
        ("torch", start.get("torch"), text),
    ]
    items = "".join(
        f"<div><dt>{name}</dt><dd>{write(value)}</dd></div>" for name, value, write in known if value is not None
    )
    return section("The run", f'<dl class="facts">{items}</dl>' if items else "")


def _steps(run: RunFolder) -> str | None:
    """Steps done of steps planned, as far as the log knows them."""
    done = [step for event in run.events if (step := finite(event.get("step"))) is not None]
    planned = finite(run.last("start").get("total_steps"))
    if not done:
        return None
    most = max(done)
    return f"{most:.0f}" if planned is None or planned == most else f"{most:.0f} of {planned:.0f}"


def notes(run: RunFolder) -> str:
    """What the program picked and why, its warnings, and where the run was taken up again."""
    items = []
    for event in run.events:
        step = finite(event.get("step"))
        if event.get("event") == "resume":
            words = "The run was taken up again here."
        elif event.get("event") == "note":
            words = text(event.get("text", ""))
        else:
            continue
        where = f' <span class="soft">step {step:.0f}</span>' if step else ""
        items.append(f"<li>{words}{where}</li>")
    return section("Notes and warnings", f'<ul class="notes">{"".join(items)}</ul>' if items else "")


def first_batch(run: RunFolder) -> str:
    """The first images as training saw them."""
    source = run.image("first_batch.png")
    if source is None:
        return ""
    shown = f'<img class="wide" src="{source}" alt="the first images of the first batch">'
    return section(
        "As training saw it", shown, lead="The first images of the first batch, augmented, with their labels."
    )


def recipe(run: RunFolder) -> str:
    """The recipe, whole."""
    if run.recipe is None:
        return ""
    written = text(json.dumps(run.recipe, indent=2, ensure_ascii=False))
    lead = "<code>convnext train recipe.json</code> runs it again."
    return section("Recipe", details("Every setting of this run", f"<pre>{written}</pre>"), lead=lead)
