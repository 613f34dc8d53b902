"""What a checkpoint holds around its weights: the states of a model and of its average, prefixes of wrappers, odd ends.

A checkpoint of a training can hold several states. The average of the weights (EMA) is taken where there is one, as
every library delivers it; `FILE#state_dict` takes another by its name in the file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.core.text import printable

AVERAGES = (
    *(
        "model_ema",
        "state_dict_ema",
        "ema_state_dict",
        "ema_model",
        "ema",
        "params_ema",
        "ema_params",
        "averaged_model",
    ),
    *("ema_weights", "teacher"),
)
"""Names under which checkpoints keep the average of the weights."""
PLAIN = ("model", "state_dict", "model_state_dict", "module", "net", "network", "params", "weights", "student")
"""Names under which they keep the weights."""
_WRAPPERS = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
_COUNTERS = ("n_averaged", "num_updates", "decay")  # beside the weights of an average
_ANCHORS = (  # the first layer, in every layout that is read
    *("downsample_layers.0.0.weight", "stem.0.weight", "stem.weight", "features.0.0.weight", "conv1.weight"),
    *("embeddings.patch_embeddings.weight", "patch_embed.proj.weight", "visual.trunk.stem.0.weight"),
    *(
        "features.0.0.0.weight",
        "conv_proj.weight",
        "stages.0.downsample_layers.0.weight",
        "downsample_layers.0.0.kernel",
    ),
)
_KNOWN = ("", "backbone.", "visual.trunk.", "encoder.", "convnext.", "convnextv2.", "dinov3_convnext.")
"""Prefixes that say which sort of file it is (`formats`)."""
_MOST_DEPTH = 3


class Contents(NamedTuple):
    """The weights in a file, under their own names, and sentences about what was taken and what was not."""

    state: dict[str, Tensor]
    notes: list[str]


def contents(loaded: Any, where: str, *, which: str = "") -> Contents:
    """The state dict inside what a file held. which: its name in the file; "": the average where there is one.

    Wrappers' prefixes, any one prefix that all names have in common, and what is no tensor are taken off. Raises
    UserError where there are no weights, or none of that name.
    """
    states = _states(loaded)
    if not states or (which and which not in states):
        known = f" It holds {', '.join(map(printable, states))}." if states else ""
        asked = f" called '{printable(which)}'" if which else ""
        raise UserError(
            f"{where} holds no model weights{asked}: expected names and tensors, or those under {', '.join(PLAIN[:3])}."
            f"{nearest(which, states) if which else ''}{known if which else ''}"
        )
    name = which or _preferred(states)
    notes = []
    if len(states) > 1:
        others = ", ".join(f"'{printable(other)}'" for other in states if other != name)
        what = " (the average of the weights)" if name.rpartition(".")[2] in AVERAGES else ""
        notes.append(f"of {len(states)} states in the file, '{printable(name)}'{what} is taken; {others}: FILE#NAME")
    state, odd = _tensors(states[name])
    if odd:
        notes.append(f"{len(odd)} entries that are no weights are left out, as {printable(odd[0])}")
    plain, prefix = without_prefixes(state)
    if prefix:
        notes.append(f"the prefix {printable(prefix)} is taken off the names")
    return Contents(plain, notes)


def _states(loaded: Any, name: str = "", depth: int = 0) -> dict[str, Mapping[str, Any]]:
    """Every state dict in nested mappings: name ("" at the top, parts joined by dots) -> it."""
    if not isinstance(loaded, Mapping) or depth > _MOST_DEPTH:
        return {}
    if _is_state(loaded):
        return {name: loaded}
    found: dict[str, Mapping[str, Any]] = {}
    for key, value in loaded.items():
        if str(key) in (*AVERAGES, *PLAIN) or depth == 0:
            if str(key).startswith(("optim", "scheduler", "lr_sched", "scaler", "amp", "loops", "callbacks")):
                continue
            found |= _states(value, f"{name}.{key}" if name else str(key), depth + 1)
    wanted = {key: state for key, state in found.items() if set(key.split(".")) & {*AVERAGES, *PLAIN}}
    return wanted or found


def _is_state(values: Mapping[Any, Any]) -> bool:
    """Whether a mapping is one of names to tensors, apart from a few odd ends."""
    tensors = sum(isinstance(value, Tensor | np.ndarray) for value in values.values())
    inner = sum(isinstance(value, Mapping) and len(value) > 0 for value in values.values())
    return tensors >= 1 and tensors * 2 > len(values) and inner == 0 and all(isinstance(key, str) for key in values)


def _preferred(states: Mapping[str, Any]) -> str:
    for known in (AVERAGES, PLAIN):
        for name in known:
            if found := next((key for key in states if name in key.split(".")), ""):
                return found
    return next(iter(states))


def _tensors(values: Mapping[str, Any]) -> tuple[dict[str, Tensor], list[str]]:
    """The weights of a state dict, and the names of what is none."""
    state: dict[str, Tensor] = {}
    odd = []
    for name, value in values.items():
        if isinstance(value, np.ndarray) and value.dtype.kind in "fiub":
            value = torch.from_numpy(value)
        if isinstance(value, Tensor) and name not in _COUNTERS:
            state[name] = value
        else:
            odd.append(name)
    return state, odd


def without_prefixes(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """Names without what wrappers add anywhere in them, and without the prefix that all have in common, where the first
    layer then is one that is known; and that prefix.

    Where only some names have the prefix of the first layer, the others are parts of a training (a loss, a second
    network) and stay, to be named as left out or unexpected.
    """
    plain = {
        ".".join(part for part in name.split(".") if part not in _WRAPPERS): value for name, value in state.items()
    }
    if len(plain) < len(state):  # two names became one: not wrappers, then
        plain = dict(state)
    common = _common(list(plain))
    prefixes = [common[: i + 1] for i, character in enumerate(common) if character == "."]
    maps = any(name.startswith("backbone.norm0.") for name in plain)  # a detector's backbone, not a classifier
    for prefix in reversed(prefixes):
        own = prefix not in _KNOWN or (prefix == "backbone." and not maps)
        if own and any(prefix + anchor in plain for anchor in _ANCHORS):
            return {name.removeprefix(prefix): value for name, value in plain.items()}, prefix
    for prefix in ["", *prefixes]:
        if any(prefix + known + anchor in plain for known in _KNOWN for anchor in _ANCHORS):
            return {name.removeprefix(prefix): value for name, value in plain.items()}, prefix
    firsts = Counter(name.removesuffix(anchor) for anchor in _ANCHORS for name in plain if name.endswith(f".{anchor}"))
    own = [prefix for prefix in firsts if 2 * sum(name.startswith(prefix) for name in plain) > len(plain)]
    if len(own) == 1 and own[0] not in _KNOWN:
        return {name.removeprefix(own[0]): value for name, value in plain.items() if name.startswith(own[0])}, own[0]
    return plain, ""


def _common(names: Sequence[str]) -> str:
    """The parts, with their dots, that all names begin with."""
    first, last = min(names), max(names)
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[: first.rfind(".", 0, length) + 1]


def check_finite(state: Mapping[str, Tensor], where: str) -> None:
    """Raises UserError for weights that are not finite, naming the first."""
    for name, value in state.items():
        # a tensor can be larger than what is stored of it, by strides of 0: a real one is not
        stored = value.numel() * value.element_size() <= value.untyped_storage().nbytes()
        if stored and value.is_floating_point() and value.numel() and not bool(torch.isfinite(value).all()):
            wrong = int((~torch.isfinite(value)).sum())
            raise UserError(
                f"{where} holds weights that are not finite: {wrong:,} of {value.numel():,} in {printable(name)}. The "
                "training that saved them had diverged: take an earlier checkpoint."
            )
