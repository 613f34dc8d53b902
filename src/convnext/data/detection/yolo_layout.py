"""Where YOLO's images and labels lie, and what the classes are called.

FOLDER/data.yaml                     names: [cat, dog] or {0: cat, 1: dog}; train:, val:, test: may name folders of
                                     images, or text files that list them
FOLDER/images/train + labels/train   or FOLDER/train/images + FOLDER/train/labels, or images + labels alone, or the
                                     labels beside the images
FOLDER/obj.data, obj.names, obj_train_data     Darknet's
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.decode import IMAGE_SUFFIXES
from convnext.data.detection.document import Place, number_of, some_files
from convnext.data.parts import PARTS, folders_in, part_of
from convnext.data.problems import short
from convnext.data.strings import read_text

_SETTINGS = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_DARKNET = "obj.data"
NAMES = ("classes.txt", "obj.names", "classes.names", "_darknet.labels")
"""Text files that name the classes, one a line."""
_LOOKED = 20  # label files that are looked at to know the form
_MOST = 64 << 20  # bytes of a list of images


def find(folder: Path) -> dict[str, Place]:
    """Part -> where it lies; {"train": ...} alone where there are no parts, {} where this is no such data."""
    found: dict[str, Place] = {}
    for inner in _folders(folder):
        if part := part_of(inner.name.removeprefix("obj_")):
            place = _pair(folder, inner / "images") or _pair(folder, inner)
            if place is not None:
                found.setdefault(part, place)
    images, labels = _child(folder, "images"), _child(folder, "labels")
    for inner in _folders(images):
        if (part := part_of(inner.name)) and (other := _child(labels, inner.name)) and holds_labels(other):
            found.setdefault(part, Place(inner, other))
    if "train" not in found:
        said = _said(folder)
        named = {part: place for part in PARTS if (place := _said_place(folder, said, part)) is not None}
        found = named if "train" in named else named | found
    if not found and images is not None and labels is not None and holds_labels(labels):
        found["train"] = Place(images, labels)
    if not found and _beside_images(folder):
        found["train"] = Place(folder, folder)
    return found


def _beside_images(folder: Path) -> bool:
    """Whether labels lie directly in a folder, each beside its image."""
    if not holds_labels(folder, deep=False):
        return False
    names = {path.name for path in folder.iterdir()}
    stems = {name.rsplit(".", 1)[0] for name in names if name.lower().endswith(IMAGE_SUFFIXES)}
    texts = {name[:-4] for name in names if name.endswith(".txt") and name not in NAMES}
    return 2 * len(stems & texts) > len(texts)


def _folders(folder: Path | None) -> list[Path]:
    return folders_in(folder) if folder is not None else []


def _child(folder: Path | None, name: str) -> Path | None:
    """A folder of that name in another one, in any letter case."""
    if folder is None or (folder / name).is_dir():
        return None if folder is None else folder / name
    return next((path for path in _folders(folder) if path.name.casefold() == name.casefold()), None)


def _pair(root: Path, images: Path) -> Place | None:
    """A folder of images and that of its labels: the same path with "labels" for the last "images", or itself."""
    if not images.is_dir():
        return None
    labels = in_labels(root, images)
    if labels is not None and holds_labels(labels):
        return Place(images, labels)
    return Place(images, images) if holds_labels(images) else None


def in_labels(root: Path, path: Path) -> Path | None:
    """A path below a folder with "labels" in place of its last "images"; None where it has none."""
    pieces = path.relative_to(root).parts
    lower = [piece.casefold() for piece in pieces]
    if "images" not in lower:
        return None
    place = len(lower) - 1 - lower[::-1].index("images")
    labels = _child(root.joinpath(*pieces[:place]), "labels")
    return labels.joinpath(*pieces[place + 1 :]) if labels is not None else None


def holds_labels(folder: Path, *, deep: bool = True) -> bool:
    """Whether text files of a folder hold lines of labels, as far as they hold any: a class number and shares."""
    files = some_files(folder, ".txt", _LOOKED + len(NAMES), deep=deep)
    lines = [line.split() for path in files if path.name not in NAMES for line in _lines(path)[:3]]
    return bool(lines) and sum(map(_is_label, lines)) * 2 > len(lines)


def _is_label(words: list[str]) -> bool:
    numbers = [number for word in words if (number := number_of(word)) is not None]
    return len(words) >= 5 and len(numbers) == len(words) and numbers[0] % 1 == 0


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in read_text(path).splitlines() if line.strip()]
    except UserError:
        return []


def settings_file(folder: Path) -> Path | None:
    """The data.yaml of a folder, or its only .yaml file that names classes."""
    named = next((folder / name for name in _SETTINGS if (folder / name).is_file()), None)
    others = [path for path in sorted(folder.glob("*.y*ml")) if path.is_file()]
    return named or (others[0] if len(others) == 1 and "names" in _tolerant(others[0]) else None)


def _said(folder: Path) -> dict[str, Any]:
    """What data.yaml says, or Darknet's obj.data ("train = data/train.txt")."""
    settings = settings_file(folder)
    if settings is not None:
        return _tolerant(settings)
    lines = _lines(folder / _DARKNET) if (folder / _DARKNET).is_file() else []
    pairs = [line.split("=", 1) for line in lines if "=" in line]
    return {key.strip(): value.strip() for key, value in pairs}


