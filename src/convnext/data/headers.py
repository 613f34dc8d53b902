"""What the first bytes of an image's file say, without decoding it: its size, what of it is not seen."""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from PIL import ExifTags, Image

from convnext.data.decode import IMAGE_SUFFIXES

_SAMPLES_PER_PIXEL = 277  # a TIFF's tag
_SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that exchange height and width


def sizes_differ(found: tuple[int, int], said: tuple[int, int], path: Path | None = None) -> str:
    """The sizes (height, width) of an image and of its annotations, in words. path: of the image, for the reason."""
    turned = exchanged = ""
    if found == said[::-1] and path is not None:
        if _is_turned(path):
            turned = " (turned upright, as its EXIF tag says; annotate it so, or remove the tag)"
        else:
            exchanged = ": width and height are exchanged there"
    return f"it has {found[1]} x {found[0]} pixels{turned}, the annotations say {said[1]} x {said[0]}{exchanged}"


def _is_turned(path: Path) -> bool:
    """Whether an image's EXIF tag exchanges its height and width."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=_formats()) as image:
                return image.getexif().get(ExifTags.Base.Orientation) in _SIDEWAYS
        except Exception:  # noqa: BLE001 - damaged files make decoders raise nearly anything
            return False


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


def survey(paths: Sequence[Path], *, most: int = 100) -> str:
    """What is not seen of some images spread over all, in a sentence; "" where nothing.

    Of pages and frames, the first is used; transparent parts are shown on white; of more than three bands, red, green
    and blue are used.
    """
    looked = paths[:: max(len(paths) // most, 1)][:most]
    kinds: Counter[str] = Counter(kind for path in looked for kind in _unseen(path))
    if not kinds:
        return ""
    found = "; ".join(f"{count:,} {kind}" for kind, count in kinds.most_common())
    return f"Of {len(looked):,} files looked at: {found}."


def _unseen(path: Path) -> Iterator[str]:
    if path.suffix.lower() in (".jpg", ".jpeg"):
        return  # neither pages nor alpha
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path, formats=_formats()) as image:
                pages, bands, mode = bool(getattr(image, "is_animated", False)), len(image.getbands()), image.mode
                tags = getattr(image, "tag_v2", {})
                bands = max(bands, int(tags.get(_SAMPLES_PER_PIXEL, 1)))
                alpha = mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
        except Exception:  # noqa: BLE001 - damaged files make decoders raise nearly anything; reading them says so
            return
    if pages:
        yield "with several pages or frames (the first is used)"
    if alpha:
        yield "with transparency (shown on white)"
    elif bands > 3 and mode != "CMYK":
        yield "with more than 3 bands (red, green and blue are used)"


@functools.cache
def _formats() -> tuple[str, ...]:
    """Pillow's names of the formats that `decode` reads."""
    known = Image.registered_extensions()
    return tuple(sorted({known[suffix] for suffix in IMAGE_SUFFIXES if suffix in known}))
