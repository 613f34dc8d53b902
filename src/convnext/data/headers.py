"""The size of an image from the first bytes of its file, without decoding it."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

from PIL import ExifTags, Image

from convnext.data.decode import IMAGE_SUFFIXES

_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


def sizes_differ(found: tuple[int, int], said: tuple[int, int]) -> str:
    """The sizes (height, width) of an image and of its annotations, in words."""
    turned = " (turned upright, as its EXIF tag says; annotate it so, or remove the tag)" if found == said[::-1] else ""
    return f"it has {found[1]} x {found[0]} pixels{turned}, the annotations say {said[1]} x {said[0]}"


def header_size(path: Path) -> tuple[int, int] | None:
    """Height and width of an image, upright, from the first bytes of its file; None where they do not say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=_formats()) as image:
                width, height = image.size
                data = image.info.get("exif")
                if data and image.format != "TIFF":  # as `decode` does
                    exif = Image.Exif()
                    exif.load(data)
                    if exif.get(ExifTags.Base.Orientation) in _SIDEWAYS:
                        return width, height
                return height, width
        except Exception:  # noqa: BLE001 - damaged files make decoders raise nearly anything
            return None


@functools.cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that `decode` reads."""
    known = Image.registered_extensions()
    return tuple(sorted({known[suffix] for suffix in IMAGE_SUFFIXES if suffix in known}))
