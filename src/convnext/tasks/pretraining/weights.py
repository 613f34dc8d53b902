"""An autoencoder from a run's folder or a file, the official code's too; and weights for one to start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from convnext.core.device import pick_device
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.data.config import InputConfig
from convnext.models.config import FCMAEConfig
from convnext.models.fcmae import FCMAE
from convnext.tasks.choose import refuse_names_of_others
from convnext.tasks.pretraining.recipe import TASK, PretrainingMetadata, owns
from convnext.weights.backbone import official_state
from convnext.weights.files import load_strictly, metadata_from
from convnext.weights.locate import WeightFile, locate
from convnext.weights.recognise import recognise

_DECODER = ("decoder.", "proj.", "pred.", "mask_token")
_OF_CLASSIFIERS = ("norm.", "head.", "pre_logits.")


class LoadedAutoencoder(NamedTuple):
    """An autoencoder in evaluation mode, and what it knows about itself."""

    model: FCMAE
    metadata: PretrainingMetadata


def load_autoencoder(source: str | Path | WeightFile, *, device: str = "cpu") -> LoadedAutoencoder:
    """Loads an autoencoder, encoder and decoder.

    source: a run's folder, a file of ours, or a checkpoint of the official pre-training code, with its sparse
    convolutions. The published files hold encoders alone: `convnext.load_model` loads those, and a run starts from them
    with --init.

    Raises UserError for weights that are missing, damaged, or do not fit.
    """
    refuse_names_of_others(source, TASK)
    file = locate(source)
    state, metadata, notes = describe(file)
    for note in notes:
        say(f"- {note}")
    with torch.device("meta"):  # neither time nor memory for weights that are replaced at once
        model = FCMAE(metadata.model)
    load_strictly(model, state, file.source)
    return LoadedAutoencoder(model.to(pick_device(device)).eval(), metadata)


def describe(file: WeightFile) -> tuple[dict[str, Tensor], PretrainingMetadata, list[str]]:
    """The tensors of a file, its metadata, and what had to be assumed. Raises UserError where it holds no decoder."""
    if file.values is not None:
        if not owns(file.values):
            raise UserError(f"{file.file} holds no autoencoder: `convnext.load` loads a model of any task.")
        return dict(file.state), metadata_from(file.values, PretrainingMetadata, file.file), []
    decoder = {name: value for name, value in file.state.items() if name.startswith(_DECODER)}
    if "proj.weight" not in decoder or "mask_token" not in decoder:
        raise UserError(
            f"{file.source} holds no decoder, as the published FCMAE weights: convnext.load_model loads its encoder, "
            "and --init starts pre-training or fine-tuning from it."
        )
    encoder = official_state(file).state
    depth = len({name.split(".")[1] for name in decoder if name.startswith("decoder.")})
    config = FCMAEConfig(recognise(encoder, file.source), decoder_dim=len(decoder["proj.weight"]), decoder_depth=depth)
    notes = [f"{file.source} does not say how it was trained: a mask ratio of 0.6 and normalised pixels are assumed"]
    state = {**{f"encoder.{name}": value for name, value in encoder.items()}, **decoder}
    return state, PretrainingMetadata(config, InputConfig()), notes


def load_initial_autoencoder(model: FCMAE, source: str | Path | WeightFile) -> list[str]:
    """Loads weights to go on from, and returns in words what stays newly initialised.

    source: an autoencoder, whose decoder is taken where it has the same shape; or an encoder or classifier, whose
    layers become the encoder. Raises UserError where the encoder does not fit.
    """
    file = locate(source)
    expected = model.state_dict()
    encoder = {
        f"encoder.{name}": value
        for name, value in official_state(file).state.items()
        if not name.startswith(_OF_CLASSIFIERS)
    }
    ours = {name: value for name, value in expected.items() if name.startswith(_DECODER)}
    theirs = {name: value for name, value in file.state.items() if name.startswith(_DECODER)}
    fits = _same_shapes(ours, theirs)
    load_strictly(model, {**encoder, **(theirs if fits else ours)}, file.source)
    if fits:
        return []
    return ["the decoder, which is another one there,"] if theirs else ["the decoder"]


def _same_shapes(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> bool:
    return ours.keys() == theirs.keys() and all(ours[name].shape == theirs[name].shape for name in ours)


def load(file: WeightFile) -> LoadedAutoencoder:
    """The autoencoder of a file, on the CPU, and its metadata."""
    return load_autoencoder(file)
