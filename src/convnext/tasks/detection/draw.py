"""Images of scenes: the objects in them with box, mask and label, as they are or as a detector found them.

N objects, H W space; images are uint8 RGB tensors (3, H, W), boxes (x0, y0, x1, y1) in pixels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageChops, ImageDraw, ImageFilter
from torch import Tensor

from convnext.ops.instances import Detections, Instances
from convnext.report.drawing import INK, PAPER, Colour, font, printable, rounded, shortened, thumbnail, whole_factor
from convnext.report.panels import legend, stacked, title_strip, unit_of
from convnext.tasks.detection.label_places import placed

_LONGEST = 1280  # pixels of the shown image's longer side: larger ones shrink
_SHORTEST, _SHORTEST_OF_MANY = 640, 1000  # smaller ones grow, those with many objects more: labels need room
_FEW = 12  # objects that are named where they are; with more, a legend names their classes
_WHITE: Colour = (255, 255, 255)
_TINT, _HALO, _THIN = 0.34, 0.7, 0.6  # how much is seen: of a mask's colour, of the white around it, of its box
_DARK = 0.4  # colours up to this luminance are written on in white

# The first seven are those of M. Okabe and K. Ito (2008, "Color Universal Design"), which people of every kind of
# colour vision tell apart; then more hues for those who have more classes.
COLOURS: tuple[Colour, ...] = (
    (0, 114, 178),
    (230, 159, 0),
    (204, 121, 167),
    (0, 158, 115),
    (86, 180, 233),
    (213, 94, 0),
    (240, 228, 66),
    (136, 46, 114),
    (128, 197, 60),
    (200, 30, 50),
    (60, 60, 200),
    (0, 205, 200),
    (150, 90, 40),
    (255, 140, 200),
    (90, 110, 30),
    (150, 140, 255),
)


@dataclass(frozen=True)
class _Object:
    """An object in pixels of the canvas, with all that is drawn of it."""

    box: tuple[float, float, float, float]
    label: str
    colour: Colour
    mask: Image.Image | None
    """How much of each pixel is the object's, 0..255, with its corner `at` on the canvas."""
    at: tuple[int, int]


@dataclass(frozen=True)
class _Frame:
    """An image on its canvas."""

    canvas: Image.Image
    image: tuple[int, int, int, int]
    """x, y, width and height of the image on the canvas."""
    unit: int
    """The size of title and legend."""
    size: int
    """The size of labels."""
    line: int
    """The width of polygons."""
    whole: bool
    """Grown by a whole factor, so that pixels stay square."""


def drawn(
    image: Tensor,
    detections: Detections | Instances,
    classes: Sequence[str],
    *,
    title: str = "",
    longest: int = _LONGEST,
) -> Image.Image:
    """The image (3, H, W) uint8 with its objects: boxes, masks where there are any, labels ("fig 97 %"; truth has no
    score), and a line of `title` above.

    Whatever the image's size the text is readable: its longer side is shown with 640 to `longest` (at least 640)
    pixels, small ones with their pixels left square. A class has the same colour in every image. With more than 12
    objects it is 1000 to `longest`, a legend below names the classes, and labels name only those that share a colour;
    one that would hide another, of a surer object, is left out.

    Raises ValueError for another shape or type of image, for masks that are not as large as the image, and for labels
    that `classes` does not name.
    """
    labels = detections.labels.tolist()
    if labels and not 0 <= min(labels) <= max(labels) < len(classes):
        raise ValueError(f"Labels lie in 0..{len(classes) - 1}, the indices of {len(classes)} classes, not {labels}.")
    masks = detections.masks
    if masks is not None and masks.shape != (len(labels), *image.shape[-2:]):
        raise ValueError(f"Masks {tuple(masks.shape)} of {len(labels)} objects in an image {tuple(image.shape)}.")
    many = len(labels) > _FEW
    frame = _frame(image, max(longest, _SHORTEST), many=many)
    colours = Counter(_colour(label) for label in set(labels))
    named = {label for label in labels if not many or colours[_colour(label)] > 1}
    objects = _objects(image, detections, classes, frame, named=named)
    by_size = sorted(objects, key=lambda one: -_area(one.box))
    for one in by_size:
        _paint_mask(frame, one)
    for one in by_size:
        _paint_box(frame, one)
    _paint_labels(frame, objects, every=not many)
    parts = [frame.canvas]
    if title:
        parts.insert(0, title_strip(title, frame.canvas.width, frame.unit))
    if many:
        counts = Counter(labels).most_common()
        entries = [(_colour(label), classes[int(label)], str(number)) for label, number in counts]
        parts.append(legend(entries, frame.canvas.width, frame.unit))
    return stacked(parts)


def _frame(image: Tensor, longest: int, *, many: bool) -> _Frame:
    """The image as large as it is shown, on paper where it is too narrow for a label."""
    given = max(image.shape[-2:])
    side = min(max(given, _SHORTEST_OF_MANY if many else _SHORTEST), longest)
    shown = thumbnail(image, side)
    unit = unit_of(max(shown.size))
    width, height = max(shown.width, 14 * unit), max(shown.height, 4 * unit)
    x, y = (width - shown.width) // 2, (height - shown.height) // 2
    canvas = Image.new("RGB", (width, height), PAPER)
    canvas.paste(shown, (x, y))
    return _Frame(
        canvas=canvas,
        image=(x, y, shown.width, shown.height),
        unit=unit,
        size=max(11, round(0.82 * unit)) if many else unit,
        line=round(unit / 6.5) if many else round(unit / 5),
        whole=whole_factor(given, side) > 1,
    )


def _colour(label: int) -> Colour:
    return COLOURS[label % len(COLOURS)]


