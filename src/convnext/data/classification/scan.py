"""A folder with one folder for each class: the layout that needs no explanation.

An image is uint8 (3, H, W); N images, K classes.
"""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from convnext.core.errors import UserError
from convnext.core.lock import LOCK
from convnext.core.logs import track
from convnext.core.text import printable
from convnext.data.bands import NUMPY
from convnext.data.decode import IMAGE_SUFFIXES

LAYOUT = """Accepted is one folder for each class, with that class's images inside:

    {root}/cat/anything.jpg
    {root}/cat/another.png
    {root}/dog/something.jpg
"""

_OF_RUNS = ("recipe.json", LOCK)  # the second alone: a run that is about to begin


@dataclass
class Scan:
    """What lies below a folder of class folders."""

    images: dict[str, list[str]] = field(default_factory=dict)
    """Class -> its images, as paths below the folder with forward slashes, sorted. Classes are in the order of their
    folders' names; their names are in Unicode's composed form (NFC), in which names that look alike are alike."""
    passed: Counter[str] = field(default_factory=Counter)
    """What was passed over: kind, as ".avif" or "pipe or device" -> how many."""
    runs: list[str] = field(default_factory=list)
    """Folders of training runs, which are never data."""
    loose: int = 0
    """Images directly in the folder: they have no class."""
    merged: list[str] = field(default_factory=list)
    """Classes of which there are several folders, whose names differ in nothing but their Unicode form."""

    def notes(self, root: Path) -> list[str]:
        """Sentences for people: what was passed over."""
        notes = []
        if self.passed:
            kinds = ", ".join(f"{count:,} {printable(kind)}" for kind, count in self.passed.most_common(6))
            more = len(self.passed) - 6
            notes.append(f"Passed over in {root}: {kinds}{f' and {more} kinds more' if more > 0 else ''}.")
        if self.loose:
            are = "image lies" if self.loose == 1 else "images lie"
            notes.append(f"Left out: {self.loose:,} {are} directly in {root}, without a class.")
        if self.runs:
            notes.append(f"Passed over in {root}, since training runs are no data: {some(self.runs)}.")
        if self.merged:
            notes.append(
                f"{some(self.merged)} in {root}: several folders of that name, in different Unicode forms, were taken "
                "for one class."
            )
        return notes


def class_folders(root: Path, *, runs: list[str] | None = None) -> list[str]:
    """Names of the folders directly below `root` that may be classes, sorted: neither hidden nor of training runs.

    runs: gets the names of folders that are left out because they are runs, or hold nothing but runs.
    """
    try:
        with os.scandir(root) as entries:
            found = sorted(entry.name for entry in entries if not _hidden(entry.name) and entry.is_dir())
    except OSError as error:
        raise UserError(f"{root} cannot be opened: {error.strerror}.") from None
    of_runs = [name for name in found if _is_run(root / name) or _holds_runs_alone(root / name)]
    if runs is not None:
        runs += of_runs
    return [name for name in found if name not in of_runs]


def _is_run(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _OF_RUNS)


def _holds_runs_alone(folder: Path) -> bool:
    """Whether a folder holds runs, as `runs/` does, and nothing else."""
    try:
        entries = [entry for entry in os.scandir(folder) if not _hidden(entry.name)]
        return bool(entries) and all(entry.is_dir() and _is_run(Path(entry.path)) for entry in entries)
    except OSError:
        return False