def _said_place(folder: Path, said: Mapping[str, Any], part: str) -> Place | None:
    """Where data.yaml says that a part lies, inside of the data's folder: a folder of images, or a list of them."""
    value = next((said[key] for key in said if part_of(str(key)) == part), None)
    listed = value if isinstance(value, list) else [value]
    entries = [entry for entry in listed if isinstance(entry, str) and entry.strip()]
    if len(entries) != 1:
        return None  # several folders for one part are not read
    base = said.get("path")
    for path in _inside(folder, entries[0], base if isinstance(base, str) else ""):
        if path.is_dir() and (place := _pair(folder, path)):
            return place
        if path.suffix.lower() == ".txt" and path.is_file() and (names := _listed(folder, path)):
            return Place(folder, folder, names)
    return None


def _pieces(path: str) -> list[str]:
    return [piece for piece in path.replace("\\", "/").split("/") if piece not in ("", ".", "..")]


def _inside(folder: Path, entry: str, base: str = "") -> list[Path]:
    """What a path may mean inside of a folder: people copy data, so one that leads elsewhere is tried by its last
    parts."""
    parts, root = _pieces(entry), folder.resolve()
    places = [folder.joinpath(*_pieces(base)), folder]
    tried = (place.joinpath(*parts[start:]) for start in range(len(parts)) for place in places)
    return [path for path in tried if path.resolve().is_relative_to(root)]


def _listed(folder: Path, file: Path) -> tuple[str, ...]:
    """The images that a text file lists, as paths below the folder; () where none of the first is there."""
    lines = [_pieces(line.strip()) for line in read_text(file, most=_MOST).splitlines() if line.strip()]
    for pieces in lines[:_LOOKED]:
        for start in range(len(pieces)):  # as many first parts lead elsewhere in the others
            if folder.joinpath(*pieces[start:]).is_file():
                return tuple("/".join(each[start:]) for each in lines if each[start:])
    return ()


def class_names(root: Path, labels: Path, used: set[int]) -> tuple[dict[int, str], str, str]:
    """The class of each number, the file that says it, and a sentence where that is to be said.

    From data.yaml, or a text file of names in the data's folder or beside the labels; else the numbers that are used
    are the names.
    """
    settings = settings_file(root)
    said = _settings(settings) if settings else {}
    names = said.get("names")
    if settings and (isinstance(names, dict) or (isinstance(names, list) and names)):
        pairs = list(names.items()) if isinstance(names, dict) else [(str(i), name) for i, name in enumerate(names)]
        numbers = [number_of(key) for key, _ in pairs]
        whole = [int(number) for number in numbers if number is not None and number >= 0 and number % 1 == 0]
        if len(whole) != len(pairs) or not all(isinstance(name, str) for _, name in pairs):
            raise UserError(
                f"{settings} names the classes {short(names)}. Write names: [cat, dog] or {{0: cat, 1: dog}}."
            )
        count = number_of(said.get("nc"))
        note = "" if count in (None, len(pairs)) else f"{settings} has nc: {said['nc']}, but {len(pairs):,} names."
        return dict(zip(whole, _unique([name for _, name in pairs]), strict=True)), settings.name, note
    file = _names_file((root, labels, labels.parent))
    if file is not None:
        return dict(enumerate(_unique([line.strip() for line in _lines(file)]))), file.name, ""
    if not used:
        raise UserError(f"Nothing in {root} names the classes. Add a data.yaml: names: [cat, dog].")
    numbers = sorted(used)
    shown = ", ".join(map(str, numbers[:5])) + (", ..." if len(numbers) > 5 else "")
    return {number: str(number) for number in numbers}, "", f"Nothing names the classes: they are called {shown}."


def _names_file(folders: tuple[Path, ...]) -> Path | None:
    """The text file that names the classes."""
    files = (folder / name for folder in folders for name in NAMES)
    return next((file for file in files if file.is_file() and _lines(file)), None)


def _unique(names: list[str]) -> list[str]:
    shown = [printable(name) for name in names]
    return [name if shown.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(shown)]


def has_keypoints(root: Path) -> bool:
    """Whether data.yaml says that lines hold keypoints behind a box."""
    settings = settings_file(root)
    return settings is not None and "kpt_shape" in _tolerant(settings)


def _tolerant(path: Path) -> dict[str, Any]:
    try:
        return _settings(path)
    except UserError:
        return {}


def _settings(path: Path) -> dict[str, Any]:
    """The content of data.yaml, every value as its text: a class may be called no, or 1.10. Raises UserError where it
    is no YAML."""
    import yaml

    try:
        content = yaml.load(read_text(path), Loader=yaml.BaseLoader)  # noqa: S506 - knows text, lists and mappings alone
    except (yaml.YAMLError, RecursionError) as error:
        raise UserError(f"{path} is not YAML: {printable(' '.join(str(error).split()))[:200]}.") from None
    return content if isinstance(content, dict) else {}
