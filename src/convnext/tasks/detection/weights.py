"""A detector from a name, a file or a run's folder; and weights for one to start from. K classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.data.detection.config import DetectionInputConfig
from convnext.models.detection.build import build_detector
from convnext.models.detection.config import CASCADE_ROI, CASCADE_RPN, DetectorConfig, RoIConfig, RPNConfig
from convnext.models.detection.rcnn import RCNN
from convnext.tasks.choose import refuse_names_of_others
from convnext.tasks.detection.published import (
    NUM_CLASSES,
    PublishedDetector,
    coco_categories,
    published,
)
from convnext.tasks.detection.recipe import TASK, DetectionMetadata, owns
from convnext.tasks.detection.spec import DETECTION
from convnext.tasks.heads import class_order, in_order, kept_words, new_words
from convnext.weights.backbone import load_backbone
from convnext.weights.files import load_strictly, metadata_from
from convnext.weights.formats import official
from convnext.weights.locate import WeightFile, locate_among
from convnext.weights.recognise import recognise

_OF_CLASSES = re.compile(r"roi_head\.(bbox_head\.(\d\.)?fc_(cls|reg)|mask_head\.(\d\.)?conv_logits)\.")
_MASKS = "roi_head.mask_head."


class LoadedDetector(NamedTuple):
    """A detector in evaluation mode, and what it knows about itself."""

    model: RCNN
    metadata: DetectionMetadata


def load_detector(source: str | Path | WeightFile, *, device: str = "cpu") -> LoadedDetector:
    """Loads a detector, and says in a line each what one should know about it.

    Args:
        source: a run's folder; a file of ours; one in the layout of the official detection checkpoints (mmdetection's);
            a name from `convnext weights list --detectors`; an https address; `hf-hub:owner/name` of a file of ours.
        device: auto, cpu, cuda, mps. Weights stay float32: half types come by autocast.

    Raises UserError for weights that are missing, damaged, or do not fit: it names the tensor.
    """
    file = find_detector_file(source)
    metadata, notes = describe_detector(file)
    for note in notes:
        say(f"- {note}")
    with torch.device("meta"):  # neither time nor memory for weights that are replaced at once
        model = build_detector(metadata.model)
    load_strictly(model, file.state, file.source)
    return LoadedDetector(model.to(pick_device(device)).eval(), metadata)


def find_detector_file(source: str | Path | WeightFile) -> WeightFile:
    """The file that a path, an address or the name of a published detector (or classifier) means."""
    refuse_names_of_others(source, TASK)
    return locate_among(source, published(), pattern=DETECTION.name_pattern, kind=DETECTION.texts.model)


def describe_detector(file: WeightFile) -> tuple[DetectionMetadata, list[str]]:
    """The metadata of a file, and what had to be assumed for it. Raises UserError where it holds no detector."""
    if file.values is not None:
        if not owns(file.values):
            raise UserError(f"{file.file} holds no detector: `convnext.load` loads a model of any task.")
        return metadata_from(file.values, DetectionMetadata, file.file), []
    row = file.row if isinstance(file.row, PublishedDetector) else None
    model = row.config if row else recognise_detector(file.state, file.source)
    notes, names, numbers = [], file.classes(model.num_classes), ()
    if model.num_classes == NUM_CLASSES and (row is not None or names in ((), coco_categories()[0])):
        unnamed, (names, numbers) = not names, coco_categories()
        if row is None and unnamed:
            notes.append(f"{file.source} does not name its 80 classes: COCO's are taken")
    source = f"{row.name} ({row.licence})" if row else ""
    return DetectionMetadata(model, DetectionInputConfig(), names, numbers, source=source), notes


def holds_detector(file: WeightFile) -> bool:
    """Whether a file holds a detector, whoever saved it."""
    if isinstance(file.row, PublishedDetector):
        return True
    return owns(file.values) if file.values is not None else any(mark in file.state for mark in DETECTION.marks)


def recognise_detector(state: Mapping[str, Tensor], where: str) -> DetectorConfig:
    """The configuration of the detector whose weights these are, read off names and shapes.

    Settings that weights do not show (thresholds, samples) are those of the official configurations. Raises UserError
    where it is no detector known here.
    """
    (mark,) = DETECTION.marks
    if mark not in state:
        raise UserError(f"{where} holds no Mask R-CNN or Cascade Mask R-CNN (there is no {mark}).")
    cascade = "roi_head.bbox_head.0.fc_cls.weight" in state
    head = "roi_head.bbox_head.0." if cascade else "roi_head.bbox_head."
    drawn = "roi_head.mask_head.0." if cascade else "roi_head.mask_head."
    layers = ("fc_cls", "shared_fcs.0", "fc_reg")
    needed = ("neck.lateral_convs.0.conv.weight", *(f"{head}{layer}.weight" for layer in layers))
    missing = [name for name in needed if name not in state or state[name].ndim < 2]
    if missing:
        raise UserError(f"{where} is a detector of a kind not known here: there is no {missing[0]}.")
    given = official(state)
    rpn, roi = (CASCADE_RPN, CASCADE_ROI) if cascade else (RPNConfig(), RoIConfig())
    return DetectorConfig(
        backbone=recognise(given.state, where, norm_first=given.norm_first),
        num_classes=state[needed[1]].shape[0] - 1,
        masks=f"{drawn}conv_logits.weight" in state,
        width=state[needed[0]].shape[0],
        rpn=rpn,
        roi=replace(
            roi,
            convs=_count(state, f"{head}shared_convs."),
            fcs=_count(state, f"{head}shared_fcs."),
            width=state[needed[2]].shape[0],
            class_agnostic=state[f"{head}fc_reg.weight"].shape[0] == 4 and state[needed[1]].shape[0] > 2,
            mask_convs=_count(state, f"{drawn}convs.") or roi.mask_convs,
        ),
    )


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many layers have names that begin with `prefix` and a number."""
    return len({name.removeprefix(prefix).split(".")[0] for name in state if name.startswith(prefix)})


