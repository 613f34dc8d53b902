"""Where annotated images lie: which files and folders are which part, and how they are read.

What is accepted, tried in this order; parts are known by their names in any usual spelling (`data.parts`):

    FILE.json, FILE.xml                                         COCO's form, CVAT's: the images beside it, or in images
    FOLDER/annotations/instances_train2017.json, ..._val2017.json     COCO's: the images in FOLDER/train2017 and
                                                                FOLDER/val2017, or in FOLDER/images/train2017, ...; the
                                                                same without the year
    FOLDER/train/_annotations.coco.json, FOLDER/valid/...       Roboflow's: the images beside the file
    FOLDER/annotations/*.json, FOLDER/*.json, FOLDER/train/*.json     one file in COCO's form, or one for each part
    FOLDER/data.yaml, images/train, labels/train                YOLO's (`yolo_layout`)
    FOLDER/JPEGImages, Annotations                              Pascal VOC's, also beside the images (`voc`)
    FOLDER/*.xml                                                CVAT's for images (`cvat`)
    FOLDER/*.json beside images                                 LabelMe's (`labelme`)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from convnext.core.errors import UserError, nearest
from convnext.data.detection import coco_file, cvat, labelme, voc, yolo, yolo_layout
from convnext.data.detection.document import Document, Place, beginning, some_files
from convnext.data.parts import folders_in, part_of

LAYOUT = """Accepted are annotations in COCO's form with their images, as one of:

    {root}/annotations/instances_train.json, {root}/images/train/...   (and the same for val)
    {root}/train/_annotations.coco.json, {root}/train/...              (and the same for valid)
    {root}/anything.json, {root}/images/...

or YOLO's (data.yaml, images/train, labels/train), Pascal VOC's (JPEGImages, Annotations), CVAT's (.xml) or LabelMe's.
"""
COCO = "in COCO's form"
"""What a layout's form is called."""
_ROBOFLOW = "_annotations.coco.json"
_ANNOTATIONS = ("annotations", "annotation")
_MOST_FILES = 100  # in a folder: more are no files for many images each
_START = 65536  # bytes; the lists of a file have begun by then
_VAL = ("valid", "val", "validation", "test")  # in this order of preference
_INSTANCES = re.compile(r"instances_(train|val|test)(\d*)\.json")


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
    test: Part | None = None
    """The test part, where `val` is another; it is among the `unused`, for training takes none of it."""

    @property
    def parts(self) -> dict[str, Part]:
        """Those that are there: "train", "val" and "test"."""
        val = "test" if self.val is not None and part_of(self.val.name) == "test" else "val"
        found = {"train": self.train, val: self.val} | ({"test": self.test} if self.test is not None else {})
        return {name: part for name, part in found.items() if part is not None}


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
        return _of_parts(_cvat(path), "in CVAT's form") if suffix == ".xml" else Layout(_single(path), None, COCO)
    found = search(path)
    if found is None:
        files = sorted(entry.name for entry in path.glob("*.json"))
        several = f" It has {len(files)} .json files, {', '.join(files[:3])}; name one of them." if files else ""
        raise UserError(f"{path} holds no annotations.{several} {LAYOUT.format(root=path)}")
    return found


def search(path: Path) -> Layout | None:
    """The layout of a folder; None: none of those that are accepted."""
    for layout in (_official(path), _roboflow(path)):
        if layout.train is not None or layout.val is not None:
            return layout
    if (coco := _coco(path)) is not None:
        return coco
    for find in (_yolo, _voc, _cvat_files, _labelme):
        parts, form = find(path)
        if parts:
            return _of_parts(parts, form)
    return None


def _of_parts(parts: Mapping[str, Part], form: str, unused: Sequence[str] = ()) -> Layout:
    if not set(parts) & {"train", "val", "test"}:
        return Layout(next(iter(parts.values())), None, form)
    val = parts.get("val") or parts.get("test")
    others = [part.name for part in parts.values() if part is not val and part is not parts.get("train")]
    test = parts.get("test")
    return Layout(parts.get("train"), val, form, (*others, *unused), test if test is not val else None)


def coco_files(path: Path) -> list[Path]:
    """The files in COCO's form directly in a folder, and in `annotations` in it."""
    inner = [entry for entry in folders_in(path) if entry.name.lower() in _ANNOTATIONS]
    some = [some_files(folder, ".json", _MOST_FILES + 1, deep=False) for folder in (path, *inner)]
    return [file for files in some if len(files) <= _MOST_FILES for file in files if _is_coco(file)]


def _is_coco(file: Path) -> bool:
    return begins_as_coco(file) and not labelme.is_labelme(file)


