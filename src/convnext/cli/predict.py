"""convnext predict PICTURE [...]"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import tyro

from convnext.cli.output import emit, emit_json, newest_run, parse
from convnext.core.errors import UserError
from convnext.core.logs import Progress, say

if TYPE_CHECKING:
    from torch import Tensor

    from convnext.predictor import Guess, Predictor

_BATCH = 32


@dataclass(frozen=True)
class Predict:
    """What a model sees in pictures.

    For example:
      convnext predict cat.jpg dog.png              files
      convnext predict holiday/                     every picture in a folder
      cat cat.jpg | convnext predict -              a picture, or a list of paths, from standard input
      convnext predict cat.jpg --pictures out/      also draws each picture with its classes
    """

    paths: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, - for standard input, or the word digits (the digits that a run held out)."""
    model: str = ""
    """A run's folder, a file of weights, a name from `convnext weights list` or hf-hub:owner/name; the run trained last
    if left out."""
    top: int = 5
    """How many classes to name for each picture."""
    pictures: Path | None = None
    """A folder for annotated copies of the pictures."""
    limit: int = 0
    """Stop after so many pictures; 0: all."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device is fast at it."""
    json: bool = False
    """Print as JSON."""


def run(argv: list[str]) -> int:
    args = parse(Predict, argv, command="predict")
    if not args.paths:
        raise UserError("Which pictures? convnext predict FILE_OR_FOLDER ...")
    if args.top < 1:
        raise UserError(f"--top names at least 1 class, not {args.top}.")
    from convnext.predictor import Predictor

    model = args.model or str(newest_run())
    if not args.model:
        say(f"using {model}")
    predictor = Predictor(model, device=args.device, dtype=args.dtype)
    pictures = list(islice(_find(args.paths, model), args.limit or None))
    if not pictures:
        raise UserError(f"There is no picture in {', '.join(args.paths)}.")
    results, bad = _predict(predictor, pictures, args)
    if args.json:
        emit_json(results + bad)
    for entry in bad:
        say(f"skipped {entry['name']}: {entry['error']}")
    return 1 if bad else 0


class _Picture(NamedTuple):
    """A picture that was found; it is read when its turn comes. `read` raises BadImage or OSError."""

    name: str
    read: Callable[[], Tensor]


def _find(paths: tuple[str, ...], model: str) -> Iterator[_Picture]:
    """Every picture that the arguments mean, in order. Raises UserError for a path that is not there."""
    from convnext.data.decode import IMAGE_SUFFIXES

    for path in paths:
        if path == "-":
            yield from _standard_input(model)
        elif path == "digits" and not Path(path).exists():
            from convnext.run import reopen

            source = reopen(Path(model)).val
            yield from (_Picture(source.name(i), partial(source.read, i)) for i in range(len(source)))
        elif Path(path).is_dir():
            files = (file for file in sorted(Path(path).rglob("*")) if file.suffix.lower() in IMAGE_SUFFIXES)
            yield from (_Picture(str(file), partial(_read, file)) for file in files if file.is_file())
        elif Path(path).is_file():
            yield _Picture(path, partial(_read, Path(path)))
        else:
            raise UserError(f"There is no file or folder {path}.")


def _standard_input(model: str) -> Iterator[_Picture]:
    """One picture, or the paths of many, a line each: text without zero bytes is taken for paths."""
    data = sys.stdin.buffer.read()
    if not data:
        raise UserError("Standard input is empty: pipe a picture or a list of paths into it.")
    try:
        lines = tuple(line for line in data.decode().splitlines() if line.strip()) if b"\0" not in data else ()
    except UnicodeDecodeError:
        lines = ()
    if lines:
        yield from _find(tuple(line for line in lines if line != "-"), model)
    else:
        yield _Picture("-", lambda: _decode(data, "standard input"))


def _read(path: Path) -> Tensor:
    return _decode(path.read_bytes(), str(path))


def _decode(data: bytes, name: str) -> Tensor:
    from convnext.data.decode import decode
    from convnext.predictor import MAX_PIXELS

    return decode(data, name=name, max_pixels=MAX_PIXELS)


def _predict(
    predictor: Predictor, pictures: list[_Picture], args: Predict
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Results in order, printed as they come; and the pictures that could not be read, with the reason."""
    from convnext.data.decode import BadImage

    results: list[dict[str, Any]] = []
    bad: list[dict[str, Any]] = []
    with Progress("predicting", len(pictures), unit="picture") as progress:
        for start in range(0, len(pictures), _BATCH):
            names, images = [], []
            for picture in pictures[start : start + _BATCH]:
                try:
                    images.append(picture.read())
                    names.append(picture.name)
                except BadImage as error:
                    bad.append({"name": picture.name, "error": error.reason})
                except OSError as error:
                    bad.append({"name": picture.name, "error": error.strerror or str(error)})
            guesses = predictor.predict(images, top=args.top) if images else []
            for name, image, row in zip(names, images, guesses, strict=True):
                results.append(_result(name, image, row, args, number=len(results)))
            progress.update(start + len(names))
    return results, bad


def _result(name: str, image: Tensor, guesses: list[Guess], args: Predict, *, number: int) -> dict[str, Any]:
    """Prints one picture's classes, draws it if asked to, and returns them."""
    result: dict[str, Any] = {
        "name": name,
        "classes": [{"label": g.label, "index": g.index, "probability": round(g.probability, 6)} for g in guesses],
    }
    if args.pictures:
        from convnext.study.pictures import annotated

        args.pictures.mkdir(parents=True, exist_ok=True)
        stem = re.sub(r"[^\w.-]+", "_", Path(name).stem) or "picture"
        target = args.pictures / f"{number:04d}-{stem}.png"
        annotated(image, [(g.label, g.probability) for g in guesses], title=Path(name).name).save(target)
        result["picture"] = str(target)
    if not args.json:
        emit(f"{name}: " + ", ".join(f"{g.label} {100 * g.probability:.1f} %" for g in guesses))
    return result
