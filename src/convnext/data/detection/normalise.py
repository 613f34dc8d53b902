"""Small liberties that tools take with COCO's form, put right where it is unambiguous: each is said once, with a count.

Numbers written as text or with a point (1.0), names in place of numbers, annotations' numbers that repeat (nothing
needs them), boxes that are missing where there is an outline, outlines as one list of numbers or as pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import replace
from typing import Any

from convnext.data.detection.document import Document, number_of
from convnext.data.detection.polygons import bounds
from convnext.data.problems import is_id, short

_PLAIN = (int, float)


def normalised(document: Document) -> Document:
    """The document with whole numbers for images and categories, with a box for each outline, outlines as lists of
    numbers; its notes say what was changed. The given one is not changed."""
    notes = list(document.notes)
    images, image_numbers = _renumbered(document.images, "images", "file_name", notes)
    categories, category_numbers = _renumbered(document.categories, "categories", "name", notes)
    renumbered = len(notes) > len(document.notes)
    changes = _Changes(image_numbers, category_numbers)
    annotations = [changes.entry(entry) if isinstance(entry, dict) else entry for entry in document.annotations]
    notes += changes.notes(told=renumbered)
    sides = sum(_text_to_sides(images, place) for place in range(len(images)))
    if sides:
        notes.append(f"{sides:,} images have a 'width' or 'height' that is text: taken for numbers.")
    return replace(document, images=images, annotations=annotations, categories=categories, notes=notes)


class _Changes:
    """Changes annotations, and counts what is changed."""

    def __init__(self, images: dict[Any, int], categories: dict[Any, int]) -> None:
        pairs = (("image_id", images), ("category_id", categories))
        self._known = [(key, numbers, set(numbers.values())) for key, numbers in pairs]
        self._ids: Counter[Any] = Counter()
        self._references = self._boxes = self._texts = self._flags = self._outlines = 0

    def entry(self, entry: dict[str, Any]) -> dict[str, Any]:
        """An annotation in COCO's form, as far as it is clear what is meant; the given one where it is that already."""
        changed: dict[str, Any] = {}
        for key, numbers, taken in self._known:
            given = entry.get(key)
            if type(given) is not int or numbers.get(given) != given:
                meant = _looked_up(given, numbers)
                if meant is not given:
                    changed[key] = meant
                    self._references += 1
                elif type(given) is int and given in taken:
                    changed[key] = str(given)  # a number that was given to another one: it means none
        if "id" in entry:
            number = entry["id"]
            self._ids[number if isinstance(number, Hashable) else short(number)] += 1
        crowd = entry.get("iscrowd", 0)
        if type(crowd) is not int and (meant := _flag(crowd)) is not None:
            changed["iscrowd"] = meant
            self._flags += crowd is not False and crowd is not True
        outline = entry.get("segmentation")
        if type(outline) is list and outline and (new := _as_polygons(outline)) is not outline:
            changed["segmentation"] = outline = new
            self._outlines += bool(new)
        box = entry.get("bbox")
        if _is_missing(box):
            if outline and (found := bounds(outline)) is not None:
                changed["bbox"] = found
                self._boxes += "where" not in entry  # forms with outlines alone
        elif type(box) is list and len(box) == 4 and any(type(value) is str for value in box):
            values = [number_of(value) for value in box]
            if None not in values:
                changed["bbox"] = values
                self._texts += 1
        return {**entry, **changed} if changed else entry

    def notes(self, *, told: bool) -> list[str]:
        """What was changed. told: whether it was said already that ids are no whole numbers."""
        notes = []
        doubled = sum(count for count in self._ids.values() if count > 1)
        odd = sum(1 for number in self._ids if not is_id(number))
        if self._references and not told:
            notes.append(
                f"{self._references:,} times annotations name their image or category by text, or as 1.0: taken for "
                "its number."
            )
        if doubled:
            notes.append(
                f"{doubled:,} annotation ids are not unique; nothing needs them: annotations are numbered anew."
            )
        elif odd:
            notes.append(f"{odd:,} annotation ids are no whole numbers; nothing needs them: they are numbered anew.")
        if self._boxes:
            notes.append(f"{self._boxes:,} annotations have no 'bbox': the box around their outline is taken.")
        if self._texts:
            notes.append(f"{self._texts:,} annotations have a 'bbox' of text: taken for numbers.")
        if self._flags:
            notes.append(f"{self._flags:,} annotations have an 'iscrowd' that is text or empty: taken for 0 or 1.")
        if self._outlines:
            notes.append(
                f"{self._outlines:,} outlines are one list of numbers, or pairs: taken for polygons, x0, y0, x1, ..."
            )
        return notes


