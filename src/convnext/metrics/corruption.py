"""Corruption errors (arXiv 1903.12261): mCE, normalised by AlexNet's errors, and without that.

An error is a share of images, 0 to 1. Undefined is None.
"""

from __future__ import annotations

import statistics
from collections.abc import Collection, Mapping, Sequence

ALEXNET_CLEAN = 0.435
"""AlexNet's top-1 error on ImageNet-1K's validation images (the divisor of relative mCE)."""
ALEXNET: Mapping[str, float] = {
    "gaussian_noise": 0.886428,
    "shot_noise": 0.894468,
    "impulse_noise": 0.92264,
    "defocus_blur": 0.81988,
    "glass_blur": 0.826268,
    "motion_blur": 0.785948,
    "zoom_blur": 0.79836,
    "snow": 0.866816,
    "frost": 0.826572,
    "fog": 0.819324,
    "brightness": 0.564592,
    "contrast": 0.853204,
    "elastic_transform": 0.646056,
    "pixelate": 0.71784,
    "jpeg_compression": 0.6065,
}
"""AlexNet's top-1 errors on ImageNet-C, the mean over five severities (hendrycks/robustness; the same values stand in
facebookresearch/augmentation-corruption and in alibaba/easyrobust)."""
SEVERITIES = 5

Errors = Mapping[str, Sequence[float | None]]
"""A corruption -> its errors at severities 1 to 5."""


def mean_of(errors: Sequence[float | None]) -> float | None:
    """The mean over five severities; None where one is missing."""
    known = [error for error in errors if error is not None]
    return statistics.fmean(known) if len(known) == len(errors) == SEVERITIES else None


def corruption_errors(errors: Errors) -> dict[str, float | None]:
    """CE of each corruption that AlexNet has one of: the sum of its errors by that of AlexNet's."""
    means = {kind: mean_of(values) for kind, values in errors.items()}
    return {kind: None if (mean := means[kind]) is None else mean / ALEXNET[kind] for kind in errors if kind in ALEXNET}


def mce(errors: Errors) -> float | None:
    """The mean of CE over the fifteen corruptions of ImageNet-C; None where one of them is missing."""
    found = [value for value in corruption_errors(errors).values() if value is not None]
    return statistics.fmean(found) if len(found) == len(ALEXNET) else None


def mean_error(errors: Errors, kinds: Collection[str] = ALEXNET.keys()) -> float | None:
    """The plain mean over corruptions, the same fifteen unless others are named, which is no mCE; None where one of
    them is missing."""
    found = [mean for kind in kinds if (mean := mean_of(errors.get(kind, ()))) is not None]
    return statistics.fmean(found) if len(found) == len(kinds) else None


def relative_mce(errors: Errors, clean: float) -> float | None:
    """The mean over the fifteen of how much corruption adds to the clean error, by how much it adds to AlexNet's."""
    added = [
        (mean - clean) / (ALEXNET[kind] - ALEXNET_CLEAN)
        for kind in ALEXNET
        if (mean := mean_of(errors.get(kind, ()))) is not None
    ]
    return statistics.fmean(added) if len(added) == len(ALEXNET) else None
