"""Saving for others: an autoencoder as it is here, or its encoder as the official code publishes it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from convnext.core.errors import UserError
from convnext.tasks.pretraining.recipe import PretrainingMetadata
from convnext.weights.files import save_model
from convnext.weights.writing import LayoutName, check_layout, own_memory, save_pickle

_LAYOUTS = ("convnext", "official")


def save_as(out: Path, state: Mapping[str, Tensor], metadata: PretrainingMetadata, layout: LayoutName) -> str:
    """Writes an autoencoder's weights; returns how they are loaded.

    convnext: OUT.safetensors with encoder, decoder and metadata. official: OUT.pth with the encoder alone, under the
    names of the published FCMAE files ({"model": ...}), which the official fine-tuning code takes.

    Raises UserError for another layout, and where OUT does not suit it.
    """
    check_layout(layout, _LAYOUTS, model="autoencoder")
    suffix = {"convnext": ".safetensors", "official": ".pth"}[layout]
    if out.suffix != suffix:
        raise UserError(f"The layout {layout} is a {suffix} file, unlike {out}.")
    if layout == "convnext":
        save_model(out, dict(state), metadata)
        return f'convnext.load("{out}")'
    encoder = {n.removeprefix("encoder."): value for n, value in state.items() if n.startswith("encoder.")}
    save_pickle(out, {"model": own_memory(encoder)})
    return 'torch.load(...)["model"], as the published FCMAE encoders; `--init` takes it'
