"""Pascal VOC's annotations: an XML file for each image.

    <annotation><filename>a.jpg</filename><size><width>640</width><height>480</height></size>
    <object><name>cat</name><difficult>0</difficult><bndbox><xmin>...</bndbox></object></annotation>

in FOLDER/Annotations with the images in FOLDER/JPEGImages (or images), the parts in ImageSets/Main/train.txt and
val.txt; or beside the images; or in a folder for each part.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from xml.etree import ElementTree

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.detection.document import (
    Builder,
    Document,
    Place,
    beginning,
    image_files,
    label_of,
    number_of,
    some_files,
)
from convnext.data.detection.xml_files import parsed
from convnext.data.headers import header_size
from convnext.data.parts import PARTS, folders_in, part_of
from convnext.data.strings import read_text

_START = 4096  # bytes; the first element has begun by then
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGES, _LABELS = ("JPEGImages", "images", "Images", "imgs"), ("Annotations", "annotations", "labels", "xml", "xmls")
_LISTS = ("ImageSets/Main", "ImageSets", "")
_MOST = 64 << 20  # bytes of a list of images


def find(folder: Path) -> dict[str, Place]:
    """Part -> where it lies; {"train": ...} alone where there are no parts, {} where this is no such data."""
    found: dict[str, Place] = {}
    for images, labels in _pairs(folder):
        if _has_files(labels):
            return _listed(folder, Place(images, labels))
        for inner in folders_in(images):
            if (part := part_of(inner.name)) and _has_files(labels / inner.name):
                found.setdefault(part, Place(inner, labels / inner.name))
    for inner in folders_in(folder):
        if part := part_of(inner.name):
            place = next((Place(*pair) for pair in _pairs(inner) if _has_files(pair[1])), None)
            if place is not None:
                found.setdefault(part, place)
    return found


def _pairs(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Folders of images, and where their annotations may be."""
    for images in (*(folder / name for name in _IMAGES), folder):
        if images.is_dir():
            yield from ((images, labels) for labels in (*(folder / name for name in _LABELS), images))


def _has_files(folder: Path) -> bool:
    """Whether the first .xml file directly in a folder is such a file."""
    first = next(iter(some_files(folder, ".xml", 1, deep=False)), None)
    return first is not None and b"<annotation>" in beginning(first, _START)


def _listed(folder: Path, place: Place) -> dict[str, Place]:
    """The parts as lists of names have them; all is for training where there is none."""
    files = {path.stem: path for where in reversed(_LISTS) for path in (folder / where).glob("*.txt")}
    stems = {path.rsplit(".", 1)[0]: path for path in image_files(place)}
    parts = {part_of(name): path for name, path in sorted(files.items())}
    names = {part: listed for part in PARTS if part in parts and (listed := _names(parts[part], stems))}
    if "train" not in names and names:
        others = {name for listed in names.values() for name in listed}
        both = _names(files["trainval"], stems) if "trainval" in files else tuple(stems)
        names["train"] = tuple(name for name in both if name not in others)
    return {part: place._replace(names=listed) for part, listed in names.items()} or {"train": place}


def _names(file: Path, stems: Iterable[str]) -> tuple[str, ...]:
    """The images of a list: a name without its ending in each line, or a path, perhaps with more behind it."""
    known, found = set(stems), []
    for line in read_text(file, most=_MOST).splitlines():
        forms = (line.strip(), *line.split()[:1])
        tried = [form for given in forms for form in (given, Path(given).stem, given.rsplit(".", 1)[0])]
        if line.strip():
            found.append(next((form for form in tried if form in known), tried[-1]))
    return tuple(found) if known.intersection(found) else ()


def read(place: Place) -> Document:
    """The objects of one part. Difficult ones are taken for regions that are ignored, as in VOC's evaluation.

    Corners count from 1, as in VOC, unless one is 0. Images without a file have no objects.
    """
    builder, difficult, missing, files = Builder(), 0, 0, set[Path]()
    paths, named = image_files(place), _by_filename(place)
    boxes: list[tuple[int, str, list[float], bool, str]] = []
    for path in paths:
        file = (place.labels / path).with_suffix(".xml")
        file = file if file.is_file() else named.get(path.rsplit("/", 1)[-1], file)
        files.add(file)
        if not file.is_file():
            missing += 1
            builder.image(path, header_size(place.images / path))
            continue
        root = parsed(file)
        number = builder.image(path, _size(root) or header_size(place.images / path))
        for element in root.iter("object"):
            label = label_of({"name": element.findtext("name")}, "name")
            corners = [number_of(element.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
            known = [corner for corner in corners if corner is not None]
            if not label or len(known) < len(corners):
                kind = "objects without a name, or without the four numbers of a box"
                builder.refuse(kind, printable(file.name), image=number, points=known if len(known) == 4 else ())
                continue
            hard = (element.findtext("difficult") or "0").strip() == "1"
            difficult += hard
            boxes.append((number, label, known, hard, printable(file.name)))
    first = 0 if any(min(corners[:2]) < 1 for _, _, corners, _, _ in boxes) else 1
    for number, label, (x0, y0, x1, y1), hard, where in boxes:
        builder.box(number, label, (x0 - first, y0 - first, x1, y1), crowd=hard, where=where)
    notes = [
        f"Corners of boxes are taken to count from {first}, as " + ("one of them is 0." if not first else "VOC's.")
    ]
    if missing:
        notes.append(f"{missing:,} of {len(paths):,} images have no .xml file: images without objects.")
    if place.names is None and (lonely := len(set(place.labels.rglob("*.xml")) - files)):
        builder.leave_out(".xml files without an image", lonely)
    return builder.document(notes, where=place.labels, crowds="objects marked as difficult")


def _by_filename(place: Place) -> dict[str, Path]:
    """Name of an image -> the .xml file that says it, of those that are called otherwise than any image."""
    stems = {path.rsplit(".", 1)[0] for path in image_files(place._replace(names=None))}
    lonely = [file for file in place.labels.rglob("*.xml") if _below(file, place.labels) not in stems]
    found = {}
    for file in lonely:
        try:
            found[label_of({"name": parsed(file).findtext("filename")}, "name").rsplit("/", 1)[-1]] = file
        except UserError:
            continue  # no image's: it is counted
    return found


def _below(file: Path, folder: Path) -> str:
    return file.relative_to(folder).with_suffix("").as_posix()


def _size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Height and width as the file says them; None where they are missing, or 0 as some tools write."""
    sides = [number_of(root.findtext(f"size/{side}")) for side in ("height", "width")]
    height, width = (int(side) if side is not None and side >= 1 and side % 1 == 0 else 0 for side in sides)
    return (height, width) if height and width else None
