"""A segmenter from a name, a file or a run's folder; and weights for one to start from. K classes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.data.segmentation.palette import ade20k, numbered
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.tasks.choose import refuse_names_of_others
from convnext.tasks.heads import class_order, in_order, kept_words, new_words
from convnext.tasks.segmentation.published import NUM_CLASSES, PublishedSegmenter, published
from convnext.tasks.segmentation.recipe import TASK, SegmentationMetadata, migrated, owns
from convnext.tasks.segmentation.spec import SEGMENTATION
from convnext.weights.backbone import load_backbone
from convnext.weights.files import load_strictly, metadata_from
from convnext.weights.formats import official
from convnext.weights.locate import WeightFile, locate_among
from convnext.weights.recognise import recognise

_HEADS = ("decode_head.", "auxiliary_head.")
_NORM = re.compile(r"norm(\d)\.(weight|bias)")
_NORM_HF = re.compile(r"hidden_states_norms\.stage(\d)\.(weight|bias)")
_FRESH = re.compile(r"(decode_head|auxiliary_head)\.(conv_seg\.(weight|bias)|convs\.\d\.weight|bias)")


class LoadedSegmenter(NamedTuple):
    """A segmenter in evaluation mode, and what it knows about itself."""

    model: EncoderDecoder
    metadata: SegmentationMetadata


def load_segmenter(source: str | Path | WeightFile, *, device: str = "cpu") -> LoadedSegmenter:
    """Loads a segmenter, and says in a line each what one should know about it.

    Args:
        source: a run's folder; a file of ours; one in the layout of the official segmentation checkpoints, of
            mmsegmentation's own, or of transformers' UperNet; a name from `convnext weights list --segmenters`; an
            https address; `hf-hub:owner/name`.
        device: auto, cpu, cuda, mps. Weights stay float32: half types come by autocast.

    Raises UserError for weights that are missing, damaged, or do not fit: it names the tensor.
    """
    file = find_segmenter_file(source)
    state, metadata, notes = describe_segmenter(file)
    for note in notes:
        say(f"- {note}")
    with torch.device("meta"):  # neither time nor memory for weights that are replaced at once
        model = build_segmenter(metadata.model)
    load_strictly(model, state, file.source)
    return LoadedSegmenter(model.to(pick_device(device)).eval(), metadata)


def find_segmenter_file(source: str | Path | WeightFile) -> WeightFile:
    """The file that a path, an address or the name of a published segmenter (or classifier) means."""
    refuse_names_of_others(source, TASK)
    return locate_among(source, published(), pattern=SEGMENTATION.name_pattern, kind=SEGMENTATION.texts.model)


def describe_segmenter(file: WeightFile) -> tuple[dict[str, Tensor], SegmentationMetadata, list[str]]:
    """The tensors of a file under official names, its metadata, and what had to be assumed for it. Raises UserError
    where it holds no segmenter."""
    if file.values is not None:
        if not owns(file.values):
            raise UserError(f"{file.file} holds no segmenter: `convnext.load` loads a model of any task.")
        return file.state, metadata_from(migrated(file.values), SegmentationMetadata, file.file), []
    state = with_official_names(file.state)
    row = file.row if isinstance(file.row, PublishedSegmenter) else None
    model, notes = row.config if row else recognise_segmenter(state, file.source), []
    palette, names = numbered(range(model.num_classes)), file.classes(model.num_classes)
    if model.num_classes == NUM_CLASSES and (row is not None or names[:1] in ((), ("wall",))):
        palette, unnamed, names = ade20k(), not names, ()
        if row is None and unnamed:
            notes.append(f"{file.source} does not name its 150 classes: ADE20K's are taken")
    source = f"{row.name} ({row.licence})" if row else ""
    input = row.input if row else SegmentationInputConfig()
    classes = names or palette.classes
    metadata = SegmentationMetadata(model, input, classes, palette.colours, palette.values, source=source)
    return state, metadata, notes


def holds_segmenter(file: WeightFile) -> bool:
    """Whether a file holds a segmenter, whoever saved it."""
    if isinstance(file.row, PublishedSegmenter):
        return True
    return owns(file.values) if file.values is not None else any(mark in file.state for mark in SEGMENTATION.marks)


def with_official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A segmenter's tensors under the names of the official checkpoints, whose own stay as they are.

    Others are mmsegmentation's (with mmpretrain's backbone) and transformers' (models/upernet).
    """
    heads = {name: value for name, value in state.items() if name.startswith(_HEADS)}
    inner = {n.removeprefix("backbone."): value for n, value in state.items() if n.startswith("backbone.")}
    norms = {name: value for name, value in inner.items() if _NORM.fullmatch(name)}
    norms |= {
        f"norm{int(found[1]) - 1}.{found[2]}": value
        for name, value in inner.items()
        if (found := _NORM_HF.fullmatch(name))
    }
    layers = {n: value for n, value in inner.items() if not (_NORM.fullmatch(n) or _NORM_HF.fullmatch(n))}
    others = {name: value for name, value in state.items() if not name.startswith(("backbone.", *_HEADS))}
    renamed = {_head_name(name): value for name, value in heads.items()}
    backbone = {**official(layers).state, **norms} if layers else norms
    return {**{f"backbone.{name}": value for name, value in backbone.items()}, **renamed, **others}