def begins_as_coco(file: Path) -> bool:
    """Whether the first bytes have one of the words: a folder of classes can hold some other .json file."""
    start = beginning(file, _START)
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
        return Layout(None, None, COCO)

    def part(name: str) -> Part | None:
        file, folder = found.get((years[-1], name)), f"{name}{years[-1]}"
        if file is None:
            return None
        return Part(folder, file, _places(path, folder), partial(coco_file.read, file))

    unused = tuple(sorted(entry.name for (year, name), entry in found.items() if year != years[-1] or name == "test"))
    return Layout(part("train"), part("val"), COCO, unused, part("test"))


def _places(root: Path, name: str) -> tuple[Path, ...]:
    return (root / name, root / "images" / name, root / "images", root)


def _roboflow(path: Path) -> Layout:
    def part(names: Sequence[str]) -> Part | None:
        name = next((name for name in names if (path / name / _ROBOFLOW).is_file()), None)
        if name is None:
            return None
        file = path / name / _ROBOFLOW
        return Part(name, file, (path / name,), partial(coco_file.read, file))

    val = part(_VAL)
    others = [name for name in _VAL if (path / name / _ROBOFLOW).is_file() and (val is None or name != val.name)]
    return Layout(part(("train", "training")), val, COCO, tuple(others), part(("test",)) if "test" in others else None)


def _coco(path: Path) -> Layout | None:
    """One file in COCO's form, or one for each part, in the places that tools write."""
    files = coco_files(path)
    named: dict[str, Part] = {}
    if len(files) == 1:
        return Layout(_single(files[0]), None, COCO)
    for file in files:
        if part := _part_in(file.stem):
            if part in named:
                return None  # several files for one part: they are to be named
            named[part] = _single(file, name=_said(file.stem))
    if not files:
        for entry in folders_in(path):
            if (part := part_of(entry.name)) and len(found := coco_files(entry)) == 1:
                places = (entry, entry / "images", found[0].parent)
                named.setdefault(part, Part(entry.name, found[0], places, partial(coco_file.read, found[0])))
    if "train" not in named:
        return None
    used = {part.file for part in named.values()}
    return _of_parts(named, COCO, unused=[file.name for file in files if file not in used])


def _words(stem: str) -> list[str]:
    return re.split(r"[^A-Za-z0-9]+", stem)


def _part_in(stem: str) -> str:
    """The part that a word of a file's name says."""
    return next((part for word in _words(stem) if (part := part_of(word))), "")


def _said(stem: str) -> str:
    return next(word for word in _words(stem) if part_of(word))


def _single(file: Path, *, name: str = "") -> Part:
    folder = file.parent
    root = folder.parent if folder.name.lower() in _ANNOTATIONS else folder
    word = name or (_words(file.stem)[-1] if root != folder else "")
    inside = (root / word, root / "images" / word) if word else ()
    places = (*inside, folder, folder / "images", root / "images", root / "images" / "default", root)
    return Part(name or file.stem, file, tuple(dict.fromkeys(places)), partial(coco_file.read, file))


def _yolo(path: Path) -> tuple[dict[str, Part], str]:
    return _parts(path, yolo_layout.find(path), partial(yolo.read, path)), "in YOLO's form"


def _voc(path: Path) -> tuple[dict[str, Part], str]:
    return _parts(path, voc.find(path), voc.read), "in Pascal VOC's form"


def _labelme(path: Path) -> tuple[dict[str, Part], str]:
    return _parts(path, labelme.find(path), labelme.read), "in LabelMe's form"


def _parts(path: Path, found: Mapping[str, Place], read: Callable[[Place], Document]) -> dict[str, Part]:
    return {
        part: Part(_name(place, path, part), place.labels, (place.images,), partial(read, place))
        for part, place in found.items()
    }


def _cvat(file: Path) -> dict[str, Part]:
    """Its parts, where it says that its images belong to some; else the whole."""
    root = file.parent.parent if file.parent.name.lower() == "annotations" else file.parent
    names = cvat.subsets(file)
    parts = [part_of(name) for name in names]
    if "train" not in parts or len(set(parts)) < len(parts):
        names, parts = [""], [""]
    return {
        part: Part(
            name or file.stem,
            file,
            (root / "images" / name, file.parent, file.parent / "images", root / "images", root),
            partial(cvat.read, file, name),
        )
        for part, name in zip(parts, names, strict=True)
    }


def _cvat_files(path: Path) -> tuple[dict[str, Part], str]:
    files = [file for file in [*path.glob("*.xml"), *path.glob("annotations/*.xml")] if cvat.is_cvat(file)]
    return (_cvat(files[0]) if len(files) == 1 else {}), "in CVAT's form"


def _name(place: Place, root: Path, part: str) -> str:
    """What a part is called in the data: the piece of its folder that names it."""
    pieces = () if place.names is not None else place.images.relative_to(root).parts
    return next((piece for piece in pieces if part_of(piece) == part), part)
