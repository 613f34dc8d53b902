"""Which images a command means: files, folders, standard input, the digits of a run."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from convnext.core.errors import UserError
from convnext.core.logs import say

if TYPE_CHECKING:
    from torch import Tensor


Decode = Callable[[bytes, str], "Tensor"]
"""A file's bytes and its name for messages -> the image. Raises BadImage."""


class InputImage(NamedTuple):
    """An image that was found; it is read when its turn comes. `read` raises BadImage or OSError."""

    name: str
    read: Callable[[Decode], Tensor]


def find_images(paths: tuple[str, ...], model: str) -> Iterator[InputImage]:
    """Every image that the arguments mean, in order; in a folder all but the hidden ones, as training takes them.

    Raises UserError for a path that is not there.
    """
    from convnext.data.classification.scan import Scan, images_below

    for path in paths:
        if path == "-":
            yield from _standard_input(model)
        elif path == "digits" and not Path(path).exists():
            from convnext.run import held_out, recipe_of

            trained_on = recipe_of(Path(model)).data
            if trained_on != path:
                raise UserError(f"There is no file digits, and {model} was trained on {trained_on}, not on the digits.")
            dataset = held_out(Path(model))
            yield from (InputImage(dataset.name(i), partial(_of_dataset, dataset, i)) for i in range(len(dataset)))
        elif os.path.isdir(path):
            closed: list[str] = []  # folders: named as what cannot be read, like a bad image, and the others go on
            passed = Scan()
            files = [*images_below(Path(path), closed=closed, scan=passed), *closed]
            for note in passed.notes(Path(path)):
                say(note)
            yield from (
                InputImage(str(file), partial(_read, file)) for file in sorted(Path(path, name) for name in files)
            )
        elif os.path.isfile(path):
            yield InputImage(path, partial(_read, Path(path)))
        elif os.path.exists(path):
            raise UserError(
                f"{path} is a pipe, a socket or a device, and no image. For a pipe, give - and pipe into it."
            )
        elif os.path.islink(path):
            raise UserError(f"{path} is a link to {os.readlink(path)}, which is not there.")
        else:
            raise UserError(f"There is no file or folder {path}.")


def _standard_input(model: str) -> Iterator[InputImage]:
    """One image, or the paths of many, a line each: text without zero bytes is taken for paths."""
    data = sys.stdin.buffer.read()
    if not data:
        raise UserError("Standard input is empty: pipe an image or a list of paths into it.")
    try:
        lines = tuple(line for line in data.decode().splitlines() if line.strip()) if b"\0" not in data else ()
    except UnicodeDecodeError:
        lines = ()
    if lines:
        yield from find_images(tuple(line for line in lines if line != "-"), model)
    else:
        yield InputImage("-", lambda decode: decode(data, "standard input"))


def _of_dataset(dataset: Any, index: int, decode: Decode) -> Tensor:
    return dataset.read(index)


def _read(path: Path, decode: Decode) -> Tensor:
    if not os.path.isfile(path) and os.path.exists(path):  # put there since it was found: reading would wait for ever
        raise OSError("a pipe, a socket or a device" if not os.path.isdir(path) else "a folder that cannot be opened")
    return decode(path.read_bytes(), str(path))


def decoder(predictor: Any) -> Decode:
    """How the images of a predictor are decoded: into as many bands as it takes."""
    from convnext.data.bands import decode_bands
    from convnext.data.inputs import MAX_PIXELS

    bands, white = getattr(predictor, "bands", 3), getattr(predictor, "white", 0.0)
    return lambda data, name: decode_bands(data, name=name, max_pixels=MAX_PIXELS, bands=bands, white=white)


def read_or_say(image: InputImage, bad: list[dict[str, str]], decode: Decode) -> Tensor | None:
    """The image; where it cannot be read None, and the reason in `bad`."""
    from convnext.data.decode import BadImage

    try:
        return image.read(decode)
    except BadImage as error:
        bad.append({"name": image.name, "error": error.reason})
    except OSError as error:
        bad.append({"name": image.name, "error": error.strerror or str(error)})
    return None


def drawing_name(name: str, number: int) -> str:
    """What the drawing of a image is called: its number, and the image's name as far as that is harmless."""
    stem = re.sub(r"[^\w.-]+", "_", Path(name).stem) or "image"
    return f"{number:04d}-{stem}.png"