def load_initial_detector(
    model: RCNN, source: str | Path | WeightFile, *, classes: Sequence[str] | None = None
) -> list[str]:
    """Loads weights to start from, and returns in words what stays newly initialised.

    source: a detector, whose outputs start anew where it has other classes (classes: the data's, by name, in any
    order; None: as many), and whose mask heads are left off where the model has none (or start anew where they are not
    in it); or a classifier, whose layers become the backbone. Raises UserError where anything else does not fit.
    """
    file = find_detector_file(source)
    if holds_detector(file):
        return _load_initial_heads(model, file, classes)
    return load_backbone(model.backbone, file)


def _load_initial_heads(model: RCNN, file: WeightFile, classes: Sequence[str] | None) -> list[str]:
    """Loads another detector's tensors, its heads as far as they fit; returns in words what stays newly initialised."""
    expected, notes, given, where = model.state_dict(), [], dict(file.state), file.source
    known = () if classes is None else describe_detector(file)[0].classes
    order = None if classes is None else class_order(known, classes)
    if order is not None:
        shared = {n for n in given if ".fc_reg." in n and given[n].ndim and len(given[n]) == 4}  # one box for all
        of_classes = [name for name in given if _OF_CLASSES.match(name) and name not in shared]
        given |= {name: in_order(given[name], order) for name in of_classes}
        say(f"- {kept_words(where, order)}")
    drawn = {name: value for name, value in expected.items() if name.startswith(_MASKS)}
    if not drawn:
        given = {name: value for name, value in given.items() if not name.startswith(_MASKS)}
    elif not any(name.startswith(_MASKS) for name in given):
        given, notes = {**given, **drawn}, ["the mask head"]
    others = [
        name
        for name, value in expected.items()
        if _OF_CLASSES.match(name)
        and name in given
        and (given[name].shape != value.shape or (classes is not None and order is None))
    ]
    if others:
        differ = any(given[name].shape != expected[name].shape for name in others)
        why = "of which the weights have others" if differ else new_words(known)
        notes = [f"every output that depends on the classes, {why},", *notes]
    load_strictly(model, {**given, **{name: expected[name] for name in others}}, where)
    return notes


def load(file: WeightFile) -> LoadedDetector:
    """The detector of a file, on the CPU, and its metadata."""
    return load_detector(file)
