"""Which model a state dict belongs to, read off its names and shapes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.models import convnext, isotropic, resnet
from convnext.models.config import ModelConfig
from convnext.models.create import from_config

_STEM = "downsample_layers.0.0.weight"
_LARGEST = 1 << 20  # no dimension of a real model comes near; a hostile file's might


def recognise(state: Mapping[str, Tensor], where: str, *, norm_first: bool = False) -> ModelConfig:
    """The configuration of the model whose weights these are, under official names.

    `norm_first`: the file says that the norm stands before pooling, which names and shapes do not tell. Raises
    UserError where no known model has these layers, naming the closest and what differs.
    """
    if any(size > _LARGEST for value in state.values() for size in value.shape):
        raise UserError(f"{where} does not hold a ConvNeXt: its tensors have sizes beyond {_LARGEST:,}.")
    if "stem.weight" in state and "blocks.0.dwconv.weight" in state:
        return _isotropic(state, where)
    if "stages.0.0.body.pwconv1.weight" in state:
        return _resnet(state, where)
    ends = [f"downsample_layers.{i}.{0 if i == 0 else 1}.weight" for i in range(4)]
    absent = [name for name in ends if name not in state or state[name].ndim != 4]
    if absent or not any(name.startswith("stages.0.0.") for name in state):
        missing = absent[0] if absent else "stages.0.0.dwconv.weight"
        raise UserError(f"{where} does not hold a ConvNeXt in a layout known here (there is no {missing}, for one).")
    depths = tuple(_count(state, f"stages.{i}.") for i in range(4))
    dims = (_stem_width(state), *(state[name].shape[0] for name in ends[1:]))
    alike = [name for name, size in convnext.CONFIGS.items() if (size.depths, size.dims) == (depths, dims)]
    if not alike:
        closest = min(convnext.CONFIGS, key=lambda name: _distance(convnext.CONFIGS[name], depths, dims))
        size = convnext.CONFIGS[closest]
        raise UserError(
            f"{where} is a ConvNeXt of depths {depths} and dims {dims}, which is none of the known; the closest is "
            f"{closest} of depths {size.depths} and dims {size.dims}."
        )
    alike = [name for name in alike if convnext.CONFIGS[name].head_norm_first == norm_first] or alike
    configs = [_config(name, state) for name in alike]
    return min(configs, key=lambda config: _differences(config, state))  # the first of those that fit alike


def _isotropic(state: Mapping[str, Tensor], where: str) -> ModelConfig:
    depth, dim = _count(state, "blocks."), _first(state["stem.weight"])
    for name, size in isotropic.CONFIGS.items():
        if (size.depth, size.dim) == (depth, dim):
            return _config(name, state)
    raise UserError(f"{where} is an isotropic ConvNeXt of depth {depth} and width {dim}, which is none of the known.")


def _resnet(state: Mapping[str, Tensor], where: str) -> ModelConfig:
    depths, head = tuple(_count(state, f"stages.{i}.") for i in range(4)), state.get("head.weight")
    stem = state.get(_STEM)
    for name, design in resnet.CONFIGS.items():
        if design.depths == depths and stem is not None and stem.ndim == 4:
            return ModelConfig(name, num_classes=_first(head) if head is not None else 0, in_chans=stem.shape[1])
    raise UserError(f"{where} is a ResNet of depths {depths}, which is none of {', '.join(resnet.CONFIGS)}.")


def _config(name: str, state: Mapping[str, Tensor]) -> ModelConfig:
    """The named model with the inputs, outputs, stem stride and layer scale that the tensors show."""
    stem = state["stem.weight"] if "stem.weight" in state else state[_STEM]
    head = state.get("head.weight")
    size = isotropic.CONFIGS[name] if name in isotropic.CONFIGS else convnext.CONFIGS[name]
    scaled = any(key.endswith("dwconv.weight") and key[:-13] + "gamma" in state for key in state)
    expected = size.layer_scale_init_value > 0
    patch = name in convnext.CONFIGS and convnext.CONFIGS[name].stem == "patch"
    return ModelConfig(
        name,
        num_classes=_first(head) if head is not None else 0,
        in_chans=stem.shape[1] if stem.ndim == 4 else 3,
        layer_scale_init_value=None if scaled == expected else (1e-6 if scaled else 0.0),
        stem_stride={2: 2, 3: 1}.get(stem.shape[-1], 4) if patch else 4,
        kernel_size=kernel if (kernel := _kernel(state)) != 7 else None,
    )


def _differences(config: ModelConfig, state: Mapping[str, Tensor]) -> int:
    """How many tensors of the model and of the file do not match."""
    with torch.device("meta"):
        expected = from_config(config).state_dict()
    fitting = sum(name in state and state[name].shape == value.shape for name, value in expected.items())
    return len(expected) + len(state) - 2 * fitting


def _distance(size: convnext.ConvNeXtConfig, depths: tuple[int, ...], dims: tuple[int, ...]) -> float:
    pairs = zip((*size.depths, *size.dims), (*depths, *dims), strict=True)
    return sum(abs(known - given) / max(known, given, 1) for known, given in pairs)


def _stem_width(state: Mapping[str, Tensor]) -> int:
    """Channels of the first stage: those of the stem's last layer, its norm."""
    layers = [name for name in state if name.startswith("downsample_layers.0.") and name.endswith(".weight")]
    return _first(state[max(layers)])


def _kernel(state: Mapping[str, Tensor]) -> int:
    """Side of the depthwise filters."""
    filters = state.get("stages.0.0.dwconv.weight")
    return filters.shape[-1] if filters is not None and filters.ndim == 4 and filters.shape[-1] % 2 else 7


def _first(value: Tensor) -> int:
    return value.shape[0] if value.ndim else 0


def _count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered children a prefix has."""
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})
