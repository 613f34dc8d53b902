"""What the values of well-known data sets mean: for data that shows to be one of them, or if asked for."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from convnext.core.errors import UserError
from convnext.data.segmentation.palette import Palette, ade20k
from convnext.ops.losses import IGNORE_INDEX

CONVENTIONS = ("ade20k", "cityscapes", "voc")
"""Words that --labels takes beside a mapping file."""

_ADE_FILES = ("objectInfo150.txt", "objectInfo150.csv", "sceneCategories.txt")
_CITYSCAPES = (  # name, labelId, colour; the place is the trainId
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_VOC = (
    *("background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("dining table", "dog", "horse", "motorbike", "person", "potted plant", "sheep", "sofa", "train", "tv monitor"),
)


def convention_of(labels: str) -> str:
    """The convention that --labels names; empty where it is a file's path. (A run makes paths of words absolute where
    there is a folder of that name.)"""
    name = Path(labels).name
    return name if name in CONVENTIONS and not Path(labels).is_file() else ""


def convention(name: str, *, train_ids: bool) -> Palette:
    """The palette of a convention by its name. train_ids: whether label maps of Cityscapes are `labelTrainIds`."""
    if name == "ade20k":
        return ade20k()
    if name == "cityscapes":
        codes = tuple((place if train_ids else row[1],) for place, row in enumerate(_CITYSCAPES))
        known = {code for one in codes for code in one}
        ignored = (IGNORE_INDEX,) if train_ids else (*(v for v in range(35) if v not in known), IGNORE_INDEX)
        return Palette(tuple(row[0] for row in _CITYSCAPES), tuple(row[2] for row in _CITYSCAPES), codes, ignored)
    if name == "voc":
        return Palette(_VOC, tuple(_voc_colour(k) for k in range(len(_VOC))), tuple((k,) for k in range(len(_VOC))))
    raise UserError(f"--labels takes a mapping file (JSON), or one of {', '.join(CONVENTIONS)}, not '{name}'.")


def _voc_colour(index: int) -> tuple[int, int, int]:
    """The colour of an index in VOC's palette: its bits, spread over the three channels from the highest down."""
    parts = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            parts[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    return parts[0], parts[1], parts[2]


def shows_ade20k(root: Path, names: Sequence[str], values: np.ndarray, *, folders: bool) -> str:
    """What shows that data is ADE20K's, in words; empty where nothing does: folders that are called alike do not.

    names: of label maps, without ending. values: that occur. folders: whether the folders are called as ADE20K's.
    """
    if len(values) and int(values[values != IGNORE_INDEX].max(initial=0)) > 150:
        return ""
    for name in _ADE_FILES:
        if (root / name).is_file():
            return name
    if names and all(_ade_name(name) for name in names):
        return f"label maps are called as ADE20K's, as {names[0]}"
    classes = values[values != IGNORE_INDEX]
    if folders and len(classes) >= 75 and int(classes.max()) == 150:
        return f"its folders are called as ADE20K's, and {len(classes)} of the values 0 to 150 occur"
    return ""


def _ade_name(name: str) -> bool:
    start, _, number = name.rpartition("_")
    return start in ("ADE_train", "ADE_val") and len(number) == 8 and number.isdigit()
