"""What the values or colours of label maps mean: classes, pixels without one, colours to draw them in.

A code is what stands in a label map's pixel: a value (8 or 16 bits, or the index into a palette), or a colour packed
into one number, red first. K classes, H W space.
"""

from __future__ import annotations

import colorsys
import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.problems import short
from convnext.ops.losses import IGNORE_INDEX, MAX_CLASSES

Colour = tuple[int, int, int]
_VALUES = 1 << 16
_MOST_BYTES = 1 << 20  # of a mapping file
_NOTHING = {"unlabelled", "unlabeled", "void", "ignore", "ignored", "background-void"}  # last names that are no class
_HEX = re.compile(r"#[0-9a-fA-F]{6}")


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

    @property
    def values(self) -> tuple[int, ...]:
        """Of each class the value that it has in label maps that are written here: the data's own, or its index."""
        return tuple(range(len(self.codes))) if self.by_colour else tuple(codes[0] for codes in self.codes)

    def decoded(self, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Codes int (H, W) to classes uint8 (H, W), IGNORE_INDEX where there is none; and the unknown codes."""
        keys, classes = self._table
        if not self.by_colour:
            found = self._lookup[np.minimum(codes, _VALUES - 1)]
            wrong = np.unique(codes[found == MAX_CLASSES + 1])
            return found.astype(np.uint8), wrong[:0] if self.others else wrong
        places = np.searchsorted(keys, codes).clip(max=len(keys) - 1)
        known = keys[places] == codes
        found = np.where(known, classes[places], IGNORE_INDEX).astype(np.uint8)
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
        table = np.full(_VALUES, IGNORE_INDEX if self.others else MAX_CLASSES + 1, dtype=np.uint16)
        keys, classes = self._table
        table[keys] = classes
        return table


def named(names: Sequence[str]) -> Palette:
    """Classes by name, the values in their order; a last name as "void" or "unlabelled" is no class."""
    last = names[-1].strip().lower() if len(names) > 1 else ""
    classes = tuple(names[:-1] if last in _NOTHING else names)
    ignored = (len(classes), IGNORE_INDEX) if last in _NOTHING else (IGNORE_INDEX,)
    return _palette(classes, [(k,) for k in range(len(classes))], ignored=ignored)


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


def read_names(path: Path) -> Palette:
    """`classes.txt`: a name a line; empty lines are none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path} cannot be read as text: {error}.") from None
    names = [printable(line.strip()) for line in lines if line.strip()]
    if not names:
        raise UserError(f"{path} names no classes; it takes a name a line.")
    return _checked(named(names), path)


