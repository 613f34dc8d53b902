"""How images are read and augmented for a classifier. No torch here: the command line reads this first."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class AugmentConfig:
    """What is done to each training image on its own."""

    crop: Literal["resized", "padded", "none"] = "resized"
    """resized: a random part at a random aspect, resized. padded: pad, then crop at random (small images).
    none: as in evaluation."""
    scale: tuple[float, float] = (0.08, 1.0)
    """Area of the random part, as a share of the image (crop = resized)."""
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    """Aspect of the random part, width by height (crop = resized)."""
    padding: int = 4
    """Pixels of padding on each side (crop = padded)."""
    flip: float = 0.5
    """Probability of a mirror image; 0 for digits and text."""
    randaugment_ops: int = 2
    """RandAugment operations for each image; 0 turns it off."""
    randaugment_magnitude: float = 9.0
    """Strength of RandAugment, 0..10."""
    randaugment_std: float = 0.5
    """Standard deviation of that strength."""


@dataclass(frozen=True)
class TableConfig:
    """How a table of images and labels is read (csv, tsv, jsonl, parquet)."""

    image: str = ""
    """The column of the image files; found by its name, or by the files, if left out."""
    label: str = ""
    """The column of the classes, or several with commas between: columns of 0 and 1, one for each label."""
    per_image: Literal["auto", "one", "several"] = "auto"
    """Labels of an image. one: a cell is one class. several: a cell can hold several (or a file several rows), and an
    image can have none. auto: by the cells; asked for where they leave it open."""


AS_FOUND = TableConfig()
"""Nothing is said of the table."""
