"""What folders hold by their names, as people and tools spell them: train, val, test; images, label maps."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from convnext.core.errors import UserError
from convnext.core.text import printable

PARTS = ("train", "val", "test")
_NAME = re.compile(
    r"(?P<part>train|training|val|valid|validation|validate|dev|eval|evaluation|test|testing)"
    r"[ _.-]?(set|data|dataset|images?|imgs?|split|part)?[ _.-]?\d*"
)
_SPELT = {"train": "train", "training": "train", "test": "test", "testing": "test"}


def part_of(name: str) -> str:
    """The part that a folder or file (without its ending) names: "train", "val", "test"; "" where it names none.

    Any letter case; with a word for data or a number behind, as "Training", "val_set", "test-images", "train2017".
    """
    match = _NAME.fullmatch(name.strip().lower())
    return _SPELT.get(match["part"], "val") if match else ""


def folders_in(folder: Path) -> list[Path]:
    """The folders directly in a folder, by name. Files, of which there may be many, are not looked at one by one."""
    with os.scandir(folder) as entries:
        return sorted(folder / entry.name for entry in entries if entry.is_dir())


def parts_among(names: Iterable[str]) -> dict[str, list[str]]:
    """Part -> those of the names that name it, sorted; parts in the order of `PARTS`, without those that none names."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        if part := part_of(name):
            found.setdefault(part, []).append(name)
    return {part: found[part] for part in PARTS if part in found}


IMAGE_FOLDERS = (
    *("images", "image", "imgs", "img", "jpegimages", "leftimg8bit", "imgdir", "pictures", "photos", "frames"),
    *("rgb", "originals", "original", "originalimages", "inputs", "input"),
)
"""Names of folders of images, in lower case without separators."""
LABEL_FOLDERS = (
    *("annotations", "annotation", "labels", "label", "masks", "mask", "segmentationclass", "segmentationclasspng"),
    *(
        "gtfine",
        "gtcoarse",
        "gt",
        "gts",
        "groundtruth",
        "groundtruths",
        "anndir",
        "anns",
        "ann",
        "annot",
        "segmentation",
    ),
    *("segmentations", "seg", "segs", "segmasks", "labelmaps", "labelmap", "targets", "target", "semantic"),
    *("labelimagessemantic", "semanticlabels", "semanticmasks", "maskimages", "labelimages"),
)
"""Names of folders of label maps, in lower case without separators."""


def images_with_labels(names: Iterable[str]) -> bool:
    """Whether folders of these names are images and what they are labelled with, not classes: images/ and masks/,
    train/ and train_labels/."""
    names = list(names)
    if any(plain_name(name) in IMAGE_FOLDERS for name in names):
        return any(plain_name(name) in LABEL_FOLDERS for name in names)
    labelled = {part_of(without_word(name, LABEL_FOLDERS)) for name in names} - {""}
    return any(part_of(without_word(name, IMAGE_FOLDERS) or name) in labelled for name in names)


def one_of_each(names: Iterable[str], where: Path, *, advice: str = "") -> dict[str, str]:
    """Part -> the only one of the names that names it. Raises UserError, which ends with the advice, where two do."""
    found = parts_among(names)
    for part, several in found.items():
        if len(several) > 1:
            listed = ", ".join(f"'{printable(name)}'" for name in several)
            raise UserError(f"{listed} in {where} can each be the part '{part}'. Rename or remove all but one{advice}.")
    return {part: several[0] for part, several in found.items()}


def plain_name(name: str) -> str:
    """A folder's name in lower case, without separators."""
    return re.sub(r"[ _.-]", "", name).lower()


def without_word(name: str, words: Sequence[str]) -> str:
    """A folder's name without the word for what it holds: "masks_train" -> "train"; empty where it has none."""
    plain = plain_name(name)
    for word in sorted(words, key=len, reverse=True):
        for rest in (plain.removeprefix(word), plain.removesuffix(word)):
            if rest and rest != plain:
                return rest
    return ""
