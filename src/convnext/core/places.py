"""Where results will be written: refused before the work is done, and nothing is left behind by asking."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path

from convnext.core.errors import UserError
from convnext.core.text import printable

_TRIES = 3  # another process may remove a folder that it made to ask the same


def check_folder(folder: Path, option: str, *, given: Path | None = None) -> None:
    """Raises UserError where nothing can be written into `folder`; it may be missing, then it must be possible to make.

    option: what names it, as "--pictures"; it begins the message. given: the file in it that was asked for, if any.
    """
    reason = ""
    for _ in range(_TRIES):
        made: list[Path] = []
        try:
            make_folder(folder, made=made)
            handle, name = tempfile.mkstemp(prefix=".", dir=folder)
            os.close(handle)
            os.unlink(name)
            return
        except UserError as error:
            reason = str(error)
        except OSError as error:
            reason = f"{printable(str(folder))}: {error.strerror}"
            if not isinstance(error, FileNotFoundError):
                break
        finally:
            remove_empty(made)
    shown = printable(str(given or folder))
    raise UserError(f"{option}: {shown} cannot be written ({reason.rstrip('.')}). Give another place.")


def check_file(path: Path, option: str) -> None:
    """Raises UserError where no file can be written to `path`, whose folder may be missing. option: as above."""
    shown = printable(str(path))
    if os.path.isdir(path):
        raise UserError(f"{option}: {shown} is a folder; {option} takes a file.")
    if os.path.exists(path) and not os.path.isfile(path):
        return  # a device, as /dev/stdout or /dev/null: there is nothing to try
    real = Path(os.path.realpath(path)) if os.path.islink(path) else path
    check_folder(real.parent, option, given=path)
    try:
        if real.exists() and not os.access(real, os.W_OK):
            raise UserError(f"{option}: {shown} cannot be written (it may not be changed). Give another place.")
        with suppress(FileNotFoundError):  # a name that no file can have, as one that is too long
            os.stat(real)
    except OSError as error:
        raise UserError(f"{option}: {shown} cannot be written ({error.strerror}). Give another place.") from None


def make_folder(folder: Path, *, made: list[Path] | None = None) -> None:
    """Makes a folder with its parents; those that were made are added to `made`, the outermost first.

    Raises UserError that names what is in the way.
    """
    path = Path(folder)
    missing: list[Path] = []
    while not os.path.isdir(path):
        if os.path.islink(path) and not os.path.exists(path):
            raise UserError(f"{printable(str(path))} is a link to {printable(os.readlink(path))}, which is not there.")
        if os.path.exists(path):
            raise UserError(f"{printable(str(path))} is a file, not a folder.")
        missing.append(path)
        if path.parent == path:
            break
        path = path.parent
    for place in reversed(missing):
        try:
            place.mkdir()
        except FileExistsError:
            continue  # another process was faster
        except OSError as error:
            raise UserError(f"{printable(str(place))} cannot be made: {error.strerror}.") from None
        if made is not None:
            made.append(place)


def remove_empty(folders: list[Path]) -> None:
    """Removes folders that `make_folder` made, as far as they are empty."""
    for folder in reversed(folders):
        with suppress(OSError):
            folder.rmdir()