def _area(box: tuple[float, float, float, float]) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _objects(
    image: Tensor, detections: Detections | Instances, classes: Sequence[str], frame: _Frame, *, named: set[int]
) -> list[_Object]:
    """The objects as they stand on the canvas, in the given order."""
    x, y, width, height = frame.image
    scale = torch.tensor([width / image.shape[2], height / image.shape[1]] * 2, dtype=torch.float64)
    most = torch.tensor([width, height] * 2, dtype=torch.float64)
    boxes = (detections.boxes.detach().cpu().double() * scale).clamp(min=0).minimum(most)
    boxes += torch.tensor([x, y, x, y])
    scores = detections.scores.tolist() if isinstance(detections, Detections) else None
    found = []
    for number, (label, box) in enumerate(zip(detections.labels.tolist(), boxes.tolist(), strict=True)):
        words = [classes[int(label)]] if label in named else []
        if scores is not None:
            words.append(f"{100 * scores[number]:.0f} %")
        mask, at = None, (0, 0)
        if detections.masks is not None:
            mask, at = _shown(detections.masks[number], frame)
        x0, y0, x1, y1 = box
        found.append(_Object((x0, y0, max(x0, x1), max(y0, y1)), " ".join(words), _colour(label), mask, at))
    return found


def _shown(mask: Tensor, frame: _Frame) -> tuple[Image.Image | None, tuple[int, int]]:
    """A mask (H, W) as the canvas has it, cut out with some pixels around it, and where its corner stands there."""
    pixels = mask.detach().cpu().bool().numpy()
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None, (0, 0)
    x, y, width, height = frame.image
    across, down = width / pixels.shape[1], height / pixels.shape[0]
    room = frame.line + 2
    left, top = max(int(columns[0] * across) - room, 0), max(int(rows[0] * down) - room, 0)
    right = min(int((columns[-1] + 1) * across) + room, width)
    bottom = min(int((rows[-1] + 1) * down) + room, height)
    kind = Image.Resampling.NEAREST if frame.whole else Image.Resampling.BILINEAR
    source = (left / across, top / down, min(right / across, pixels.shape[1]), min(bottom / down, pixels.shape[0]))
    whole = Image.fromarray(pixels.astype(np.uint8) * 255)
    return whole.resize((right - left, bottom - top), kind, box=source), (x + left, y + top)


def _paint_mask(frame: _Frame, one: _Object) -> None:
    """Tints the object, with its outline just inside of it and a thin white line around."""
    if one.mask is None:
        return
    line = max(1, min(frame.line, min(one.mask.size) // 12))  # a tiny object is more than its outline
    inner = one.mask.filter(ImageFilter.MinFilter(2 * line + 1))
    around = ImageChops.subtract(one.mask.filter(ImageFilter.MaxFilter(3)), one.mask)
    for colour, share, part in (
        (one.colour, _TINT, one.mask),
        (_WHITE, _HALO, around),
        (one.colour, 1.0, ImageChops.subtract(one.mask, inner)),
    ):
        frame.canvas.paste(colour, one.at, part.point([round(share * value) for value in range(256)]))


def _paint_box(frame: _Frame, one: _Object) -> None:
    """A frame just inside of the box, with a thin white line around it; where there is a mask, only a faint line."""
    x0, y0, x1, y1 = (round(value) for value in one.box)
    last = max(x1 - 1, x0), max(y1 - 1, y0)  # Pillow's last pixel is within
    if one.mask is None:
        draw = ImageDraw.Draw(frame.canvas)
        draw.rectangle((x0 - 1, y0 - 1, last[0] + 1, last[1] + 1), outline=_WHITE)
        draw.rectangle((x0, y0, *last), outline=one.colour, width=frame.line)
    else:
        line = Image.new("L", (last[0] - x0 + 1, last[1] - y0 + 1))
        ImageDraw.Draw(line).rectangle(
            (0, 0, line.width - 1, line.height - 1), outline=round(255 * _THIN), width=frame.line // 2
        )
        frame.canvas.paste(one.colour, (x0, y0), line)


def _paint_labels(frame: _Frame, objects: Sequence[_Object], *, every: bool) -> None:
    """Labels on their class's colour, the surest last: where they cannot but hide each other, it is read."""
    canvas, size = frame.canvas, frame.size
    objects = [one for one in objects if one.label]
    if not objects:
        return
    side, height = max(3, size // 3), round(1.4 * size)
    texts, sizes = [], []
    for one in objects:
        clean = printable(one.label)
        face = font(size, bold=True, text=clean)
        words = shortened(clean, face, canvas.width - 2 * side - 2)
        texts.append((words, face))
        sizes.append((round(face.getlength(words)) + 2 * side + 2, height + 2))
    corners = placed(np.array([one.box for one in objects]), sizes, canvas.size, every=every)
    draw = ImageDraw.Draw(canvas)
    rows = list(zip(objects, texts, sizes, corners, strict=True))
    for one, (words, face), (width, tall), corner in reversed(rows):
        if corner is None:
            continue
        x, y = corner
        rounded(canvas, (x, y, width, tall), radius=size / 4 + 1, fill=_WHITE)
        rounded(canvas, (x + 1, y + 1, width - 2, tall - 2), radius=size / 4, fill=one.colour)
        ink = _WHITE if _luminance(one.colour) <= _DARK else INK
        draw.text((x + 1 + side, y + 1 + round(1.06 * size)), words, font=face, fill=ink, anchor="ls")


def _luminance(colour: Colour) -> float:
    """How bright a colour looks, 0..1 (Rec. 709, with the gamma of a screen left in)."""
    red, green, blue = colour
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255