def _is_missing(box: Any) -> bool:
    """Whether a box says nothing: none, an empty list, sides of 0, or not a number as pandas writes it."""
    if box is None or box == []:
        return True
    if type(box) is not list or len(box) != 4:
        return False
    return not any(box[2:]) or any(value is None or value != value for value in box)


def _flag(value: Any) -> int | None:
    """0 or 1, also from text and truth values; no value at all is 0."""
    if value is None or value == "":
        return 0
    number = number_of(value)
    return int(number) if number in (0, 1) else None


def _as_polygons(outline: list[Any]) -> list[Any]:
    """Polygons as lists of numbers: from one list of numbers (as VIA writes), from lists of pairs; the same list where
    they are that already, [] where they are empty."""
    first = outline[0]
    if type(first) in _PLAIN:
        return [outline]
    if type(first) is not list:
        return outline
    if not any(outline):
        return []
    if len(first) == 2 and len(outline) > 2 and all(_is_pair(pair) for pair in outline):
        return [[value for pair in outline for value in pair]]
    if first and type(first[0]) is list:
        if not all(type(polygon) is list and all(map(_is_pair, polygon)) for polygon in outline):
            return outline
        return [[value for pair in polygon for value in pair] for polygon in outline]
    return outline


def _is_pair(value: Any) -> bool:
    return type(value) is list and len(value) == 2 and type(value[0]) in _PLAIN and type(value[1]) in _PLAIN


def _text_to_sides(images: list[Any], place: int) -> bool:
    entry = images[place]
    if not isinstance(entry, dict) or not any(isinstance(entry.get(side), str) for side in ("width", "height")):
        return False
    sides = {side: number_of(entry.get(side)) for side in ("width", "height")}
    if None in sides.values():
        return False
    images[place] = {**entry, **sides}
    return True


def _renumbered(entries: list[Any], what: str, key: str, notes: list[str]) -> tuple[list[Any], dict[Any, int]]:
    """Entries with whole numbers as ids, and which number each id stands for: as it is, as text, and under what else
    the entry is called (`key`)."""
    ids = [entry.get("id") if isinstance(entry, dict) else None for entry in entries]
    if all(is_id(number) or number is None for number in ids):
        return list(entries), _with_text({number: number for number in ids if is_id(number)}, entries, key)
    whole = [_whole(number) for number in ids]
    usable = [number for number in whole if number is not None]
    given = [number for number in ids if isinstance(number, Hashable) and number is not None]
    if len(usable) == len(given) and len(set(usable)) == len(usable):
        notes.append(f"The ids of the {what} are written as {short(given[0])}: taken for whole numbers.")
        numbers = dict(zip(given, usable, strict=True))
    elif len(set(given)) == len(given) and not any(map(is_id, given)):
        notes.append(f"The ids of the {what} are no numbers, as {short(given[0])}: they are numbered in their order.")
        numbers = {number: place for place, number in enumerate(given, 1)}
    else:
        return list(entries), _with_text({number: number for number in ids if is_id(number)}, entries, key)
    changed = [
        {**entry, "id": numbers[entry["id"]]}
        if isinstance(entry, dict) and isinstance(entry.get("id"), Hashable) and entry.get("id") in numbers
        else entry
        for entry in entries
    ]
    return changed, _with_text(numbers, changed, key)


def _whole(value: Any) -> int | None:
    """A whole number of 0 or more, also one that is written as 7.0, "7" or "7.0"."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return int(number) if number >= 0 and number % 1 == 0 and number < 1 << 53 else None


def _with_text(numbers: dict[Any, int], entries: list[Any], key: str) -> dict[Any, int]:
    """Also under their text, under what they are as whole numbers, and under what else their entries are called, where
    that means one thing alone."""
    texts = Counter(str(number) for number in numbers)
    more = {str(given): number for given, number in numbers.items() if texts[str(given)] == 1}
    wholes = Counter(_whole(given) for given in numbers)
    more |= {
        str(_whole(given)): number
        for given, number in numbers.items()
        if _whole(given) is not None and wholes[_whole(given)] == 1
    }
    named = [(entry[key], entry.get("id")) for entry in entries if isinstance(entry, dict) and _is_name(entry.get(key))]
    names = Counter(name for name, _ in named)
    called = {name: number for name, number in named if names[name] == 1 and is_id(number)}
    return {**called, **more, **numbers}


def _is_name(value: Any) -> bool:
    """Whether a text can be nothing else than a name."""
    return isinstance(value, str) and _whole(value) is None


def _looked_up(value: Any, numbers: dict[Any, int]) -> Any:
    """The number that a reference means; the reference itself where it means none (which is reported)."""
    if not isinstance(value, Hashable) or isinstance(value, bool):
        return value
    if value in numbers:
        return numbers[value]
    whole = _whole(value)
    return numbers.get(str(value), value if whole is None else numbers.get(str(whole), value))
