"""The folder that a run is written into: free, or cleared of the run that may go. What no run wrote stays there."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path

from convnext.core.errors import UserError
from convnext.core.lock import LOCK, taken
from convnext.core.places import make_folder, remove_empty
from convnext.core.text import printable

FILES = (
    "recipe.json",
    "split.json",
    "log.jsonl",
    "last.pt",
    "best.safetensors",
    "evaluation.json",
    "results.json",
    "report.html",
    "first_batch.png",
)
"""What a run writes, the first of it first."""
FOLDERS = ("mistakes", "pictures")
_OF_SYSTEMS = (
    LOCK,
    "lost+found",
    ".DS_Store",
    ".snapshot",
    "desktop.ini",
    "Thumbs.db",
)  # what mounts and systems leave


def check_free(out: Path, *, overwrite: bool) -> None:
    """Raises UserError where `out` holds a run (unless it may go) or anything else, or is no folder."""
    shown = printable(str(out))
    if not os.path.isdir(out):
        if os.path.exists(out):
            raise UserError(f"{shown} is a file, not a run's folder; give another --out.")
        return
    try:
        names = sorted(entry.name for entry in os.scandir(out) if entry.name not in _OF_SYSTEMS)
    except OSError as error:
        raise UserError(f"{shown} cannot be opened: {error.strerror}. Give another --out.") from None
    if not is_run(out, names):
        if names:
            few = ", ".join(printable(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
            raise UserError(f"{shown} is not empty and not a run's folder (it holds {few}); give another --out.")
    elif not overwrite:
        raise UserError(
            f"{shown} holds a run already. Go on with it: convnext train --resume {shown}. "
            "Or start a new one: --overwrite, or another --out."
        )


def is_run(out: Path, names: Sequence[str]) -> bool:
    """Whether a folder that holds `names` holds a run: a recipe, and what else a run writes, or nothing else at all."""
    return (out / FILES[0]).is_file() and (len(names) == 1 or any(name in FILES[1:] for name in names))


def cleared(out: Path) -> list[str]:
    """Makes the folder `out`, or removes the run that stands in it; the folder itself, which may be a mount or a link,
    stays. Returns the names of what is left there, which no run wrote."""
    make_folder(out)
    for name in FILES:
        with suppress(FileNotFoundError):
            (out / name).unlink()
    for name in FOLDERS:
        if (out / name).is_dir() and not (out / name).is_symlink():
            shutil.rmtree(out / name)
    return sorted(entry.name for entry in os.scandir(out) if entry.name not in _OF_SYSTEMS)


@contextmanager
def new_place(runs: Path, name: str) -> Generator[Path, None, None]:
    """A folder for a run, made and held in `runs` under a name that no other run has: the recipe's name and the time.

    Two that start in the same second get two names. It goes again if it is empty in the end. Raises UserError where it
    cannot be made.
    """
    made: list[Path] = []
    try:
        make_folder(runs, made=made)
        place = _new_folder(runs, name)
        made.append(place)
        with taken(place):
            yield place
    finally:
        remove_empty(made)


def _new_folder(runs: Path, name: str) -> Path:
    plain = "".join(c if c.isalnum() or c in "-_." else "-" for c in name)[:60].strip(".") or "run"
    stem = f"{plain}-{time.strftime('%Y%m%d-%H%M%S')}"
    for number in count(1):
        place = runs / (stem if number == 1 else f"{stem}-{number}")
        try:
            place.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise UserError(f"{printable(str(place))} cannot be made: {error.strerror}. Give --out DIR.") from None
        return place
    raise AssertionError("count has no end")
