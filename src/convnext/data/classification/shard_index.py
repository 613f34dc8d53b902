"""What lies in tar files ("shards"): which images, of which class, at which bytes. Listed once, nothing is unpacked.

Two layouts; the first is meant where any class file is inside:

    000017.jpg + 000017.cls       WebDataset: the class is a number or a name (or "label" in 000017.json)
    any/where/cat/anything.jpg    a class folder in a tar: the class is the folder the image lies in
"""

from __future__ import annotations

import json
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from convnext.core.errors import UserError
from convnext.core.logs import Progress
from convnext.core.text import printable
from convnext.data import tar
from convnext.data.decode import IMAGE_SUFFIXES
from convnext.data.parts import part_of, parts_among
from convnext.data.tar import TAR_SUFFIXES, Member, Tar

SHARD_SUFFIXES = TAR_SUFFIXES
_MAX_CLASSES = 100_000  # a class number beyond is taken for a mistake (ImageNet-22k has 21,841)
_MAX_LABEL_BYTES = 1 << 16  # longer .json files are annotations of another kind
_LONGEST_NAME = 200  # characters of a class's name
_LABEL_KEYS = ("label", "cls", "class")  # in .json files
_TOLERATED = 0.01  # share of images without a class (or classes without an image) that is named and left out


class Sample(NamedTuple):
    """An image in a shard: where its bytes are, its name, its class."""

    shard: int
    offset: int
    size: int
    name: str
    """The member's name, or its key where classes stand in files beside the images."""
    label: str
    """A class folder's name, or what the class file says."""


