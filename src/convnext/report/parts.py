"""The sections that the reports of every task share: verdict, tiles, class by class, skipped images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from convnext.report.html import bar, count, decimal, details, section, table, text
from convnext.report.run_folder import RunFolder, Values, entries, finite

CLASSES_LISTED = 1000  # in the page; evaluation.json has all
_CLASSES_SHOWN = 12
_SKIPPED_LISTED = 200


def verdict(held_out: Any, n: Any) -> str:
    """On how many images the figures were taken, and whether training used them, as far as it is known."""
    if held_out is True:
        pill, name, words = "good", "held out", "that were kept out of training."
    elif held_out is False:
        pill, name = "bad", "NOT held out"
        words = "that training used too: this shows what the model remembers, not how it will do on new images."
    else:
        pill, name, words = "bad", "held out?", "of which it is not known whether training used them."
    return f'<p class="verdict"><span class="pill {pill}">{name}</span> Measured on {count(n)} images {words}</p>'


def tile(name: str, figure: str, beneath: str = "", share: Any = None) -> str:
    """A large figure with its name, a bar for a share, and a remark. All but the share is markup."""
    shape = "" if finite(share) is None else bar(finite(share))
    return f'<div class="tile"><span>{name}</span><b>{figure}</b>{shape}<small>{beneath}</small></div>'


def headline_of_log(run: RunFolder, goal: str, tiles: Callable[[Values], Sequence[str]]) -> str:
    """The tiles of the validation in the log that had the best figure `goal`, for runs whose final evaluation is
    missing; without such a figure it says which is the case: nothing was validated, or the figure is not defined."""
    evals = run.of("eval")
    best = max(evals, key=lambda event: -1.0 if (value := finite(event.get(goal))) is None else value, default=None)
    if best is None:
        return '<p class="verdict">There are no figures on this model yet.</p>'
    if finite(best.get(goal)) is None:
        return f'<p class="verdict">The validations so far have no {text(goal)}: it is not defined on their images.</p>'
    shown = [*tiles(best), tile("Validation images", count(run.last("start").get("val_images")))]
    return (
        '<p class="verdict">From the validations during training; the final evaluation is missing.</p>'
        f'<div class="tiles few">{"".join(shown)}</div>'
    )


def speed(values: Values) -> str:
    """How fast the evaluation was, if that is known."""
    rate = finite(values.get("images_per_second"))
    return "" if rate is None else f"{decimal(rate)} images/s"


def class_by_class(head: Sequence[str], rows: Sequence[Sequence[str]], *, total: int, kind: str) -> str:
    """A section with a row of each class, the worst first: twelve of them, and the others on a click.

    `total` is how many classes there are; `kind` is the look of the table.
    """
    if len(rows) <= _CLASSES_SHOWN:
        return section("Class by class", table(head, rows, kind=kind) if rows else "")
    rest = "" if total == len(rows) else f' <p class="soft">{count(total)} classes in evaluation.json.</p>'
    more = details(
        f"The other {count(len(rows) - _CLASSES_SHOWN)} classes",
        table(head, rows[_CLASSES_SHOWN:], kind=kind) + rest,
        kind="long",
    )
    lead = f"The {_CLASSES_SHOWN} worst of {count(total)}."
    return section("Class by class", table(head, rows[:_CLASSES_SHOWN], kind=kind), more, lead=lead)


def skipped(run: RunFolder) -> str:
    """The images that could not be read, and why."""
    found = entries(run.evaluation, "skipped")
    rows = [[text(entry.get("name", "?")), text(entry.get("reason", ""))] for entry in found[:_SKIPPED_LISTED]]
    if not rows:
        return ""
    listed = table(["Image", "Reason"], rows, kind="skipped")
    noun = "image" if len(found) == 1 else "images"
    return section("Skipped images", details(f"{count(len(found))} {noun} could not be read", listed))


_IMAGES_SHOWN = 24


def image_cards(run: RunFolder, what: str, *, title: str = "What it finds") -> str:
    """The images that the evaluation names. what: they show, as "Objects in"."""
    cards = []
    for entry in entries(run.evaluation, "pictures")[:_IMAGES_SHOWN]:
        name, source = text(entry.get("name", "?")), run.image(entry.get("picture"))
        shown = f'<img src="{source}" alt="{what} {name}">' if source else '<div class="none">no image</div>'
        cards.append(f'<figure class="scene">{shown}<figcaption>{name}</figcaption></figure>')
    return section(title, f'<div class="scenes">{"".join(cards)}</div>' if cards else "")
