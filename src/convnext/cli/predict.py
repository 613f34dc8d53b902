"""convnext predict PICTURE [...]"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro

from convnext.cli.output import emit, emit_json, newest_run, parse, refuse_others
from convnext.cli.pictures import Picture, drawing_name, find_pictures, read_or_say
from convnext.core.atomic import write_text
from convnext.core.errors import UserError
from convnext.core.logs import Progress, say

if TYPE_CHECKING:
    from torch import Tensor

    from convnext.ops.instances import Detections
    from convnext.tasks.classification.predict import Prediction, Predictor
    from convnext.tasks.detection.predict import Detector
    from convnext.tasks.segmentation.predict import Segmenter

_BATCH = 32
_DRAWN = Path("predictions")  # where a detector's pictures go: people would rather look than read boxes
_NAMED = 5  # classes of pixels that are told for each picture


@dataclass(frozen=True)
class Predict:
    """What a model sees in pictures: classes, objects with their boxes and polygons, or a class for every pixel.

    For example:
      convnext predict cat.jpg dog.png              files
      convnext predict holiday/                     every picture in a folder
      cat cat.jpg | convnext predict -              a picture, or a list of paths, from standard input
      convnext predict cat.jpg --pictures out/      also draws each picture with its classes

    With a detector (convnext train --data PICTURES, annotated in COCO's form):
      convnext predict street.jpg                   draws boxes, polygons and labels into predictions/
      convnext predict street.jpg --results r.json  also writes every detection in COCO's form

    With a segmenter (convnext train --data PICTURES, with label maps):
      convnext predict street.jpg                   draws the classes over it, and writes its label map, a PNG
      convnext predict map.tif --short 0            a large picture at its own pixels, in parts
    """

    paths: tyro.conf.Positional[tuple[str, ...]] = ()
    """Files, folders, - for standard input, or the word digits (the digits that a run held out)."""
    model: str = ""
    """A run's folder, a file of weights, a name from `convnext weights list` or hf-hub:owner/name; the run trained last
    if left out."""
    top: int = 5
    """Classifier: how many classes to name for each picture."""
    score: float = 0.5
    """Detector: show objects from this score on."""
    scales: tuple[float, ...] = (1.0,)
    """Detector, segmenter: look at each picture at these sizes, as 0.5 1 1.5, and judge them together."""
    flip: bool = False
    """Detector, segmenter: look at mirror images too."""
    results: Path | None = None
    """Detector: a file for every detection, in COCO's form; pictures are numbered in their order, from 1."""
    pictures: Path | None = None
    """A folder for annotated copies of the pictures; those of detectors and segmenters go to predictions/ if left
    out."""
    short: int | None = None
    """Segmenter: pixels of the pictures' shorter side, in place of its own; 0: pictures as they are."""
    window: int | None = None
    """Segmenter: side of the windows that slide over a picture, in place of its own; 0: the whole picture at once."""
    megabytes: int = 1024
    """Segmenter: memory for a picture's scores; a larger picture is judged in parts."""
    limit: int = 0
    """Stop after so many pictures; 0: all."""
    device: str = "auto"
    """auto, cpu, cuda or mps."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """auto: bfloat16 where the device is fast at it."""
    json: bool = False
    """Print as JSON."""


_OF_TASKS = {
    "top": ("classifier",),
    "score": ("detector",),
    "results": ("detector",),
    "scales": ("detector", "segmenter"),
    "flip": ("detector", "segmenter"),
    "short": ("segmenter",),
    "window": ("segmenter",),
    "megabytes": ("segmenter",),
}


def run(argv: list[str]) -> int:
    args = parse(Predict, argv, command="predict")
    if not args.paths:
        raise UserError("Which pictures? convnext predict FILE_OR_FOLDER ...")
    if not all(args.paths):  # to pathlib an empty one is the current folder
        raise UserError("One of the paths is empty (a shell variable that is not set?): name a picture or a folder.")
    if args.top < 1:
        raise UserError(f"--top names at least 1 class, not {args.top}.")
    if not 0 <= args.score <= 1:
        raise UserError(f"--score lies in 0 to 1, not {args.score:g}.")
    from convnext.weights.kinds import kind_of

    model = args.model or str(newest_run())
    if not args.model:
        say(f"using {model}")
    kind = kind_of(model)
    refuse_others(kind, model, args, Predict(), _OF_TASKS)
    see = {"classifier": _classes, "detector": _objects, "segmenter": _pixels}[kind]
    pictures = list(islice(find_pictures(args.paths, model), args.limit or None))
    if not pictures:
        raise UserError(f"There is no picture in {', '.join(args.paths)}.")
    results, bad = see(model, pictures, args)
    if args.json:
        emit_json(results + bad)
    for entry in bad:
        say(f"skipped {entry['name']}: {entry['error']}")
    return 1 if bad else 0


_Results = tuple[list[dict[str, Any]], list[dict[str, str]]]
"""Results in order, and the pictures that could not be read, with the reason."""


def _classes(model: str, pictures: list[Picture], args: Predict) -> _Results:
    """What a classifier sees, printed as it comes."""
    from convnext.tasks.classification.predict import Predictor

    predictor = Predictor(model, device=args.device, dtype=args.dtype)
    results: list[dict[str, Any]] = []
    bad: list[dict[str, str]] = []
    with Progress("predicting", len(pictures), unit="picture") as progress:
        for start in range(0, len(pictures), _BATCH):
            some = pictures[start : start + _BATCH]
            read = [(p.name, image) for p in some if (image := read_or_say(p, bad)) is not None]
            _classified(predictor, read, args, results)
            progress.update(start + len(some))
    return results, bad


def _classified(
    predictor: Predictor, read: list[tuple[str, Tensor]], args: Predict, results: list[dict[str, Any]]
) -> None:
    if not read:
        return
    guesses = predictor.predict([image for _, image in read], top=args.top)
    for (name, image), row in zip(read, guesses, strict=True):
        results.append(_class_result(name, image, row, args, number=len(results)))


def _class_result(name: str, image: Tensor, guesses: list[Prediction], args: Predict, *, number: int) -> dict[str, Any]:
    """Prints one picture's classes, draws it if asked to, and returns them."""
    result: dict[str, Any] = {
        "name": name,
        "classes": [{"label": g.label, "index": g.index, "probability": round(g.probability, 6)} for g in guesses],
    }
    if args.pictures:
        from convnext.tasks.classification.draw import annotated

        args.pictures.mkdir(parents=True, exist_ok=True)
        target = args.pictures / drawing_name(name, number)
        annotated(image, [(g.label, g.probability) for g in guesses], title=Path(name).name).save(target)
        result["picture"] = str(target)
    if not args.json:
        emit(f"{name}: " + ", ".join(f"{g.label} {100 * g.probability:.1f} %" for g in guesses))
    return result


def _objects(model: str, pictures: list[Picture], args: Predict) -> _Results:
    """What a detector finds, printed and drawn as it comes."""
    from convnext.models.tta import TTA
    from convnext.tasks.detection.evaluate import make_folder_for
    from convnext.tasks.detection.predict import Detector

    if args.results is not None:
        make_folder_for(args.results)
    detector = Detector(model, device=args.device, dtype=args.dtype, views=TTA(args.scales, args.flip))
    results: list[dict[str, Any]] = []
    bad: list[dict[str, str]] = []
    every: list[dict[str, Any]] = []
    with Progress("predicting", len(pictures), unit="picture") as progress:
        for number, picture in enumerate(pictures):
            image = read_or_say(picture, bad)
            if image is not None:
                found = detector.detect(image)
                every += _coco_results(picture.name, number + 1, found, detector)
                results.append(_object_result(picture.name, image, found, detector, args, number=number))
            progress.update(number + 1)
    if args.results is not None:
        write_text(args.results, json.dumps(every) + "\n")
    return results, bad


def _coco_results(name: str, image_id: int, found: Detections, detector: Detector) -> list[dict[str, Any]]:
    from convnext.metrics.coco_ap import results_of

    ids = detector.metadata.category_ids or tuple(range(1, 1 + len(detector.classes)))
    return [{**entry, "file_name": name} for entry in results_of(image_id, found, ids)]


def _object_result(
    name: str, image: Tensor, found: Detections, detector: Detector, args: Predict, *, number: int
) -> dict[str, Any]:
    """Prints how many of which objects there are, draws them, and returns them."""
    from convnext.ops.instances import above_score
    from convnext.tasks.detection.draw import drawn

    shown, folder = detector.named(found, score=args.score), args.pictures or _DRAWN
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / drawing_name(name, number)
    drawn(image, above_score(found, args.score), detector.classes, title=Path(name).name).save(target)
    if not args.json:
        counts = {label: sum(one.label == label for one in shown) for label in dict.fromkeys(o.label for o in shown)}
        said = ", ".join(f"{count} {label}" for label, count in counts.items()) or f"nothing from {args.score:g} on"
        emit(f"{name}: {said}  ->  {target}")
    objects = [
        {"label": one.label, "index": one.index, "score": round(one.score, 6), "box": [round(v, 2) for v in one.box]}
        for one in shown
    ]
    return {"name": name, "objects": objects, "picture": str(target)}


def _pixels(model: str, pictures: list[Picture], args: Predict) -> _Results:
    """What a segmenter takes each pixel for: told by shares, drawn, and written as a label map."""
    from convnext.models.tta import TTA
    from convnext.tasks.segmentation.predict import Segmenter

    segmenter = Segmenter(
        model,
        device=args.device,
        dtype=args.dtype,
        views=TTA(args.scales, args.flip),
        short=args.short,
        window=args.window,
        megabytes=args.megabytes,
    )
    results: list[dict[str, Any]] = []
    bad: list[dict[str, str]] = []
    with Progress("predicting", len(pictures), unit="picture") as progress:
        for number, picture in enumerate(pictures):
            image = read_or_say(picture, bad)
            if image is not None:
                results.append(_pixel_result(picture.name, image, segmenter, args, number=number))
            progress.update(number + 1)
    return results, bad


def _pixel_result(name: str, image: Tensor, segmenter: Segmenter, args: Predict, *, number: int) -> dict[str, Any]:
    """Prints the largest classes of one picture, draws all, writes its label map, and returns what is where."""
    from convnext.tasks.segmentation.draw import index_map, overlaid

    labels, folder = segmenter.segment(image), args.pictures or _DRAWN
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / drawing_name(name, number)
    map_ = target.with_suffix(".labels.png")
    overlaid(image, labels, segmenter.classes, segmenter.colours, title=Path(name).name).save(target)
    index_map(labels, segmenter.metadata.values, segmenter.colours).save(map_)
    shares = segmenter.shares(labels)
    if not args.json:
        few = [f"{label} {100 * share:.1f} %" for label, share in list(shares.items())[:_NAMED]]
        said = ", ".join(few) + (", ..." if len(shares) > _NAMED else "")
        emit(f"{name}: {said}  ->  {target}, {map_.name}")
    rounded = {label: round(share, 6) for label, share in shares.items()}
    return {"name": name, "shares": rounded, "picture": str(target), "labels": str(map_)}
