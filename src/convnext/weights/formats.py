"""What a file of weights holds: wrappers taken off, and the state dict brought to the official names.

Wrappers and aliases are those of the published checkpoints: Meta's files keep the weights under `model`, training
checkpoints add `model_ema`, detection and segmentation files use `state_dict`, data-parallel ones prefix `module.`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from convnext.core.errors import UserError

WRAPPERS = ("model", "state_dict", "model_state_dict")
_PREFIXES = ("module.", "_orig_mod.")


def unwrap(loaded: Any, where: str) -> dict[str, Tensor]:
    """The state dict inside what a file held. Raises UserError where there is none."""
    for key in WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
            break
    if not isinstance(loaded, Mapping) or not loaded or not all(isinstance(v, Tensor) for v in loaded.values()):
        raise UserError(
            f"{where} holds no model weights: expected names and tensors, or those under {', '.join(WRAPPERS)}."
        )
    return official_names({str(name): value for name, value in loaded.items()})


def official_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Takes off data-parallel and compile prefixes, and DINOv3's `norms.*` (an alias of `norm.*`)."""
    renamed = {}
    for name, value in state.items():
        while name.startswith(_PREFIXES):  # in any order, and both
            name = name.split(".", 1)[1]
        if not name.startswith("norms."):
            renamed[name] = value
    return renamed


def check_keys(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], where: str) -> None:
    """Raises UserError naming the first unexpected, missing or misshapen tensors, if any."""
    problems = [f"unexpected {name}" for name in given if name not in expected]
    problems += [f"missing {name}" for name in expected if name not in given]
    problems += [
        f"{name} has shape {tuple(given[name].shape)}, not {tuple(value.shape)}"
        for name, value in expected.items()
        if name in given and given[name].shape != value.shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise UserError(f"{where} does not fit the model: {'; '.join(problems[:4])}{more}.")
