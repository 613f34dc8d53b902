"""convnext predict IMAGE [...]"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from convnext.cli.images import InputImage, decoder, drawing_name, find_images, read_or_say
from convnext.cli.output import (
    check_outputs,
    emit,
    emit_json,
    joined_options,
    newest_run,
    options_of,
    parse,
    refuse,
)
from convnext.core.errors import UserError
from convnext.core.logs import Progress, say
from convnext.core.places import check_folder
from convnext.core.text import one_line
from convnext.tasks.table import TASKS

if TYPE_CHECKING:
    from torch import Tensor

    from convnext.tasks.spec import Collector, Prediction, Predictor, TaskSpec

_DRAWN = Path("predictions")  # where drawings go that nobody asked a folder for: people would rather look than read


@dataclass(frozen=True)
class Predict:
    """What a model sees in images: classes, objects with their boxes and masks, or a class for every pixel.

    For example:
      convnext predict cat.jpg dog.png              files
      convnext predict holiday/                     every image in a folder
      cat cat.jpg | convnext predict -              an image, or a list of paths, from standard input
      convnext predict cat.jpg --pictures out/      also draws each image with its classes

    With a detector (convnext train --data IMAGES, annotated in COCO's form):
      convnext predict street.jpg                   draws boxes, masks and labels into predictions/
      convnext predict street.jpg --results r.json  also writes every detection in COCO's form

    With a segmenter (convnext train --data IMAGES, with label maps):
      convnext predict street.jpg                   draws the classes over it, and writes its label map, a PNG
      convnext predict map.tif --short 0            a large image at its own pixels, in parts
    """

    paths: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, - for standard input, or the word digits (the digits that a run held out)."""
    model: str = ""
    """A run's folder, a file of weights, a name from `convnext weights list` or hf-hub:owner/name; the run trained last
    if left out."""
    pictures: Path | None = None
    """A folder for drawings; those of detectors and segmenters go to predictions/ if left out."""
    limit: int = 0
    """Stop after so many images; 0: all."""
    json: bool = False
    """Print as JSON."""


def arguments() -> type[Any]:
    """The command's arguments with those that tasks add."""
    return joined_options("Predict", Predict, _of_tasks())


def _of_tasks() -> dict[str, type[Any]]:
    return {name: spec.predict_options() for name, spec in TASKS.items()}


def run(argv: list[str]) -> int:
    args = parse(arguments(), argv, command="predict")
    if not args.paths:
        raise UserError("Which images? convnext predict FILE_OR_FOLDER ...")
    if not all(args.paths):  # to pathlib an empty one is the current folder
        raise UserError("One of the paths is empty (a shell variable that is not set?): name an image or a folder.")
    if args.limit < 0:
        raise UserError(f"--limit is 0 or more, not {args.limit}.")
    refuse(args, _of_tasks())  # before a model is loaded, as all that follows
    check_outputs(replace(args, pictures=None))
    if args.pictures:
        check_folder(args.pictures, "--pictures")
    model = args.model or str(newest_run())
    if not args.model:
        say(f"using {model}")
    images = list(islice(find_images(args.paths, model), args.limit or None))
    if not images:
        raise UserError(f"There is no image in {', '.join(args.paths)}.")
    from convnext.tasks.choose import find_weights

    spec, file = find_weights(model)
    kinds = {name: other.texts.model for name, other in TASKS.items()}
    options = options_of(args, spec.name, _of_tasks(), model=model, kinds=kinds)
    if spec.draws and not args.pictures:
        check_folder(_DRAWN, "--pictures")
    collector, predictor = spec.collector(options), spec.predictor(file, options)
    results, bad = _predict(spec, predictor, collector, images, args)
    collector.close()
    if args.json:
        emit_json(results + bad)
    for entry in bad:
        say(one_line(f"skipped {entry['name']}: {entry['error']}"))
    return 1 if bad else 0


def _predict(
    spec: TaskSpec, predictor: Predictor, collector: Collector, images: list[InputImage], args: Any
) -> tuple[list[dict[str, Any]], list[dict[str, str]]]:
    """Results in order, printed and drawn as they come; and the images that could not be read, with the reason."""
    results: list[dict[str, Any]] = []
    bad: list[dict[str, str]] = []
    folder = args.pictures or (_DRAWN if spec.draws else None)
    size, decode = getattr(predictor, "batch_size", 1), decoder(predictor)
    with Progress("predicting", len(images), unit="image") as progress:
        for start in range(0, len(images), size):
            some = [(start + i, image) for i, image in enumerate(images[start : start + size])]
            read: list[tuple[int, str, Tensor]] = [
                (number, image.name, pixels)
                for number, image in some
                if (pixels := read_or_say(image, bad, decode)) is not None
            ]
            if read:
                found = predictor.predict([pixels for *_, pixels in read], [name for _, name, _ in read])
                for (number, name, _), prediction in zip(read, found, strict=True):
                    collector.add(number, prediction)
                    results.append(_result(name, prediction, folder, number=number, printed=not args.json))
            progress.update(start + len(some))
    return results, bad


def _result(name: str, prediction: Prediction, folder: Path | None, *, number: int, printed: bool) -> dict[str, Any]:
    """Draws one image's prediction, prints it and returns it."""
    written = {} if folder is None else prediction.save(folder / drawing_name(name, number))
    if printed:
        paths = list(written.values())
        where = f"  ->  {', '.join([str(paths[0]), *(path.name for path in paths[1:])])}" if paths else ""
        emit(one_line(f"{name}: {prediction.summary()}{where}"))
    return {**prediction.to_dict(), **{what: str(path) for what, path in written.items()}}
