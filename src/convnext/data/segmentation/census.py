"""What stands in label maps: every one of them is looked at once, before anything is decided about it.

A code is what stands in a pixel (`palette`). H W space.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np

from convnext.core.device import available_cpus
from convnext.core.logs import Progress
from convnext.data.decode import BadImage
from convnext.data.headers import header_size
from convnext.data.segmentation.decode_map import RawMap, check_kind, read_map
from convnext.data.segmentation.pairing import Pairs
from convnext.data.segmentation.palette import Palette
from convnext.ops.losses import IGNORE_INDEX, MAX_CLASSES

_KEPT = 1000  # different codes of one label map that are remembered
_THREADS = 8
_LOOKED = 24  # label maps in which smeared values are looked for
_MANY = 8  # different values, from which on they can be smeared
_INNER = 0.2  # of a class's pixels lie within it, or it is no class but an edge


class Look(NamedTuple):
    """What one pair turned out to be."""

    size: tuple[int, int] | None
    """Height and width of the image; None where its header does not say."""
    shape: tuple[int, int]
    codes: np.ndarray
    counts: np.ndarray
    """How many pixels have each code."""
    wrong: str = ""
    """Why the label map cannot be read."""
    by_colour: bool = False
    """Whether its codes are colours."""
    table: np.ndarray | None = None
    """The colour of each code, packed, where the file has a palette."""
    lossy: bool = False
    """Whether its format changes values."""
    distinct: int = 0
    """How many codes there are; more than `codes` where those are too many."""


_NOTHING = np.zeros(0, dtype=np.int64)


def looked_through(
    parts: Sequence[tuple[Pairs, list[tuple[str, str]]]], palette: Palette | None, *, max_pixels: int
) -> list[list[Look]]:
    """Every pair of every part, looked at by some threads (decoding releases Python's lock).

    palette: what the codes mean; None: it is still to be decided.
    """
    found: list[list[Look]] = []
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


def _look(pair: tuple[str, str], *, part: Pairs, palette: Palette | None, max_pixels: int) -> Look:
    try:
        data = (part.labels / pair[1]).read_bytes()
        raw = read_map(data, name=pair[1], max_pixels=max_pixels, by_colour=palette is not None and palette.by_colour)
        if palette is not None:
            check_kind(raw, pair[1], by_colour=palette.by_colour, lossy=palette.nearest)
    except OSError as error:
        return Look(None, (0, 0), _NOTHING, _NOTHING, error.strerror or str(error))
    except BadImage as error:
        return Look(None, (0, 0), _NOTHING, _NOTHING, error.reason)
    values, counts = _counted(raw)
    distinct = len(values)
    if palette is not None:  # a photograph in a label map's place has a code for every pixel: enough to report
        classes, unknown = palette.decoded(values)
        kept = (classes != IGNORE_INDEX) | np.isin(values, unknown[:_KEPT]) | np.isin(values, palette.ignored)
        values, counts = values[kept], counts[kept]
    elif distinct > MAX_CLASSES + 2:  # more would be too many for classes anyway
        most = np.sort(np.argsort(-counts, kind="stable")[: MAX_CLASSES + 2])
        values, counts = values[most], counts[most]
    table = None
    if raw.table is not None:
        table = raw.table[np.minimum(values, len(raw.table) - 1)].astype(np.int32)
    height, width = raw.codes.shape
    size = header_size(part.images / pair[0])
    return Look(size, (height, width), values, counts, "", raw.by_colour, table, raw.lossy, distinct)


def _counted(raw: RawMap) -> tuple[np.ndarray, np.ndarray]:
    """Codes that occur, ascending, and how many pixels have each."""
    if raw.by_colour:
        values, counts = np.unique(raw.codes, return_counts=True)
        return values, counts
    counts = np.bincount(raw.codes.reshape(-1))
    values = np.flatnonzero(counts)
    return values, counts[values]


def totals(looks: Sequence[Look]) -> dict[int, int]:
    """Of each code its pixels in all label maps that can be read, ascending."""
    found: Counter[int] = Counter()
    for look in looks:
        for code, count in zip(look.codes.tolist(), look.counts.tolist(), strict=True):
            found[code] += count
    return dict(sorted(found.items()))


def shares(counts: dict[int, int], *, by_colour: bool, most: int = 8) -> str:
    """The most frequent codes with their shares of all pixels, in words."""
    total = max(sum(counts.values()), 1)
    ranked = sorted(counts.items(), key=lambda pair: -pair[1])
    words = [f"{code_word(code, by_colour)} ({100 * count / total:.2g} %)" for code, count in ranked[:most]]
    return ", ".join(words) + (", ..." if len(ranked) > most else "")


def code_word(code: int, by_colour: bool) -> str:
    """A value or a colour as people write it."""
    return f"#{code:06x}" if by_colour else str(code)


def smeared(parts: Sequence[tuple[Pairs, list[tuple[str, str]]]], looks: Sequence[Sequence[Look]]) -> list[int]:
    """The few codes of which label maps seem to be a lossy copy, the most frequent first; empty where they do not.

    A class has pixels whose neighbours are of it too. JPEG, and resizing with smoothing, leave many codes at the edges
    that have none.
    """
    places = [
        (part, pair)
        for (part, pairs), of_part in zip(parts, looks, strict=True)
        for pair, look in zip(pairs, of_part, strict=True)
        if not look.wrong and look.distinct >= _MANY
    ]
    every: Counter[int] = Counter()
    inner: Counter[int] = Counter()
    for part, pair in places[:: max(len(places) // _LOOKED, 1)][:_LOOKED]:
        try:
            codes = read_map((part.labels / pair[1]).read_bytes(), name=pair[1], max_pixels=1 << 30).codes
        except (OSError, BadImage):
            continue
        middle = codes[1:-1, 1:-1]
        alike = (middle == codes[:-2, 1:-1]) & (middle == codes[2:, 1:-1])
        alike &= (middle == codes[1:-1, :-2]) & (middle == codes[1:-1, 2:])
        for counter, values in ((every, middle), (inner, middle[alike])):
            found, counts = np.unique(values, return_counts=True)
            counter.update(dict(zip(found.tolist(), counts.tolist(), strict=True)))
    if not every:
        return []
    whole = [code for code in every if inner[code] > _INNER * every[code]]
    edges = len(every) - len(whole)
    # of true classes a part is thin; of smeared values nearly all are
    if edges < 3 or edges < 0.55 * len(every) or not whole:
        return []
    kept: list[int] = []
    for code in sorted(whole, key=lambda code: -every[code]):
        if all(_apart(code, other) > 12 for other in kept):
            kept.append(code)
    return kept[:10]


def _apart(one: int, other: int) -> int:
    """The greatest difference of two codes' parts."""
    return max(abs((one >> shift & 255) - (other >> shift & 255)) for shift in (0, 8, 16))
