"""Files that say what the values or colours of label maps mean: mapping files, and what other tools write.

labels.json         a mapping file (`read_mapping`), here or named by --labels
classes.txt, codes.txt, class_names.txt      a name a line, the values in their order; labels.txt of labelme too
_classes.csv        Roboflow's: "Pixel Value, Class"
class_dict.csv      "name, r, g, b"; labelmap.txt of CVAT: "name:r,g,b::"; label_colors.txt: "r g b name"
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.problems import short
from convnext.data.segmentation.palette import NOTHING, VALUES, Palette, chosen_colours
from convnext.data.strings import read_text
from convnext.ops.losses import IGNORE_INDEX, MAX_CLASSES

MAPPING = "labels.json"
_NAMES = ("classes.txt", "codes.txt", "class_names.txt", "labels.txt")
_VALUES_CSV, _COLOUR_FILES = "_classes.csv", ("class_dict.csv", "labelmap.txt", "label_colors.txt")
_HEX = re.compile(r"#[0-9a-fA-F]{6}")
_CVAT = re.compile(r"(?P<name>[^:#][^:]*):(?P<colour>\d+,\d+,\d+):[^:]*:[^:]*")
_CAMVID = re.compile(r"(?P<colour>\d+\s+\d+\s+\d+)\s+(?P<name>\S.*)")


@dataclass(frozen=True)
class Said:
    """What a data set says of its label maps."""

    names: tuple[str, ...] = ()
    """Of classes, whose values are in their order; none where `palette` says it all."""
    palette: Palette | None = None
    source: str = ""
    """Who says so: a path, for people; empty: nobody."""
    asked: bool = False
    """Whether it was written for this purpose, so that nothing in it is questioned."""
    notes: tuple[str, ...] = ()


def is_mapping(path: Path) -> bool:
    """Whether a file has a mapping file's form: other programs write files called labels.json too."""
    try:
        text = read_text(path)
    except UserError:
        return False
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return '"classes"' in text  # damaged, but meant as one
    return isinstance(content, dict) and isinstance(content.get("classes"), list)


def said_by_file(folder: Path, parts: Sequence[Path], above: Path) -> Said:
    """What files in a data set's folder, in those of its parts or above it say. Raises UserError for a file that says
    nothing, and for parts that say different things."""
    found = [path for name in (*_NAMES, _VALUES_CSV, *_COLOUR_FILES) if _says(path := folder / name)]
    in_parts = [path for part in dict.fromkeys(parts) if _says(path := part / _VALUES_CSV)]
    if not found and in_parts:
        said = [_read(path) for path in in_parts]
        if any(one.palette != said[0].palette for one in said):
            raise UserError(f"{in_parts[0]} and {in_parts[1]} say different things. Make them the same.")
        return said[0]
    if not found:
        upper = above / _NAMES[0]
        if not upper.is_file():
            return Said()
        names = read_names(upper)
        return Said(names, None, str(upper), notes=(f"The classes' names are those of {upper}.",))
    more = [f"Not used, for {found[0].name} is there: {', '.join(p.name for p in found[1:])}."] if found[1:] else []
    first = _read(found[0])
    return Said(first.names, first.palette, first.source, notes=tuple(more))


def _says(path: Path) -> bool:
    """Whether a file is there and can be about label maps: labels.txt and _classes.csv can be about other things."""
    if not path.is_file():
        return False
    if path.name == "labels.txt":
        return any(line.strip() in ("__ignore__", "_background_") for line in read_text(path).splitlines())
    if path.name == _VALUES_CSV:
        return read_text(path).lstrip().lower().startswith("pixel")
    return True


def _read(path: Path) -> Said:
    if path.name in _NAMES:
        return Said(read_names(path), None, str(path))
    rows = _value_rows(path) if path.name == _VALUES_CSV else _colour_rows(path)
    if not rows:
        raise UserError(f"{path} names no classes.")
    entries = [{"name": name, ("value" if path.name == _VALUES_CSV else "colour"): code} for name, code in rows]
    kept = [entry for entry in entries if entry["name"].lower() not in NOTHING]
    ignored = [code for name, code in rows if name.lower() in NOTHING]
    return Said((), _checked(_mapped({"classes": kept, "ignored": ignored}, path), path), str(path))


