"""Where annotated images lie: which files and folders are which part, and how they are read.

What is accepted, tried in this order; parts are known by their names in any usual spelling (`data.parts`):

    FILE.json, FILE.xml                                         COCO's form, CVAT's: the images beside it, or in images
    FOLDER/annotations/instances_train2017.json, ..._val2017.json     COCO's: the images in FOLDER/train2017 and
                                                                FOLDER/val2017, or in FOLDER/images/train2017, ...; the
                                                                same without the year
    FOLDER/train/_annotations.coco.json, FOLDER/valid/...       Roboflow's: the images beside the file
    FOLDER/annotations/*.json, FOLDER/*.json, FOLDER/train/*.json     one file in COCO's form, or one for each part
    FOLDER/data.yaml, images/train, labels/train                YOLO's (`yolo`)
    FOLDER/JPEGImages, Annotations                              Pascal VOC's, also beside the images (`xml_files`)
    FOLDER/*.xml                                                CVAT's for images (`xml_files`)
    FOLDER/*.json beside images                                 LabelMe's (`labelme`)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from convnext.core.errors import UserError, nearest
from convnext.data.detection import coco_file, labelme, xml_files, yolo
from convnext.data.detection.document import Document
from convnext.data.parts import part_of

LAYOUT = """Accepted are annotations in COCO's form with their images, as one of:

    {root}/annotations/instances_train.json, {root}/images/train/...   (and the same for val)
    {root}/train/_annotations.coco.json, {root}/train/...              (and the same for valid)
    {root}/anything.json, {root}/images/...

or YOLO's (data.yaml, images/train, labels/train), Pascal VOC's (JPEGImages, Annotations), CVAT's (.xml) or LabelMe's.
"""
_ROBOFLOW = "_annotations.coco.json"
_START = 65536  # bytes; the lists of a file have begun by then
_VAL = ("valid", "val", "validation", "test")  # in this order of preference
_INSTANCES = re.compile(r"instances_(train|val)(\d*)\.json")


@dataclass(frozen=True)
class Part:
    """Annotations, and where their images may be: in the first folder that has one of them."""

    name: str
    file: Path
    """The file or folder of the annotations."""
    folders: tuple[Path, ...]
    read: Callable[[], Document]


@dataclass(frozen=True)
class Layout:
    """The parts of a data set; at least one."""

    train: Part | None
    val: Part | None
    form: str
    """In words: "in COCO's form", "in YOLO's form"."""
    unused: tuple[str, ...] = ()
    """Parts that are neither."""


def find_layout(data: str | Path) -> Layout:
    """The parts of the data at a path. Raises UserError, saying what was found and what to do, where there are none."""
    path = Path(data)
    if not path.exists():
        beside = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"There is no {path}.{nearest(path.name, beside)} {LAYOUT.format(root=path)}")
    if not path.is_dir():
        suffix = path.suffix.lower()
        if suffix not in (".json", ".xml"):
            raise UserError(f"{path} is neither a folder nor a .json or .xml file. {LAYOUT.format(root=path.parent)}")
        return Layout(_cvat(path) if suffix == ".xml" else _single(path), None, _form_of(path))
    found = search(path)
    if found is None:
        files = sorted(entry.name for entry in path.glob("*.json"))
        several = f" It has {len(files)} .json files, {', '.join(files[:3])}; name one of them." if files else ""
        raise UserError(f"{path} holds no annotations.{several} {LAYOUT.format(root=path)}")
    return found


def _form_of(path: Path) -> str:
    return "in CVAT's form" if path.suffix.lower() == ".xml" else "in COCO's form"


def search(path: Path) -> Layout | None:
    """The layout of a folder; None: none of those that are accepted."""
    for layout in (_official(path), _roboflow(path)):
        if layout.train is not None or layout.val is not None:
            return layout
    for find in (_coco, _yolo, _voc, _cvat_files, _labelme):
        parts, form = find(path)
        if parts:
            return _of_parts(parts, form)
    return None


def _of_parts(parts: Mapping[str, Part], form: str) -> Layout:
    if not set(parts) & {"train", "val", "test"}:
        return Layout(next(iter(parts.values())), None, form)
    val = parts.get("val") or parts.get("test")
    unused = tuple(part.name for part in parts.values() if part is not val and part is not parts.get("train"))
    return Layout(parts.get("train"), val, form, unused)


def coco_files(path: Path) -> list[Path]:
    """The files in COCO's form directly in a folder, and in `annotations` in it."""
    return [
        entry for entry in [*sorted(path.glob("*.json")), *sorted(path.glob("annotations/*.json"))] if _is_coco(entry)
    ]


def _is_coco(file: Path) -> bool:
    return begins_as_coco(file) and not labelme.is_labelme(file)


