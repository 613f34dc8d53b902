"""Reads torch checkpoints as plain data: code in them is never run."""

from __future__ import annotations

import argparse
import pathlib
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from convnext.core.errors import UserError

_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch's older format begins with it


def read_pickle(path: Path) -> Any:
    """Reads a torch checkpoint with weights_only=True. Raises UserError for anything that is not plain data.

    Besides tensors and plain values it accepts what training checkpoints keep beside them: argparse.Namespace, paths,
    NumPy's arrays and scalars.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals(_plain_data()):
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read raises
            _check_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything
        # torch's own message suggests weights_only=False, which would run the code: only its reason is passed on.
        code = re.search(r"(?:unsupported GLOBAL|Unsupported global: GLOBAL) (\S+)", str(error))
        if code:
            reason = f"was refused: beside weights it holds {code[1]}, which could run code. Nothing in it was run"
            raise UserError(f"{path} {reason}; {_instead(code[1])}") from None
        kind = type(error).__name__
        if _is_bare_pickle(path):
            raise UserError(
                f"{path} is damaged or not a torch checkpoint: it begins as a pickle that torch.save did not write. "
                "Where it was made, save its weights: torch.save({name: tensor, ...}, FILE)."
            ) from None
        raise UserError(f"{path} is damaged or not a torch checkpoint ({kind}); download or copy it again.") from None


def _instead(name: str) -> str:
    """What to do about a file that holds a class or function of that name."""
    if name.startswith(("torch.distributed.", "torch.testing._internal.distributed.")):
        return "it is a part of a model that is spread over several devices: save the whole one, and give that."
    whole = "where it was made, save the weights alone, torch.save(model.state_dict(), FILE)"
    return f"{whole}, or use a .safetensors file of the same weights."


def _is_bare_pickle(path: Path) -> bool:
    """Whether a file is a pickle without what torch writes first."""
    try:
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
    except OSError:
        return False
    return len(start) == len(_MAGIC) and start[:1] == b"\x80" and start[2:] != _MAGIC[2:]


def _plain_data() -> list[Any]:
    """Classes and functions that make nothing but data."""
    dtypes = {type(np.dtype(kind)) for kind in ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")}
    rebuild = np.float64(0).__reduce__()[0]
    array = np.zeros(0).__reduce__()[0]
    numpy_names = [(rebuild, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]
    numpy_names += [(array, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")]
    paths = [
        (pathlib.PurePosixPath if "Windows" not in name else pathlib.PureWindowsPath, f"{module}.{name}")
        for module in ("pathlib", "pathlib._local")
        for name in ("PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath", "Path")
    ]
    return [argparse.Namespace, np.dtype, np.ndarray, *dtypes, *numpy_names, *paths]


def _check_archive(path: Path) -> None:
    """Raises ValueError for a zip file that is damaged (torch ignores checksums) or unpacks to more than its size."""
    if not zipfile.is_zipfile(path):
        return  # torch's older format
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise ValueError("compressed entries: torch writes none")
        if (broken := archive.testzip()) is not None:
            raise ValueError(f"checksum of {broken}")
