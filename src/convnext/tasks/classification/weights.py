"""A classifier from a name, a file, a run's folder or a hub, whoever saved it. C channels, K classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from convnext.core.device import Precision, pick_device, pick_dtype
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.models.create import Model, from_config
from convnext.models.layers import init_head
from convnext.tasks.choose import refuse_names_of_others
from convnext.tasks.classification.published import assumed_metadata
from convnext.tasks.classification.recipe import TASK, ClassificationMetadata, owns
from convnext.tasks.heads import class_order, in_order, kept_words, new_words
from convnext.weights.backbone import official_state
from convnext.weights.files import load_strictly, metadata_from
from convnext.weights.formats import Official
from convnext.weights.locate import WeightFile, locate
from convnext.weights.recognise import recognise


class LoadedClassifier(NamedTuple):
    """A model in evaluation mode, and what it knows about itself."""

    model: Model
    metadata: ClassificationMetadata


def load_model(
    source: str | Path | WeightFile,
    *,
    num_classes: int | None = None,
    device: str = "cpu",
    dtype: Precision = "float32",
) -> LoadedClassifier:
    """Loads a classifier or an encoder, and says in a line each what one should know about it: licence, assumptions,
    parts left out.

    Args:
        source: a run's folder; a file of weights, ours or in the layout of the official code, timm, torchvision,
            transformers, DINOv3, OpenCLIP, mmpretrain, mmdetection or mmsegmentation; a folder that timm or
            transformers saved; a name from `convnext weights list`; `hf-hub:owner/name`; an https address.
        num_classes: another number of classes than the weights have: the classifier is replaced by a newly initialised
            one, to be trained; 0: features. None: as the weights have it.
        dtype: "auto" is bfloat16 where the device is fast at it, else float32.

    A safetensors file is mapped into memory, not copied: it must not be overwritten in place while the model lives.

    Raises UserError for weights that are missing, damaged, or do not fit: it names the tensor and the closest model.
    """
    refuse_names_of_others(source, TASK)
    file = locate(source)
    given, metadata, notes = describe(file)
    state, more = _completed(given, metadata)
    if num_classes is not None and num_classes != metadata.model.num_classes:
        metadata, change = _other_classes(state, metadata, num_classes)
        more.append(change)
    for note in (*notes, *more):
        say(f"- {note}")
    with torch.device("meta"):  # neither time nor memory for weights that are replaced at once
        model = from_config(metadata.model)
    load_strictly(model, state, file.source)
    where = pick_device(device)
    return LoadedClassifier(model.to(device=where, dtype=pick_dtype(dtype, where)).eval(), metadata)


def describe(file: WeightFile) -> tuple[Official, ClassificationMetadata, list[str]]:
    """The weights of a file under official names, their metadata, and what had to be assumed for it, in sentences.

    Raises UserError where the file holds no model known here.
    """
    if file.values is not None:
        if not owns(file.values):
            raise UserError(f"{file.file} holds no classifier: `convnext.load` loads a model of any task.")
        return official_state(file), metadata_from(file.values, ClassificationMetadata, file.file), []
    given = official_state(file)
    metadata, notes = assumed_metadata(file, recognise(given.state, file.source, norm_first=given.norm_first))
    if given.left:
        notes.append(
            f"{file.source}: the image model is taken; {len(given.left)} other tensors, as {given.left[0]}, are not"
        )
    return given, metadata, notes


def _completed(given: Official, metadata: ClassificationMetadata) -> tuple[dict[str, Tensor], list[str]]:
    """The state with an identity for the final norm that an encoder (FCMAE's, a detector's backbone) lacks."""
    state = dict(given.state)
    if metadata.model.num_classes or any(name.startswith("norm.") for name in state):
        return state, []
    last = max(name for name in state if name.endswith(".dwconv.bias"))
    state["norm.weight"], state["norm.bias"] = torch.ones_like(state[last]), torch.zeros_like(state[last])
    return state, ["an encoder without final norm and classifier: its features have a norm with weight 1 and bias 0"]


def _other_classes(
    state: dict[str, Tensor], metadata: ClassificationMetadata, num_classes: int
) -> tuple[ClassificationMetadata, str]:
    """Puts a new classifier (none for 0) into `state`; the metadata for it, and a sentence that says so."""
    had = metadata.model.num_classes
    features = next(state[n].shape[0] for n in ("pre_logits.fc.weight", "norm.weight") if n in state)
    for name in ("head.weight", "head.bias"):
        state.pop(name, None)
    model = replace(metadata.model, num_classes=num_classes)
    metadata = replace(metadata, model=model, classes=(), class_dirs=(), multi_label=False, thresholds=())
    if not num_classes:
        return metadata, f"the classifier of {had} classes is taken off: the model gives {features} features"
    head = nn.Linear(features, num_classes)
    init_head(head, scale=1.0)
    state["head.weight"], state["head.bias"] = head.weight.detach(), head.bias.detach()
    before = f"that of {had} classes" if had else "none"
    return metadata, f"the classifier is new, of {num_classes} classes, in place of {before}: train it before use"


def load_initial(
    model: nn.Module,
    source: str | Path | WeightFile,
    *,
    classes: Sequence[str] | None = None,
    class_dirs: Sequence[str] = (),
) -> list[str]:
    """Loads pre-trained weights to fine-tune from, and returns the names that stay newly initialised.

    Those are a classifier of other classes, and the final norm and classifier that a headless encoder (FCMAE, DINOv3)
    lacks. `source` as for `load_model`. classes, class_dirs: of the data, as people and as its folders name them: the
    classifier is kept where the weights have the same ones, in any order; None: where it has as many. A stem of other
    channels is adapted. Both are said. Raises UserError where anything else does not fit.
    """
    file = locate(source)
    state, expected = dict(official_state(file).state), model.state_dict()
    order, known = (None, ()) if classes is None else _order(file, classes, class_dirs)
    of_classes = [name for name in ("head.weight", "head.bias") if name in state and name in expected]
    if order is not None and all(len(state[name]) == len(order) for name in of_classes):
        state |= {name: in_order(state[name], order) for name in of_classes}
        say(f"- {kept_words(file.source, order)}")
    _adapt_stem(state, expected, file.source)
    new = [name for name in expected if name.startswith(("head.", "norm.")) and name not in state]
    new += [n for n in expected if n.startswith("head.") and n in state and state[n].shape != expected[n].shape]
    if classes is not None and order is None:
        new += [name for name in of_classes if name not in new]
        if of_classes:
            say(f"- {file.source}: its classifier is not taken: it is of classes {new_words(known)}")
    kept = {name: value for name, value in state.items() if not name.startswith("head.") or name in expected}
    load_strictly(model, {**kept, **{name: expected[name] for name in new}}, file.source)
    return new


def _order(
    file: WeightFile, classes: Sequence[str], class_dirs: Sequence[str]
) -> tuple[list[int] | None, tuple[str, ...]]:
    """Where the data's classes stand among those of a file (None where they are others, or the file names none); and
    those of the file."""
    try:
        metadata = describe(file)[1]
        known, dirs = metadata.classes, metadata.class_dirs
    except UserError:  # no model known by name, which may well be the recipe's
        known, dirs = file.classes(len(classes)), ()
    order = class_order(known, classes)
    return order if order is not None else class_order(dirs, class_dirs), known


def _adapt_stem(state: dict[str, Tensor], expected: Mapping[str, Tensor], where: str) -> None:
    """Makes the first convolution, of 3 channels, one of as many as the model takes, as timm does: for one channel the
    sum of the three, for others the three over and over, times 3 / channels."""
    for name, value in expected.items():
        given = state.get(name)
        if given is None or given.ndim != 4 or given.shape == value.shape or given.shape[1] != 3:
            continue
        channels = value.shape[1]
        if given.shape[0] == value.shape[0] and given.shape[2:] == value.shape[2:]:
            wide = given.repeat(1, -(-channels // 3), 1, 1)[:, :channels] * (3 / channels)
            state[name] = given.sum(dim=1, keepdim=True) if channels == 1 else wide
            say(f"- {where}: the first layer takes 3 channels; it is adapted to {channels}")


def load(file: WeightFile) -> LoadedClassifier:
    """The classifier of a file, on the CPU, and its metadata."""
    return load_model(file)
