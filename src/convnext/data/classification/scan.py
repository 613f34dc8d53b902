"""A folder with one folder for each class: the layout that needs no explanation.

An image is uint8 (3, H, W); N images, K classes.
"""

from __future__ import annotations

import os
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from convnext.core.errors import UserError
from convnext.core.logs import track
from convnext.core.text import printable
from convnext.data.decode import IMAGE_SUFFIXES

LAYOUT = """Accepted is one folder for each class, with that class's images inside:

    {root}/cat/anything.jpg
    {root}/cat/another.png
    {root}/dog/something.jpg
"""


def class_folders(root: Path) -> list[str]:
    """Names of the folders directly below `root` that may be classes (not hidden), sorted."""
    try:
        with os.scandir(root) as entries:
            return sorted(entry.name for entry in entries if not _hidden(entry.name) and entry.is_dir())
    except OSError as error:
        raise UserError(f"{root} cannot be opened: {error.strerror}.") from None


def scan(root: Path, *, missing_allowed: bool = False) -> dict[str, list[str]]:
    """Class folder -> its images, as paths below `root` with forward slashes; both sorted.

    Hidden files, hidden folders and files that are no images are passed over. Links are followed, but a folder is
    entered once for each class, so that links in a circle end. Raises UserError for a layout that is not one folder for
    each class, and for class folders without images unless `missing_allowed` (a validation part may lack a class).
    """
    if not root.is_dir():
        raise UserError(f"There is no folder {root}." if not root.exists() else f"{root} is not a folder.")
    folders = class_folders(root)
    if not folders:
        raise UserError(no_classes(root))
    title = f"Looking through {root.name or root}"
    looked = track(folders, title, len(folders), unit="folders")
    found = {folder: sorted(images_below(root, folder)) for folder in looked}
    empty = [folder for folder, images in found.items() if not images]
    if len(empty) == len(folders):
        raise UserError(f"No folder in {root} holds an image ({_others(root, folders)}). {LAYOUT.format(root=root)}")
    if empty and not missing_allowed:
        raise UserError(
            f"{some(empty)} in {root} {'holds' if len(empty) == 1 else 'hold'} no images "
            f"({_others(root, empty)}). Put images in, or remove the folder: every folder there is taken for a class."
        )
    return {folder: images for folder, images in found.items() if images}


def holds_images(root: Path, folder: str) -> bool:
    """Whether there is an image at any depth below root/folder."""
    return next(images_below(root, folder), None) is not None


def images_below(root: Path, folder: str = "", *, closed: list[str] | None = None) -> Iterator[str]:
    """Paths below `root` of the images at any depth below root/folder, as `scan` finds them: none that is hidden, each
    folder entered once.

    Folders that cannot be opened are added to `closed`; without it, the first one raises UserError.
    """
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
        for entry in entries:
            if _hidden(entry.name):
                continue
            if entry.name.lower().endswith(IMAGE_SUFFIXES) and not entry.is_dir():
                # a dangling link too: better a bad image that is named than silence
                yield posixpath.join(place, entry.name)
            elif entry.is_dir():
                waiting.append(posixpath.join(place, entry.name))


def _hidden(name: str) -> bool:
    return name.startswith((".", "__MACOSX", "@eaDir"))  # the last two: what Mac archives and Synology disks leave


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
    return f"{found}; convert those to JPEG or PNG"


def some(names: Sequence[str]) -> str:
    """The first few names of folders, in quotes."""
    shown = ", ".join(f"'{printable(name)}'" for name in names[:5])
    return shown if len(names) <= 5 else f"{shown} and {len(names) - 5} more folders"
