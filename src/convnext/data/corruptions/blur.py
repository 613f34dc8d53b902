"""Corruptions that move or mix pixels. x: float64 (H, W, C) in 0..1; so is the result, not clipped.

Lengths are pixels.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from convnext.data.corruptions.noise import Array, Chance


def gaussian_blur(x: Array, sigma: float) -> Array:
    """A Gaussian over space; beyond the border its values go on."""
    return ndimage.gaussian_filter(x, (sigma, sigma, 0)[: x.ndim], mode="nearest", truncate=4.0)


def defocus_blur(x: Array, radius: float, edge: float) -> Array:
    """A disk with a soft edge, mirrored at the border."""
    kernel = disk(radius, edge)
    return np.stack([ndimage.convolve(x[..., c], kernel, mode="mirror") for c in range(x.shape[-1])], axis=-1)


def disk(radius: float, edge: float) -> Array:
    """A disk of that radius whose edge is blurred by a Gaussian of 3 places, of 5 for radii above 8; sums to 1."""
    reach = 8 if radius <= 8 else math.ceil(radius)
    rows, columns = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    inside = (rows**2 + columns**2 <= radius**2).astype(float)
    inside /= inside.sum()
    width = 1 if radius <= 8 else 2
    weights = np.exp(-(np.arange(-width, width + 1) ** 2) / (2 * edge**2))
    weights /= weights.sum()
    down = ndimage.convolve1d(inside, weights, axis=0, mode="mirror")
    return ndimage.convolve1d(down, weights, axis=1, mode="mirror")


def glass_blur(x: Array, sigma: float, reach: int, rounds: int, chance: Chance) -> Array:
    """Blurred, pixels taken from places nearby, blurred again.

    Pixel by pixel from the lower right, each takes the value of one at most `reach` away, which keeps its own: what the
    original, which means to exchange them, does.
    """
    blurred = np.floor(gaussian_blur(x, sigma) * 255) / 255
    height, width = x.shape[:2]
    from_place = list(range(height * width))
    for _ in range(rounds):
        moves = chance.integers(-reach, reach, size=(max(height - 2 * reach, 0), max(width - 2 * reach, 0), 2))
        rows, columns = np.mgrid[height - reach : reach : -1, width - reach : reach : -1]
        others = (rows + moves[..., 1]).clip(0, height - 1) * width + (columns + moves[..., 0]).clip(0, width - 1)
        places = rows.clip(0, height - 1) * width + columns.clip(0, width - 1)
        for place, other in zip(places.ravel().tolist(), others.ravel().tolist(), strict=True):
            from_place[place] = from_place[other]
    moved = blurred.reshape(height * width, -1)[from_place].reshape(x.shape)
    return gaussian_blur(moved, sigma)


def motion_blur(x: Array, radius: float, sigma: float, degrees: float) -> Array:
    """A half Gaussian along a line, from each pixel on, as ImageMagick's motion blur; borders go on.

    radius: the line has 2 * radius + 1 places. degrees: its direction.
    """
    length = 2 * math.ceil(radius) + 1
    weights = np.exp(-(np.arange(length) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    angle = math.radians(degrees)
    result = np.zeros_like(x)
    for step, weight in enumerate(weights):
        down, right = (-math.ceil(step * part - 0.5) for part in (math.sin(angle), math.cos(angle)))
        result += weight * shifted(x, down, right)
    return result


def shifted(x: Array, down: int, right: int) -> Array:
    """An image moved by whole pixels; what comes in is its border."""
    rows = np.arange(x.shape[0]) - down
    columns = np.arange(x.shape[1]) - right
    return x[rows.clip(0, x.shape[0] - 1)][:, columns.clip(0, x.shape[1] - 1)]


def zoom_blur(x: Array, end: float, step: float) -> Array:
    """The mean of the image and of itself enlarged by 1, 1 + step, ... up to `end`, which is left out."""
    factors = np.arange(1, end, step)
    return (x + sum(zoomed(x, factor) for factor in factors)) / (len(factors) + 1)


def zoomed(x: Array, factor: float) -> Array:
    """The middle of an image enlarged to its size, linearly."""
    height, width = x.shape[:2]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = x[top : top + rows, left : left + columns]
    large = np.asarray(ndimage.zoom(middle, (factor, factor, 1)[: x.ndim], order=1))
    top, left = max((large.shape[0] - height) // 2, 0), max((large.shape[1] - width) // 2, 0)
    cut = large[top : top + height, left : left + width]
    missing = [(0, height - cut.shape[0]), (0, width - cut.shape[1]), (0, 0)][: x.ndim]
    return np.pad(cut, missing, mode="edge")  # rounding may leave a row short


def elastic_transform(x: Array, strength: float, smooth: float, reach: float, chance: Chance) -> Array:
    """A random affine map of three points, then a smooth random displacement of every pixel.

    reach: how far the three points move. smooth: sigma of the displacements, strength: their factor.
    """
    height, width = x.shape[:2]
    middle, third = np.array([height, width]) // 2, min(height, width) // 3
    before = middle + third * np.array([[1, 1], [1, -1], [-1, -1]], dtype=float)
    after = before + chance.uniform(-reach, reach, before.shape)
    rows, columns = np.mgrid[:height, :width].astype(float)
    corners = np.hstack([after, np.ones((3, 1))])
    if abs(np.linalg.det(corners)) > 1e-9:  # three points in a row map nothing
        back = np.linalg.solve(corners, before)  # from where each pixel comes
        places = np.stack([rows, columns, np.ones_like(rows)], axis=-1) @ back
        x = _sampled(x, places[..., 0], places[..., 1], mode="mirror")
    moves = [
        ndimage.gaussian_filter(chance.uniform(-1, 1, (height, width)), smooth, mode="reflect", truncate=3) * strength
        for _ in range(2)
    ]
    return _sampled(x, rows + moves[0], columns + moves[1], mode="reflect")


def _sampled(x: Array, rows: Array, columns: Array, *, mode: str) -> Array:
    """The values at places between pixels, linearly."""
    channels = [ndimage.map_coordinates(x[..., c], [rows, columns], order=1, mode=mode) for c in range(x.shape[-1])]
    return np.stack(channels, axis=-1)


def places_near(mask: NDArray[np.bool_]) -> Array:
    """How far each place is from the nearest one of a mask, in pixels; 0 everywhere for an empty mask."""
    return np.asarray(ndimage.distance_transform_edt(~mask)) if mask.any() else np.zeros(mask.shape)
