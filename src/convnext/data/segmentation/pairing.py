"""Which label map belongs to which image: by name, with what people and tools add to the names of either.

A key is a path below a folder without its ending and without what was added: equal for an image and its label map.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from convnext.core.lock import LOCK
from convnext.core.text import printable
from convnext.data.decode import IMAGE_SUFFIXES
from convnext.data.problems import Problems
from convnext.data.segmentation.decode_map import LABEL_SUFFIXES, LOSSY_SUFFIXES

MAP_SUFFIXES = (*LABEL_SUFFIXES, *LOSSY_SUFFIXES)
_JUNK = ("thumbs.db", "desktop.ini", "_classes.csv")  # the last one is read (`mapping`)
_SEPARATOR = r"[ _.-]+"
_OF_IMAGES = ("leftimg8bit", "image", "img", "sat", "rgb", "orig", "original", "photo", "input")
_OF_MAPS = (  # in this order of preference, where there are several for an image
    *("gtfine_labeltrainids", "gtcoarse_labeltrainids", "labeltrainids", "gtfine_labelids", "gtcoarse_labelids"),
    *(
        "labelids",
        "mask",
        "masks",
        "label",
        "labels",
        "lbl",
        "annotation",
        "annotations",
        "ann",
        "segmentation",
        "segm",
    ),
    *("seg", "gt", "groundtruth", "ground_truth", "target", "manual1", "l", "p", "gtfine_color", "color", "colour"),
)
_OTHERS = (*_OF_MAPS, "gtfine_instanceids", "gtcoarse_instanceids", "instanceids", "overlay", "vis")
_BESIDE = tuple(word for word in _OF_MAPS if word not in ("l", "p", "color", "colour", "gtfine_color"))


class Affixes(NamedTuple):
    """What is added before and behind an image's name, and before and behind that of its label map."""

    before: str = ""
    behind: str = ""
    map_before: str = ""
    map_behind: str = ""


class Pairs(NamedTuple):
    """Where images and label maps are looked for."""

    images: Path
    labels: Path
    suffix: str = ""
    """What is added to an image's name, without its ending, in the name of its label map: as a mapping file says."""
    affixes: Affixes = Affixes()
    listed: tuple[str, ...] | None = None
    """Keys of the images that are meant; None: all."""
    maps: tuple[str, ...] = MAP_SUFFIXES
    """Endings of label maps."""
    images_end: tuple[str, ...] = IMAGE_SUFFIXES
    """Endings of images."""
    name: str = "train"
    """Of the part."""

    @property
    def beside(self) -> bool:
        """Whether images and label maps lie in the same folder."""
        return self.images == self.labels


def matched(part: Pairs, problems: Problems) -> list[tuple[str, str]]:
    """Images and label maps that belong together: paths below their folders."""
    labels, images = _sides(part)
    pairs, taken = [], set()
    for key, whole, image in images:
        found = key if key in labels else whole
        if found not in labels:
            problems.add(f"images without a label map in {part.labels}", printable(image))
        elif found in taken:
            problems.add("images whose label map is another one's too", printable(image))
        else:
            taken.add(found)
            pairs.append((image, labels[found]))
    if part.listed is not None:
        there = {key for key, _, _ in images}
        for key in sorted(set(part.listed) - there):
            problems.add(f"images of the list of '{part.name}' that are not in {part.images}", printable(key))
    else:
        for key in sorted(labels.keys() - taken):
            problems.add(f"label maps without an image in {part.images}", printable(labels[key]))
    return pairs


