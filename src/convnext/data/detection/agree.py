"""Whether training and validation parts of annotated images go together: classes, masks, images."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data.classification.scan import Scan, images_below
from convnext.data.detection.annotations import Annotations
from convnext.data.detection.coco import CocoDataset
from convnext.data.detection.polygons import Polygons

_ANNOTATIONS = (".json", ".xml", ".txt", ".yaml", ".yml", ".names", ".data", ".labels")
_SHOWN = 5


def aligned(val: Annotations, train: Annotations, *, skip_bad: bool) -> Annotations:
    """The validation part with the classes of the training part, which are found by their names.

    Objects of other classes become regions to ignore where `skip_bad`; else they raise UserError.
    """
    if (val.category_ids, val.classes) == (train.category_ids, train.classes):
        return val
    places = [train.classes.index(name) if name in train.classes else -1 for name in val.classes]
    labels = np.array(places, dtype=np.int64)[val.labels]
    strange = Counter(val.classes[label] for label in val.labels[labels < 0].tolist())
    if strange and not skip_bad:
        name, count = strange.most_common(1)[0]
        raise UserError(
            f"{val.path} has {count:,} objects of '{name}', a class that {train.path} does not have (it has "
            f"{_some(train.classes)}). Both need the same classes, with the same names; --loader.skip-bad in `convnext "
            "train` and --skip-bad in `convnext evaluate` leave such objects out."
        )
    note = []
    if strange:
        note.append(
            f"Left out of {val.path}: {sum(strange.values()):,} objects of classes that {train.path} does not have "
            f"({_some(list(strange))})."
        )
    shared = set(val.classes) & set(train.classes)
    ids = {name: number for name, number in zip(val.classes, val.category_ids, strict=True) if name in shared}
    if any(ids[name] != number for name, number in zip(train.classes, train.category_ids, strict=True) if name in ids):
        note.append(f"{val.path} numbers its classes in another way than {train.path}: they are matched by name.")
    kept = labels >= 0
    outlines = Polygons()
    for row in np.flatnonzero(kept).tolist():
        outlines.add(val.polygons[row])
    return replace(
        val,
        category_ids=train.category_ids,
        classes=train.classes,
        labels=labels[kept],
        images=val.images[kept],
        given=val.given[kept],
        boxes=val.boxes[kept],
        areas=val.areas[kept],
        crowds=val.crowds[kept],
        outlined=val.outlined[kept],
        polygons=outlines,
        regions=np.concatenate([val.regions, val.boxes[~kept]]),
        region_images=np.concatenate([val.region_images, val.images[~kept]]),
        note="\n".join(filter(None, [val.note, *note])),
    )


def check_masks(train: Annotations, val: Annotations) -> None:
    """Raises UserError where only one part has outlines."""
    if train.has_masks != val.has_masks:
        with_masks, without = (train, val) if train.has_masks else (val, train)
        raise UserError(
            f"{with_masks.path} has masks ('segmentation'), {without.path} has boxes only. Give both "
            "parts masks, or neither."
        )


def missed(train: CocoDataset, val: CocoDataset) -> str:
    """Which classes one of the parts has no object of, while the other one has."""
    learned, judged = (np.any(dataset.present(), axis=0).tolist() for dataset in (train, val))
    names = [
        [name for name, here, there in zip(train.classes, own, other, strict=True) if there and not here]
        for own, other in ((learned, judged), (judged, learned))
    ]
    found = []
    if names[1] and not any(judged):
        found.append("The images to validate on hold no object: the figures on them are not defined.")
    elif names[1]:
        found.append(f"No image to validate on holds {_some(names[1])}: there is no figure for that.")
    if names[0]:
        found.append(f"No image to train on holds {_some(names[0])}: that cannot be learned.")
    return " ".join(found)


def shared(train: CocoDataset, val: CocoDataset) -> str:
    """How many images are in both parts."""
    if train.file.root != val.file.root:
        return ""
    ours = {train.key(i) for i in range(len(train))}
    both = [name for i in range(len(val)) if (name := val.key(i)) in ours]
    if not both:
        return ""
    return (
        f"Warning: {len(both):,} of {len(val):,} images to validate on are trained on too, as {printable(both[0])}: "
        "the figures flatter."
    )


def unused(files: list[Annotations]) -> list[str]:
    """What lies in the folders of the images and is not used: images that no annotation lists, other kinds of files."""
    found = []
    for root in sorted({file.root for file in files}):
        listed = {Path(file.files[i]).as_posix() for file in files if file.root == root for i in range(len(file.files))}
        scan = Scan()
        more = [path for path in images_below(root, closed=[], scan=scan) if path not in listed]
        # what is left out since something is wrong with it is counted there
        wrong = sum(file.dropped for file in files if file.root == root)
        if len(more) > wrong:
            example = printable(min(more))
            found.append(f"{len(more) - wrong:,} images in {root} are in no annotation file, as {example}: not used.")
        kinds = {kind: count for kind, count in scan.passed.items() if kind not in _ANNOTATIONS}
        if kinds:
            words = ", ".join(f"{count:,} {printable(kind)}" for kind, count in Counter(kinds).most_common(6))
            found.append(f"Files in {root} that are not read: {words}.")
    return found


def _some(names: tuple[str, ...] | list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")
