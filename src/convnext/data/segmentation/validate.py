"""Images and their label maps, found and checked: what is wrong is reported in one summary, before training.

N images, K classes. A code is what stands in a label map's pixel (`palette`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from convnext.core.device import available_cpus
from convnext.core.errors import UserError
from convnext.core.logs import Progress
from convnext.core.text import printable
from convnext.data.decode import IMAGE_SUFFIXES, BadImage
from convnext.data.headers import header_size, sizes_differ
from convnext.data.problems import Problems
from convnext.data.segmentation.label_maps import LABEL_SUFFIXES, LabelMapDataset, code_words, read_codes
from convnext.data.segmentation.palette import Palette, numbered
from convnext.data.strings import Strings
from convnext.ops.losses import IGNORE_INDEX, MAX_CLASSES

_KEPT = 1000  # different codes of one label map, unknown ones, that are remembered
_THREADS = 8


class Pairs(NamedTuple):
    """Where images and label maps are looked for."""

    images: Path
    labels: Path
    suffix: str
    """What is added to an image's name, without its ending, in the name of its label map."""


class _Seen(NamedTuple):
    """What one pair turned out to be."""

    size: tuple[int, int] | None
    """Height and width of the image; None where its header does not say."""
    shape: tuple[int, int]
    codes: np.ndarray
    counts: np.ndarray
    """How many pixels have each code."""
    wrong: str = ""
    """Why the label map cannot be read."""


class Checked(NamedTuple):
    """Images with label maps that nothing is wrong with."""

    sources: list[LabelMapDataset]
    """Of each part."""
    words: str
    """What the first part holds."""
    notes: list[str]
    """What was left out."""
    record: dict[str, Any]
    """{"values", "classes", "codes", "pairs", "pixels", "left_out"}: what the check found, to be saved as
    JSON (`as_recorded`)."""


def checked(
    parts: Sequence[Pairs], palette: Palette | None, *, where: Path, max_pixels: int, skip_bad: bool
) -> Checked:
    """Reads every label map once, since what is wrong shows in its pixels only.

    palette: None: the values that occur are the classes. skip_bad: pairs that something is wrong with are left out, and
    a note says which. Raises UserError with a summary of all that is wrong.
    """
    problems = Problems(where)
    pairs = [matched(part, problems) for part in parts]
    if not all(pairs):  # none of its images has a label map: whatever else is wrong, that says why
        raise UserError(problems.text(0))
    seen = _looked_through(list(zip(parts, pairs, strict=True)), palette, max_pixels=max_pixels)
    values = None if palette else _occurring([one for part in seen for one in part], where)
    palette = palette or numbered(values or ())
    good: list[list[tuple[str, str]]] = []
    counts = np.zeros((len(parts), len(palette.classes)), dtype=np.int64)
    for number, (found, looks) in enumerate(zip(pairs, seen, strict=True)):
        pixels = [_pixels_of(pair[0], look, palette, problems) for pair, look in zip(found, looks, strict=True)]
        good.append([pair for pair, classes in zip(found, pixels, strict=True) if classes is not None])
        counts[number] = sum(classes for classes in pixels if classes is not None)
    if (problems.found and not skip_bad) or not all(good):
        raise UserError(problems.text(0))
    sources = _datasets(parts, good, palette, counts, max_pixels)
    left_out = [sorted({a for a, _ in all_} - {a for a, _ in kept}) for all_, kept in zip(pairs, good, strict=True)]
    record = {
        "values": values,
        **_facts(palette, pairs),
        "pixels": counts.tolist(),
        "left_out": left_out,
    }
    notes = [problems.note(0).rstrip()] if problems.found else []
    return Checked(sources, _words(sources[0], counts[0]), notes, record)


def as_recorded(
    parts: Sequence[Pairs], palette: Palette | None, record: Mapping[str, Any], *, where: Path, max_pixels: int
) -> Checked:
    """What `checked` found before, from its record: no label map is read. Raises UserError where the record is not
    one, or of other data."""
    try:
        palette = palette or numbered([int(value) for value in record["values"]])
        counts = np.array(record["pixels"], dtype=np.int64).reshape(len(parts), len(palette.classes))
        left_out = [set(names) for names in record["left_out"]]
        pairs = [matched(part, Problems(where)) for part in parts]
        if any(record[name] != fact for name, fact in _facts(palette, pairs).items()):
            raise ValueError
        kept = [[pair for pair in found if pair[0] not in left] for found, left in zip(pairs, left_out, strict=True)]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{where} has other classes, images or parts than when the run was started. Put it back as it was, or "
            "start a new run."
        ) from None
    sources = _datasets(parts, kept, palette, counts, max_pixels)
    return Checked(sources, _words(sources[0], counts[0]), [], dict(record))


def _facts(palette: Palette, pairs: Sequence[Sequence[Any]]) -> dict[str, Any]:
    """What must be the same for a record to hold: classes, what stands for them, how many pairs each part has."""
    codes = [[int(code) for code in one] for one in palette.codes]
    return {"classes": list(palette.classes), "codes": codes, "pairs": [len(found) for found in pairs]}


def _datasets(
    parts: Sequence[Pairs],
    pairs: Sequence[list[tuple[str, str]]],
    palette: Palette,
    counts: np.ndarray,
    max_pixels: int,
) -> list[LabelMapDataset]:
    return [
        LabelMapDataset(
            part.images,
            Strings([image for image, _ in found]),
            part.labels,
            Strings([label for _, label in found]),
            palette,
            max_pixels=max_pixels,
            pixels=pixels,
        )
        for part, found, pixels in zip(parts, pairs, counts, strict=True)
    ]


