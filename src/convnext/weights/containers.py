"""What a checkpoint holds around its weights: the states of a model and of its average, and odd ends.

A checkpoint of a training can hold several states. The average of the weights (EMA) is taken where there is one, as
every library delivers it; `FILE#NAME` takes another by its name in the file, `FILE#raw` the one that is no average.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.core.text import printable
from convnext.weights.class_names import class_names
from convnext.weights.prefixes import networks, root_of, without_prefixes

PLAIN = (
    "model",
    "state_dict",
    "model_state_dict",
    "module",
    "net",
    "network",
    "params",
    "weights",
    "current_model_state",
)
"""Names under which checkpoints keep the weights."""
_AVERAGE = {"ema", "swa", "average", "averaged", "avg", "polyak", "shadow"}  # one of these is a word of the name
_COUNTERS = ("n_averaged", "num_updates", "decay", "initted", "step", "steps")  # beside the weights of an average
_NOT_WEIGHTS = ("optim", "scheduler", "lr_sched", "scaler", "amp", "loops", "callbacks")
_MOST_DEPTH = 3
_CHOOSE = "FILE#NAME takes another"


class Contents(NamedTuple):
    """The weights in a file, under their own names, and sentences about what was taken and what was not."""

    state: dict[str, Tensor]
    notes: list[str]
    classes: tuple[str, ...] = ()
    """The classes that stand beside the weights, () where none do."""


def contents(loaded: Any, where: str, *, which: str = "") -> Contents:
    """The state dict inside what a file held. which: its name in the file, or "ema" or "raw"; "": the average where
    there is one.

    Wrappers' prefixes, any one prefix that all names have in common, and what is no tensor are taken off. Raises
    UserError where there are no weights, none of that name, or several of which nothing says which are meant.
    """
    states = _states(dict(enumerate(loaded)) if isinstance(loaded, (list, tuple)) else loaded)
    states = {name: part for outer, state in states.items() for name, part in _networks(outer, state).items()}
    if not states:
        raise UserError(
            f"{where} holds no model weights: expected names and tensors, or those under {', '.join(PLAIN[:3])}."
        )
    averages = _averages(states, loaded)
    name = _asked(which, states, averages, where) if which else _preferred(states, averages, where)
    state, odd = _tensors(states[name])
    plain, taken, left = without_prefixes(state)
    return Contents(plain, list(_notes(name, states, averages, odd, taken, left)), class_names(loaded))


def _notes(
    name: str,
    states: Mapping[str, Mapping[str, Any]],
    averages: set[str],
    odd: Sequence[str],
    taken: str,
    left: Sequence[str],
) -> Iterator[str]:
    """What is to be said of the state that is taken."""
    others = ", ".join(
        f"'{printable(other)}'" + (" (an average of nothing yet)" if _not_begun(states[other]) else "")
        for other in states
        if other != name
    )
    updates = next((states[name][key] for key in ("n_averaged", "num_updates") if key in states[name]), None)
    what = " (the average of the weights)" if name in averages else ""
    if len(states) > 1:
        yield f"of {len(states)} states in the file, '{printable(name)}'{what} is taken; {_CHOOSE}: {others}"
    elif name in averages:
        number = f" over {int(updates):,} updates" if isinstance(updates, (int, Tensor)) and _single(updates) else ""
        yield f"the file holds the average of the weights{number}"
    odd = [entry for entry in odd if entry not in _COUNTERS]
    if odd:
        yield f"entries that are no weights are left out: {len(odd)}, as {printable(odd[0])}"
    if taken:
        yield f"taken off the names: {printable(taken)}"
    if left:
        yield f"tensors outside of the model are left out: {len(left)}, as {printable(left[0])}"


def _single(value: int | Tensor) -> bool:
    return isinstance(value, int) or (value.numel() == 1 and not value.is_meta and bool(torch.isfinite(value).all()))


def _states(loaded: Any, name: str = "", depth: int = 0) -> dict[str, Mapping[str, Any]]:
    """Every state dict in nested mappings: name ("" at the top, parts joined by dots) -> it."""
    if not isinstance(loaded, Mapping) or depth > _MOST_DEPTH:
        return {}
    if _is_state(loaded):
        return {name: loaded}
    found: dict[str, Mapping[str, Any]] = {}
    for key, value in loaded.items():
        known = _is_average(str(key)) or str(key) in PLAIN
        if (known or depth == 0) and not str(key).lower().startswith(_NOT_WEIGHTS):
            found |= _states(value, f"{name}.{key}" if name else str(key), depth + 1)
    wanted = {key: state for key, state in found.items() if any(_is_average(p) or p in PLAIN for p in key.split("."))}
    models = {key: state for key, state in found.items() if networks(state)}
    return models or wanted or found


def _is_state(values: Mapping[Any, Any]) -> bool:
    """Whether a mapping is one of names to tensors, apart from a few odd ends."""
    tensors = sum(isinstance(value, Tensor | np.ndarray) for value in values.values())
    if not tensors or not all(isinstance(key, str) for key in values):
        return False
    if networks({key: value for key, value in values.items() if isinstance(value, Tensor | np.ndarray)}):
        return True
    return tensors * 2 > len(values) and not any(isinstance(value, Mapping) and value for value in values.values())


def _networks(name: str, state: Mapping[str, Any]) -> dict[str, Mapping[str, Any]]:
    """A state of several networks side by side, as "model." and "ema_model.", as one of each."""
    roots = networks(state)
    if len(roots) < 2:
        return {name: state}
    inside = [f"{name}.{root}".strip(".") for root in roots]
    owners = {key: root_of(key, roots) for key in state}  # what belongs to none is left out of each, and said
    parts = [{key: value for key, value in state.items() if owners[key] in (root, None)} for root in roots]
    return dict(zip(inside, parts, strict=True))


def _is_average(name: str) -> bool:
    """Whether a name's words say that it is an average of weights."""
    words = re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)
    return any(word.lower() in _AVERAGE for word in words)


