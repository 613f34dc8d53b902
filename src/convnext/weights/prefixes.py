"""The names of a state dict without what others put before and into them: wrappers, modules around the model."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping
from typing import Any

from torch import Tensor

_WRAPPERS = (  # of torch.compile, data parallelism, FSDP, activation checkpointing, Lightning
    *("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module"),
)
_LAYOUTS = (  # what the first layer is called in each layout that is read, and how the names of the first block begin
    ("downsample_layers.0.0.weight", "stages.0."),
    ("downsample_layers.0.0.kernel", "stages.0."),
    ("stem.0.weight", "stages.0."),
    ("stem_0.weight", "stages_0."),
    ("stem.weight", "blocks.0."),
    ("features.0.0.weight", "features.1."),
    ("embeddings.patch_embeddings.weight", "encoder.stages.0."),
    ("stages.0.downsample_layers.0.weight", "stages.0.layers."),
    ("conv1.weight", "layer1.0."),
)
INNER = ("backbone.", "visual.trunk.", "encoder.", "convnext.", "convnextv2.")
"""What stands before a model's names inside of larger ones, and tells which those are (`formats`)."""


def networks(names: Collection[str]) -> list[str]:
    """What stands before the names of each ConvNeXt (or ResNet) in a state: "" or a prefix with its dot.

    A prefix that says which larger network it is in (`backbone.`) is no part of it.
    """
    plain = sorted({unwrapped(name) for name in names})
    found: dict[str, None] = {}
    for name in plain:
        for first, block in _LAYOUTS:
            start = name.removesuffix(first)
            if start == name or (start and not start.endswith(".")):
                continue
            place = bisect_left(plain, start + block)
            if place < len(plain) and plain[place].startswith(start + block):
                found[_outer(start)] = None
    return list(found)


def root_of(name: str, roots: Collection[str]) -> str | None:
    """The network that a name belongs to: the longest of the roots that it begins with; None for none."""
    plain = unwrapped(name)
    return max((root for root in roots if plain.startswith(root)), key=len, default=None)


def _outer(start: str) -> str:
    """A prefix without its last part, where that is one of `INNER`."""
    inner = next((part for part in INNER if start == part or start.endswith(f".{part}")), "")
    return start.removesuffix(inner) if inner else start


def without_prefixes(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str, list[str]]:
    """Names without what wrappers add anywhere in them, and without one prefix that the model's have in common.

    Also returns what was taken off, in words ("" where nothing was), and the names outside of the model, which are left
    out.

    Where no model is found in the names, only wrappers' parts are taken off.
    """
    plain = {unwrapped(name): value for name, value in state.items()}
    wrappers = list(dict.fromkeys(part for name in state for part in name.split(".") if part in _WRAPPERS))
    if len(plain) < len(state):  # two names became one: not wrappers, then
        plain, wrappers = dict(state), []
    prefix = _prefix(plain)
    kept = {name.removeprefix(prefix): value for name, value in plain.items() if name.startswith(prefix)}
    left = [name for name in plain if not name.startswith(prefix)]
    taken = [*([prefix] if prefix else []), *(f"{part}." for part in wrappers)]
    return kept, " and ".join(f"'{part}'" for part in taken), left


def _prefix(names: Mapping[str, Any]) -> str:
    """What all names of the only network begin with."""
    roots = networks(names)
    if len(roots) != 1:
        return ""
    common = _common(names)
    return (
        common if common.startswith(roots[0]) and networks([name.removeprefix(common) for name in names]) else roots[0]
    )


def unwrapped(name: str) -> str:
    """A name without the parts that wrappers add."""
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)


def _common(names: Collection[str]) -> str:
    """The parts, with their dots, that all names begin with."""
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind(".", 0, length) + 1]
