"""RandAugment in the variant that ConvNeXt was trained with, known as "rand-m9-mstd0.5-inc1".

Cubuk et al., "RandAugment: Practical automated data augmentation with a reduced search space" (2020), with the changes
that recipe names: every operation gets stronger with the magnitude ("inc1"), the magnitude is drawn anew each time
("mstd"), and each drawn operation is left out half of the time. timm's implementation is the reference (a test holds
each operation against it, pixel by pixel).

Works on Pillow images, as the reference does, so that training sees the very same pixels. Tensor operations would not
be faster: at 224 x 224 torchvision's take a twentieth of the time to invert and half of it to rotate, but twice to
equalize, three times to sharpen, and none rotates bicubically.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import NamedTuple

from PIL import Image, ImageEnhance, ImageOps
from PIL.Image import Resampling

Colour = tuple[int, int, int]
_Operation = Callable[[Image.Image, float], Image.Image]
_Warp = Callable[[Image.Image, float, Resampling, Colour], Image.Image]

_PROBABILITY = 0.5  # that an operation that was drawn is carried out
_MAX_MAGNITUDE = 10.0


class Step(NamedTuple):
    """An operation that was drawn: its name, its level (0..1, or -1..1 for SIGNED), how warps interpolate."""

    name: str
    level: float
    resample: Resampling


def draw(*, ops: int, magnitude: float, std: float, chance: random.Random) -> list[Step]:
    """Up to `ops` random operations (each drawn one is dropped half of the time).

    magnitude: 0..10, for each operation drawn from a normal distribution of standard deviation `std` around it.
    """
    steps = []
    for _ in range(ops):
        name = chance.choice(NAMES)
        if chance.random() >= _PROBABILITY:
            continue
        drawn = chance.gauss(magnitude, std) if std > 0 else magnitude
        level = min(max(drawn, 0.0), _MAX_MAGNITUDE) / _MAX_MAGNITUDE
        if name in SIGNED and chance.random() < 0.5:
            level = -level
        resample = chance.choice((Resampling.BILINEAR, Resampling.BICUBIC)) if name in _WARPS else Resampling.NEAREST
        steps.append(Step(name, level, resample))
    return steps


def apply(step: Step, image: Image.Image, fill: Colour) -> Image.Image:
    """An RGB image after one operation, of the same size; `fill` (0..255): the colour of what comes from outside."""
    if step.name in _WARPS:
        return _WARPS[step.name](image, step.level, step.resample, fill)
    return _COLOURS[step.name](image, step.level)


def _affine(image: Image.Image, row_x: tuple, row_y: tuple, resample: Resampling, fill: Colour) -> Image.Image:
    """Each pixel (x, y) is taken from (row_x . (x, y, 1), row_y . (x, y, 1))."""
    matrix = (*row_x, *row_y)
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample=resample, fillcolor=fill)


def _rotate(image: Image.Image, level: float, resample: Resampling, fill: Colour) -> Image.Image:
    return image.rotate(30 * level, resample=resample, fillcolor=fill)


def _shear_x(image: Image.Image, level: float, resample: Resampling, fill: Colour) -> Image.Image:
    return _affine(image, (1, 0.3 * level, 0), (0, 1, 0), resample, fill)


def _shear_y(image: Image.Image, level: float, resample: Resampling, fill: Colour) -> Image.Image:
    return _affine(image, (1, 0, 0), (0.3 * level, 1, 0), resample, fill)


def _translate_x(image: Image.Image, level: float, resample: Resampling, fill: Colour) -> Image.Image:
    return _affine(image, (1, 0, 0.45 * level * image.width), (0, 1, 0), resample, fill)


def _translate_y(image: Image.Image, level: float, resample: Resampling, fill: Colour) -> Image.Image:
    return _affine(image, (1, 0, 0), (0, 1, 0.45 * level * image.height), resample, fill)


def _solarize_add(image: Image.Image, level: float) -> Image.Image:
    amount = int(110 * level)
    return image.point([min(value + amount, 255) if value < 128 else value for value in range(256)] * 3)


def _factor(level: float) -> float:
    """Of an enhancement; 1 changes nothing."""
    return max(1 + 0.9 * level, 0.1)


_WARPS: dict[str, _Warp] = {
    "Rotate": _rotate,
    "ShearX": _shear_x,
    "ShearY": _shear_y,
    "TranslateX": _translate_x,
    "TranslateY": _translate_y,
}
_COLOURS: dict[str, _Operation] = {
    "AutoContrast": lambda image, level: ImageOps.autocontrast(image),
    "Equalize": lambda image, level: ImageOps.equalize(image),
    "Invert": lambda image, level: ImageOps.invert(image),
    "Posterize": lambda image, level: ImageOps.posterize(image, 4 - int(4 * level)),
    "Solarize": lambda image, level: ImageOps.solarize(image, 256 - int(256 * level)),
    "SolarizeAdd": _solarize_add,
    "Color": lambda image, level: ImageEnhance.Color(image).enhance(_factor(level)),
    "Contrast": lambda image, level: ImageEnhance.Contrast(image).enhance(_factor(level)),
    "Brightness": lambda image, level: ImageEnhance.Brightness(image).enhance(_factor(level)),
    "Sharpness": lambda image, level: ImageEnhance.Sharpness(image).enhance(_factor(level)),
}
NAMES = (*_COLOURS, *_WARPS)
"""The fifteen operations, each drawn with the same probability."""
SIGNED = frozenset((*_WARPS, "Color", "Contrast", "Brightness", "Sharpness"))
"""Those that go either way, drawn with equal probability."""
