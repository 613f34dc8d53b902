"""Annotations in XML: Pascal VOC's file for each image, CVAT's one file for many.

Entities and document types are refused: neither tool writes them, and they can make a small file huge.

    VOC     <annotation><filename>a.jpg</filename><size>...</size>
            <object><name>cat</name><difficult>0</difficult><bndbox><xmin>...</bndbox></object></annotation>
            in FOLDER/Annotations with the images in FOLDER/JPEGImages (or images), the parts in
            ImageSets/Main/train.txt and val.txt; or beside the images
    CVAT    <annotations><image name="a.jpg" width="640" height="480"><box label="cat" xtl= ytl= xbr= ybr=/>
            <polygon label="cat" points="1,2;3,4;..."/></image></annotations>
"""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.detection.document import Builder, Document, image_files, label_of, number_of
from convnext.data.headers import header_size
from convnext.data.parts import part_of

_START = 4096  # bytes; the first element has begun by then
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_IMAGES, _LABELS = ("JPEGImages", "images", "Images", "imgs"), ("Annotations", "annotations", "labels", "xml")


def parsed(path: Path) -> ElementTree.Element:
    """The root element. Raises UserError for a file that is no XML, or declares entities or a document type."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data or b"\0" in data[:_START]:
        raise UserError(f"{path} declares a document type or entities, or is no UTF-8: that is not read.")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ValueError) as error:
        raise UserError(f"{path} is not XML: {error}.") from None


def is_cvat(path: Path) -> bool:
    """Whether a file is CVAT's, by its beginning."""
    start = _beginning(path)
    return b"<annotations" in start and b"<annotation>" not in start


def _beginning(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_START)
    except OSError:
        return b""


def find_voc(folder: Path) -> dict[str, tuple[Path, Path, tuple[str, ...] | None]]:
    """Part -> its folders of images and of annotations, and the names that belong to it (None: all); {} where this is
    no such data."""
    places = [(folder / images, folder / labels) for images in _IMAGES for labels in _LABELS]
    found: dict[str, tuple[Path, Path, tuple[str, ...] | None]] = {}
    for images, labels in [*places, (folder, folder)]:
        if images.is_dir() and _has_voc(labels):
            lists = {part_of(path.stem): path for path in (folder / "ImageSets" / "Main").glob("*.txt")}
            for part in ("train", "val", "test"):
                if part in lists:
                    names = tuple(line.split()[0] for line in lists[part].read_text().splitlines() if line.strip())
                    found[part] = (images, labels, names)
            return found if "train" in found else {"train": (images, labels, None)}
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if part := part_of(inner.name):
            for images, labels in [*((inner / i, inner / a) for i in _IMAGES for a in _LABELS), (inner, inner)]:
                if images.is_dir() and _has_voc(labels):
                    found.setdefault(part, (images, labels, None))
    return found


def _has_voc(folder: Path) -> bool:
    first = next(iter(sorted(folder.glob("*.xml"))), None) if folder.is_dir() else None
    return first is not None and b"<annotation" in _beginning(first) and not is_cvat(first)


def read_voc(images: Path, labels: Path, names: tuple[str, ...] | None) -> Document:
    """The objects of one part. Difficult ones are taken for regions that are ignored, as in VOC's evaluation.

    Corners count from 1, as in VOC, unless one is 0. Images without a file have no objects.
    """
    builder, difficult, missing = Builder(), 0, 0
    there = image_files(images)
    chosen = there if names is None else {name: there.get(name, Path(f"{name}.jpg")) for name in names}
    boxes: list[tuple[int, str, list[float], bool]] = []
    for stem, path in chosen.items():
        number = builder.image(path.as_posix(), header_size(images / path))
        file = labels / f"{stem}.xml"
        if not file.is_file():
            missing += 1
            continue
        for element in parsed(file).iter("object"):
            label = label_of({"name": element.findtext("name")}, "name")
            corners = [number_of(element.findtext(f"bndbox/{corner}")) for corner in _CORNERS]
            if not label or None in corners:
                raise UserError(f"{file} has an object without a name, or without the four numbers of its box.")
            hard = (element.findtext("difficult") or "0").strip() == "1"
            difficult += hard
            boxes.append((number, label, [corner for corner in corners if corner is not None], hard))
    first = 0 if any(min(corners[:2]) < 1 for _, _, corners, _ in boxes) else 1
    for number, label, (x0, y0, x1, y1), hard in boxes:
        builder.box(number, label, (x0 - first, y0 - first, x1, y1), crowd=hard)
    notes = [f"Boxes are read as Pascal VOC's; their corners count from {first}."]
    if difficult:
        notes.append(f"{difficult:,} objects are marked as difficult: they are ignored, as in VOC's evaluation.")
    if missing:
        notes.append(f"{missing:,} images have no .xml file: images without objects.")
    if names is None and (lonely := {path.stem for path in labels.glob("*.xml")} - {Path(s).name for s in there}):
        builder.left_out[".xml files without an image"] += len(lonely)
    return builder.document(notes, where=labels)


def read_cvat(path: Path) -> Document:
    """The objects of CVAT's file. Shapes other than boxes and polygons are counted."""
    builder = Builder()
    for image in parsed(path).iter("image"):
        height, width = (number_of(image.get(key)) for key in ("height", "width"))
        size = (int(height), int(width)) if height and width else None
        number = builder.image(image.get("name") or "", size)
        for shape in image:
            _add_shape(builder, number, shape, f"{path}, {printable(image.get('name') or '?')},")
    return builder.document(["Boxes and polygons are read as CVAT's."], where=path)


def _add_shape(builder: Builder, image: int, shape: ElementTree.Element, where: str) -> None:
    label = label_of(shape.attrib, "label")
    if shape.tag == "box" and label:
        corners = [number_of(shape.get(key)) for key in ("xtl", "ytl", "xbr", "ybr")]
        if None in corners:
            raise UserError(f"{where} has a box without its four numbers.")
        x0, y0, x1, y1 = (corner or 0.0 for corner in corners)
        builder.box(image, label, (x0, y0, x1, y1))
    elif shape.tag == "polygon" and label:
        pairs = (shape.get("points") or "").split(";")
        points = [number_of(word) for pair in pairs for word in pair.split(",")]
        if None in points or len(points) < 6 or len(points) % 2:
            raise UserError(f"{where} has a polygon of {len(points)} numbers, or of something else.")
        builder.polygon(image, label, [point or 0.0 for point in points])
    else:
        builder.left_out["tags of whole images" if shape.tag == "tag" else f"{shape.tag} shapes"] += 1
