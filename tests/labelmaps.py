"""Small pictures with label maps, made up: what tests of segmentation share."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def scene(seed: int, height: int = 48, width: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """A picture uint8 (H, W, 3) and its labels uint8 (H, W): sky (0) above ground (1), a box (2) on it; each class has
    a colour of its own with some noise, so that they can be learned."""
    chance = np.random.default_rng(seed)
    labels = np.zeros((height, width), dtype=np.uint8)
    labels[int(chance.integers(height // 3, 2 * height // 3)) :] = 1
    y, x = int(chance.integers(4, height // 2)), int(chance.integers(4, width // 2))
    labels[y : y + height // 3, x : x + width // 3] = 2
    colours = np.array([[90, 150, 230], [60, 120, 40], [220, 60, 50]])
    picture = colours[labels] + chance.integers(-20, 21, (height, width, 3))
    return picture.clip(0, 255).astype(np.uint8), labels


def save(path: Path, pixels: np.ndarray, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def labelled(root: Path, *, train: int = 6, val: int = 3, names: bool = True) -> Path:
    """images/{train,val}, annotations/{train,val} and classes.txt; one pixel of each label map has no class."""
    for part, count, start in (("train", train, 0), ("val", val, 100)):
        for number in range(count):
            picture, labels = scene(start + number)
            labels[0, 0] = 255
            save(root / "images" / part / f"{number}.png", picture)
            save(root / "annotations" / part / f"{number}.png", labels)
    if names:
        (root / "classes.txt").write_text("sky\nground\nbox\n")
    return root