class ShardIndex:
    """The labelled images of some tar files, in the order of the files and of their members; listed at the first look.

    Raises UserError, then, for a damaged tar, a class file that holds no class, and where more than 1 % of the images
    have no class.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        self.paths = tuple(paths)
        self.tars = [Tar(path) for path in paths]
        self.passed: Counter[str] = Counter()
        """What was passed over: kind, as ".txt" -> how many."""
        self._said: list[str] = []

    @cached_property
    def samples(self) -> list[Sample]:
        """The images."""
        images: list[Sample] = []
        labels: dict[tuple[int, str], str] = {}
        for shard, member in _members(self.tars):
            folder, file = posixpath.split(member.name)
            if file.startswith(".") or "__MACOSX" in folder:
                continue
            ending = posixpath.splitext(file)[1].lower()
            if ending in IMAGE_SUFFIXES:
                label = unicodedata.normalize("NFC", posixpath.basename(folder))
                images.append(Sample(shard, member.offset, member.size, member.name, label))
                continue
            label = None
            if ending in (".cls", ".json") and member.size <= _MAX_LABEL_BYTES:
                key = posixpath.splitext(member.name)[0]
                label = _label(self.tars[shard], key, ending, self.tars[shard].read(member.offset, member.size))
                if label is not None and (ending == ".cls" or (shard, key) not in labels):
                    labels[shard, key] = label
            if label is None:
                self.passed[ending or "without an ending"] += 1
        for archive in self.tars:
            self.passed += archive.passed
        if not images:
            raise UserError(
                f"There is no image in {self.listed}. Accepted are tars of 000.jpg + 000.cls (a class number or name "
                "each), or of folders named after the classes."
            )
        if labels:
            return self._joined(images, labels)
        self._check_folders(images)
        return self._with_parts_inside(images)

    @cached_property
    def numbered(self) -> bool:
        """Whether the classes are numbers, from class files."""
        samples = self.samples
        return self._of_files and _is_number(samples[0].label)

    @property
    def listed(self) -> str:
        """The first names of the tar files, for messages."""
        return ", ".join(path.name for path in self.paths[:3]) + (", ..." if len(self.paths) > 3 else "")

    def shown(self, sample: Sample) -> str:
        """A sample's place, for messages."""
        return printable(f"{self.tars[sample.shard].path.name}:{sample.name}")

    def notes(self) -> list[str]:
        """Sentences for people: what was left out and passed over."""
        kinds = ", ".join(f"{count:,} {printable(kind)}" for kind, count in self.passed.most_common(6))
        return [*self._said, *([f"Passed over in {self.listed}: {kinds}."] if kinds else [])]

    def parts(self) -> Mapping[str, str]:
        """Part -> the folder that holds it, where all images lie in folders that name parts. Else empty.

        Raises UserError where some images lie in such folders, and others outside of them.
        """
        names = [sample.name.removeprefix("./").split("/") for sample in self.samples]
        depth = 0
        while all(len(name) > depth + 1 for name in names) and len({name[depth] for name in names}) == 1:
            depth += 1  # a folder that all have in common
        if self._parts_inside:
            return {part: named[0] for part, named in parts_among(self._parts_inside).items()}
        tops = Counter(name[depth] if len(name) > depth + 1 else "" for name in names)
        found = parts_among(tops)
        if "train" not in found or len(found) < 2:
            return {}
        others = sorted(set(tops) - {name for of_part in found.values() for name in of_part})
        doubled = next((of_part for of_part in found.values() if len(of_part) > 1), None)
        if others or doubled:
            named = ", ".join(f"'{printable(name)}'" for of_part in found.values() for name in of_part)
            what = f"images outside of them (in '{printable(others[0])}')" if others else "two names for one part"
            raise UserError(f"{self.listed} holds the parts {named}, and {what}. Pack the parts alone.")
        prefix = "/".join(names[0][:depth])
        return {part: posixpath.join(prefix, of_part[0]) for part, of_part in found.items()}

    def of_part(self, folder: str) -> list[Sample]:
        """The images below a folder in the tars; all of them for ""."""
        if not folder:
            return self.samples
        if self._parts_inside:
            return [sample for sample in self.samples if posixpath.dirname(sample.name).endswith(f"/{folder}")]
        return [sample for sample in self.samples if sample.name.removeprefix("./").startswith(f"{folder}/")]

    _of_files = False
    _parts_inside: tuple[str, ...] = ()

    def _joined(self, images: Sequence[Sample], labels: dict[tuple[int, str], str]) -> list[Sample]:
        """Images joined with their class files. Of several images with one key (a.jpg, a.png) the first counts."""
        self._of_files = True
        samples: dict[tuple[int, str], Sample] = {}
        unlabelled, doubled = [], 0
        for image in images:
            key = posixpath.splitext(image.name)[0]
            label = labels.get((image.shard, key))
            if label is None and (image.shard, _first_part(key)) in labels:
                self.passed["image beside another of its sample"] += 1  # 000.mask.png beside 000.jpg
            elif label is None:
                unlabelled.append(self.shown(image))
            elif (image.shard, key) in samples:
                doubled += 1
            else:
                samples[image.shard, key] = image._replace(name=key, label=label)
        if doubled:
            self.passed["image of a name that another has"] += doubled
        names = (f"{self.tars[shard].path.name}:{printable(key)}" for shard, key in labels.keys() - samples.keys())
        self._tolerate(sorted(names), "class files have no image", of=len(images))
        self._tolerate(unlabelled, "images have no class file", of=len(images))
        self._check_kind(list(samples.values()))
        return list(samples.values())

    def _tolerate(self, names: Sequence[str], what: str, *, of: int) -> None:
        if len(names) > max(3, int(_TOLERATED * of)):
            raise UserError(
                f"{len(names)} {what} ({', '.join(names[:3])}, ...). An image and its class have one name: 000.jpg and "
                "000.cls. Pack the shards again."
            )
        if names:
            more = ", ..." if len(names) > 3 else ""
            self._said.append(f"Left out: {len(names)} {what} ({', '.join(names[:3])}{more}).")

    def _check_kind(self, samples: Sequence[Sample]) -> None:
        """Raises UserError where some classes are numbers and others names, or a number is beyond reason."""
        words = next((sample for sample in samples if not _is_number(sample.label)), None)
        number = next((sample for sample in samples if _is_number(sample.label)), None)
        if words is not None and number is not None:
            raise UserError(
                f"{self.shown(words)} is of class {words.label[:40]!r} and {self.shown(number)} of class "
                f"{number.label}. Class files hold numbers alone (0, 1, 2, ...) or names alone."
            )
        large = next((sample for sample in samples if words is None and int(sample.label) >= _MAX_CLASSES), None)
        if large is not None:
            raise UserError(
                f"{self.shown(large)} has the class number {large.label}; numbers below {_MAX_CLASSES} are accepted."
            )

    def _with_parts_inside(self, images: list[Sample]) -> list[Sample]:
        """The images with the class above where all lie in folders of parts, as cat/train/1.png."""
        inner = {sample.label for sample in images}
        parts = parts_among(inner)
        if "train" not in parts or len(parts) < 2 or not all(part_of(name) for name in inner):
            return images
        above = [posixpath.basename(posixpath.dirname(posixpath.dirname(sample.name))) for sample in images]
        if len(set(above)) < 2:  # train/1.png, val/2.png: no class at all, or "train" is one
            return images
        doubled = next((names for names in parts.values() if len(names) > 1), None)
        if doubled:
            named = " and ".join(f"'{printable(name)}'" for name in doubled)
            raise UserError(f"{named}, in the class folders of {self.listed}, name the same part. Give them one name.")
        self._parts_inside = tuple(sorted(inner))
        return [
            sample._replace(label=unicodedata.normalize("NFC", name))
            for sample, name in zip(images, above, strict=True)
        ]

    def _check_folders(self, images: Sequence[Sample]) -> None:
        for sample in images:
            if sample.label in ("", ".", ".."):
                raise UserError(
                    f"{self.shown(sample)} has no class: it lies in no folder, and no .cls file is in the tar. Pack "
                    "folders named after the classes, or add a .cls with its class."
                )


