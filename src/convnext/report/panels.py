"""What stands around a drawn image: a title, a legend of its classes, another image beside it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from convnext.report.drawing import INK, MUTED, PAPER, Colour, font, printable, rounded, shortened, write

_LISTED = 24  # classes in a legend


def beside(left: Image.Image, right: Image.Image, titles: tuple[str, str]) -> Image.Image:
    """Two images side by side, each below its title: what is there and what was found, as an example."""
    unit = unit_of(max(left.size + right.size))
    columns = [
        stacked([title_strip(title, image.width, unit, bold=True), image])
        for title, image in zip(titles, (left, right), strict=True)
    ]
    first, second = columns
    canvas = Image.new("RGB", (first.width + unit + second.width, max(first.height, second.height)), PAPER)
    canvas.paste(first, (0, 0))
    canvas.paste(second, (first.width + unit, 0))
    return canvas


def unit_of(longest: int) -> int:
    """The size of text in an image whose longer side has so many pixels."""
    return min(max(longest // 52, 13), 22)


def title_strip(title: str, width: int, unit: int, *, bold: bool = False) -> Image.Image:
    """A line of text on paper."""
    strip = Image.new("RGB", (width, 2 * unit), PAPER)
    at, room = (unit // 2, round(1.35 * unit)), width - unit
    write(ImageDraw.Draw(strip), at, title, size=unit, width=room, fill=INK if bold else MUTED, bold=bold)
    return strip


def legend(classes: Sequence[tuple[Colour, str, str]], width: int, unit: int) -> Image.Image:
    """Classes by colour, name and a figure, in the given order: 24 at most, and how many more there are."""
    side, row = unit // 2, round(1.9 * unit)
    entries, x, y = [], side, 0
    for colour, name, figure in classes[:_LISTED]:
        clean = printable(name)
        face = font(unit, bold=False, text=clean)
        figures = font(unit, bold=True, text=figure)
        room = width - round(figures.getlength(figure)) - 4 * unit
        words = shortened(clean, face, room)
        start = x + round(1.4 * unit)
        after = start + round(face.getlength(words)) + side
        end = after + round(figures.getlength(figure))
        if end > width - side and x > side:  # the next row
            start, after, end = (value - x + side for value in (start, after, end))
            x, y = side, y + row
        entries.append((colour, (x, y), (start, words, face), (after, figure, figures)))
        x = end + round(1.5 * unit)
    rest = len(classes) - _LISTED
    panel = Image.new("RGB", (width, y + row * (2 if rest > 0 else 1) + side), PAPER)
    draw = ImageDraw.Draw(panel)
    for colour, (left, top), (start, words, face), (after, figure, figures) in entries:
        base = top + side + unit
        rounded(panel, (left, base - unit + 1, unit, unit), radius=unit / 4, fill=colour)
        draw.text((start, base), words, font=face, fill=INK, anchor="ls")
        draw.text((after, base), figure, font=figures, fill=MUTED, anchor="ls")
    if rest > 0:
        at = (side, y + row + side + unit)
        write(draw, at, f"and {rest} more classes", size=unit, width=width - unit, fill=MUTED)
    return panel


def contact_sheet(cells: Sequence[tuple[Image.Image, str]], *, columns: int = 4, side: int = 320) -> Image.Image:
    """Images in rows, each with its longer side at most `side` pixels and a line of text below."""
    unit = 13
    placed = [(_within(image, side), text) for image, text in cells]
    width = side + unit
    rows = [placed[start : start + columns] for start in range(0, len(placed), columns)]
    strips = []
    for row in rows:
        height = max(image.height for image, _ in row)
        strip = Image.new("RGB", (width * min(columns, len(placed)), height + 2 * unit), PAPER)
        for place, (image, text) in enumerate(row):
            strip.paste(image, (place * width, 0))
            strip.paste(title_strip(text, side, unit), (place * width, image.height))
        strips.append(strip)
    return stacked(strips)


def _within(image: Image.Image, side: int) -> Image.Image:
    scale = side / max(image.size)
    if scale >= 1:
        return image
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    return image.resize(size, Image.Resampling.LANCZOS)


def stacked(parts: Sequence[Image.Image]) -> Image.Image:
    """One below the other, from the left."""
    canvas = Image.new("RGB", (max(part.width for part in parts), sum(part.height for part in parts)), PAPER)
    y = 0
    for part in parts:
        canvas.paste(part, (0, y))
        y += part.height
    return canvas
