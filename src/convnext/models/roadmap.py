"""The roadmap from ResNet to ConvNeXt (arXiv 2201.03545, section 2, Figure 2, Tables 10 and 11), step by step.

A step is one change of a `Design`; a network of the roadmap is all changes up to its step. The last change,
downsampling layers of their own (with biases, norms beside them and layer scale), arrives at `ConvNeXt` itself. No
torch here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from convnext.core.errors import UserError, nearest


@dataclass(frozen=True)
class Step:
    """One change."""

    name: str
    title: str
    part: str
    """The part of the paper that it is of."""
    change: Mapping[str, Any] = field(default_factory=dict)
    """Fields of `Design`, the same in every regime."""
    adopted: bool = True
    """Whether later steps build on it; else it was tried and left (larger kernels)."""


_MACRO, _RESNEXT, _INVERTED = "macro design", "ResNeXt-ify", "inverted bottleneck"
_KERNEL, _MICRO = "large kernel", "micro design"
STEPS = (  # sections 2.1 to 2.6
    Step("baseline", "ResNet", "start"),
    Step("stage_ratio", "stage ratio", _MACRO),
    Step("patchify", "patchify stem", _MACRO, {"patchify": True}),
    Step("depthwise", "depthwise convolution", _RESNEXT, {"depthwise": True}),
    Step("width", "more width", _RESNEXT),
    Step("inverted", "inverted bottleneck", _INVERTED, {"inverted": True}),
    Step("move_up", "depthwise convolution first", _KERNEL, {"spatial_first": True}),
    Step("k5", "kernel 5x5", _KERNEL, {"kernel_size": 5}),
    Step("k7", "kernel 7x7", _KERNEL, {"kernel_size": 7}),
    Step("k9", "kernel 9x9", _KERNEL, {"kernel_size": 9}, adopted=False),
    Step("k11", "kernel 11x11", _KERNEL, {"kernel_size": 11}, adopted=False),
    Step("gelu", "ReLU to GELU", _MICRO, {"act": "gelu"}),
    Step("fewer_acts", "fewer activations", _MICRO, {"every_act": False}),
    Step("fewer_norms", "fewer norms", _MICRO, {"every_norm": False}),
    Step("bn2ln", "BatchNorm to LayerNorm", _MICRO, {"norm": "layer"}),
    Step("sep_ds", "downsampling layers = ConvNeXt", _MICRO),
)
ARRIVAL = STEPS[-1].name


@dataclass(frozen=True)
class Regime:
    """Where the road begins and ends: depths and widths."""

    title: str
    changes: Mapping[str, Mapping[str, Any]]
    """What the steps that are its own change, by the step's name."""
    arrives: str
    """What the last step is called."""
    layer_scale_init_value: float = 1e-6
    """Of the last step. 0: none, for short runs, which end before a scale of 1e-6 has grown."""


REGIMES = {
    "resnet50": Regime(
        "ResNet-50 to ConvNeXt-T",
        {
            "baseline": {"depths": (3, 4, 6, 3), "width": 64},
            "stage_ratio": {"depths": (3, 3, 9, 3)},
            "width": {"width": 96},
        },
        "convnext_tiny",
    ),
    "resnet200": Regime(
        "ResNet-200 to ConvNeXt-B",
        {
            "baseline": {"depths": (3, 24, 36, 3), "width": 64},
            "stage_ratio": {"depths": (3, 3, 27, 3), "width": 84},
            "width": {"width": 128},
        },
        "convnext_base",
    ),
    "small": Regime(
        "the same steps with a quarter of the width and a third of the depth, for small images and small machines",
        {
            "baseline": {"depths": (1, 1, 2, 1), "width": 16},
            "stage_ratio": {"depths": (1, 1, 3, 1)},
            "width": {"width": 24},
        },
        "a reduced ConvNeXt-T",
        layer_scale_init_value=0.0,
    ),
}

_PREFIX = "roadmap_"
MODEL_NAMES = tuple(f"{_PREFIX}{regime}_{step.name}" for regime in REGIMES for step in STEPS)


def name_of(regime: str, step: str) -> str:
    """The name of a network of the roadmap, as `create_model` knows it.

    Raises UserError for an unknown regime or step, with its neighbours on the road.
    """
    if regime not in REGIMES:
        raise UserError(f"There is no regime '{regime}'.{nearest(regime, REGIMES)} There are {', '.join(REGIMES)}.")
    steps = [s.name for s in STEPS]
    if step not in steps:
        raise UserError(f"There is no step '{step}'.{nearest(step, steps)} In order: {', '.join(steps)}.")
    return f"{_PREFIX}{regime}_{step}"


def split(name: str) -> tuple[str, str]:
    """The regime and the step of one of `MODEL_NAMES`."""
    regime, step = name.removeprefix(_PREFIX).split("_", 1)
    return regime, step


def design_fields(name: str) -> dict[str, Any]:
    """The fields of the `Design` of one of `MODEL_NAMES`: all changes up to its step (for the last: before it)."""
    regime, last = split(name)
    fields: dict[str, Any] = {}
    for step in STEPS:
        if step.adopted or step.name == last:
            fields |= {**step.change, **REGIMES[regime].changes.get(step.name, {})}
        if step.name == last:
            break
    return fields