def read_mapping(path: Path) -> tuple[Palette, Mapping[str, Any]]:
    """A mapping file: what the codes mean, and the whole of its content.

    JSON: {"classes": [...], "ignored": [...], "others": "ignored" | "error", ...}. Each class is a name (its value is
    its place), or {"name": ..., "value": 7 | "values": [7, 8] | "colour": "#804080" or [128, 64, 128] | "colours":
    [...], "draw": a colour for drawings}. Raises UserError for whatever it cannot mean.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UserError(f"{path} has more than {_MOST_BYTES:,} bytes: it is no mapping file.")
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"The mapping file {path} cannot be read: {error.strerror}.") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON: {error}.") from None
    if not isinstance(content, dict):
        raise UserError(f'{path} is no mapping file: it takes {{"classes": [...]}}.')
    unknown = set(content) - {"classes", "ignored", "others", "train", "val", "suffix"}
    if unknown:
        raise UserError(
            f"{path} has '{short(min(unknown))}', which no mapping file has: classes, ignored, others, "
            "train, val, suffix."
        )
    if content.get("others", "error") not in ("ignored", "error"):
        raise UserError(f'{path}: "others" is "ignored" or "error", not {short(content["others"])}.')
    return _checked(_mapped(content, path), path), content


def _mapped(content: Mapping[str, Any], path: Path) -> Palette:
    entries, ignored = content.get("classes"), content.get("ignored", [])
    if not isinstance(entries, list) or not entries or len(entries) > MAX_CLASSES:
        raise UserError(f'{path}: "classes" is a list of 2 to {MAX_CLASSES} classes.')
    if not isinstance(ignored, list):
        raise UserError(f'{path}: "ignored" is a list of values or colours, not {short(ignored)}.')
    entries = [{"name": e, "value": k} if isinstance(e, str) else e for k, e in enumerate(entries)]
    names, codes, colours = [], [], []
    kinds = {_has_colours(entry, path) for entry in entries}
    if len(kinds) > 1:
        raise UserError(f"{path} has some classes by value and others by colour; label maps have one of both.")
    by_colour = kinds.pop()
    for entry, usual in zip(entries, chosen_colours(len(entries)), strict=True):
        keys = [_code(key, path, by_colour=by_colour) for key in _listed(entry, by_colour=by_colour)]
        names.append(printable(entry["name"]))
        codes.append(tuple(keys))
        draw = entry.get("draw")
        packed = keys[0] if by_colour and draw is None else None if draw is None else _code(draw, path, by_colour=True)
        colours.append(usual if packed is None else (packed >> 16, packed >> 8 & 255, packed & 255))
    nothing = [_code(key, path, by_colour=by_colour) for key in ignored]
    if not by_colour and not any(IGNORE_INDEX in keys for keys in codes):
        nothing.append(IGNORE_INDEX)
    others = content.get("others") == "ignored"
    return Palette(
        tuple(names), tuple(colours), tuple(codes), tuple(dict.fromkeys(nothing)), by_colour=by_colour, others=others
    )


def _has_colours(entry: Any, path: Path) -> bool:
    """Whether a class is given by its colour. Raises UserError where it is no class."""
    ways = {"value", "values", "colour", "colours"}
    if not isinstance(entry, dict) or not isinstance(entry.get("name"), str) or len(ways & set(entry)) != 1:
        raise UserError(
            f'{path}: a class is a name, or {{"name": ..., "value": 7}}, or {{"name": ..., "colour": "#804080"}}, not '
            f"{short(entry)}."
        )
    return bool({"colour", "colours"} & set(entry))


def _listed(entry: Mapping[str, Any], *, by_colour: bool) -> list[Any]:
    one, several = ("colour", "colours") if by_colour else ("value", "values")
    if one in entry:
        return [entry[one]]
    return entry[several] if isinstance(entry[several], list) and entry[several] else [entry[several]]


def _code(key: Any, path: Path, *, by_colour: bool) -> int:
    """A value, or a colour packed into a number."""
    if not by_colour and type(key) is int and 0 <= key < _VALUES:
        return key
    if by_colour and isinstance(key, str) and _HEX.fullmatch(key):
        return int(key[1:], 16)
    if by_colour and isinstance(key, list) and len(key) == 3 and all(type(p) is int and 0 <= p < 256 for p in key):
        return key[0] << 16 | key[1] << 8 | key[2]
    what = 'a colour as "#804080" or [128, 64, 128]' if by_colour else f"a value of 0 to {_VALUES - 1}"
    raise UserError(f"{path} takes {what}, not {short(key)}.")


def _palette(
    names: Sequence[str],
    codes: Sequence[tuple[int, ...]],
    *,
    ignored: tuple[int, ...] = (IGNORE_INDEX,),
    colours: Sequence[Colour] = (),
) -> Palette:
    return Palette(tuple(names), tuple(colours or chosen_colours(len(names))), tuple(codes), ignored)


def _checked(palette: Palette, path: Path) -> Palette:
    """Raises UserError for names or codes that come twice, and too few or too many classes."""
    if not 2 <= len(palette.classes) <= MAX_CLASSES:
        raise UserError(f"{path} names {len(palette.classes)} classes; 2 to {MAX_CLASSES} can be told apart.")
    codes = [*(code for codes in palette.codes for code in codes), *palette.ignored]
    for what, values in (("name", palette.classes), ("value or colour", codes)):
        double = next((value for place, value in enumerate(values) if value in values[:place]), None)
        if double is not None:
            shown = f"#{double:06x}" if palette.by_colour and isinstance(double, int) else short(double)
            raise UserError(f"{path} has the {what} {shown} twice.")
    return palette
