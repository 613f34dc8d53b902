"""Reads torch checkpoints as plain data: code in them is never run."""

from __future__ import annotations

import argparse
import re
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch

from convnext.core.errors import UserError


def read_pickle(path: Path) -> Any:
    """Reads a torch checkpoint with weights_only=True. Raises UserError for anything that is not plain data.

    Besides tensors and plain values it accepts argparse.Namespace: official training checkpoints keep their arguments
    in one.
    """
    try:
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about pickle protocols; what cannot be read raises
            _check_archive(path)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001 - a damaged pickle can raise anything
        # torch's own message suggests weights_only=False, which would run the code: only its reason is passed on.
        code = re.search(r"(?:unsupported GLOBAL|Unsupported global: GLOBAL) (\S+)", str(error))
        if code:
            reason = f"was refused: beside weights it holds {code[1]}, which could run code. Nothing in it was run"
            raise UserError(f"{path} {reason}; use a .safetensors file of the same weights.") from None
        kind = type(error).__name__
        raise UserError(f"{path} is damaged or not a torch checkpoint ({kind}); download or copy it again.") from None


def _check_archive(path: Path) -> None:
    """Raises ValueError for a zip file that is damaged (torch ignores checksums) or unpacks to more than its size."""
    if not zipfile.is_zipfile(path):
        return  # torch's older format
    with zipfile.ZipFile(path) as archive:
        if sum(entry.file_size for entry in archive.infolist()) > path.stat().st_size:
            raise ValueError("compressed entries: torch writes none")
        if (broken := archive.testzip()) is not None:
            raise ValueError(f"checksum of {broken}")
