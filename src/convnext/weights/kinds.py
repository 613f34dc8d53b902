"""What kind of file it is, by its first bytes: weights in a form that is read, or something else with a name."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Literal

from convnext.core.errors import UserError

Kind = Literal["safetensors", "pickle"]
_START = 512
_FOREIGN = {
    b"\x89HDF\r\n": "an HDF5 file, as Keras writes it. Its weights are not read here: convert them to PyTorch",
    b"GGUF": "a GGUF file of a language model",
    b"\x1f\x8b": "compressed with gzip: unpack it first",
    b"\x93NUMPY": "a single NumPy array, not the weights of a model",
    b"\x28\xb5\x2f\xfd": "compressed with zstd: unpack it first",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it first",
}


def kind_of(path: Path) -> Kind:
    """safetensors, or a pickle of torch's. Raises UserError, naming what it is, for a file that is neither."""
    try:
        with path.open("rb") as file:
            start = file.read(_START)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}.") from None
    if what := _foreign(path, start):
        raise UserError(f"{path} is {what}.")
    if path.suffix == ".safetensors" or _begins_as_safetensors(start):
        _check_whole(path, start)
        return "safetensors"
    return "pickle"


def _foreign(path: Path, start: bytes) -> str:
    """What a file is that holds no weights that are read; "" for others."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if not start:
        return "empty: download or copy it again"
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the weights themselves: fetch them with `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html", b"<?xml", b"<head")):
        return "a web page, not the weights: open the address in a browser, and download the file that it offers"
    if text.startswith((b"{", b"[")) and path.suffix != ".safetensors":
        return "a text file (JSON), not the weights"
    if start[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if re.search(rb"\.onnx$", path.name.encode(), re.IGNORECASE) or b"onnx" in start[:64].lower():
        return "an ONNX model: take the weights of the PyTorch model that it was made of"
    found = next((what for magic, what in _FOREIGN.items() if start.startswith(magic)), "")
    return found or (_zip(path) if start.startswith(b"PK\x03\x04") else "")


def _zip(path: Path) -> str:
    """What a zip file is that is no checkpoint of torch's; "" for one of those."""
    try:
        if not zipfile.is_zipfile(path):
            return "cut off: it begins as a checkpoint and has no end. Download or copy it again"
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 - a damaged archive can raise anything; its own reader says what is wrong
        return ""
    if any(re.fullmatch(r"[^/]+/code/.*", name) for name in names):
        return "a TorchScript program, which is not run here: save its weights, torch.save(model.state_dict(), ...)"
    if any(name.endswith(".npy") for name in names) and not any(name.endswith("data.pkl") for name in names):
        return "an archive of NumPy arrays (.npz); weights are read from .safetensors and .pth files"
    if not any(name.endswith("data.pkl") for name in names):
        return f"a zip archive ({', '.join(names[:3])}), not a checkpoint: unpack it first"
    return ""


def _begins_as_safetensors(start: bytes) -> bool:
    return len(start) > 9 and start[8:9] == b"{" and 0 < struct.unpack("<Q", start[:8])[0] < 1 << 30


def _check_whole(path: Path, start: bytes) -> None:
    """Raises UserError for a safetensors file whose end is missing."""
    size, length = path.stat().st_size, struct.unpack("<Q", start[:8])[0] if len(start) >= 8 else 0
    if not _begins_as_safetensors(start):
        return  # its own reader says what is wrong
    if 8 + length > size:
        raise UserError(f"{path} is cut off: {size:,} bytes of at least {8 + length:,}. Download or copy it again.")
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(8 + length)[8:])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        whole = 8 + length + max(ends, default=0)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError, AttributeError):
        return  # its own reader says what is wrong
    if isinstance(whole, int) and whole > size:
        raise UserError(f"{path} is cut off: {size:,} of {whole:,} bytes. Download or copy it again.")
