"""What kind of file it is, by its first bytes: weights in a form that is read, or something else with a name."""

from __future__ import annotations

import json
import re
import struct
import zipfile
from pathlib import Path
from typing import Literal

from convnext.core.errors import UserError
from convnext.core.text import printable

Kind = Literal["safetensors", "pickle"]
_START = 512
_CONVERT = "Its weights are not read here: convert them to PyTorch"
_ONNX = "an ONNX model: take the weights of the PyTorch model that it was made of"
_FOREIGN = (  # place, bytes, what it is
    (0, b"\x89HDF\r\n", f"an HDF5 file, as Keras writes it. {_CONVERT}"),
    (0, b"GGUF", "a GGUF file of a language model"),
    (0, b"\x1f\x8b", "compressed with gzip: unpack it first"),
    (0, b"BZh", "compressed with bzip2: unpack it first"),
    (0, b"\xfd7zXZ", "compressed with xz: unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "compressed with zstd: unpack it first"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive: unpack it first"),
    (0, b"Rar!", "a RAR archive: unpack it first"),
    (257, b"ustar", "a tar archive: unpack it first"),
    (0, b"\x93NUMPY", "a single NumPy array, not the weights of a model"),
    (4, b"TFL3", f"a TensorFlow Lite model. {_CONVERT}"),
    (4, b"ET12", "an ExecuTorch program: take the weights of the PyTorch model that it was made of"),
    (0, b"ftrt", "a TensorRT engine: take the weights of the PyTorch model that it was made of"),
    (0, b"\x89PNG", "a picture, not the weights of a model"),
    (0, b"\xff\xd8\xff", "a picture, not the weights of a model"),
    (0, b"%PDF", "a PDF, not the weights of a model"),
)
_BY_NAME = {
    ".onnx": _ONNX,
    ".pb": f"a TensorFlow graph. {_CONVERT}",
    ".msgpack": f"a checkpoint of Flax. {_CONVERT}",
    ".mlmodel": f"a Core ML model. {_CONVERT}",
    ".pdparams": f"a checkpoint of Paddle. {_CONVERT}",
}
_ONNX_START = re.compile(
    rb"\x08[\x01-\x1f]\x12[\x01-\x40](pytorch|tf2onnx|keras2onnx|skl2onnx|onnx|paddle)", re.IGNORECASE
)
_TORCH_ZIP, _SCRIPT = "data.pkl", re.compile(r"[^/]+/code/.*")
_IN_ZIPS = (  # the end of a member's name, what holds it
    ("model.weights.h5", f"a model of Keras. {_CONVERT}"),
    ("serialized_exported_program.json", "a program of torch.export: save its weights, torch.save(..., FILE)"),
    ("models/model.json", "a program of torch.export: save its weights, torch.save(..., FILE)"),
    (".npy", "an archive of NumPy arrays (.npz); weights are read from .safetensors and .pth files"),
)


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
    if not start:
        return "empty: download or copy it again"
    if not start.strip(b"\x00"):
        return "filled with zeros: a download or a copy that was interrupted. Download or copy it again"
    found = _text(path, start) or next((w for place, magic, w in _FOREIGN if start[place:].startswith(magic)), "")
    if found or start.startswith(b"PK\x03\x04"):
        return found or _zip(path)
    if _ONNX_START.match(start):
        return _ONNX
    return "" if start.startswith(b"\x80") else _BY_NAME.get(path.suffix.lower(), "")


def _text(path: Path, start: bytes) -> str:
    """What a text file is; "" for other files."""
    text = start.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if start.startswith(b"version https://git-lfs"):
        return "a pointer of Git LFS, not the weights themselves: fetch them with `git lfs pull`"
    if text.startswith((b"<!doctype html", b"<html", b"<head")) or b"<html" in text:
        return "a web page, not the weights: open the address in a browser, and download the file that it offers"
    if text.startswith((b"{", b"[")) and path.suffix != ".safetensors":
        return "a text file (JSON), not the weights"
    if text.startswith(b"<?xml"):
        return "a text file (XML), not the weights"
    try:
        words = start[:400].decode("utf-8")  # a longer one may be cut within a character
    except UnicodeDecodeError:
        return ""
    first = words.strip().splitlines()[0] if words.strip() else ""
    plain = len(first) > 3 and all(c.isprintable() or c in "\r\n\t" for c in words)
    return f"a text file, not the weights: it begins '{printable(first)[:60]}'" if plain else ""


def _zip(path: Path) -> str:
    """What a zip file is that is no checkpoint of torch's; "" for one of those."""
    try:
        if not zipfile.is_zipfile(path):
            return "cut off: it begins as a checkpoint and has no end. Download or copy it again"
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except Exception:  # noqa: BLE001 - a damaged archive can raise anything; its own reader says what is wrong
        return ""
    if any(_SCRIPT.fullmatch(name) for name in names):
        return "a TorchScript program, which is not run here: save its weights, torch.save(model.state_dict(), ...)"
    if any(name.endswith(_TORCH_ZIP) for name in names):
        return ""
    found = next((what for end, what in _IN_ZIPS if any(name.endswith(end) for name in names)), "")
    inside = ", ".join(printable(name)[:60] for name in names[:3]) or "empty"
    return found or f"a zip archive ({inside}), not a checkpoint: unpack it first"


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
