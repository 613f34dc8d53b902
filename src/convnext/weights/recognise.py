"""Which architecture a state dict under official names belongs to, read off its names and shapes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from convnext.core.errors import UserError
from convnext.models import convnext, isotropic


def architecture(state: Mapping[str, Tensor], where: str) -> str:
    """The name of the model whose weights these are. Raises UserError where no known one has these layers."""
    if "stem.weight" in state and "blocks.0.dwconv.weight" in state:
        depth, dim = _count(state, "blocks."), state["stem.weight"].shape[0]
        for name, size in isotropic.SIZES.items():
            if (size.depth, size.dim) == (depth, dim):
                return name
        raise UserError(
            f"{where} is an isotropic ConvNeXt of depth {depth} and width {dim}, which is none of the known."
        )
    depths = tuple(_count(state, f"stages.{i}.") for i in range(4))
    stem = [f"downsample_layers.{i}.{0 if i == 0 else 1}.weight" for i in range(4)]
    absent = [name for name in stem if name not in state or state[name].ndim == 0]
    if absent:
        raise UserError(
            f"{where} does not hold a ConvNeXt under its official names (there is no {absent[0]}, for one)."
        )
    dims = tuple(state[name].shape[0] for name in stem)
    grn, mlp = "stages.0.0.grn.gamma" in state, "pre_logits.fc.weight" in state
    for name, size in convnext.SIZES.items():
        if (size.depths, size.dims, size.use_grn, bool(size.head_hidden)) == (depths, dims, grn, mlp):
            return name
    raise UserError(f"{where} is a ConvNeXt of depths {depths} and dims {dims}, which is none of the known.")


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered children a prefix has."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
