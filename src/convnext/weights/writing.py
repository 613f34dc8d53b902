"""Writing weights for others: pieces that every layout needs."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from convnext.core.atomic import replacing, write_text
from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.weights.files import Metadata, save_model
from convnext.weights.formats import check_keys

LayoutName = Literal["convnext", "official", "timm", "torchvision", "transformers"]


LAYOUTS: tuple[str, ...] = get_args(LayoutName)


def check_saved(state: Mapping[str, Tensor], metadata: Metadata, build: Callable[[], nn.Module], *, model: str) -> None:
    """Raises UserError where a state is not of the model that its metadata says. build: makes that model. model: what
    such a one is called, as "detector"."""
    try:
        with torch.device("meta"):  # neither time nor memory: only names and shapes are looked at
            expected = build().state_dict()
    except (TypeError, AttributeError) as error:
        raise UserError(f"The metadata is not that of a {model} ({type(error).__name__}).") from None
    strange = [name for name, value in state.items() if not isinstance(value, Tensor)]
    if strange:
        raise UserError(f"The state holds a {type(state[strange[0]]).__name__} as {strange[0]}, not a tensor.")
    check_keys(expected, state, f"The state to be saved, with metadata of a {model},")
    outputs, names = int(metadata.model.num_classes), metadata.classes
    if names and len(names) != outputs:
        raise UserError(f"The metadata names {len(names)} classes, and its model gives {outputs}.")


def check_layout(layout: str, known: Sequence[str], *, model: str) -> None:
    """Raises UserError for a layout in which no such model can be saved. known: those in which it can."""
    if layout not in known:
        accepted = f"{', '.join(known[:-1])} or {known[-1]}"
        what = f"has no {model}s" if layout in LAYOUTS else "is no layout that is known here"
        raise UserError(f"{printable(str(layout))} {what}: a {model} is saved with --layout {accepted}.")


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Writes a JSON file, atomically."""
    write_text(path, json.dumps(values, indent=2, ensure_ascii=False) + "\n")


def own_memory(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors with memory of their own: torch.save writes all that a view (of a mapped file, say) belongs to."""
    return {name: value.clone(memory_format=torch.contiguous_format) for name, value in state.items()}


def save_pickle(path: Path, content: dict[str, Any]) -> None:
    """Writes what `torch.save` writes, atomically."""
    with replacing(path) as file:
        torch.save(content, file)


def save_own_or_official(
    out: Path, state: Mapping[str, Tensor], metadata: Metadata, *, layout: str, meta: Mapping[str, Any]
) -> bool:
    """Writes a network with heads as OUT.safetensors (convnext) or as OUT.pth with `meta` (official: mmdetection's and
    mmsegmentation's form); returns whether it was the former.

    Raises UserError for an OUT that does not suit the layout.
    """
    suffix = ".safetensors" if layout == "convnext" else ".pth"
    if out.suffix != suffix:
        raise UserError(f"The layout {layout} is a {suffix} file: {out.with_suffix(suffix)}, for one.")
    if layout == "convnext":
        save_model(out, state, metadata)
        return True
    save_pickle(out, {"meta": dict(meta), "state_dict": own_memory(state)})
    return False