def matched(part: Pairs, problems: Problems) -> list[tuple[str, str]]:
    """Images and label maps that belong together: paths below their folders."""
    labels = {str(path.with_suffix("")): path for path in _files(part.labels, LABEL_SUFFIXES)}
    pairs, taken = [], set()
    for image in _files(part.images, IMAGE_SUFFIXES):
        key = str(image.with_suffix("")) + part.suffix
        if key not in labels:
            problems.add(f"images without a label map in {part.labels}", printable(str(image)))
        elif key in taken:
            problems.add("images whose label map is another one's too", printable(str(image)))
        else:
            taken.add(key)
            pairs.append((str(image), str(labels[key])))
    for key in sorted(labels.keys() - taken):
        problems.add(f"label maps without an image in {part.images}", printable(str(labels[key])))
    return pairs


def _files(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Files with such endings, below the folder, in the order of their names."""
    for where, folders, names in os.walk(folder):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(tuple(suffixes)) and not name.startswith("."):
                yield Path(where, name).relative_to(folder)


def _looked_through(
    parts: Sequence[tuple[Pairs, list[tuple[str, str]]]], palette: Palette | None, *, max_pixels: int
) -> list[list[_Seen]]:
    """Every pair of every part, looked at by some threads (decoding releases Python's lock)."""
    found: list[list[_Seen]] = []
    total = sum(len(pairs) for _, pairs in parts)
    with ThreadPoolExecutor(min(available_cpus(), _THREADS)) as pool, Progress("checking label maps", total) as shown:
        done = 0
        for part, pairs in parts:
            looks = []
            for look in pool.map(partial(_look, part=part, palette=palette, max_pixels=max_pixels), pairs):
                looks.append(look)
                done += 1
                shown.update(done)
            found.append(looks)
    return found


def _look(pair: tuple[str, str], *, part: Pairs, palette: Palette | None, max_pixels: int) -> _Seen:
    nothing, by_colour = np.zeros(0, dtype=np.int64), palette is not None and palette.by_colour
    try:
        data = (part.labels / pair[1]).read_bytes()
        codes = read_codes(data, name=pair[1], max_pixels=max_pixels, by_colour=by_colour)
    except OSError as error:
        return _Seen(None, (0, 0), nothing, nothing, error.strerror or str(error))
    except BadImage as error:
        return _Seen(None, (0, 0), nothing, nothing, error.reason)
    if by_colour:
        values, counts = np.unique(codes, return_counts=True)
    else:
        counts = np.bincount(codes.reshape(-1))
        values = np.flatnonzero(counts)
        counts = counts[values]
    if palette is not None:  # a photograph in a label map's place has a code for every pixel: enough to report
        classes, unknown = palette.decoded(values)
        kept = (classes != IGNORE_INDEX) | np.isin(values, unknown[:_KEPT])
        values, counts = values[kept], counts[kept]
    else:  # more would be too many for classes anyway
        values, counts = values[: MAX_CLASSES + 2], counts[: MAX_CLASSES + 2]
    height, width = codes.shape
    return _Seen(header_size(part.images / pair[0]), (height, width), values, counts)


def _occurring(seen: Sequence[_Seen], where: Path) -> list[int]:
    """The values that occur. Raises UserError where those are no classes."""
    values = sorted({int(code) for one in seen for code in one.codes} - {IGNORE_INDEX})
    if not 2 <= len(values) <= MAX_CLASSES:
        many = f"more than {MAX_CLASSES}" if len(values) > MAX_CLASSES else len(values)
        raise UserError(
            f"The label maps in {where} have {many} different values, and 2 to {MAX_CLASSES} classes can be "
            "told apart. Say what the values mean: classes.txt, a name a line, or a mapping file (--labels)."
        )
    return values


def _pixels_of(image: str, look: _Seen, palette: Palette, problems: Problems) -> np.ndarray | None:
    """Pixels of each class, int64 (K,); None where something is wrong with the pair, which is noted."""
    name = printable(image)
    if look.wrong:
        problems.add("label maps that cannot be read", f"{name}: {look.wrong}")
        return None
    if look.size is not None and look.size != look.shape:
        words = sizes_differ(look.size, look.shape).replace("the annotations say", "its label map")
        problems.add("label maps of another size than their image", f"{name}: {words}")
        return None
    classes, unknown = palette.decoded(look.codes)
    if len(unknown):
        kind = "label maps with colours that are no class"
        if not palette.by_colour:
            values = [code for codes in palette.codes for code in codes]
            span = f"the {len(palette.classes)} classes have {min(values)} to {max(values)}"
            kind = f"label maps with values that are no class ({span})"
        problems.add(kind, f"{name}: {code_words(unknown, palette.by_colour)}")
        return None
    kept = classes != IGNORE_INDEX
    return np.bincount(classes[kept], weights=look.counts[kept], minlength=len(palette.classes)).astype(np.int64)


def _words(dataset: LabelMapDataset, counts: np.ndarray) -> str:
    """What a dataset holds: images, classes, and which of those are rare."""
    classes, total = dataset.classes, max(int(counts.sum()), 1)
    absent = [name for name, count in zip(classes, counts.tolist(), strict=True) if not count]
    there = [(count, name) for name, count in zip(classes, counts.tolist(), strict=True) if count]
    rarest = f" (rarest: {min(there)[1]}, {100 * min(there)[0] / total:.2g} %)" if there else ""
    words = f"{len(dataset):,} images, {len(classes)} classes{rarest}"
    if absent:
        few = ", ".join(absent[:3]) + (", ..." if len(absent) > 3 else "")
        words += f" of which {len(absent)} do not occur ({few})"
    return words