def _sides(part: Pairs) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Label maps by their keys; of each image its key, that of a label map called as the whole file, and its path."""
    before, behind, map_before, map_behind = part.affixes
    map_behind += part.suffix
    labels: dict[str, str] = {}
    for path in files_below(part.labels, part.maps):
        if (key := _inner(_stem(path), map_before, map_behind)) is not None:
            labels[key] = str(path)
    images: list[tuple[str, str, str]] = []
    own_maps = set(labels.values()) if part.beside else set()
    listed = None if part.listed is None else set(part.listed)
    for path in files_below(part.images, part.images_end):
        key = _inner(_stem(path), before, behind)
        if str(path) in own_maps or (listed is not None and key not in listed):
            continue
        images.append((key if key is not None else "", _plain(path), str(path)))
    return labels, images


def _stem(path: Path) -> str:
    return _plain(path.with_suffix(""))


def _plain(path: Path) -> str:
    return unicodedata.normalize("NFC", path.as_posix())


def key_of(line: str) -> str:
    """The key that a line of a list of images means: a name, or a path with an ending."""
    path = Path(line.split()[0] if line.lower().endswith(MAP_SUFFIXES) and " " in line else line)
    name = path.name if path.is_absolute() or path.parts[:1] == ("..",) else path.as_posix()
    return unicodedata.normalize(
        "NFC", str(Path(name).with_suffix("")) if name.lower().endswith(IMAGE_SUFFIXES) else name
    )


def _inner(stem: str, before: str, behind: str) -> str | None:
    """A stem without what was added to its last part; None where that is not there."""
    folder, _, name = stem.rpartition("/")
    if not (name.startswith(before) and name.endswith(behind) and len(name) > len(before) + len(behind)):
        return None
    name = name[len(before) : len(name) - len(behind)]
    return f"{folder}/{name}" if folder else name


def files_below(folder: Path, suffixes: Sequence[str]) -> Iterator[Path]:
    """Files with such endings, below the folder, in the order of their names; neither hidden ones nor those of training
    runs, and no pipes or devices."""
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and not _is_run(Path(where, name)))
        for name in sorted(names):
            if name.lower().endswith(tuple(suffixes)) and name[0] != "." and os.path.isfile(os.path.join(where, name)):
                yield Path(where, name).relative_to(folder)


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in ("recipe.json", LOCK))  # the lock alone: about to begin


def passed_over(part: Pairs) -> Counter[str]:
    """Files of a part's folders that are neither images nor label maps, by their kind."""
    found: Counter[str] = Counter()
    for root, known in {part.images: IMAGE_SUFFIXES, part.labels: (*IMAGE_SUFFIXES, *MAP_SUFFIXES)}.items():
        for where, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name[0] != "." and not _is_run(Path(where, name))]
            for name in names:
                lower = name.lower()
                if not lower.endswith(known) and name[0] != "." and not lower.endswith(_JUNK):
                    found[Path(lower).suffix or "without an ending"] += 1
    return found


def find_affixes(images: Iterable[str], labels: Iterable[str]) -> tuple[Affixes, dict[str, int]]:
    """What is added to the names of images and of label maps (stems), and how many label maps have other additions:
    by these ("_color")."""
    image_stems, map_stems = list(images), list(labels)
    same = len(set(image_stems) & set(map_stems))
    if same * 2 >= min(len(image_stems), len(set(map_stems))):
        return Affixes(), {}
    of_images, of_maps = _patterns(image_stems, _OF_IMAGES), _patterns(map_stems, _OF_MAPS)
    best = (0, 0, ("", ""), ("", ""))
    for here, keys in of_images.items():
        for there, others in of_maps.items():
            best = max(best, (len(keys & others), -_rank(there), here, there), key=lambda found: found[:2])
    count, _, here, there = best
    if count <= same or count * 2 < min(len(image_stems), len(map_stems)):
        return Affixes(), {}
    rest = [stem for stem in map_stems if _inner(stem, *there) is None]
    others = Counter(next((b for _, b in _patterns([stem], _OTHERS) if b), "") or "others" for stem in rest)
    return Affixes(*here, *there), dict(others)


def _rank(pattern: tuple[str, str]) -> int:
    word = re.sub(f"^{_SEPARATOR}|{_SEPARATOR}$", "", "".join(pattern)).lower()
    return _OF_MAPS.index(word) if word in _OF_MAPS else -1 if not word else len(_OF_MAPS)


def _patterns(stems: Iterable[str], words: Sequence[str]) -> dict[tuple[str, str], set[str]]:
    """(what stands before, what stands behind) -> the keys of the stems that have it. A stem can have several."""
    one = "|".join(sorted(map(re.escape, words), key=len, reverse=True))
    found: dict[tuple[str, str], set[str]] = {}
    for stem in stems:
        folder, _, name = stem.rpartition("/")
        head = re.match(f"(?:{one}){_SEPARATOR}", name, re.IGNORECASE)
        tail = re.search(f"{_SEPARATOR}(?:{one})$", name, re.IGNORECASE)
        ways = {("", "")}
        ways |= {(head.group(), "")} if head else set()
        ways |= {("", tail.group())} if tail else set()
        for before, behind in ways:
            key = name[len(before) : len(name) - len(behind)]
            if key:
                found.setdefault((before, behind), set()).add(f"{folder}/{key}" if folder else key)
    return found


def stems(folder: Path, suffixes: Sequence[str], most: int | None = None) -> list[str]:
    """Paths below a folder without endings; no more than `most`."""
    found = []
    for path in files_below(folder, suffixes):
        if len(found) == most:
            break
        found.append(_stem(path))
    return found


def beside_affixes(names: Sequence[str]) -> Affixes | None:
    """What is added to the names of label maps that lie beside their images; None where there are none.

    names: stems of all image files of a folder. At least half of those that are no label maps must have one.
    """
    every = set(names)
    best, most = None, 0
    for (before, behind), keys in _patterns(names, _BESIDE).items():
        if not (before or behind):
            continue
        for (first, last), images in _patterns(names, _OF_IMAGES).items():
            pairs = len(keys & images)
            others = len(every) - len(keys)
            if pairs > most and pairs * 2 >= others:
                best, most = Affixes(first, last, before, behind), pairs
    return best
