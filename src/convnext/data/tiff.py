"""TIFFs that Pillow misreads or does not read: planes of 16 bits, white as zero, floating point, many bands.

Shapes: H W space, S bands. tifffile reads them; what the values mean is decided here, or the file is refused as what it
is: which of seven bands are red, green and blue is not in the file.
"""

from __future__ import annotations

import io
import logging
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_PHOTOMETRIC, _PLANAR, _SAMPLE_FORMAT, _BITS, _ORIENTATION = 262, 284, 339, 258, 274
# both log what they then raise, or what changes nothing
for _name in ("PIL.TiffImagePlugin", "tifffile"):
    logging.getLogger(_name).setLevel(logging.CRITICAL)
_DEFLATE = (8, 32946)
_MOST_BYTES = 16  # of memory for each pixel that an image may have
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2  # PhotometricInterpretation
_ALPHA = (1, 2)  # ExtraSamples: associated and unassociated alpha


class UnknownTiff(Exception):
    """Why a TIFF is not read: what it holds, for people."""


def is_tiff(data: bytes) -> bool:
    """Whether a file's bytes begin as a TIFF's."""
    return data.startswith(_MAGIC)


def misread(image: Image.Image) -> bool:
    """Whether Pillow gives wrong values for a TIFF that it opens."""
    tags = getattr(image, "tag_v2", {})
    bits = max(_numbers(tags.get(_BITS, 1)))
    signed = set(_numbers(tags.get(_SAMPLE_FORMAT, 1)))
    planes = tags.get(_PLANAR, 1) == 2 and bits > 8
    white_is_zero = tags.get(_PHOTOMETRIC) == 0 and bits > 8
    return planes or white_is_zero or (bits == 32 and signed == {1}) or (bits == 8 and signed == {2})


def _numbers(value: Any) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, tuple | list) else (value,)


def read(data: bytes, *, max_pixels: int) -> tuple[np.ndarray, int]:
    """The first page of a TIFF as uint8 (H, W, 1), (H, W, 3), or with alpha as (H, W, 4); and its orientation, 1 to 8.

    Integers of 8 bits are taken as they are, of 16 bits by their range, as Pillow does; all others are scaled from the
    least to the greatest value, unless they are floating point within 0..1. Raises UnknownTiff, and whatever tifffile
    raises for a damaged file.
    """
    page, pixels = _page(data, max_pixels, check=_check)
    rgb, bands = page.photometric == _RGB, page.samplesperpixel
    alpha = rgb and bands == 4 and page.extrasamples and page.extrasamples[0] in _ALPHA
    kept = pixels if alpha else pixels[:, :, : 3 if rgb else 1]
    eight = _eight_bits(kept)
    turned = page.tags.get(_ORIENTATION)
    return (255 - eight if page.photometric == _WHITE_IS_ZERO else eight), int(turned.value) if turned else 1


def read_bands(data: bytes, *, max_pixels: int) -> np.ndarray:
    """All bands of a TIFF's first page, (S, H, W), with the values that the file has; white is not turned into black.
    Raises as `read` does."""
    _, pixels = _page(data, max_pixels, check=lambda page: None)
    return np.moveaxis(pixels, -1, 0)  # bands of each pixel -> planes


def _page(data: bytes, max_pixels: int, *, check: Callable[[Any], None]) -> tuple[Any, np.ndarray]:
    """The first page, and its values as (H, W, S)."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page = file.pages[0]
        if not isinstance(page, tifffile.TiffPage):
            raise UnknownTiff("its first page has no image")
        height, width, bands = page.imagelength, page.imagewidth, page.samplesperpixel
        if height * width > max_pixels:
            limit = f"the limit of {max_pixels} (--loader.max-pixels in training)"
            raise UnknownTiff(f"{width} x {height} pixels, more than {limit}")
        _check_memory(page, data, most=_MOST_BYTES * max_pixels)
        check(page)
        try:
            pixels = page.asarray()
        except ValueError as error:
            if "imagecodecs" in str(error):
                method = tifffile.COMPRESSION(page.compression).name
                raise UnknownTiff(
                    f"{_what(page)} compressed with {method}: `pip install imagecodecs` to read it, or save it "
                    "without compression"
                ) from None
            raise
    if page.planarconfig == 2 and bands > 1:
        pixels = np.moveaxis(pixels, 0, -1)  # planes one after the other -> bands of each pixel
    return page, pixels.reshape(height, width, bands)


def _check_memory(page: Any, data: bytes, *, most: int) -> None:
    """Raises UnknownTiff for a page that would take more than `most` bytes of memory, as it says or as it unpacks."""
    if page.nbytes > most:
        raise UnknownTiff(f"its values would take {page.nbytes >> 20:,} MiB of memory")
    if int(page.compression) not in _DEFLATE:
        return
    tile = page.chunks  # of a strip or tile: what it may unpack to
    expected = int(np.prod(tile)) * page.dtype.itemsize
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        unpacked = zlib.decompressobj().decompress(data[offset : offset + count], expected + 1)
        if len(unpacked) > expected:
            raise UnknownTiff("it unpacks to more than its size")


def _check(page: Any) -> None:
    """Raises UnknownTiff for pixels whose colours the file does not say."""
    bands = page.samplesperpixel
    grey = page.photometric in (_WHITE_IS_ZERO, _BLACK_IS_ZERO) and bands == 1
    if not grey and not (page.photometric == _RGB and bands >= 3):
        raise UnknownTiff(f"{_what(page)}: which of them are red, green and blue is not in the file. Save it as RGB")


def _what(page: Any) -> str:
    bands = page.samplesperpixel
    return f"a TIFF of {bands} band{'s' if bands > 1 else ''} of {page.dtype}"


def _eight_bits(values: np.ndarray) -> np.ndarray:
    if values.dtype == np.uint8:
        return values
    if values.dtype == np.uint16:
        # as Pillow has it: grey by its range, colours by their high byte
        if values.shape[-1] == 1:
            return np.rint(values * np.float32(255 / 65535)).astype(np.uint8)
        return (values >> 8).astype(np.uint8)
    wide = values.astype(np.float64)
    if not np.isfinite(wide).all():
        raise UnknownTiff("it holds values that are not finite numbers")
    low, high = float(wide.min()), float(wide.max())
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    if high == low:
        return np.zeros(values.shape, np.uint8)
    return np.rint((wide - low) * (255 / (high - low))).astype(np.uint8)
