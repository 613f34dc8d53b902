"""The roadmap as a table: what each step costs, counted on the models here, beside what the paper published.

Accuracies are ImageNet-1K top-1 at 224 pixels, %, with their standard deviation over three runs where the paper gives
it; GMACs are the paper's "FLOPs" (arXiv 2201.03545, Tables 10 and 11).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from convnext.models.figures import figures_of
from convnext.models.roadmap import STEPS, name_of


@dataclass(frozen=True)
class Published:
    """One row of the paper's table."""

    accuracy: float
    deviation: float | None
    gmacs: float


PUBLISHED = {
    "resnet50": {
        "baseline": Published(78.82, 0.07, 4.09),
        "stage_ratio": Published(79.36, 0.07, 4.53),
        "patchify": Published(79.51, 0.18, 4.42),
        "depthwise": Published(78.28, 0.08, 2.35),
        "width": Published(80.50, 0.02, 5.27),
        "inverted": Published(80.64, 0.03, 4.64),
        "move_up": Published(79.92, 0.08, 4.07),
        "k5": Published(80.35, 0.08, 4.10),
        "k7": Published(80.57, 0.14, 4.15),
        "k9": Published(80.57, 0.06, 4.21),
        "k11": Published(80.47, 0.11, 4.29),
        "gelu": Published(80.62, 0.14, 4.15),
        "fewer_acts": Published(81.27, 0.06, 4.15),
        "fewer_norms": Published(81.41, 0.09, 4.15),
        "bn2ln": Published(81.47, 0.09, 4.46),
        "sep_ds": Published(81.97, 0.06, 4.49),
    },
    "resnet200": {
        "baseline": Published(81.14, None, 15.01),
        "stage_ratio": Published(81.33, None, 14.52),
        "patchify": Published(81.59, None, 14.38),
        "depthwise": Published(80.54, None, 7.23),
        "width": Published(81.85, None, 16.76),
        "inverted": Published(82.64, None, 15.68),
        "move_up": Published(82.04, None, 14.63),
        "k5": Published(82.32, None, 14.70),
        "k7": Published(82.30, None, 14.81),
        "k9": Published(82.27, None, 14.95),
        "k11": Published(82.18, None, 15.13),
        "gelu": Published(82.19, None, 14.81),
        "fewer_acts": Published(82.71, None, 14.81),
        "fewer_norms": Published(83.17, None, 14.81),
        "bn2ln": Published(83.35, None, 14.81),
        "sep_ds": Published(83.60, None, 15.35),
    },
}
SWIN = {"resnet50": ("Swin-T", 81.3), "resnet200": ("Swin-B", 83.5)}  # what the road is compared with
SWIN_NAMES = {"resnet50": ("swin_tiny",), "resnet200": ("swin_base",), "small": ()}

# Two published figures of the smaller regime belong to the row below them: a norm has no multiply-accumulates of a
# convolution, 4.46 is ConvNeXt-T's own figure, and 4.49 is Swin-T's.
SHIFTED = {("resnet50", "bn2ln"), ("resnet50", "sep_ds")}


def rows(regime: str, *, pixels: int = 224, num_classes: int = 1000, stem_stride: int = 4) -> list[dict[str, Any]]:
    """One row for each step, in order: parameters and GMACs of the network as it is built here, and what was published.

    pixels: height and width of the images. The last step has its layer scale, some thousands of parameters. Raises
    UserError for an unknown regime.
    """
    found = []
    for step in STEPS:
        name = name_of(regime, step.name)
        parameters, macs = _costs(name, pixels=pixels, num_classes=num_classes, stem_stride=stem_stride)
        published = PUBLISHED.get(regime, {}).get(step.name)
        found.append(
            {
                "step": step.name,
                "title": step.title,
                "adopted": step.adopted,
                "model": name,
                "parameters": parameters,
                "gmacs": macs / 1e9,
                "gmacs_published": published and published.gmacs,
                "accuracy_published": published and published.accuracy,
                "deviation_published": published and published.deviation,
                "gmacs_shifted_in_print": (regime, step.name) in SHIFTED,
            }
        )
    return found


def _costs(name: str, *, pixels: int, num_classes: int, stem_stride: int) -> tuple[int, int]:
    """Parameters and multiply-accumulates of a network: as written down, where it is as published, else counted now."""
    known = figures_of(name)
    if (pixels, num_classes, stem_stride) == (224, known.num_classes, 4):
        return known.parameters, known.macs_224
    import torch

    from convnext.models.create import count_macs, count_parameters, create_model

    with torch.device("meta"):
        model = create_model(name, num_classes=num_classes, stem_stride=stem_stride)
    return count_parameters(model), count_macs(model, pixels)
