"""Corruptions by weather: snow, frost, fog, spatter. x: float64 (H, W, C) in 0..1; so is the result, not clipped.

S the longer side. Lengths are pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from convnext.data.corruptions.blur import gaussian_blur, motion_blur, places_near, zoomed
from convnext.data.corruptions.noise import Array, Chance

_WATER = np.array([175, 238, 238]) / 255
_MUD = np.array([63, 42, 20]) / 255
_GREY = np.array([0.299, 0.587, 0.114])


def snow(
    x: Array,
    *,
    mean: float,
    deviation: float,
    zoom: float,
    threshold: float,
    radius: float,
    sigma: float,
    share: float,
    chance: Chance,
) -> Array:
    """A whitened image under flakes that fall, and their layer turned half around."""
    layer = zoomed(chance.normal(mean, deviation, x.shape[:2]), zoom)
    layer[layer < threshold] = 0
    layer = np.floor(np.clip(layer, 0, 1) * 255) / 255
    layer = motion_blur(layer, radius, sigma, chance.uniform(-135, -45))[..., None]
    grey = (x @ _GREY)[..., None]
    white = share * x + (1 - share) * np.maximum(x, grey * 1.5 + 0.5)
    return white + layer + np.rot90(layer, 2)


def fog(x: Array, amount: float, decay: float, chance: Chance) -> Array:
    """Plasma laid over the image, which keeps its brightest value."""
    high = x.max()
    plasma = plasma_of(max(x.shape[:2]), decay, chance)[: x.shape[0], : x.shape[1], None]
    return (x + amount * plasma) * high / (high + amount)


def plasma_of(side: int, decay: float, chance: Chance) -> Array:
    """Rough noise of the diamond-square rule, in 0..1: at least side x side, a power of two.

    decay: by what roughness is divided as steps halve.
    """
    size = 2 ** max(math.ceil(math.log2(max(side, 2))), 1)
    grid, step, rough = np.zeros((size, size)), size, 100.0
    while step >= 2:
        half = step // 2

        def mean_and_noise(total: Array, rough: float = rough) -> Array:
            return total / 4 + rough * chance.uniform(-rough, rough, total.shape)

        corners = grid[::step, ::step]
        right = corners + np.roll(corners, -1, axis=0)
        grid[half::step, half::step] = mean_and_noise(right + np.roll(right, -1, axis=1))  # the squares' middles
        middles = grid[half::step, half::step]
        across = corners + np.roll(corners, -1, axis=1) + middles + np.roll(middles, 1, axis=0)
        grid[::step, half::step] = mean_and_noise(across)
        down = corners + np.roll(corners, -1, axis=0) + middles + np.roll(middles, 1, axis=1)
        grid[half::step, ::step] = mean_and_noise(down)
        step, rough = half, rough / decay
    grid -= grid.min()
    return grid / grid.max()


def frost(x: Array, share: float, frozen: float, texture: Array, chance: Chance) -> Array:
    """A piece of a picture of frost, added to the image. texture: (h, w, C) in 0..1, at least as large as x."""
    height, width = x.shape[:2]
    top = int(chance.integers(texture.shape[0] - height + 1))
    left = int(chance.integers(texture.shape[1] - width + 1))
    return share * x + frozen * texture[top : top + height, left : left + width]


def drawn_frost(side: int, chance: Chance) -> Array:
    """A picture of frost, drawn, in place of the original's photographs: crystals that grow from the border inwards.

    float64 (side, side, 3) in 0..1; as bright on average as ice on glass: about 0.4.
    """
    needles = np.zeros((side, side))
    for degrees in chance.uniform(0, 180, 6):
        sparks = (chance.random((side, side)) > 0.985).astype(float)
        length = max(side / 12, 2)
        for direction in (degrees, degrees + 180):
            needles += motion_blur(sparks, length, length / 2, direction)
    needles /= max(float(np.quantile(needles, 0.995)), 1e-9)
    cloud = plasma_of(side, 1.9, chance)[:side, :side]
    rows, columns = np.mgrid[:side, :side] / max(side - 1, 1)
    inward = np.minimum.reduce([rows, columns, 1 - rows, 1 - columns])
    ice = np.clip(0.35 * cloud + 0.5 * needles.clip(0, 1) + 0.25 * (1 - 2 * inward), 0, 1)
    return np.clip(ice[..., None] * np.array([0.88, 0.95, 1.0]), 0, 1)


def photographed_frost(image: Image.Image, side: int) -> Array:
    """A photograph of frost as a texture: a fifth of its size, as in the original, but no smaller than side x side."""
    factor = max(0.2, (side + 1) / min(image.size))
    size = (max(round(image.width * factor), side), max(round(image.height * factor), side))
    return np.asarray(image.convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=float) / 255


def spatter(
    x: Array,
    *,
    mean: float,
    deviation: float,
    sigma: float,
    threshold: float,
    strength: float,
    mud: bool,
    chance: Chance,
) -> Array:
    """Drops of water, or of mud, on the lens."""
    drops = gaussian_blur(chance.normal(mean, deviation, x.shape[:2]), sigma)
    drops[drops < threshold] = 0
    if mud:
        cover = gaussian_blur((drops > threshold).astype(float), strength)
        cover[cover < 0.8] = 0
        return x * (1 - cover[..., None]) + cover[..., None] * _MUD
    shine = drops * _rims(drops)
    shine = shine / shine.max() * strength if shine.max() > 0 else shine
    return x + shine[..., None] * _WATER


def _rims(drops: Array) -> Array:
    """How light bends at the rims of drops: an embossed relief of the distance from them, 0 or more.

    The original takes OpenCV's Canny edges and equalises a histogram; here rims are where drops end, and ranks.
    """
    wet = drops > 0
    inner: NDArray[np.bool_] = np.asarray(ndimage.binary_erosion(wet), dtype=bool)
    rims = wet & ~inner
    distance = np.minimum(places_near(rims), 20)
    smooth = ndimage.uniform_filter(distance, 3)
    ranks = np.searchsorted(np.sort(smooth, axis=None), smooth, side="right") / smooth.size  # an equal histogram
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]], dtype=float)
    return ndimage.uniform_filter(ndimage.correlate(ranks, emboss, mode="mirror"), 3).clip(0, None)
