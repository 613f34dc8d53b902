"""A corruption by name: uint8 in, uint8 out, the same for the same image and seed.

H W space. ImageNet-C's images are corrupted at 224 pixels and saved as JPEG of quality 85, and its own figures are of
those files; what is corrupted here in memory comes near them, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnext.core.errors import UserError
from convnext.core.seeding import mix_seed
from convnext.data.corruptions import blur, noise, weather
from convnext.data.corruptions.config import CONSTANTS, KINDS
from convnext.data.corruptions.noise import Array, Chance
from convnext.data.decode import IMAGE_SUFFIXES

_OF = 224  # pixels that the constants are for
_TYPO = 244  # of elastic_transform: see `config.CONSTANTS`
_FROSTS = 5  # the original never draws the sixth of its photographs


@dataclass(frozen=True)
class Corruption:
    """One corruption of one severity."""

    kind: str
    """One of `config.KINDS`."""
    severity: int
    """1 to 5."""
    frost: Path | None = None
    """A folder with photographs of frost; None: frost is drawn."""

    def __call__(self, image: Tensor, seed: int) -> Tensor:
        """uint8 (3, H, W) to the same. seed: of this image; the same seed gives the same pixels."""
        chance = np.random.default_rng(mix_seed(seed, KINDS.index(self.kind), self.severity))
        x = image.permute(1, 2, 0).numpy().astype(np.float64) / 255
        found = np.clip(self._corrupted(x, chance), 0, 1) * 255
        return torch.from_numpy(found.astype(np.uint8)).permute(2, 0, 1).contiguous()  # cut off, not rounded

    def _corrupted(self, x: Array, chance: Chance) -> Array:
        constants = CONSTANTS[self.kind][self.severity - 1]
        values: Sequence[Any] = constants if isinstance(constants, tuple) else (constants,)
        scale = max(x.shape[:2]) / _OF
        if self.kind in _NOISES:
            return _NOISES[self.kind](x, values[0], chance)
        if self.kind in _CHANGES:
            return _CHANGES[self.kind](x, *values)
        if self.kind in _OF_WEATHER:
            return self._of_weather(x, values, scale, chance)
        return _of_places(self.kind, x, values, scale, chance)

    def _of_weather(self, x: Array, values: Sequence[Any], scale: float, chance: Chance) -> Array:
        if self.kind == "fog":
            return weather.fog(x, *values, chance=chance)
        if self.kind == "frost":
            return weather.frost(x, *values, texture=self._texture(max(x.shape[:2]), chance), chance=chance)
        if self.kind == "snow":
            mean, deviation, zoom, threshold, radius, sigma, share = values
            return weather.snow(
                x,
                mean=mean,
                deviation=deviation,
                zoom=zoom,
                threshold=threshold,
                radius=max(radius * scale, 1),
                sigma=sigma * scale,
                share=share,
                chance=chance,
            )
        mean, deviation, sigma, threshold, strength, mud = values
        return weather.spatter(
            x,
            mean=mean,
            deviation=deviation,
            sigma=max(sigma * scale, 0.3),
            threshold=threshold,
            strength=max(strength * scale, 0.3) if mud else strength,
            mud=bool(mud),
            chance=chance,
        )

    def _texture(self, side: int, chance: Chance) -> Array:
        if self.frost is None:
            return weather.drawn_frost(side, chance)
        files = frost_files(self.frost)
        with Image.open(files[int(chance.integers(min(len(files), _FROSTS)))]) as image:
            return weather.photographed_frost(image, side)


_NOISES = {
    "gaussian_noise": noise.gaussian_noise,
    "shot_noise": noise.shot_noise,
    "impulse_noise": noise.impulse_noise,
    "speckle_noise": noise.speckle_noise,
}
_CHANGES: dict[str, Callable[..., Array]] = {
    "brightness": noise.brightness,
    "saturate": noise.saturate,
    "contrast": noise.contrast,
    "jpeg_compression": noise.jpeg_compression,
    "pixelate": noise.pixelate,
}
"""Those without chance."""
_OF_WEATHER = {"snow", "frost", "fog", "spatter"}


def _of_places(kind: str, x: Array, numbers: Sequence[Any], scale: float, chance: Chance) -> Array:
    if kind == "gaussian_blur":
        return blur.gaussian_blur(x, numbers[0] * scale)
    if kind == "glass_blur":
        sigma, reach, rounds = numbers
        return blur.glass_blur(x, sigma * scale, max(round(reach * scale), 1), int(rounds), chance)
    if kind == "defocus_blur":
        return blur.defocus_blur(x, numbers[0] * scale, numbers[1] * scale)
    if kind == "motion_blur":
        return blur.motion_blur(x, max(numbers[0] * scale, 1), numbers[1] * scale, chance.uniform(-45, 45))
    if kind == "zoom_blur":
        return blur.zoom_blur(x, *numbers)
    strength, smooth, reach = (number * _TYPO * scale for number in numbers)
    return blur.elastic_transform(x, strength, smooth, reach, chance)


def frost_files(folder: Path) -> list[Path]:
    """The photographs of frost in a folder, by name. Raises UserError where there is none."""
    if not folder.is_dir():
        raise UserError(f"There is no folder {folder} of photographs of frost.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not files:
        raise UserError(f"{folder} holds no photographs of frost.")
    return files