def _members(archives: Sequence[Tar]) -> Iterator[tuple[int, Member]]:
    """(shard, member) of all files in all tars, while showing progress."""
    done = unpacked = count = 0
    sizes = [archive.size_on_disk for archive in archives]
    with Progress("Listing shards", max(sum(sizes) >> 20, 1), unit="MiB") as progress:
        for shard, archive in enumerate(archives):
            for member in archive.members():
                count += 1
                if count % 1000 == 0:
                    progress.update((done + sizes[shard] * member.offset // archive.length) >> 20)
                yield shard, member
            done += sizes[shard]
            archive.close()  # a dataset can have more shards than a process may have open files
            unpacked += archive.length if archive.compressed else 0
            if unpacked > tar.MAX_UNPACKED:
                raise UserError(
                    f"The .tar.gz files together are more than {tar.MAX_UNPACKED >> 30} GiB when decompressed, too "
                    f"much to hold in memory. Decompress them once: gunzip -k {archive.path.parent}/*.gz."
                )


def _label(archive: Tar, key: str, ending: str, data: bytes) -> str | None:
    """The class in a .cls or .json file: a number without leading zeros, or a name; None for a .json without a class.

    Raises UserError for a class file that holds something else.
    """
    where = f"{archive.path.name}:{printable(key)}{ending}"
    if ending == ".json":
        try:
            values = json.loads(data)
        except (ValueError, RecursionError):
            return None
        value = (
            next((values[name] for name in _LABEL_KEYS if name in values), None) if isinstance(values, dict) else None
        )
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | str):
            return None
        text = str(value)
    else:
        text = data.decode("utf-8-sig", errors="replace")
    text = unicodedata.normalize("NFC", text.strip())
    if not text or not text.isprintable() or len(text) > _LONGEST_NAME or text.startswith(("-", "{", "[")):
        raise UserError(f"{where} holds {text[:40]!r}; it should hold a class number (0, 1, 2, ...) or a class name.")
    return str(int(text)) if _is_number(text) else text


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _first_part(key: str) -> str:
    folder, file = posixpath.split(key)
    return posixpath.join(folder, file.split(".", 1)[0])


def find_shards(folder: Path) -> list[Path]:
    """The tar files directly in a folder, sorted by name; hidden ones are passed over."""
    return sorted(
        path
        for path in folder.iterdir()
        if path.name.lower().endswith(SHARD_SUFFIXES) and not path.name.startswith(".") and path.is_file()
    )