def begins_as_coco(file: Path) -> bool:
    """Whether the first bytes have one of the words: a folder of classes can hold some other .json file."""
    try:
        with file.open("rb") as opened:
            start = opened.read(_START)
    except OSError:
        return False
    return any(f'"{word}"'.encode() in start for word in ("images", "annotations", "categories"))


def _official(path: Path) -> Layout:
    """COCO's own layout; of several years the latest that has a training part."""
    found = {
        (match[2], match[1]): entry
        for entry in path.glob("annotations/instances_*.json")
        if (match := _INSTANCES.fullmatch(entry.name))
    }
    years = sorted({year for year, name in found if name == "train"} or {year for year, _ in found})
    if not years:
        return Layout(None, None, "")

    def part(name: str) -> Part | None:
        file, folder = found.get((years[-1], name)), f"{name}{years[-1]}"
        if file is None:
            return None
        return Part(folder, file, _places(path, folder), partial(coco_file.read, file))

    return Layout(part("train"), part("val"), "in COCO's form")


def _places(root: Path, name: str) -> tuple[Path, ...]:
    return (root / name, root / "images" / name, root / "images", root)


def _roboflow(path: Path) -> Layout:
    def part(names: Sequence[str]) -> Part | None:
        name = next((name for name in names if (path / name / _ROBOFLOW).is_file()), None)
        if name is None:
            return None
        file = path / name / _ROBOFLOW
        return Part(name, file, (path / name,), partial(coco_file.read, file))

    return Layout(part(("train", "training")), part(_VAL), "in COCO's form")


def _coco(path: Path) -> tuple[dict[str, Part], str]:
    """One file in COCO's form, or one for each part, in the places that tools write."""
    files = coco_files(path)
    inner = [entry for entry in sorted(path.iterdir()) if entry.is_dir() and part_of(entry.name)]
    in_parts = {entry.name: [file for file in sorted(entry.glob("*.json")) if _is_coco(file)] for entry in inner}
    named: dict[str, Part] = {}
    if len(files) == 1:
        named[""] = _single(files[0])
    else:
        for file in files:
            if part := _part_in(file.stem):
                if part in named:
                    return {}, ""  # several files for one part: they are to be named
                named[part] = _single(file, name=_said(file.stem))
    if not files:
        for name, found in in_parts.items():
            if len(found) == 1:
                part = Part(name, found[0], (path / name, path / name / "images"), partial(coco_file.read, found[0]))
                named.setdefault(part_of(name), part)
    return (named, "in COCO's form") if "" in named or "train" in named else ({}, "")


def _words(stem: str) -> list[str]:
    return re.split(r"[^A-Za-z0-9]+", stem)


def _part_in(stem: str) -> str:
    """The part that a word of a file's name says."""
    return next((part for word in _words(stem) if (part := part_of(word))), "")


def _said(stem: str) -> str:
    return next(word for word in _words(stem) if part_of(word))


def _single(file: Path, *, name: str = "") -> Part:
    folder = file.parent
    root = folder.parent if folder.name.lower() == "annotations" else folder
    word = name or (_words(file.stem)[-1] if root != folder else "")
    inside = (root / word, root / "images" / word) if word else ()
    places = (*inside, folder, folder / "images", root / "images", root / "images" / "default", root)
    return Part(name or file.stem, file, tuple(dict.fromkeys(places)), partial(coco_file.read, file))


def _yolo(path: Path) -> tuple[dict[str, Part], str]:
    parts = {
        part: Part(_name(images, path, part), labels, (images,), partial(yolo.read, path, images, labels))
        for part, (images, labels) in yolo.find(path).items()
    }
    return parts, "in YOLO's form"


def _voc(path: Path) -> tuple[dict[str, Part], str]:
    parts = {
        part: Part(_name(images, path, part), labels, (images,), partial(xml_files.read_voc, images, labels, names))
        for part, (images, labels, names) in xml_files.find_voc(path).items()
    }
    return parts, "in Pascal VOC's form"


def _labelme(path: Path) -> tuple[dict[str, Part], str]:
    parts = {
        part: Part(_name(images, path, part), labels, (images,), partial(labelme.read, images, labels))
        for part, (images, labels) in labelme.find(path).items()
    }
    return parts, "in LabelMe's form"


def _cvat(file: Path) -> Part:
    root = file.parent.parent if file.parent.name.lower() == "annotations" else file.parent
    places = (file.parent, file.parent / "images", root / "images", root)
    return Part(file.stem, file, places, partial(xml_files.read_cvat, file))


def _cvat_files(path: Path) -> tuple[dict[str, Part], str]:
    files = [file for file in [*path.glob("*.xml"), *path.glob("annotations/*.xml")] if xml_files.is_cvat(file)]
    return ({"": _cvat(files[0])} if len(files) == 1 else {}), "in CVAT's form"


def _name(images: Path, root: Path, part: str) -> str:
    """What a part is called in the data: the piece of its folder that names it."""
    return next((piece for piece in images.relative_to(root).parts if part_of(piece) == part), part)
