"""What the values of label maps mean: as the data says, or by evidence, which is said; else it is asked for.

Nothing is decided silently that changes what is learned: which values are classes, and which mean no class.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.segmentation.census import Look, code_word, shares, totals
from convnext.data.segmentation.conventions import shows_ade20k
from convnext.data.segmentation.mapping import Said
from convnext.data.segmentation.pairing import Pairs
from convnext.data.segmentation.palette import NOTHING, Palette, ade20k, named, numbered, valued
from convnext.ops.losses import IGNORE_INDEX, MAX_CLASSES

_FAR = 8  # values that are further apart are levels of grey, chosen to be seen; classes are numbered
Found = tuple[Palette, list[str]]


def decided(said: Said, looks: Sequence[Look], parts: Sequence[Pairs], names: Sequence[str], *, where: Path) -> Found:
    """What the codes of label maps mean, and sentences on how that was decided.

    names: of label maps, without their endings. Raises UserError where evidence does not decide it, and says which
    option or file does.
    """
    good = [look for look in looks if not look.wrong]
    if any(look.by_colour for look in good):
        raise UserError(_colour_masks(good, where))
    values = totals(good)
    many = len(values) > MAX_CLASSES + 1 or any(look.distinct > MAX_CLASSES + 1 for look in good)
    if many and not said.names:
        raise UserError(_too_many(where))
    if said.names:
        return _of_names(said, values, good, where)
    folders = {folder.name for part in parts for folder in (part.images, part.labels)}
    alike = folders <= {"training", "validation"} and all(part.labels.parent.name == "annotations" for part in parts)
    shown = shows_ade20k(where, names, np.array(list(values)), folders=alike)
    if shown:
        return ade20k(), [f"The classes are ADE20K's 150, and value 0 is none of them: {shown}."]
    return _of_values(values, good, where)


def _of_names(said: Said, values: Mapping[int, int], looks: Sequence[Look], where: Path) -> Found:
    """Classes that are named in the order of their values."""
    source, names = said.source, said.names
    palette = named(names) if not said.asked else valued(range(len(names)), names=names, ignored=(IGNORE_INDEX,))
    notes = []
    if len(palette.classes) < len(names):
        notes.append(f"Value {len(names) - 1}, '{names[-1]}' in {source}, is no class by its name.")
    elif names[0].strip().lower() in NOTHING and not said.asked:
        notes.append(f"Value 0, '{names[0]}' in {source}, is a class as any other.")
    given, known = list(values), {*range(len(names)), IGNORE_INDEX}
    if len(names) == 2 and len(given) == 2 and given != [0, 1] and (given[1] == IGNORE_INDEX or set(given) - known):
        first, second = given
        notes.append(f"Value {first} is '{names[0]}', value {second} is '{names[1]}': these two values occur alone.")
        return valued(given, names=names), notes
    if len(palette.classes) < 2:
        raise UserError(
            f"{source} names one class, '{names[0]}', and the label maps have the values {_list(given)}. Name each "
            "value's class in it, a line each, the background too."
        )
    _check_alone(values, looks, where)
    wrong = set(given) - known
    files = sum(bool(wrong & set(look.codes.tolist())) for look in looks)
    if wrong and len(given) <= len(names) + 2 and 2 * files > len(looks):
        raise UserError(
            f"{source} names {len(names)} classes, which are the values 0 to {len(names) - 1}, but the label maps in "
            f"{where} have {_list(given)}. {_ask(where)}"
        )
    classes = [value for value in given if value < len(palette.classes)]
    if len(classes) == 1 and IGNORE_INDEX in values and not wrong:
        raise UserError(
            f"The label maps in {where} have the value {classes[0]} ('{names[classes[0]]}') and 255, which would be no "
            f"class: there is one class only. {_ask(where)}"
        )
    return palette, notes


def _of_values(values: Mapping[int, int], looks: Sequence[Look], where: Path) -> Found:
    """The values that occur are the classes, 255 only where it is one of them."""
    given = list(values)
    if len(given) < 2:
        have = f"one value only, {given[0]}" if given else "no values"
        raise UserError(f"The label maps in {where} have {have}: 2 to {MAX_CLASSES} classes can be told apart.")
    rest = [value for value in given if value != IGNORE_INDEX]
    if IGNORE_INDEX not in values or len(rest) == 1:
        palette = valued(given)
        return palette, [f"No file names the classes: {_said(palette, given)}."]
    _check_alone(values, looks, where)
    if _numbered_from_0(rest):
        palette = numbered(rest)
        why = f"the others are {rest[0]} to {rest[-1]}, and 255 is how VOC, Cityscapes and others mark such pixels"
        return palette, [f"No file names the classes: {_said(palette, rest)}. Value 255 is no class: {why}."]
    if min(b - a for a, b in pairwise(given)) >= _FAR:
        palette = valued(given)
        return palette, [f"No file names the classes: {_said(palette, given)}, 255 too."]
    raise UserError(
        f"The label maps in {where} have the values {_list(given)}. Is 255 a class, or does it mark pixels without "
        f"one? {_ask(where)}"
    )


def _numbered_from_0(values: Sequence[int]) -> bool:
    """Whether two thirds of the values or more stand close together from 0 or 1 on, as numbers of classes do."""
    close = sum(value <= 2 * place + 2 for place, value in enumerate(values))
    return values[0] <= 1 and close >= 2 and 3 * close >= 2 * len(values)


def _said(palette: Palette, values: Sequence[int]) -> str:
    if len(values) == 2:
        return f"values {values[0]} and {values[1]} are two classes, '{palette.classes[0]}' and '{palette.classes[1]}'"
    return f"each value is one, {_list(values)}"


def _check_alone(values: Mapping[int, int], looks: Sequence[Look], where: Path) -> None:
    """Raises UserError where some label maps are of 0 and 1 and others of 0 and 255: one class, written in two ways."""
    if list(values) != [0, 1, IGNORE_INDEX]:
        return
    held = [set(look.codes.tolist()) for look in looks]
    ones, others = sum(1 in codes for codes in held), sum(codes == {0, IGNORE_INDEX} for codes in held)
    if ones and others and not any({1, IGNORE_INDEX} <= codes for codes in held):
        raise UserError(
            f"{ones} label maps in {where} have the value 1 and {others} others 0 and 255, none both: do 1 and 255 "
            "mean the same? If so, a mapping file (--labels): "
            f'{{"classes": [{{"name": "background", "value": 0}}, {{"name": "object", "values": [1, 255]}}]}}. If 255 '
            'is no class: "ignored": [255] in it.'
        )


def _ask(where: Path) -> str:
    return (
        f"Say what each value means in a mapping file: `convnext data mapping {where}` writes {where}/labels.json, "
        "ready to edit."
    )


def _list(values: Sequence[int]) -> str:
    words = [str(value) for value in values]
    if len(words) > 12:
        words = [*words[:10], "...", words[-1]]
    return ", ".join(words[:-1]) + f" and {words[-1]}" if len(words) > 1 else "".join(words)


def _too_many(where: Path) -> str:
    return (
        f"The label maps in {where} have more than {MAX_CLASSES} different values, and 2 to {MAX_CLASSES} classes can "
        f"be told apart: are they label maps? {_ask(where)}"
    )


def _colour_masks(looks: Sequence[Look], where: Path) -> str:
    coloured = [look for look in looks if look.by_colour]
    found = totals(coloured)
    many = max(look.distinct for look in coloured) > MAX_CLASSES
    what = f"more than {MAX_CLASSES} colours" if many or len(found) > MAX_CLASSES else f"{len(found)} colours"
    mixed = f" ({len(looks) - len(coloured)} others have values)" if len(coloured) < len(looks) else ""
    return (
        f"{len(coloured)} label maps in {where} are colour masks{mixed}, of {what}: {shares(found, by_colour=True)}. "
        f"Say which class each colour is: `convnext data mapping {where}` writes {where}/labels.json with them, ready "
        "to edit."
    )


def lossy(codes: Sequence[int], where: Path, *, by_colour: bool, jpegs: int, maps: int) -> str:
    """Why label maps that are a lossy copy are refused. jpegs: how many of the maps are in that format."""
    few = " and ".join(code_word(code, by_colour) for code in codes[:6]) or "a few values"
    how = f"{jpegs} of the {maps} label maps in {where} are JPEG, which changes values" if jpegs else ""
    look = f"The values of the label maps in {where} look" if not jpegs else "They look"
    return (
        f"{how + '. ' if how else ''}{look} like a lossy copy of {few} (saved as JPEG, or resized with smoothing). "
        "Export them again as PNG, without smoothing, from where they were drawn. Where that cannot be had, `convnext "
        f'data mapping {where}` writes {where}/labels.json with these values and "others": "nearest", which takes each '
        "value for the nearest of them."
    )


def palettes(looks: Sequence[Look], images: Sequence[str], where: Path, *, asked: bool) -> list[str]:
    """A warning where one index has several colours in the palettes of different files. Raises UserError where the
    colours are the same and only their order differs, unless somebody has said what the indices mean (`asked`)."""
    files: dict[int, dict[int, list[str]]] = {}
    for look, name in zip(looks, images, strict=True):
        if look.table is not None:
            for index, colour in zip(look.codes.tolist(), look.table.tolist(), strict=True):
                files.setdefault(index, {}).setdefault(colour, []).append(name)
    several = {index: colours for index, colours in files.items() if len(colours) > 1}
    if not several:
        return []
    words = []
    for index, colours in list(several.items())[:3]:
        one = [f"#{colour:06x} in {len(names)} files (as {printable(names[0])})" for colour, names in colours.items()]
        words.append(f"{index} is {', '.join(one[:3])}")
    what = f"In the palettes of the label maps in {where} one index has several colours: {'; '.join(words)}"
    count = len({colour for colours in files.values() for colour in colours})
    if count <= len(files) and not asked:
        raise UserError(
            f"{what}. The colours are the same {count} in all files and their order differs, so that colours, not "
            f"indices, seem to be the classes. By colour: `convnext data mapping {where}` writes {where}/labels.json "
            'with them, ready to edit. By index: a labels.json with the names of the classes, {"classes": '
            '["background", ...]}.'
        )
    return [f"Warning: {what}. The indices are taken for the classes, whatever their colours."]


def from_record(said: Said, record: Mapping[str, Any]) -> Palette:
    """The palette that was decided when a run was started, from what was written down. Raises ValueError, KeyError or
    TypeError where the record is none, or the data says otherwise now."""
    if said.palette is not None:
        return said.palette
    if "palette" in record:
        kept = record["palette"]
        palette = Palette(
            tuple(map(str, kept["classes"])),
            tuple((int(r), int(g), int(b)) for r, g, b in kept["colours"]),
            tuple(tuple(map(int, codes)) for codes in kept["codes"]),
            tuple(map(int, kept["ignored"])),
        )
        if said.names and tuple(palette.classes) not in (said.names, said.names[:-1]):
            raise ValueError
        return palette
    if record["values"] is not None:  # runs of before wrote the values down, and 255 was none
        return numbered([int(value) for value in record["values"]])
    if said.names:
        return named(said.names)
    return ade20k()
