"""A classifier from a name, a file, a run's folder or a hub, whoever saved it. C channels, K classes."""

from __future__ import annotations

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
from convnext.tasks.classification.published import assumed_metadata
from convnext.tasks.classification.recipe import ClassificationMetadata, owns
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
    metadata = replace(metadata, model=model, classes=(), class_dirs=())
    if not num_classes:
        return metadata, f"the classifier of {had} classes is taken off: the model gives {features} features"
    head = nn.Linear(features, num_classes)
    init_head(head, scale=1.0)
    state["head.weight"], state["head.bias"] = head.weight.detach(), head.bias.detach()
    before = f"that of {had} classes" if had else "none"
    return metadata, f"the classifier is new, of {num_classes} classes, in place of {before}: train it before use"


def load_initial(model: nn.Module, source: str | Path | WeightFile) -> list[str]:
    """Loads pre-trained weights to fine-tune from, and returns the names that stay newly initialised.

    Those are a classifier of another number of classes, and the final norm and classifier that a headless encoder
    (FCMAE, DINOv3) lacks. `source` as for `load_model`. Raises UserError where anything else does not fit.
    """
    file = locate(source)
    state, expected = official_state(file).state, model.state_dict()
    new = [name for name in expected if name.startswith(("head.", "norm.")) and name not in state]
    new += [n for n in expected if n.startswith("head.") and n in state and state[n].shape != expected[n].shape]
    kept = {name: value for name, value in state.items() if not name.startswith("head.") or name in expected}
    load_strictly(model, {**kept, **{name: expected[name] for name in new}}, file.source)
    return new


def load(file: WeightFile) -> LoadedClassifier:
    """The classifier of a file, on the CPU, and its metadata."""
    return load_model(file)
