"""The robustness suites of ImageNet: which folders they are in, which classes they have. No torch here.

Classes: `subsets.csv`; of ImageNet-A and -R those of hendrycks/natural-adv-examples and imagenet-r (eval.py), of
ObjectNet those of abarbu/objectnet-template-tensorflow (mapping_files): several ImageNet classes can be one of its.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.corruptions.config import MAIN
from convnext.weights.imagenet import imagenet_classes

SuiteName = Literal["imagenet-a", "imagenet-r", "sketch", "v2", "real", "objectnet", "c", "c-bar"]
C_BAR = (
    *("blue_noise_sample", "brownish_noise", "caustic_refraction", "checkerboard_cutout", "cocentric_sine_waves"),
    *("inverse_sparkles", "perlin_noise", "plasma_noise", "single_frequency_greyscale", "sparkles"),
)
"""ImageNet-C-bar's corruptions (arXiv 2102.11273), under the names of its folders."""
SEVERITIES = 5


@dataclass(frozen=True)
class Suite:
    """One of the suites."""

    title: str
    folders: tuple[str, ...]
    """What its folder is called, in the archives and usually."""
    kind: Literal["classes", "real", "corrupted"]
    """classes: a folder for each class. real: ImageNet's validation images with other labels. corrupted: folders
    CORRUPTION/SEVERITY of class folders."""


SUITES: Mapping[str, Suite] = {
    "imagenet-a": Suite("ImageNet-A", ("imagenet-a",), "classes"),
    "imagenet-r": Suite("ImageNet-R", ("imagenet-r",), "classes"),
    "sketch": Suite("ImageNet-Sketch", ("sketch", "imagenet-sketch", "ImageNet-Sketch"), "classes"),
    "v2": Suite(
        "ImageNet-V2",
        ("imagenetv2-matched-frequency-format-val", "imagenetv2-matched-frequency", "imagenet-v2", "v2"),
        "classes",
    ),
    "real": Suite("ImageNet-ReaL", ("val", "ILSVRC2012_img_val", "imagenet-val", "imagenet/val"), "real"),
    "objectnet": Suite(
        "ObjectNet", ("objectnet-1.0/images", "objectnet-1.0", "objectnet/images", "objectnet"), "classes"
    ),
    "c": Suite("ImageNet-C", ("imagenet-c", "ImageNet-C", "c"), "corrupted"),
    "c-bar": Suite("ImageNet-C-bar", ("imagenet-c-bar", "imagenet_c_bar", "ImageNet-C-bar", "c-bar"), "corrupted"),
}
CORRUPTIONS: Mapping[str, Sequence[str]] = {"c": tuple(MAIN), "c-bar": C_BAR}
BORDER = {"objectnet": 2}
"""Pixels around every image that are no part of it: ObjectNet's are framed in red."""


@cache
def classes_of(suite: str) -> dict[str, tuple[int, ...]]:
    """The folders of a suite's classes -> the places among ImageNet-1K's 1,000 outputs that mean that class."""
    if suite == "v2":
        return {str(index): (index,) for index in range(1000)}
    if suite not in ("imagenet-a", "imagenet-r", "objectnet"):
        return {wnid: (index,) for index, wnid in enumerate(imagenet_classes().ids)}
    text = resources.files("convnext.tasks.classification").joinpath("subsets.csv").read_text(encoding="utf-8")
    found: dict[str, tuple[int, ...]] = {}
    for row in csv.DictReader(text.splitlines()):
        if row["suite"] == suite:
            found[row["folder"]] = (*found.get(row["folder"], ()), int(row["index"]))
    return found


def find_suite(suite: str, data: str) -> Path:
    """The folder of a suite: below `data`, under one of its names, or `data` itself where that is it.

    Raises UserError where neither is there, with the names that are looked for.
    """
    root, about = Path(data), SUITES[suite]
    if not data or not root.is_dir():
        what = f"{data} is no folder. " if data and root.exists() else f"There is no folder {data}. " if data else ""
        raise UserError(
            f"{what}Where is {about.title}? Give --data DIR: its folder, or one that holds the suites' folders."
        )
    for name in about.folders:
        if (root / name).is_dir():
            return root / name
    if _is_it(suite, root):
        return root
    raise UserError(f"{root} is not {about.title}, and holds no folder {' or '.join(about.folders)}: {_wanted(suite)}")


def _wanted(suite: str) -> str:
    kind = SUITES[suite].kind
    if kind == "corrupted":
        return f"folders as {CORRUPTIONS[suite][0]}/1/n01440764 are looked for."
    if kind == "real":
        return "ILSVRC2012_val_00000001.JPEG and its like are looked for, with real.json beside them."
    names = list(classes_of(suite))
    return f"folders of its classes are looked for, as {names[0]} and {names[1]}."


def _is_it(suite: str, root: Path) -> bool:
    kind = SUITES[suite].kind
    if kind == "corrupted":
        return any(corruption_folder(root, name) for name in CORRUPTIONS[suite])
    if kind == "real":
        return any(root.glob("ILSVRC2012_val_*")) or any(root.glob("n0*/ILSVRC2012_val_*"))
    return sum((root / name).is_dir() for name in classes_of(suite)) > 1


def corruption_folder(root: Path, kind: str) -> Path | None:
    """The folder of a corruption: below the suite's, or below that of its group (blur/defocus_blur), as its archive has
    it; None where there is none."""
    places = [root / kind, *sorted(entry / kind for entry in root.iterdir() if entry.is_dir())]
    return next((place for place in places if place.is_dir()), None)


def check_suite(suite: str, folder: Path) -> None:
    """Raises UserError for a suite whose folders lack classes or severities, or have other classes. A corruption that
    is not there at all is left to who evaluates it."""
    kind = SUITES[suite].kind
    if kind == "classes":
        check_classes(suite, folder)
    for name in CORRUPTIONS[suite] if kind == "corrupted" else ():
        place = corruption_folder(folder, name)
        if place is None:
            continue
        for severity in range(1, SEVERITIES + 1):
            part = place / str(severity)
            if not part.is_dir():
                raise UserError(f"{place} has no folder {severity}: there are five severities of each corruption.")
            check_classes(suite, part, f", {name}, severity {severity}")


def check_classes(suite: str, folder: Path, where: str = "") -> None:
    """Raises UserError where a folder of class folders lacks classes of its suite, or has others.

    ObjectNet's folders of classes that ImageNet does not have are no fault: they are left out.
    """
    wanted = set(classes_of(suite))
    there = {entry.name for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith(".")}
    missing, others = sorted(wanted - there), sorted(there - wanted)
    title = f"{SUITES[suite].title}{where}"
    if missing:
        raise UserError(
            f"{folder} lacks {len(missing)} of the {len(wanted)} classes of {title}, as {missing[0]}: figures on the "
            "others would not be comparable. Unpack the whole archive."
        )
    if others and suite != "objectnet":
        raise UserError(
            f"{folder} has {len(others)} folders that are no class of {title}, as {printable(others[0])}. Move them "
            "away, or evaluate without --suite."
        )
