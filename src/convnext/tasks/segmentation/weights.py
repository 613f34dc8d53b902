"""A segmenter from a name, a file or a run's folder; and weights for one to start from. K classes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.data.segmentation.config import SegmentationInputConfig
from convnext.data.segmentation.palette import Palette, ade20k, numbered
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.models.segmentation.encoder_decoder import EncoderDecoder
from convnext.tasks.detection.weights import load_backbone
from convnext.tasks.segmentation.published import NUM_CLASSES, PublishedSegmenter
from convnext.weights.files import SegmentationMetadata, is_ours, load_strictly, read_segmentation_metadata, read_whole
from convnext.weights.formats import official
from convnext.weights.kinds import MARKS, kind_of, located
from convnext.weights.recognise import recognise

_HEADS = ("decode_head.", "auxiliary_head.")
_NORM = re.compile(r"norm(\d)\.(weight|bias)")
_NORM_HF = re.compile(r"hidden_states_norms\.stage(\d)\.(weight|bias)")
_FRESH = re.compile(r"(decode_head|auxiliary_head)\.(conv_seg\.(weight|bias)|convs\.\d\.weight|bias)")


class LoadedSegmenter(NamedTuple):
    """A segmenter in evaluation mode, and what it knows about itself."""

    model: EncoderDecoder
    metadata: SegmentationMetadata


def load_segmenter(source: str | Path, *, device: str = "cpu") -> LoadedSegmenter:
    """Loads a segmenter, and says in a line each what one should know about it.

    Args:
        source: a run's folder; a file of ours; one in the layout of the official segmentation checkpoints, of
            mmsegmentation's own, or of transformers' UperNet; a name from `convnext weights list --segmenters`; an
            https address; `hf-hub:owner/name`.
        device: auto, cpu, cuda, mps. Weights stay float32: half types come by autocast.

    Raises UserError for weights that are missing, damaged, or do not fit: it names the tensor.
    """
    file, row = located(source, PublishedSegmenter)
    state, metadata, notes = _described(file, row, str(source))
    for note in notes:
        say(f"- {note}")
    with torch.device("meta"):  # neither time nor memory for weights that are replaced at once
        model = build_segmenter(metadata.model)
    load_strictly(model, state, str(source))
    return LoadedSegmenter(model.to(pick_device(device)).eval(), metadata)


def segmenter_of(source: str | Path) -> SegmenterConfig | None:
    """The configuration of the segmenter that `source` means; None where it means something else."""
    if kind_of(source) != "segmenter":
        return None
    file, row = located(source, PublishedSegmenter)
    return row.config if row else _described(file, None, str(source))[1].model


def _described(
    file: Path, row: PublishedSegmenter | None, where: str
) -> tuple[dict[str, Tensor], SegmentationMetadata, list[str]]:
    """The tensors of a file under official names, its metadata, and what had to be assumed for it."""
    if file.suffix == ".safetensors" and is_ours(file):
        metadata = read_segmentation_metadata(file)
        return read_whole(file), metadata, []
    state = with_official_names(read_whole(file))
    model, notes = row.config if row else recognise_segmenter(state, where), []
    palette: Palette = numbered(range(model.num_classes))
    if model.num_classes == NUM_CLASSES:
        palette = ade20k()
        if row is None:
            notes.append(f"{where} does not name its 150 classes: ADE20K's are taken")
    source = f"{row.name} ({row.licence})" if row else ""
    metadata = SegmentationMetadata(
        model,
        row.input if row else SegmentationInputConfig(),
        palette.classes,
        palette.colours,
        palette.values,
        source=source,
    )
    return state, metadata, notes


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
        raise UserError(f"{where} holds no segmenter known here (there is no {MARKS['segmenter'][0]}).")
    upernet = "decode_head.fpn_bottleneck.conv.weight" in state
    auxiliary = state.get("auxiliary_head.conv_seg.weight")
    if not upernet and "decode_head.convs.0.weight" not in state:
        raise UserError(
            f"{where} is a segmenter of a kind not known here: its head is neither UPerNet's nor a light one."
        )
    return SegmenterConfig(
        backbone=recognise(layers, where),
        num_classes=classifier.shape[0],
        head="upernet" if upernet else "light",
        width=classifier.shape[1],
        auxiliary_width=auxiliary.shape[1] if auxiliary is not None and auxiliary.ndim == 4 else 0,
    )


def load_initial_segmenter(model: EncoderDecoder, source: str | Path) -> list[str]:
    """Loads weights to start from, and returns in words what keeps its fresh values.

    source: a segmenter, whose classifiers start fresh where it has other classes, and whose heads do where they are of
    another kind; or a classifier (as for `load_model`), whose layers become the backbone. Raises UserError where
    anything else does not fit.
    """
    expected, where = model.state_dict(), str(source)
    if kind_of(source) != "segmenter":
        return load_backbone(model.backbone, source)
    file, row = located(source, PublishedSegmenter)
    given = _described(file, row, where)[0]
    notes: list[str] = []
    for head, words in (("decode_head.", "the head"), ("auxiliary_head.", "the auxiliary head")):
        ours, theirs = ({n: v for n, v in state.items() if n.startswith(head)} for state in (expected, given))
        if ours.keys() != theirs.keys() or any(
            ours[n].shape != theirs[n].shape for n in ours if not _FRESH.fullmatch(n)
        ):
            given = {name: value for name, value in given.items() if not name.startswith(head)} | ours
            notes += [f"{words}, which is another one there,"] if ours else []
        elif others := [n for n in ours if ours[n].shape != theirs[n].shape]:
            given |= {name: ours[name] for name in others}
            notes.append(f"the classifier of {words}, of which the weights have others,")
    load_strictly(model, given, where)
    return notes
