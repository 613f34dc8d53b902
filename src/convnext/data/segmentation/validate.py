"""Images and their label maps, found and checked: what is wrong is reported in one summary, before training.

N images, K classes. A code is what stands in a label map's pixel (`palette`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.headers import sizes_differ
from convnext.data.problems import Problems
from convnext.data.segmentation.census import Look, code_word, looked_through, smeared
from convnext.data.segmentation.decode_map import code_words
from convnext.data.segmentation.label_maps import LabelMapDataset
from convnext.data.segmentation.mapping import Said
from convnext.data.segmentation.meaning import decided, from_record, lossy, palettes
from convnext.data.segmentation.pairing import Pairs, matched
from convnext.data.segmentation.palette import Palette
from convnext.data.strings import Strings
from convnext.ops.losses import IGNORE_INDEX

_Found = list[tuple[str, str]]


class Checked(NamedTuple):
    """Images with label maps that nothing is wrong with."""

    sources: list[LabelMapDataset]
    """Of each part."""
    words: str
    """What the first part holds."""
    notes: list[str]
    """What was left out."""
    record: dict[str, Any]
    """{"values", "classes", "codes", "palette", "pairs", "pixels", "left_out"}: what the check found, to be saved as
    JSON (`as_recorded`)."""
    present: torch.Tensor | None = None
    """bool (N, K): which classes each image of the first part has; None where it is not known any more."""

    def not_judged(self, val: LabelMapDataset) -> str:
        """Says which classes that training has are in no image to validate on; empty where there are none."""
        if self.present is None or val.pixels is None:
            return ""
        drawn = len(self.sources) == 1
        judged = self.present[torch.from_numpy(val.indices)].any(0).tolist() if drawn else (val.pixels > 0).tolist()
        learned = self.present.any(0).tolist()
        names = [name for name, a, b in zip(val.classes, learned, judged, strict=True) if a and not b]
        if not names:
            return ""
        few = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        return (
            f"{len(names)} of {len(val.classes)} classes have no pixel in the images to validate on ({few}): mIoU is "
            "the mean over the others."
        )


def checked(parts: Sequence[Pairs], said: Said, *, where: Path, max_pixels: int, skip_bad: bool) -> Checked:
    """Reads every label map once, since what is wrong shows in its pixels only.

    said: what the data says of its values. skip_bad: pairs that something is wrong with are left out, and a note says
    which. Raises UserError with a summary of all that is wrong, and where the values' meaning has to be asked for.
    """
    problems = Problems(where)
    pairs = [matched(part, problems) for part in parts]
    if not all(pairs):  # none of its images has a label map: whatever else is wrong, that says why
        raise UserError(problems.text(0))
    both = list(zip(parts, pairs, strict=True))
    seen = looked_through(both, said.palette, max_pixels=max_pixels)
    palette, notes = _meaning(said, both, seen, where)
    good: list[_Found] = []
    counts = np.zeros((len(parts), len(palette.classes)), dtype=np.int64)
    present: list[np.ndarray] = []
    without: dict[int, int] = {}
    for number, (found, looks) in enumerate(zip(pairs, seen, strict=True)):
        pixels = [_pixels_of(pair[0], look, palette, problems) for pair, look in zip(found, looks, strict=True)]
        good.append([pair for pair, classes in zip(found, pixels, strict=True) if classes is not None])
        counts[number] = sum(classes for classes in pixels if classes is not None)
        present += [classes > 0 for classes in pixels if classes is not None and number == 0]
        for look, classes in zip(looks, pixels, strict=True):
            if classes is not None:
                _count_ignored(look, palette, without)
    if (problems.found and not skip_bad) or not all(good):
        raise UserError(problems.text(0))
    notes += _ignored_note(without, int(counts.sum()), palette)
    sources = _datasets(parts, good, palette, counts, max_pixels)
    left_out = [sorted({a for a, _ in all_} - {a for a, _ in kept}) for all_, kept in zip(pairs, good, strict=True)]
    record = {
        "values": None,
        **_facts(palette, pairs),
        "pixels": counts.tolist(),
        "left_out": left_out,
    }
    if said.palette is None:
        more = {
            "classes": palette.classes,
            "colours": palette.colours,
            "codes": palette.codes,
            "ignored": palette.ignored,
        }
        record["palette"] = {
            name: [list(v) if isinstance(v, tuple) else v for v in values] for name, values in more.items()
        }
    notes += [problems.note(0).rstrip()] if problems.found else []
    return Checked(sources, _words(sources[0], counts[0]), notes, record, torch.from_numpy(np.array(present)))


def _meaning(
    said: Said, both: Sequence[tuple[Pairs, _Found]], seen: Sequence[Sequence[Look]], where: Path
) -> tuple[Palette, list[str]]:
    """What the codes mean, and how that was decided. Raises UserError where evidence does not decide it."""
    looks = [look for part in seen for look in part]
    good = [look for look in looks if not look.wrong]
    images = [pair[0] for _, found in both for pair in found]
    if said.palette is not None:
        if said.palette.by_colour:
            return said.palette, []
        return said.palette, palettes(looks, images, where, asked=True)
    if not good:
        problems = Problems(where)
        for look, name in zip(looks, images, strict=True):
            problems.add("label maps that cannot be read", f"{printable(name)}: {look.wrong}")
        raise UserError(problems.text(0))
    jpegs = sum(look.lossy for look in good)
    few = smeared(both, seen)
    if few or jpegs:
        by_colour = any(look.by_colour for look in good)
        raise UserError(lossy(few, where, by_colour=by_colour, jpegs=jpegs, maps=len(looks)))
    warned = palettes(looks, images, where, asked=said.asked)
    names = [Path(pair[1]).stem for _, found in both for pair in found]
    palette, notes = decided(said, looks, [part for part, _ in both], names, where=where)
    return palette, [*notes, *warned]


def _count_ignored(look: Look, palette: Palette, without: dict[int, int]) -> None:
    """Adds the pixels of each code that is no class."""
    classes, _ = palette.decoded(look.codes)
    for code, count in zip(
        look.codes[classes == IGNORE_INDEX].tolist(), look.counts[classes == IGNORE_INDEX].tolist(), strict=True
    ):
        without[code] = without.get(code, 0) + count


def _ignored_note(without: Mapping[int, int], classed: int, palette: Palette) -> list[str]:
    total = sum(without.values())
    if not total:
        return []
    most = sorted(without, key=lambda code: -without[code])
    what = "colour" if palette.by_colour else "value"
    shown = ", ".join(code_word(code, palette.by_colour) for code in most[:5]) + (", ..." if len(most) > 5 else "")
    share = f"{100 * total / (total + classed):.2g} %"
    return [f"{share} of the pixels are of no class ({what}{'s' if len(most) > 1 else ''} {shown}): they do not count."]


def as_recorded(
    parts: Sequence[Pairs], said: Said, record: Mapping[str, Any], *, where: Path, max_pixels: int
) -> Checked:
    """What `checked` found before, from its record: no label map is read. Raises UserError where the record is not
    one, or of other data."""
    try:
        palette = from_record(said, record)
        counts = np.array(record["pixels"], dtype=np.int64).reshape(len(parts), len(palette.classes))
        left_out = [set(names) for names in record["left_out"]]
        pairs = [matched(part, Problems(where)) for part in parts]
        if any(record[name] != fact for name, fact in _facts(palette, pairs).items()):
            raise ValueError
        kept = [[pair for pair in found if pair[0] not in left] for found, left in zip(pairs, left_out, strict=True)]
    except (AttributeError, KeyError, TypeError, ValueError):
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
    pairs: Sequence[_Found],
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


def _pixels_of(image: str, look: Look, palette: Palette, problems: Problems) -> np.ndarray | None:
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
