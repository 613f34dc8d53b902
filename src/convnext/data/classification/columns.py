"""What the columns of a table mean: image files, classes, parts. By their names, else by what they hold, else asked."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from convnext.core.errors import UserError, nearest
from convnext.core.text import printable
from convnext.data.classification.config import TableConfig
from convnext.data.classification.table import Cell, Table
from convnext.data.decode import IMAGE_SUFFIXES
from convnext.data.parts import part_of

_IMAGE = ("file", "filename", "image", "imageid", "imagename", "imagefile", "imagepath", "imageindex", "path", "img")
_IMAGE = (*_IMAGE, "filepath", "imgname", "imgpath", "imgid", "id", "name", "fname", "photo", "picture")
_LABEL = {"label", "labels", "class", "classes", "category", "categories", "target", "targets", "tag", "tags"}
_LABEL |= {"classname", "labelname", "categoryname", "classlabel", "species", "breed", "y"}
_PLURAL = {"labels", "classes", "categories", "targets", "tags"}
_PART = {"split", "splits", "part", "set", "subset", "fold", "partition", "datasplit", "dataset", "usage", "phase"}
_FLAGS = {"isvalid": "val", "isval": "val", "isvalidation": "val", "valid": "val", "istest": "test"}
_OF_OBJECTS = {"xmin", "ymin", "xmax", "ymax", "x1", "y1", "bbox", "bboxes", "boxes", "bndbox", "objects", "polygon"}
_OF_OBJECTS |= {"encodedpixels", "rle", "mask", "masks", "segmentation", "segmentations"}
_TRUE, _FALSE = {"1", "1.0", "true", "yes"}, {"0", "0.0", "false", "no", ""}
_SAMPLE = 200  # cells of a column that are looked at
_HALF = 0.5
_OFTEN, _SELDOM = (
    0.8,
    0.2,
)  # share of the labels in split cells that come back elsewhere: several labels; one with a comma
SEPARATORS = ("|", ";", ",", " ")


@dataclass(frozen=True)
class Roles:
    """What a table's columns mean. Names; "" for a part that no column says."""

    image: str
    labels: tuple[str, ...]
    """One column of classes, or a column of 0 and 1 for each label."""
    binary: bool
    part: str = ""
    unused: tuple[str, ...] = ()


def find_roles(table: Table, config: TableConfig, is_file: Callable[[str], bool]) -> Roles:
    """What the columns mean. is_file: whether a cell names an image.

    Raises UserError, which names the columns and the option, where that is not known.
    """
    image = _image_column(table, config, is_file)
    part = _part_column(table, taken=(image,))
    others = [name for name in table.columns if name not in (image, part)]
    labels = _given(table, config.label.split(","), "--table.label") if config.label else _labels(table, others)
    binary = len(labels) > 1
    odd = next((name for name in labels if binary and not _is_binary(table.columns[name])), None)
    if odd is not None:
        raise UserError(f"{table.path}: the column '{printable(odd)}' of --table.label holds other than 0 and 1.")
    return Roles(image, tuple(labels), binary, part, tuple(name for name in others if name not in labels))


def names_images(table: Table, is_file: Callable[[str], bool]) -> bool:
    """Whether a column of the table names images that are there."""
    return bool(_of_images(table, is_file))


def has_labels(table: Table, is_file: Callable[[str], bool]) -> bool:
    """Whether anything in the table can be a class: else it only lists images, as those of a test part are."""
    images = _of_images(table, is_file)
    return any(name not in images and not _is_index(name, cells) for name, cells in table.columns.items())


def of_objects(table: Table) -> str:
    """A column that tells of boxes or masks; "" for none."""
    return next((name for name in table.columns if _plain(name) in _OF_OBJECTS or name in table.nested), "")


def objects_text(path: Path, column: str) -> str:
    """Why a table with such a column says no classes of images."""
    return (
        f"{path} has a column '{printable(column)}', as tables of boxes or masks do, whose labels are of objects, not "
        "of images. Detectors take annotations in COCO's form (and YOLO's, Pascal VOC's). To classify whole images by "
        "a column of it: --table.label COLUMN."
    )


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def _words(name: str) -> set[str]:
    return set(re.findall(r"[a-z0-9]+", re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()))


