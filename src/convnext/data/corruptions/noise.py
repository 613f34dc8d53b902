"""Corruptions of values: noise, light, colour, compression.

x: float64 (H, W, C) in 0..1; so is the result, not clipped.
"""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[np.float64]
Chance = np.random.Generator


def gaussian_noise(x: Array, deviation: float, chance: Chance) -> Array:
    """Normal noise."""
    return x + chance.normal(0, deviation, x.shape)


def shot_noise(x: Array, photons: float, chance: Chance) -> Array:
    """Poisson noise of so many photons for white."""
    return chance.poisson(x * photons) / photons


def impulse_noise(x: Array, share: float, chance: Chance) -> Array:
    """A share of the values, each channel by itself, becomes 0 or 1."""
    hit, white = chance.random(x.shape) < share, chance.random(x.shape) < 0.5
    return np.where(hit, white.astype(float), x)


def speckle_noise(x: Array, deviation: float, chance: Chance) -> Array:
    """Normal noise in proportion to the value."""
    return x + x * chance.normal(0, deviation, x.shape)


def brightness(x: Array, added: float) -> Array:
    """Adds to the value of hue, saturation and value."""
    hue, saturation, value = to_hsv(x)
    return from_hsv(hue, saturation, np.clip(value + added, 0, 1))


def saturate(x: Array, factor: float, added: float) -> Array:
    """Scales and shifts the saturation."""
    hue, saturation, value = to_hsv(x)
    return from_hsv(hue, np.clip(saturation * factor + added, 0, 1), value)


def contrast(x: Array, factor: float) -> Array:
    """Draws each channel towards its mean."""
    mean = x.mean(axis=(0, 1), keepdims=True)
    return (x - mean) * factor + mean


def jpeg_compression(x: Array, quality: int) -> Array:
    """Saved as JPEG and read again."""
    file = io.BytesIO()
    as_image(x).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file), dtype=float) / 255


def pixelate(x: Array, factor: float) -> Array:
    """Made smaller and larger again, by means of boxes."""
    image = as_image(x)
    small = (max(int(image.width * factor), 1), max(int(image.height * factor), 1))
    return np.asarray(image.resize(small, Image.Resampling.BOX).resize(image.size, Image.Resampling.BOX)) / 255


def as_image(x: Array) -> Image.Image:
    """Values in 0..1 as an RGB image; fractions of 255 are cut off, as the original does."""
    return Image.fromarray((np.clip(x, 0, 1) * 255).astype(np.uint8))


def to_hsv(x: Array) -> tuple[Array, Array, Array]:
    """Hue, saturation and value of RGB, each (H, W) in 0..1; the hue of grey is 0."""
    high, low = x.max(axis=-1), x.min(axis=-1)
    span = high - low
    safe = np.where(span > 0, span, 1)
    red, green, blue = (x[..., channel] for channel in range(3))
    hue = np.select(
        [span == 0, high == red, high == green],
        [np.zeros_like(high), ((green - blue) / safe) % 6, (blue - red) / safe + 2],
        (red - green) / safe + 4,
    )
    return hue / 6, np.where(high > 0, span / np.where(high > 0, high, 1), 0), high


def from_hsv(hue: Array, saturation: Array, value: Array) -> Array:
    """The reverse of `to_hsv`."""
    channels = []
    for offset in (5, 3, 1):
        place = (offset + hue * 6) % 6
        channels.append(value - value * saturation * np.clip(np.minimum(place, 4 - place), 0, 1))
    return np.stack(channels, axis=-1)
