"""Small liberties that tools take with COCO's form, put right where it is unambiguous: each is said once, with a count.

Numbers written as text or with a point (1.0), names in place of numbers, annotations' numbers that repeat (nothing
needs them), boxes that are missing where there is an outline.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from typing import Any

from convnext.data.detection.document import Document
from convnext.data.detection.polygons import bounds
from convnext.data.problems import is_id, short


def normalised(document: Document) -> Document:
    """The document with whole numbers for images and categories, without those of annotations, with a box for each
    outline; its notes say what was changed. The given one is not changed."""
    notes = list(document.notes)
    images, image_numbers = _renumbered(document.images, "images", notes)
    categories, category_numbers = _renumbered(document.categories, "categories", notes)
    annotations: list[Any] = []
    boxes, references, ids = 0, 0, Counter[Any]()
    for entry in document.annotations:
        if not isinstance(entry, dict):
            annotations.append(entry)
            continue
        changed = dict(entry)
        changed["image_id"] = _looked_up(entry.get("image_id"), image_numbers)
        changed["category_id"] = _looked_up(entry.get("category_id"), category_numbers)
        references += any(changed[key] is not entry.get(key) for key in ("image_id", "category_id"))
        if entry.get("bbox") in (None, []) and (box := bounds(entry.get("segmentation"))) is not None:
            changed["bbox"] = box
            boxes += 1
        if "id" in entry:
            ids[entry["id"] if isinstance(entry["id"], Hashable) else short(entry["id"])] += 1
        annotations.append(changed)
    doubled = sum(count for count in ids.values() if count > 1)
    odd = sum(1 for number in ids if not is_id(number))
    if references and len(notes) == len(document.notes):
        notes.append(f"{references:,} annotations name their image or category by text or as 1.0: taken for numbers.")
    if doubled:
        notes.append(f"{doubled:,} annotation ids are not unique; nothing needs them: annotations are numbered anew.")
    elif odd:
        notes.append(f"{odd:,} annotation ids are no whole numbers; nothing needs them: annotations are numbered anew.")
    if boxes:
        notes.append(f"{boxes:,} annotations have no 'bbox': the box around their outline is taken.")
    return Document(images, annotations, categories, notes)


def _renumbered(entries: list[Any], what: str, notes: list[str]) -> tuple[list[Any], dict[Any, int]]:
    """Entries with whole numbers as ids, and which number each id stands for (as it is, and as text)."""
    ids = [entry.get("id") if isinstance(entry, dict) else None for entry in entries]
    if all(is_id(number) or number is None for number in ids):
        return entries, _with_text({number: number for number in ids if is_id(number)})
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
        return entries, _with_text({number: number for number in ids if is_id(number)})
    changed = [
        {**entry, "id": numbers[entry["id"]]}
        if isinstance(entry, dict) and isinstance(entry.get("id"), Hashable) and entry.get("id") in numbers
        else entry
        for entry in entries
    ]
    return changed, _with_text(numbers)


def _whole(value: Any) -> int | None:
    """A whole number of 0 or more, also one that is written as 7.0, "7" or "7.0"."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except ValueError:
        return None
    return int(number) if number >= 0 and number % 1 == 0 and number < 1 << 53 else None


def _with_text(numbers: dict[Any, int]) -> dict[Any, int]:
    """Also under their text, and under what they are as whole numbers, where that means one thing alone."""
    texts = Counter(str(key) for key in numbers)
    more = {str(key): number for key, number in numbers.items() if texts[str(key)] == 1}
    wholes = Counter(_whole(key) for key in numbers)
    more |= {
        str(_whole(key)): number
        for key, number in numbers.items()
        if _whole(key) is not None and wholes[_whole(key)] == 1
    }
    return {**more, **numbers}


def _looked_up(value: Any, numbers: dict[Any, int]) -> Any:
    """The number that a reference means; the reference itself where it means none (which is reported)."""
    if not isinstance(value, Hashable) or isinstance(value, bool):
        return value
    if value in numbers:
        return numbers[value]
    whole = _whole(value)
    return numbers.get(str(value), value if whole is None else numbers.get(str(whole), value))
