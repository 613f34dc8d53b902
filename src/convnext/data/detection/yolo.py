"""YOLO's labels: a text file for each image, a line for each object, in shares of the image's size.

    2 0.50 0.50 0.20 0.30                class, centre x, centre y, width, height
    2 0.10 0.10 0.40 0.10 0.40 0.50      class, then the corners of an outline

A missing or empty label file is an image without objects. `yolo_layout` finds the files.
"""

from __future__ import annotations

from pathlib import Path

from convnext.core.text import printable
from convnext.data.detection.document import Builder, Document, Place, image_files, number_of
from convnext.data.detection.yolo_layout import NAMES, class_names, has_keypoints, in_labels
from convnext.data.headers import header_size
from convnext.data.problems import short
from convnext.data.strings import read_text

_MOST_BYTES = 64 << 20
_OUT = 0.02  # share of an image's side by which rounding may leave it
_PIXELS = 2.0  # numbers beyond this are no shares
_NO_LABEL = "lines that are no labels (a class number, then x, y, width and height, or the corners of an outline)"


class _Lines:
    """The lines of labels of a part, taken one by one."""

    def __init__(
        self, builder: Builder, names: dict[int, str], said_by: str, *, used: set[int], keypoints: bool
    ) -> None:
        self.builder, self.names, self.said_by, self.used, self.keypoints = builder, names, said_by, used, keypoints
        self.beyond = 0

    def add(self, image: int, words: list[str], size: tuple[int, int], where: str) -> None:
        """Takes the object of a line, or notes what is wrong with it."""
        numbers = [number for word in words if (number := number_of(word)) is not None]
        shares = numbers[1:5] if self.keypoints else numbers[1:]
        if len(numbers) != len(words) or len(words) < 5 or len(shares) % 2 or numbers[0] % 1:
            self.builder.refuse(_NO_LABEL, f"{where}: {short(' '.join(words))}")
            return
        height, width = size
        if len(shares) == 4:
            x, y, w, h = shares
            shares = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
            outline = None
        else:
            outline = [min(max(share, 0.0), 1.0) * (width, height)[i % 2] for i, share in enumerate(shares)]
        if max(map(abs, numbers[1:5])) > _PIXELS:
            kind = "boxes and outlines whose numbers do not lie in 0..1, as shares of the image's size do"
            self.builder.refuse(kind, f"{where}: {short(' '.join(words))}")
            return
        box = [share * (width, height)[i % 2] for i, share in enumerate(shares)]
        label = self.names.get(int(numbers[0]))
        if label is None:
            kind = f"objects of class numbers that {self.said_by} does not name ({self._numbers()})"
            self.builder.refuse(kind, f"{where}: class {int(numbers[0])}", image=image, points=box)
        elif outline is None:
            x0, y0, x1, y1 = box
            self.builder.box(image, label, (x0, y0, x1, y1), where=where)
        else:
            self.beyond += min(shares) < -_OUT or max(shares) > 1 + _OUT
            self.builder.polygon(image, label, outline, where=where)

    def _numbers(self) -> str:
        """Those that are named, for messages."""
        known = sorted(self.names)
        text = f"it names {len(known):,}, {known[0]} to {known[-1]}"
        from_one = known[0] == 0 and 0 not in self.used and len(known) in self.used
        return f"{text}; no object has class 0: do the numbers begin at 1?" if from_one else text


def read(root: Path, place: Place) -> Document:
    """The objects of one part. Raises UserError where nothing names the classes and no object is there."""
    texts: dict[str, list[tuple[int, list[str]]]] = {}
    missing, files, paths = 0, set[Path](), image_files(place)
    for path in paths:
        file = _label_file(place, path)
        files.add(file)
        if file.is_file():
            lines = enumerate(read_text(file, most=_MOST_BYTES).splitlines(), 1)
            texts[path] = [(number, words) for number, line in lines if (words := line.split())]
        else:
            missing += 1
    used = _used(texts)
    names, said_by, note = class_names(root, place.labels, used)
    builder = Builder([names[number] for number in sorted(names)])
    taken = _Lines(builder, names, said_by, used=used, keypoints=has_keypoints(root))
    for path in paths:
        size = header_size(place.images / path)
        number = builder.image(path, size)
        lines = texts.get(path, [])
        if size is None and lines:
            builder.leave_out("lines of labels of images whose size is not known", len(lines))
            continue
        for line, words in lines:
            assert size is not None
            taken.add(number, words, size, f"{printable(_label_file(place, path).name)}, line {line}")
    notes = [note] if note else []
    if missing:
        notes.append(f"{missing:,} of {len(paths):,} images have no label file: images without objects.")
    if taken.beyond:
        notes.append(f"{taken.beyond:,} outlines reach beyond their image; they are cut off at its border.")
    if taken.keypoints:
        notes.append("Lines hold keypoints behind a box, as data.yaml says (kpt_shape): the boxes alone are read.")
    if place.names is None:
        known = {file for file in place.labels.rglob("*.txt") if file.name not in NAMES}
        if lonely := len(known - files):
            builder.leave_out("label files without an image", lonely)
    return builder.document(notes, where=place.labels)


def _used(texts: dict[str, list[tuple[int, list[str]]]]) -> set[int]:
    """The class numbers of all lines."""
    first = {words[0] for lines in texts.values() for _, words in lines}
    numbers = {number for word in first if (number := number_of(word)) is not None}
    return {int(number) for number in numbers if number % 1 == 0 and 0 <= number < 1 << 31}


def _label_file(place: Place, path: str) -> Path:
    """The text file of an image's labels."""
    beside = Path(path).with_suffix(".txt")
    if place.names is not None:
        there = in_labels(place.images, place.images / beside)
        if there is not None and there.is_file():
            return there
    return place.labels / beside