def _head_name(name: str) -> str:
    """transformers' name of a head's tensor -> mmsegmentation's."""
    return name.replace(".batch_norm.", ".bn.").replace("head.classifier.", "head.conv_seg.")


def recognise_segmenter(state: Mapping[str, Tensor], where: str) -> SegmenterConfig:
    """The configuration of the segmenter whose weights these are, read off official names and shapes.

    Raises UserError where it is no segmenter known here.
    """
    classifier = state.get("decode_head.conv_seg.weight")
    backbone = {name.removeprefix("backbone."): value for name, value in state.items() if name.startswith("backbone.")}
    layers = {name: value for name, value in backbone.items() if not _NORM.fullmatch(name)}
    if classifier is None and "decode_head.bias" in state:
        classes = state["decode_head.bias"].shape[0] if state["decode_head.bias"].ndim else 0
        return SegmenterConfig(recognise(layers, where), classes, head="linear", auxiliary_width=0)
    if classifier is None or classifier.ndim != 4:
        raise UserError(f"{where} holds no segmenter known here (there is no {SEGMENTATION.marks[0]}).")
    upernet = "decode_head.fpn_bottleneck.conv.weight" in state
    auxiliary = state.get("auxiliary_head.conv_seg.weight")
    if not upernet and "decode_head.convs.0.weight" not in state:
        raise UserError(
            f"{where} is a segmenter of a kind not known here: its head is neither UPerNet's nor an all-MLP one."
        )
    return SegmenterConfig(
        backbone=recognise(layers, where),
        num_classes=classifier.shape[0],
        head="upernet" if upernet else "mlp",
        width=classifier.shape[1],
        auxiliary_width=auxiliary.shape[1] if auxiliary is not None and auxiliary.ndim == 4 else 0,
    )


def load_initial_segmenter(
    model: EncoderDecoder, source: str | Path | WeightFile, *, classes: Sequence[str] | None = None
) -> list[str]:
    """Loads weights to start from, and returns in words what stays newly initialised.

    source: a segmenter, whose classifiers start anew where it has other classes (classes: the data's, by name, in any
    order; None: as many), and whose heads do where they are of another kind; or a classifier, whose layers become the
    backbone. Raises UserError where anything else does not fit.
    """
    file = find_segmenter_file(source)
    if not holds_segmenter(file):
        return load_backbone(model.backbone, file)
    expected, (given, metadata, *_) = model.state_dict(), describe_segmenter(file)
    given = dict(given)
    order = None if classes is None else class_order(metadata.classes, classes)
    if order is not None:
        given |= {name: in_order(given[name], order) for name in _of_classes(given)}
        say(f"- {kept_words(file.source, order)}")
    others_there = set(_of_classes(given)) if classes is not None and order is None else set()
    notes: list[str] = []
    for head, words in (("decode_head.", "the head"), ("auxiliary_head.", "the auxiliary head")):
        ours, theirs = ({n: v for n, v in state.items() if n.startswith(head)} for state in (expected, given))
        if ours.keys() != theirs.keys() or any(
            ours[n].shape != theirs[n].shape for n in ours if not _FRESH.fullmatch(n)
        ):
            given = {name: value for name, value in given.items() if not name.startswith(head)} | ours
            notes += [f"{words}, which is another one there,"] if ours else []
        elif others := [n for n in ours if ours[n].shape != theirs[n].shape or n in others_there]:
            given |= {name: ours[name] for name in others}
            differ = any(ours[name].shape != theirs[name].shape for name in others)
            why = "of which the weights have others" if differ else new_words(metadata.classes)
            notes.append(f"the classifier of {words}, {why},")
    load_strictly(model, given, file.source)
    return notes


def _of_classes(state: Mapping[str, Tensor]) -> list[str]:
    """The tensors that have a row for each class: the classifiers, or all of a linear head."""
    linear = "decode_head.conv_seg.weight" not in state
    return [name for name in state if _FRESH.fullmatch(name) and (linear or ".conv_seg." in name)]


def load(file: WeightFile) -> LoadedSegmenter:
    """The segmenter of a file, on the CPU, and its metadata."""
    return load_segmenter(file)