def _share(cells: Sequence[Cell], is_file: Callable[[str], bool]) -> float:
    looked = [cell for cell in cells[:: max(len(cells) // _SAMPLE, 1)][:_SAMPLE] if cell]
    return sum(isinstance(cell, str) and is_file(cell) for cell in looked) / max(len(looked), 1)


def _of_images(table: Table, is_file: Callable[[str], bool]) -> list[str]:
    """The columns whose cells name images. Numbers of classes can look like names without an ending ("1" and 1.jpg):
    a column of names has more than a few values, or says by its own name what it is."""
    return [
        name
        for name, cells in table.columns.items()
        if _share(cells, is_file) >= _HALF
        and (_plain(name) in _IMAGE or _share(cells, _ends_as_image) >= _HALF or not _few(cells))
    ]


def _few(cells: Sequence[Cell]) -> bool:
    return _is_binary(cells) or 2 * len(set(cells)) <= len(cells)


def _given(table: Table, names: Iterable[str], option: str) -> list[str]:
    known = {name.lower(): name for name in table.columns}
    wanted = [name.strip() for name in names if name.strip()]
    found = [name if name in table.columns else known.get(name.lower(), "") for name in wanted]
    if "" in found:
        missing = wanted[found.index("")]
        raise UserError(
            f"{option}: {table.path} has no column '{printable(missing)}'.{nearest(missing, table.columns)} It has "
            f"{_listed(table.columns)}."
        )
    return found


def _image_column(table: Table, config: TableConfig, is_file: Callable[[str], bool]) -> str:
    if config.image:
        return _given(table, [config.image], "--table.image")[0]
    usual = sorted((n for n in table.columns if _plain(n) in _IMAGE), key=lambda name: _IMAGE.index(_plain(name)))
    good = _of_images(table, is_file)
    if chosen := next((name for name in usual if name in good), ""):
        return chosen
    if len(good) == 1:
        return good[0]
    if len(good) > 1:
        raise UserError(
            f"{table.path}: the columns {_listed(good)} each name images. Which one is meant? --table.image COLUMN"
        )
    named = [n for n, cells in table.columns.items() if _share(cells, _ends_as_image) >= _HALF]
    if chosen := next((name for name in (*usual, *named) if name in named), ""):
        return chosen
    raise UserError(
        f"{table.path}: no column names images that are there; it has {_listed(table.columns)}. A column of image "
        "files is needed; --table.image COLUMN says which it is."
    )


def _ends_as_image(cell: str) -> bool:
    return cell.lower().endswith(IMAGE_SUFFIXES)


def _part_column(table: Table, *, taken: Sequence[str]) -> str:
    for name, cells in table.columns.items():
        if name in taken:
            continue
        values = {str(cell).lower() for cell in cells if cell}
        if _plain(name) in _PART and values and any(part_of(value) for value in values):
            return name
        if _plain(name) in _FLAGS and len(values) > 1 and values <= _TRUE | _FALSE:
            return name
    return ""


def part_of_row(name: str, cell: Cell) -> str:
    """The part that a row of the part column `name` is of; "" for none that is known."""
    flag = _FLAGS.get(_plain(name), "")
    if flag and _plain(name) not in _PART:
        return flag if str(cell).lower() in _TRUE else "train"
    return part_of(str(cell))


def _labels(table: Table, others: Sequence[str]) -> list[str]:
    """The columns of labels among those that mean nothing else."""
    if objects := of_objects(table):
        raise UserError(objects_text(table.path, objects))
    rest = [name for name in others if not _is_index(name, table.columns[name])]
    exact = [name for name in rest if _plain(name) in _LABEL]
    named = _one_of_equals(table, exact or [name for name in rest if _words(name) & _LABEL])
    if len(named) == 1:
        return named
    if not named and len(rest) == 1 and (_repeats(table.columns[rest[0]]) or isinstance(_first(table, rest[0]), tuple)):
        return rest
    binary = [name for name in rest if _is_binary(table.columns[name])]
    if not named and len(binary) > 1 and len(binary) == len(rest):
        return binary
    if not rest:
        raise UserError(f"{table.path} names images, but no classes: it has {_listed(table.columns)} alone.")
    several = f" (columns of 0 and 1, one for each label: {','.join(binary)})" if len(binary) > 1 else ""
    raise UserError(
        f"{table.path}: which of {_listed(named or rest)} holds the classes? --table.label COLUMN says so{several}."
    )


def _first(table: Table, name: str) -> Cell:
    return next((cell for cell in table.columns[name] if cell), "")


def _one_of_equals(table: Table, names: list[str]) -> list[str]:
    """Of columns that say the same (numbers and names of the classes), the one with names; else all of them."""
    if len(names) < 2:
        return names
    for other in names[1:]:
        pairs = set(zip(map(str, table.columns[names[0]]), map(str, table.columns[other]), strict=True))
        if not len(pairs) == len({a for a, _ in pairs}) == len({b for _, b in pairs}):
            return names
    worded = [name for name in names if not str(_first(table, name)).replace(".", "").isdigit()]
    return (worded or names)[:1]


def _is_index(name: str, cells: Sequence[Cell]) -> bool:
    """Whether a column counts the rows, as pandas writes one without a name."""
    if not re.fullmatch(r"column 1|unnamed.*|index|id|", name.lower()):
        return False
    return len(set(cells)) == len(cells) and all(isinstance(cell, str) and cell.isdigit() for cell in cells)


def _is_binary(cells: Sequence[Cell]) -> bool:
    return all(isinstance(cell, str) and cell.lower() in _TRUE | _FALSE for cell in cells)


def is_true(cell: Cell) -> bool:
    """What a cell of a column of 0 and 1 says."""
    return str(cell).lower() in _TRUE


def _repeats(cells: Sequence[Cell]) -> bool:
    """Whether values come back often enough to be classes: most cells have one that another has too."""
    counts = Counter(cells)
    return 2 * sum(count for count in counts.values() if count > 1) >= len(cells)


def _listed(names: Iterable[str]) -> str:
    listed = [f"'{printable(name)}'" for name in names]
    return ", ".join(listed[:12]) + (", ..." if len(listed) > 12 else "")


def separator_of(path: Path, name: str, cells: Sequence[Cell], config: TableConfig) -> str | None:
    """How the labels in a column's cells are separated: "" for lists, a sign; None where a cell is one class.

    Labels that come back in other combinations show it. Raises UserError, naming the option, where that leaves it open.
    """
    if config.per_image == "one":
        return None
    lists = [cell for cell in cells if isinstance(cell, tuple)]
    if lists:
        return "" if config.per_image == "several" or any(len(cell) != 1 for cell in lists) else None
    distinct = sorted({str(cell) for cell in cells})
    signs = [sign for sign in SEPARATORS if any(sign in cell for cell in distinct)]
    if config.per_image == "several":
        return signs[0] if signs else "|"
    plural = bool(_words(name) & _PLURAL)
    for sign in signs:
        share = _returning(distinct, sign)
        sure = share >= (_HALF if plural or sign in "|;" else _OFTEN)
        if sure and (sign != " " or plural):
            return sign
        if share > _SELDOM or sign in "|;":
            example = next(cell for cell in distinct if sign in cell)
            raise UserError(
                f"{path}: is '{printable(example)}', in the column '{printable(name)}', one class or several labels? "
                "--table.per-image one, or --table.per-image several."
            )
    return None


def _returning(distinct: Sequence[str], sign: str) -> float:
    """The share of the labels in cells with a sign that stand in other cells too."""
    where: dict[str, set[int]] = defaultdict(set)
    split = set()
    for place, cell in enumerate(distinct):
        for label in labels_in(cell, sign):
            where[label].add(place)
            if sign in cell:
                split.add(label)
    return sum(len(where[label]) > 1 for label in split) / max(len(split), 1)


def labels_in(cell: Cell, sign: str) -> tuple[str, ...]:
    """The labels in a cell, each once."""
    parts = cell if isinstance(cell, tuple) else cell.split(sign) if sign else (cell,)
    return tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
