"""The corruptions of ImageNet-C (arXiv 1903.12261): their names, and the constants of their five severities.

Constants: hendrycks/robustness, ImageNet-C/create_c/make_imagenet_c.py. Lengths are pixels of images of 224; for images
of other sizes they are scaled, as CIFAR-10-C's own are. No heavy imports here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from convnext.core.errors import UserError, nearest

SEVERITIES = (1, 2, 3, 4, 5)
NOISE, BLUR, WEATHER, DIGITAL = "noise", "blur", "weather", "digital"
MAIN: Mapping[str, str] = {
    "gaussian_noise": NOISE,
    "shot_noise": NOISE,
    "impulse_noise": NOISE,
    "defocus_blur": BLUR,
    "glass_blur": BLUR,
    "motion_blur": BLUR,
    "zoom_blur": BLUR,
    "snow": WEATHER,
    "frost": WEATHER,
    "fog": WEATHER,
    "brightness": WEATHER,
    "contrast": DIGITAL,
    "elastic_transform": DIGITAL,
    "pixelate": DIGITAL,
    "jpeg_compression": DIGITAL,
}
"""The fifteen that mCE is the mean over -> what kind each is."""
EXTRA: Mapping[str, str] = {
    "speckle_noise": NOISE,
    "gaussian_blur": BLUR,
    "spatter": WEATHER,
    "saturate": DIGITAL,
}
"""The four that are meant for validation, and are not in mCE."""
KINDS: tuple[str, ...] = (*MAIN, *EXTRA)

CONSTANTS: Mapping[str, Sequence[Any]] = {
    "gaussian_noise": (0.08, 0.12, 0.18, 0.26, 0.38),  # standard deviation, of values in 0..1
    "shot_noise": (60, 25, 12, 5, 3),  # photons of white
    "impulse_noise": (0.03, 0.06, 0.09, 0.17, 0.27),  # share of the values
    "speckle_noise": (0.15, 0.2, 0.35, 0.45, 0.6),  # standard deviation, of the value itself
    "gaussian_blur": (1, 2, 3, 4, 6),  # sigma
    "glass_blur": ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)),  # sigma, reach, rounds
    "defocus_blur": ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),  # radius, sigma of its edge
    "motion_blur": ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),  # radius, sigma
    "zoom_blur": ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)),  # end, step; from 1
    "fog": ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),  # amount, decay of roughness
    "frost": ((1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),  # share of the image, of the frost
    # mean, deviation, zoom, threshold, radius and sigma of the motion, share of the image
    "snow": (
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    # mean, deviation, sigma, threshold, strength (of mud: sigma), whether it is mud
    "spatter": (
        (0.65, 0.3, 4, 0.69, 0.6, False),
        (0.65, 0.3, 3, 0.68, 0.6, False),
        (0.65, 0.3, 2, 0.68, 0.5, False),
        (0.65, 0.3, 1, 0.65, 1.5, True),
        (0.67, 0.4, 1, 0.65, 1.5, True),
    ),
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5),  # added to the value (HSV)
    "contrast": (0.4, 0.3, 0.2, 0.1, 0.05),  # factor
    "saturate": ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),  # factor and summand of the saturation (HSV)
    "jpeg_compression": (25, 18, 15, 10, 7),  # quality
    "pixelate": (0.6, 0.5, 0.4, 0.3, 0.25),  # factor
    # strength, smoothness and affine reach, times 244 of 224 pixels: the 244 is a slip of the original that is kept
    "elastic_transform": (
        (2, 0.7, 0.1),
        (2, 0.08, 0.2),
        (0.05, 0.01, 0.02),
        (0.07, 0.01, 0.02),
        (0.12, 0.01, 0.02),
    ),
}


def kinds_of(names: Sequence[str]) -> tuple[str, ...]:
    """The corruptions that words mean: main (the fifteen of mCE), extra (the other four), all, and names.

    Raises UserError for another word, with the nearest.
    """
    sets = {"main": tuple(MAIN), "extra": tuple(EXTRA), "all": KINDS}
    found: list[str] = []
    for name in names:
        if name not in sets and name not in KINDS:
            raise UserError(
                f"There is no corruption '{name}'.{nearest(name, (*sets, *KINDS))} There are main (the fifteen of "
                f"ImageNet-C), extra, all, and by name: {', '.join(KINDS)}."
            )
        found += sets.get(name, (name,))
    return tuple(dict.fromkeys(found))