def _averages(states: Mapping[str, Mapping[str, Any]], loaded: Any) -> set[str]:
    """The names of those states that are averages of the weights."""
    found = {name for name, state in states.items() if _is_average(name) or "n_averaged" in state}
    found -= {name for name in found if len(states) > 1 and _not_begun(states[name])}
    top: Mapping[Any, Any] = loaded if isinstance(loaded, Mapping) else {}
    meta = top.get("meta")
    of_mmengine = "message_hub" in top or (isinstance(meta, Mapping) and "mmengine_version" in meta)
    if of_mmengine and {"state_dict", "ema_state_dict"} <= states.keys():
        return {"state_dict"}  # its EMAHook saves them exchanged: state_dict is what is to be delivered
    if "averaging_state" in top and "state_dict" in states:  # Lightning's WeightAveraging
        return found | {"state_dict"}
    return found


def _not_begun(state: Mapping[str, Any]) -> bool:
    """Whether an average says that nothing was averaged yet: it holds the weights of before the training."""
    count = state.get("n_averaged", state.get("num_updates"))
    return isinstance(count, (int, Tensor)) and _single(count) and int(count) == 0


def _asked(which: str, states: Mapping[str, Any], averages: set[str], where: str) -> str:
    """The state that somebody named, in full, by its last part, or as "ema" or "raw"."""
    if which in states:
        return which
    meant = {"ema": averages, "raw": set(states) - averages}.get(which) or {
        name for name in states if name.rpartition(".")[2] == which or name.partition(".")[0] == which
    }
    if len(meant) == 1:
        return meant.pop()
    names = [name for name in states if not meant or name in meant]
    inside = ", ".join(f"'{printable(name)}'" for name in names) if names != [""] else "a single one, without a name"
    kind = "several model weights" if meant else "no model weights"
    raise UserError(f"{where} holds {kind} called '{printable(which)}'.{nearest(which, states)} It holds {inside}.")


def _preferred(states: Mapping[str, Any], averages: set[str], where: str) -> str:
    """The state that is meant where nobody says: the average; else the one that is called as models are."""
    names = [name for name in states if name in averages] or list(states)
    plain = [name for name in names if name.rpartition(".")[2] in PLAIN]
    shortest = [name for name in names if _is_average(name) and len(name.split(".")) == 1]
    for some in (names, plain, shortest):
        if len(some) == 1:
            return some[0]
    for known in PLAIN:
        if known in names:
            return known
    inside = " or ".join(f"FILE#{printable(name)}" for name in names)
    raise UserError(f"{where} holds {len(names)} models. Say which: {inside}.")


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


def check_values(state: Mapping[str, Tensor], where: str) -> None:
    """Raises UserError for weights that are not finite, are not there (of a sharded model) or are no plain numbers,
    naming the first."""
    for name, value in state.items():
        if kind := _no_numbers(value):
            raise UserError(f"{where} holds {kind} tensors, as {printable(name)}: save the model with plain weights.")
    empty = [name for name, value in state.items() if not value.numel()]
    if 2 * len(empty) > len(state):
        raise UserError(
            f"{where} holds {len(empty):,} tensors without values, as {printable(empty[0])}: it is a part of a model "
            "that is spread over several devices (ZeRO-3, FSDP). Save the whole model."
        )
    wrong = {name: count for name, value in state.items() if (count := _not_finite(value))}
    if wrong:
        name, count = next(iter(wrong.items()))
        more = f", and {sum(wrong.values()) - count:,} in {len(wrong) - 1:,} other tensors" if len(wrong) > 1 else ""
        raise UserError(
            f"{where} holds weights that are not finite: {count:,} of {state[name].numel():,} in {printable(name)}"
            f"{more}. The training that saved them may have diverged: take an earlier checkpoint."
        )


def _no_numbers(value: Tensor) -> str:
    """What a tensor is that holds other than plain numbers; "" for others."""
    if value.is_meta:
        return "empty (meta)"
    if value.layout != torch.strided:
        return "sparse"
    return "quantised" if value.is_quantized else "complex" if value.is_complex() else ""


def _not_finite(value: Tensor) -> int:
    """How many values of a tensor are not finite."""
    # a tensor can be larger than what is stored of it, by strides of 0: a real one is not
    stored = value.numel() * value.element_size() <= value.untyped_storage().nbytes()
    if not stored or not value.is_floating_point() or not value.numel():
        return 0
    finite = torch.isfinite(value if value.element_size() > 1 else value.float())
    return 0 if bool(finite.all()) else int((~finite).sum())