def _value_rows(path: Path) -> list[tuple[str, Any]]:
    rows = [row for row in csv.reader(read_text(path).splitlines()[1:], skipinitialspace=True) if row]
    if any(len(row) < 2 or not row[0].strip().isdigit() for row in rows):
        raise UserError(f"{path} has rows of a pixel value and a class, as `1, road`; one is otherwise.")
    return [(row[1].strip(), int(row[0])) for row in rows]


def _colour_rows(path: Path) -> list[tuple[str, Any]]:
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if path.suffix == ".csv":
        rows = list(csv.reader(lines, skipinitialspace=True))
        rows = rows[0 if rows and rows[0][1:2] and rows[0][1].strip().isdigit() else 1 :]
        found = [(row[0].strip(), row[1:4]) for row in rows]
    else:
        form = _CVAT if path.name == "labelmap.txt" else _CAMVID
        matches = [form.fullmatch(line) for line in lines if not line.startswith("#")]
        if not all(matches):
            raise UserError(f"{path} has a line that is no class with its colour.")
        found = [(m["name"].strip(), re.split(r"[,\s]+", m["colour"])) for m in matches if m]
    if not all(len(colour) == 3 and all(part.strip().isdigit() for part in colour) for _, colour in found):
        raise UserError(f"{path} has a row that is no name with red, green and blue.")
    return [(name, [int(part) for part in colour]) for name, colour in found]


def read_names(path: Path) -> tuple[str, ...]:
    """`classes.txt`: a name a line; empty lines are none. labelme's first line, `__ignore__`, is none either."""
    names = [printable(line.strip()) for line in read_text(path).split("\n") if line.strip()]
    names = names[1:] if names[:1] == ["__ignore__"] else names
    if not names:
        raise UserError(f"{path} names no classes; it takes a name a line.")
    double = next((name for place, name in enumerate(names) if name in names[:place]), None)
    if double is not None:
        raise UserError(f"{path} has the name {short(double)} twice.")
    if len(names) > MAX_CLASSES + 1:
        raise UserError(f"{path} names {len(names)} classes; 2 to {MAX_CLASSES} can be told apart.")
    return tuple(names)


def read_mapping(path: Path) -> tuple[Said, Mapping[str, Any]]:
    """A mapping file: what it says, and the whole of its content.

    JSON: {"classes": [...], "ignored": [...], "others": "ignored" | "nearest" | "error", ...}. Each class is a name
    (its value is its place), or {"name": ..., "value": 7 | "values": [7, 8] | "colour": "#804080" or [128, 64, 128] |
    "colours": [...], "draw": a colour for drawings}. Raises UserError for whatever it cannot mean.
    """
    try:
        content = json.loads(read_text(path))
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
    if content.get("others", "error") not in ("ignored", "nearest", "error"):
        raise UserError(f'{path}: "others" is "ignored", "nearest" or "error", not {short(content["others"])}.')
    palette = _checked(_mapped(content, path), path)
    plain = all(isinstance(entry, str) for entry in content["classes"]) and not {"ignored", "others"} & set(content)
    if plain:  # names alone say as much as classes.txt does
        return Said(palette.classes, None, str(path), asked=True), content
    return Said((), palette, str(path), asked=True), content


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
    others, nearest = (content.get("others") == word for word in ("ignored", "nearest"))
    if not by_colour and not nearest and not any(IGNORE_INDEX in keys for keys in codes):
        nothing.append(IGNORE_INDEX)
    return Palette(
        tuple(names),
        tuple(colours),
        tuple(codes),
        tuple(dict.fromkeys(nothing)),
        by_colour=by_colour,
        others=others,
        nearest=nearest,
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
    if not by_colour and type(key) is int and 0 <= key < VALUES:
        return key
    if by_colour and isinstance(key, str) and _HEX.fullmatch(key):
        return int(key[1:], 16)
    if by_colour and isinstance(key, list) and len(key) == 3 and all(type(p) is int and 0 <= p < 256 for p in key):
        return key[0] << 16 | key[1] << 8 | key[2]
    what = 'a colour as "#804080" or [128, 64, 128]' if by_colour else f"a value of 0 to {VALUES - 1}"
    raise UserError(f"{path} takes {what}, not {short(key)}.")


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
