"""Writing weights for others: pieces that every layout needs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from convnext.core.atomic import replacing, write_text
from convnext.core.errors import UserError
from convnext.weights.files import Metadata, save_model

LayoutName = Literal["convnext", "official", "timm", "torchvision", "transformers"]


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
    out: Path, state: Mapping[str, Tensor], metadata: Metadata, *, layout: str, meta: Mapping[str, Any], others: str
) -> bool:
    """Writes a network with heads as OUT.safetensors (convnext) or as OUT.pth with `meta` (official: mmdetection's and
    mmsegmentation's form); returns whether it was the former.

    others: the layouts that there are besides, in words. Raises UserError for another layout, or an OUT that does not
    suit it.
    """
    suffix = {"convnext": ".safetensors", "official": ".pth"}.get(layout)
    if suffix is None:
        raise UserError(f"{layout} has no such models: --layout {others}convnext or official.")
    if out.suffix != suffix:
        raise UserError(f"The layout {layout} is a {suffix} file: {out.with_suffix(suffix)}, for one.")
    if layout == "convnext":
        save_model(out, state, metadata)
        return True
    save_pickle(out, {"meta": dict(meta), "state_dict": own_memory(state)})
    return False
