"""YOLO's labels: a text file for each image, a line for each object, in shares of the image's size.

    2 0.50 0.50 0.20 0.30                class, centre x, centre y, width, height
    2 0.10 0.10 0.40 0.10 0.40 0.50      class, then the corners of an outline

    FOLDER/data.yaml                     names: [cat, dog] or {0: cat, 1: dog}, or "nc"; train:, val:, test: may name
                                         the folders of images
    FOLDER/images/train + labels/train   or FOLDER/train/images + FOLDER/train/labels, or images + labels alone

A missing or empty label file is an image without objects.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.detection.document import Builder, Document, image_files, number_of
from convnext.data.headers import header_size
from convnext.data.parts import PARTS, part_of
from convnext.data.problems import short
from convnext.data.strings import read_text

_SETTINGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_NAMES = ("classes.txt", "obj.names", "classes.names")
_LOOKED = 20  # label files that are looked at to know the form
_OUT = 0.02  # share of an image's side by which rounding may leave it


def settings_file(folder: Path) -> Path | None:
    """The data.yaml of a folder, or its only .yaml file that names classes."""
    named = next((folder / name for name in _SETTINGS if (folder / name).is_file()), None)
    others = [path for path in sorted(folder.glob("*.y*ml")) if path.is_file()]
    return named or (others[0] if len(others) == 1 and "names" in _settings(others[0]) else None)


def find(folder: Path) -> dict[str, tuple[Path, Path]]:
    """Part -> its folders of images and of labels; {"train": ...} alone where there are no parts, {} where this is no
    such data."""
    found: dict[str, tuple[Path, Path]] = {}
    images, labels, settings = folder / "images", folder / "labels", settings_file(folder)
    for inner in sorted(path for path in folder.iterdir() if path.is_dir()):
        if (part := part_of(inner.name)) and (pair := _pair(inner / "images")):
            found.setdefault(part, pair)
    for inner in sorted(path for path in images.iterdir() if path.is_dir()) if images.is_dir() else []:
        if (part := part_of(inner.name)) and _has_labels(labels / inner.name):
            found.setdefault(part, (inner, labels / inner.name))
    if "train" not in found:
        said = _settings(settings) if settings else {}
        named = {part: pair for part in PARTS for path in _said_folders(folder, said, part) if (pair := _pair(path))}
        found = named or found
    if not found and images.is_dir() and _has_labels(labels):
        found["train"] = (images, labels)
    if not found and settings is not None and _has_labels(folder):
        found["train"] = (folder, folder)
    return found


def _said_folders(folder: Path, said: Mapping[str, Any], part: str) -> list[Path]:
    """The folders of images that data.yaml names for a part, inside of the data's folder."""
    value = next((said[key] for key in said if part_of(str(key)) == part), None)
    listed = value if isinstance(value, list) else [value] if value else []
    base = str(said.get("path") or "")
    root, found = folder.resolve(), []
    for entry in listed:
        # people copy data: a path that leads elsewhere is tried by its last parts
        parts = [piece for piece in str(entry).replace("\\", "/").split("/") if piece not in ("", ".", "..")]
        for start in range(len(parts)):
            for place in (folder / base, folder):
                path = place.joinpath(*parts[start:])
                if path.is_dir() and path.resolve().is_relative_to(root):
                    found.append(path)
    return found[:1]


def _pair(images: Path) -> tuple[Path, Path] | None:
    """A folder of images and that of its labels: the same path with "labels" for the last "images", or itself."""
    if not images.is_dir():
        return None
    parts = list(images.parts)
    if "images" in parts:
        place = len(parts) - 1 - parts[::-1].index("images")
        labels = Path(*parts[:place], "labels", *parts[place + 1 :])
        if _has_labels(labels):
            return images, labels
    return (images, images) if _has_labels(images) else None


def _has_labels(folder: Path) -> bool:
    """Whether text files of a folder hold lines of labels, as far as they hold any."""
    if not folder.is_dir():
        return False
    files = [path for path in sorted(folder.rglob("*.txt")) if path.name not in _NAMES][:_LOOKED]
    lines = [line.split() for path in files for line in _lines(path)[:3]]
    fitting = [words for words in lines if len(words) >= 5 and all(number_of(word) is not None for word in words)]
    return bool(fitting) and len(fitting) * 2 > len(lines)


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in read_text(path).splitlines() if line.strip()]
    except UserError:
        return []