def scan(root: Path, *, missing_allowed: bool = False, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Scan:
    """The images of each class folder below `root`, and what was passed over.

    Hidden files, hidden folders, training runs and files that are no images are passed over. Links are followed, but a
    folder is entered once for each class, so that links in a circle end. suffixes: endings of images.

    Raises UserError for a layout that is not one folder for each class, and for class folders without images unless
    `missing_allowed` (a validation part may lack a class).
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}." if not root.exists() else f"{root} is not a folder.")
    found = Scan()
    folders = class_folders(root, runs=found.runs)
    if not folders:
        raise UserError(no_classes(root))
    found.loose = sum(1 for entry in os.scandir(root) if not _hidden(entry.name) and _is_image(entry, suffixes))
    title = f"Looking through {root.name or root}"
    empty = []
    for folder in track(folders, title, len(folders), unit="folders"):
        images = sorted(images_below(root, folder, scan=found, suffixes=suffixes))
        name = unicodedata.normalize("NFC", folder)
        if not images:
            empty.append(folder)
        elif name in found.images:
            found.merged.append(name)
            found.images[name] = sorted([*found.images[name], *images])
        else:
            found.images[name] = images
    if not found.images:
        raise UserError(f"No folder in {root} holds an image ({_others(root, folders)}). {LAYOUT.format(root=root)}")
    if empty and not missing_allowed:
        raise UserError(
            f"{some(empty)} in {root} {'holds' if len(empty) == 1 else 'hold'} no images "
            f"({_others(root, empty)}). Put images in, or remove the folder: every folder there is taken for a class."
        )
    return found


def holds_images(root: Path, folder: str) -> bool:
    """Whether there is an image, or an array that `--loader.bands` makes one, at any depth below root/folder."""
    return next(images_below(root, folder, suffixes=(*IMAGE_SUFFIXES, NUMPY)), None) is not None


def images_below(
    root: Path,
    folder: str = "",
    *,
    closed: list[str] | None = None,
    scan: Scan | None = None,
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES,
) -> Iterator[str]:
    """Paths below `root` of the images at any depth below root/folder, as `scan` finds them: none that is hidden or in
    a training run, each folder entered once.

    Folders that cannot be opened are added to `closed`; without it, the first one raises UserError. scan: counts what
    is passed over.
    """
    scan = scan or Scan()
    entered: set[tuple[int, int]] = set()
    waiting = [folder]
    while waiting:
        place = waiting.pop()
        try:
            status = os.stat(root / place)
            if (status.st_dev, status.st_ino) in entered:
                continue
            entered.add((status.st_dev, status.st_ino))
            entries = list(os.scandir(root / place))
        except OSError as error:
            if closed is None:
                raise UserError(f"{printable(str(root / place))} cannot be opened: {error.strerror}.") from None
            closed.append(place)
            continue
        if place and any(entry.name in _OF_RUNS for entry in entries):
            scan.runs.append(place)
            continue
        for entry in entries:
            if _hidden(entry.name):
                continue
            if entry.is_dir():
                waiting.append(posixpath.join(place, entry.name))
            elif kind := _passed_over(entry, suffixes):
                scan.passed[kind] += 1
            else:
                yield posixpath.join(place, entry.name)


def _passed_over(entry: os.DirEntry[str], suffixes: tuple[str, ...]) -> str:
    """What kind of file it is that no image is read from; "" for an image."""
    # a dangling link counts as a file too: better a bad image that is named than silence
    if not entry.is_file() and not entry.is_symlink():
        return "pipe or device"
    if entry.name.lower().endswith(suffixes):
        return "pipe or device" if entry.is_symlink() and _is_special(entry.path) else ""
    return os.path.splitext(entry.name)[1].lower() or "without an ending"


def _is_image(entry: os.DirEntry[str], suffixes: tuple[str, ...]) -> bool:
    return not entry.is_dir() and not _passed_over(entry, suffixes)


def _is_special(path: str) -> bool:
    return os.path.exists(path) and not os.path.isfile(path)


def _hidden(name: str) -> bool:
    """Hidden files, and what systems leave: Mac archives, Synology disks, Windows."""
    return name.startswith((".", "__MACOSX", "@eaDir")) or name.lower() in ("thumbs.db", "desktop.ini")


def no_classes(root: Path) -> str:
    """Why a folder without class folders is no dataset, and what is."""
    images = sum(1 for entry in root.iterdir() if entry.name.lower().endswith(IMAGE_SUFFIXES))
    if images:
        return (
            f"{root} has {images} image{'s' if images > 1 else ''} directly inside, so nothing says which class each "
            f"belongs to. {LAYOUT.format(root=root)}"
        )
    return f"{root} has no folders inside. {LAYOUT.format(root=root)}"


def _others(root: Path, folders: Iterable[str]) -> str:
    """What lies in the folders instead of images, to hint at formats that are not read (HEIC, AVIF, archives)."""
    endings: Counter[str] = Counter()
    for folder in folders:
        endings.update(path.suffix.lower() for path in (root / folder).iterdir() if path.is_file() and path.suffix)
    if not endings:
        return f"accepted are {', '.join(IMAGE_SUFFIXES[:8])} and a few more"
    found = ", ".join(f"{count} {printable(ending)}" for ending, count in endings.most_common(3))
    if NUMPY in endings:
        return f"{found}; `convnext train --loader.bands N` reads {NUMPY} files of N bands"
    return f"{found}; convert those to JPEG or PNG"


def some(names: Sequence[str]) -> str:
    """The first few names of folders, in quotes."""
    shown = ", ".join(f"'{printable(name)}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more folders"
