"""The report's sections on a detector: headline, curves, COCO's figures, pictures, classes."""

from __future__ import annotations

from convnext.report.html import section, text
from convnext.report.run_folder import RunFolder, entries

_PICTURES_SHOWN = 24


def picture_cards(run: RunFolder, what: str) -> str:
    """The pictures that the evaluation names. what: they show, as "Objects in"."""
    cards = []
    for entry in entries(run.evaluation, "pictures")[:_PICTURES_SHOWN]:
        name, picture = text(entry.get("name", "?")), run.picture(entry.get("picture"))
        shown = f'<img src="{picture}" alt="{what} {name}">' if picture else '<div class="none">no picture</div>'
        cards.append(f'<figure class="scene">{shown}<figcaption>{name}</figcaption></figure>')
    return section("What it finds", f'<div class="scenes">{"".join(cards)}</div>' if cards else "")