def read(root: Path, images: Path, labels: Path) -> Document:
    """The objects of one part. Raises UserError for lines that hold no labels, and classes without a name."""
    names, notes = class_names(root, labels)
    builder, beyond, missing = Builder(names), 0, 0
    for stem, path in image_files(images).items():
        size = header_size(images / path)
        number = builder.image(path.as_posix(), size)
        file = labels / f"{stem}.txt"
        if not file.is_file():
            missing += 1
            continue
        for place, line in enumerate(read_text(file).splitlines(), 1):
            if line.strip() and size is not None:
                beyond += _add(builder, number, line.split(), size, names, f"{file}, line {place}")
    if missing:
        notes.append(f"{missing:,} images have no label file: images without objects.")
    if beyond:
        notes.append(f"{beyond:,} objects reach beyond their image; they are cut off at its border.")
    known = {entry.stem for entry in labels.rglob("*.txt") if entry.name not in _NAMES}
    lonely = len(known - {Path(stem).name for stem in image_files(images)})
    if lonely:
        builder.left_out["label files without an image"] += lonely
    return builder.document(notes, where=labels)


def _add(builder: Builder, image: int, words: list[str], size: tuple[int, int], names: list[str], where: str) -> bool:
    """Adds the object of a line; returns whether it reaches beyond the image."""
    numbers = [number_of(word) for word in words]
    shares = [value for value in numbers[1:] if value is not None]
    if len(words) < 5 or None in numbers or len(shares) % 2 or numbers[0] is None or numbers[0] % 1:
        raise UserError(
            f"{where} holds {short(' '.join(words))}. A line holds a class number and x, y, width and height, or the "
            "corners of an outline, all in shares of the image's size."
        )
    label = int(numbers[0])
    if not 0 <= label < len(names):
        raise UserError(f"{where} has the class {label}; data.yaml names {len(names)} classes, 0 to {len(names) - 1}.")
    if max(map(abs, shares)) > 2:
        raise UserError(f"{where} has {short(' '.join(words))}: numbers in 0..1 are meant, shares of the image's size.")
    height, width = size
    if len(shares) == 4:
        x, y, w, h = shares
        x0, y0, x1, y1 = x - w / 2, y - h / 2, x + w / 2, y + h / 2
        builder.box(image, names[label], (x0 * width, y0 * height, x1 * width, y1 * height))
        return min(x0, y0) < -_OUT or max(x1, y1) > 1 + _OUT
    points = [min(max(share, 0.0), 1.0) * (width, height)[place % 2] for place, share in enumerate(shares)]
    builder.polygon(image, names[label], points)
    return min(shares) < -_OUT or max(shares) > 1 + _OUT


def class_names(root: Path, labels: Path) -> tuple[list[str], list[str]]:
    """The classes' names, and a sentence where nothing names them.

    From data.yaml, or classes.txt in the data's folder or beside the labels; else the class numbers are the names.
    """
    settings = settings_file(root)
    names = _settings(settings).get("names") if settings else None
    if isinstance(names, dict):
        keys = {number_of(key): value for key, value in names.items()}
        if set(keys) == {float(i) for i in range(len(keys))}:
            return _unique([printable(str(keys[float(i)])) for i in range(len(keys))]), []
        raise UserError(
            f"{settings} names the classes {short(sorted(map(str, names)))}; they are numbered 0, 1, 2, ..."
        )
    if isinstance(names, list) and names:
        return _unique([printable(str(name)) for name in names]), []
    for folder in (root, labels, labels.parent):
        for file in (folder / name for name in _NAMES):
            if file.is_file() and (lines := _lines(file)):
                return _unique([printable(line.strip()) for line in lines]), []
    numbers = [
        number_of(line.split()[0]) for path in labels.rglob("*.txt") if path.name not in _NAMES for line in _lines(path)
    ]
    most = int(max((number for number in numbers if number is not None), default=-1)) + 1
    if not 0 < most <= 100_000:
        raise UserError(f"Nothing in {root} names the classes. Add a data.yaml: names: [cat, dog].")
    return [str(i) for i in range(most)], [f"Nothing names the classes: they are called 0 to {most - 1}."]


def _unique(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names)]


def _settings(path: Path) -> dict[str, Any]:
    """The content of data.yaml. Raises UserError where it is no YAML."""
    import yaml

    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise UserError(f"{path} is not YAML: {printable(' '.join(str(error).split()))[:200]}.") from None
    return content if isinstance(content, dict) else {}
