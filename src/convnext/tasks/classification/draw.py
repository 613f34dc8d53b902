"""An image with the classes that a model sees in it.

H W space; images are uint8 RGB tensors (3, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw
from torch import Tensor

from convnext.report.drawing import (
    ACCENT,
    INK,
    LONGEST,
    MUTED,
    PAPER,
    QUIET,
    SHORTEST,
    TRACK,
    Colour,
    font,
    rounded,
    thumbnail,
    write,
)


def annotated(image: Tensor, lines: Sequence[tuple[str, float]], *, title: str) -> Image.Image:
    """The image (3, H, W) uint8 with a panel that lists `lines`: class names and their probabilities in 0..1.

    The panel stands below a wide image and beside any other. Whatever the image's size the text is readable: the
    image is shown with its longer side between 400 and 1280 pixels, small ones with their pixels left square. Long
    names are shortened in the middle. Raises ValueError for another shape or type of image.
    """
    longest = max(image.shape[-2:])
    shown = thumbnail(image, min(max(longest, SHORTEST), LONGEST))
    unit = min(max(max(shown.size) // 30, 16), 30)  # the size of the text, on which all distances hang
    below = shown.width > 1.25 * shown.height
    wide = max(shown.width, 22 * unit) if below else 22 * unit
    panel = _panel(lines, title=title, width=wide, unit=unit)
    width = wide if below else shown.width + wide
    height = shown.height + panel.height if below else max(shown.height, panel.height)
    canvas = Image.new("RGB", (width, height), PAPER)
    canvas.paste(shown, ((wide - shown.width) // 2 if below else 0, 0 if below else (height - shown.height) // 2))
    canvas.paste(panel, (0, shown.height) if below else (shown.width, (height - panel.height) // 2))
    return canvas


def _panel(lines: Sequence[tuple[str, float]], *, title: str, width: int, unit: int) -> Image.Image:
    """The list of classes: a line of title, then for each class its name, its percentage and a bar."""
    margin, row = round(1.4 * unit), round(2.5 * unit)
    top = margin + round(2.1 * unit)
    panel = Image.new("RGB", (width, top + row * len(lines) + margin - unit // 2), PAPER)
    draw = ImageDraw.Draw(panel)
    inner = width - 2 * margin
    write(draw, (margin, margin + unit), title, size=round(0.85 * unit), width=inner, fill=MUTED)
    for number, (name, probability) in enumerate(lines):
        y, first = top + row * number, number == 0
        figure, ink = f"{100 * probability:.1f} %", INK if first else MUTED
        figures = font(unit, bold=first, text=figure)
        draw.text((width - margin, y + unit), figure, font=figures, fill=ink, anchor="rs")
        room = inner - round(figures.getlength(figure)) - unit
        write(draw, (margin, y + unit), name, size=unit, width=room, fill=ink, bold=first)
        bar = (margin, y + round(1.45 * unit), inner, max(4, unit // 3))
        _bar(panel, bar, probability, fill=ACCENT if first else QUIET)
    return panel


def _bar(panel: Image.Image, box: tuple[int, int, int, int], share: float, *, fill: Colour) -> None:
    """A bar with round ends in `box` (x, y, width, height), filled from the left up to `share` of 0..1."""
    x, y, width, height = box
    share = min(max(0.0, share), 1.0)  # in this order a NaN is 0
    for length, colour in ((width, TRACK), (round(width * share), fill)):
        rounded(panel, (x, y, length, height), radius=height / 2, fill=colour)
