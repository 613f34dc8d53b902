"""What the values or colours of label maps mean: classes, pixels without one, colours to draw them in.

A code is what stands in a label map's pixel: a value (8 or 16 bits, or the index into a palette), or a colour packed
into one number, red first. K classes, H W space.
"""

from __future__ import annotations

import colorsys
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources

import numpy as np

from convnext.ops.losses import IGNORE_INDEX, MAX_CLASSES

Colour = tuple[int, int, int]
VALUES = 1 << 16
"""How many values a label map can have."""
NOTHING = {"unlabelled", "unlabeled", "void", "ignore", "ignored", "background-void", "__ignore__"}
"""Names (lower case) that say that pixels have no class."""


@dataclass(frozen=True)
class Palette:
    """The classes of label maps, and how to read them. Picklable."""

    classes: tuple[str, ...]
    colours: tuple[Colour, ...]
    """Of each class, to draw it in."""
    codes: tuple[tuple[int, ...], ...]
    """Of each class: the codes that mean it."""
    ignored: tuple[int, ...] = (IGNORE_INDEX,)
    """Codes of pixels without a class."""
    by_colour: bool = False
    """Whether codes are colours."""
    others: bool = False
    """Whether any other code means no class too; False: it is a mistake."""
    nearest: bool = False
    """Whether any other code means what the nearest one does: for lossy copies."""

    @property
    def values(self) -> tuple[int, ...]:
        """Of each class the value that it has in label maps that are written here: the data's own, or its index."""
        return tuple(range(len(self.codes))) if self.by_colour else tuple(codes[0] for codes in self.codes)

    def decoded(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes int (H, W) to classes uint8 (H, W), IGNORE_INDEX where there is none; and the unknown codes."""
        keys, classes = self._table
        if not self.by_colour:
            found = self._lookup[np.minimum(codes, VALUES - 1)]
            wrong = np.unique(codes[found == MAX_CLASSES + 1])
            return found.astype(np.uint8), wrong[:0] if self.others else wrong
        places = np.searchsorted(keys, codes).clip(max=len(keys) - 1)
        known = keys[places] == codes
        found = np.where(known, classes[places], IGNORE_INDEX).astype(np.uint8)
        if self.nearest and not known.all():
            other, where = np.unique(codes[~known], return_inverse=True)
            apart = ((_parts(other)[:, None] - _parts(keys)[None]) ** 2).sum(-1)
            found[~known] = classes[apart.argmin(1)][where]
            return found, other[:0]
        return found, np.unique(codes[~known])[: 0 if self.others else None]

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        """Every code, ascending, and the class of each."""
        pairs = [(code, k) for k, codes in enumerate(self.codes) for code in codes]
        pairs = sorted([*pairs, *((code, IGNORE_INDEX) for code in self.ignored)])
        return np.array([code for code, _ in pairs]), np.array([k for _, k in pairs])

    @cached_property
    def _lookup(self) -> np.ndarray:
        """The class of every value, one beyond the most classes where there is none."""
        table = np.full(VALUES, IGNORE_INDEX if self.others else MAX_CLASSES + 1, dtype=np.uint16)
        keys, classes = self._table
        if self.nearest:
            right = np.searchsorted(keys, np.arange(VALUES)).clip(1, len(keys) - 1) if len(keys) > 1 else 0
            left = np.maximum(right - 1, 0)
            nearer = np.abs(np.arange(VALUES) - keys[left]) <= np.abs(np.arange(VALUES) - keys[right])
            table[:] = np.where(nearer, classes[left], classes[right])
        table[keys] = classes
        return table


def _parts(codes: np.ndarray) -> np.ndarray:
    """Red, green and blue of packed colours: int64 (n, 3)."""
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.int64)


def named(names: Sequence[str]) -> Palette:
    """Classes by name, the values in their order; a last name as "void" or "unlabelled" is no class."""
    last = names[-1].strip().lower() if len(names) > 1 else ""
    classes = tuple(names[:-1] if last in NOTHING else names)
    ignored = (len(classes), IGNORE_INDEX) if last in NOTHING else (IGNORE_INDEX,)
    return _palette(classes, [(k,) for k in range(len(classes))], ignored=ignored)


def valued(values: Sequence[int], *, names: Sequence[str] = (), ignored: tuple[int, ...] = ()) -> Palette:
    """A class for each value, called by it where there is no name for it; 255 is a value as any other here."""
    called = [str(value) if IGNORE_INDEX in values else f"class {value}" for value in values]
    return _palette(names or called, [(value,) for value in values], ignored=ignored)


def numbered(values: Sequence[int]) -> Palette:
    """A class for each value but IGNORE_INDEX, called by it."""
    kept = [value for value in values if value != IGNORE_INDEX]
    return _palette([f"class {value}" for value in kept], [(value,) for value in kept])


@cache
def ade20k() -> Palette:
    """The 150 classes of the ADE20K benchmark: value 0 is no class, value k + 1 class k; its usual colours."""
    text = resources.files("convnext.data.segmentation").joinpath("ade20k.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    colours = [(int(row["red"]), int(row["green"]), int(row["blue"])) for row in rows]
    codes = [(int(row["value"]),) for row in rows]
    return _palette([row["name"] for row in rows], codes, ignored=(0, IGNORE_INDEX), colours=colours)


def chosen_colours(n: int) -> list[Colour]:
    """n colours that are easy to tell apart: hues as far from each other as n of them can be one after the other, in
    three turns of lightness."""
    found = []
    for k in range(n):
        hue, turn = (0.58 + k * 0.61803398875) % 1.0, k // 7 % 3
        rgb = colorsys.hls_to_rgb(hue, (0.5, 0.35, 0.68)[turn], (0.75, 0.8, 0.65)[turn])
        red, green, blue = (round(255 * part) for part in rgb)
        found.append((red, green, blue))
    return found


def _palette(
    names: Sequence[str],
    codes: Sequence[tuple[int, ...]],
    *,
    ignored: tuple[int, ...] = (IGNORE_INDEX,),
    colours: Sequence[Colour] = (),
) -> Palette:
    return Palette(tuple(names), tuple(colours or chosen_colours(len(names))), tuple(codes), ignored)
