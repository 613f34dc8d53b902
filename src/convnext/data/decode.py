"""The bytes of a file, or Pillow's image, to an RGB image, whatever its kind: one exception for all that is damaged.

Shapes: H W space; an image is (3, H, W), red, green, blue.

What people would see in a viewer is what the model gets: rotated as its EXIF tag says, the first frame of an animation,
and transparent parts on white (dropping the alpha channel instead would show whatever colour lies hidden below it).
Values of more than 8 bits are scaled, never clipped: 16-bit ones by their range, and those without a range of their own
(integers beyond 65535, floating point outside 0..1) from the image's least to its greatest value.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import io
import warnings
from collections.abc import Callable
from typing import TypeVar, cast

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from convnext.core.errors import UserError
from convnext.core.text import printable
from convnext.data import tiff

_AVIF = importlib.util.find_spec("PIL._avif") is not None  # Pillow 11.3 and newer, as most are built
_HEIC = importlib.util.find_spec("pillow_heif") is not None  # the extra `heic`
IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif"),
    *(".bmp", ".dib", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".pnm"),
    *((".avif",) if _AVIF else ()),
    *((".heic", ".heif", ".hif") if _HEIC else ()),
)
"""File endings (lower case) that are taken for images. The content, not the ending, decides how they are decoded."""

# A closed list: Pillow's other readers include ones that start programs (EPS) and ones hardly anybody tests.
_FORMATS = (
    *("JPEG", "PNG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "PPM"),
    *(("AVIF",) if _AVIF else ()),
    *(("HEIF",) if _HEIC else ()),
)
_ORIENTATION = 0x0112
_TIFF_BITS_PER_SAMPLE = 258
_TURNS = {  # EXIF orientation -> what makes the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


R = TypeVar("R")


class BadImage(UserError):
    """An image that cannot be read: its name, and why."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)  # both, so that it survives pickling on its way out of a worker
        self.name, self.reason = name, reason

    def __str__(self) -> str:
        return f"{self.name}: {self.reason}"


def decode(data: bytes, *, name: str, max_pixels: int) -> Tensor:
    """The image in a file's bytes as uint8 (3, H, W), RGB in 0..255, contiguous and upright.

    Reads JPEG, PNG, WebP, GIF, BMP, TIFF and PPM, of any colour mode; AVIF where Pillow does, HEIC with `pillow-heif`.
    The header is looked at first: more than `max_pixels` pixels are refused before anything is decompressed. Raises
    BadImage(name, reason) for everything that cannot be read, and nothing else.
    """
    return guarded(lambda: _decode(data, name, max_pixels), name, lambda: unknown_format(data))


def from_pillow(image: Image.Image, *, name: str, max_pixels: int) -> Tensor:
    """Pillow's image, of any mode, as `decode` gives its file: uint8 (3, H, W), RGB in 0..255, contiguous and upright.

    Of an animation, the frame that the image stands at. Raises BadImage(name, reason), and nothing else.
    """

    def convert() -> Tensor:
        _check_size(image, name, max_pixels)
        image.load()
        return _to_tensor(_upright(_to_rgb(image, name), image))

    return guarded(convert, name, lambda: "it is damaged")


def guarded(read: Callable[[], R], name: str, unknown: Callable[[], str]) -> R:
    """What `read` gives. Raises BadImage for whatever goes wrong in it; unknown: the reason where the format is."""
    try:
        # Pillow warns of large images, odd EXIF, odd TIFF tags; the first are checked here, the others change nothing
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return read()
    except BadImage:
        raise
    except UnidentifiedImageError:
        raise BadImage(name, unknown()) from None
    except Image.DecompressionBombError:
        raise BadImage(name, "it has more pixels than Pillow accepts at all (178,956,970)") from None
    except Exception as error:  # noqa: BLE001 - damaged files make decoders raise nearly anything; see the fuzz test
        reason = str(error).splitlines()[0][:200] if str(error) else repr(error)
        raise BadImage(name, f"damaged ({printable(reason)})") from None


def open_image(data: bytes, *, name: str, max_pixels: int) -> Image.Image:
    """Pillow's image of a file's bytes, in one of the formats that are read here; its pixels are not decoded yet.

    Raises BadImage for one of too many pixels, and whatever Pillow raises (`guarded` makes a BadImage of that).
    """
    if _HEIC and data[4:8] == b"ftyp":
        _register_heif()
    image = Image.open(io.BytesIO(data), formats=_FORMATS)
    _check_size(image, name, max_pixels)
    return image


def _decode(data: bytes, name: str, max_pixels: int) -> Tensor:
    try:
        opened = open_image(data, name=name, max_pixels=max_pixels)
    except UnidentifiedImageError:
        if not tiff.is_tiff(data):
            raise
        return _decode_tiff(data, name, max_pixels)
    with opened as image:
        if image.format == "TIFF" and tiff.misread(image):
            return _decode_tiff(data, name, max_pixels)
        if image.format in ("JPEG", "MPO") and image.mode in ("RGB", "L"):
            decoded = _decode_fast(data, *image.size)
            if decoded is not None:
                return decoded
        image.load()
        return _to_tensor(_upright(_to_rgb(image, name), image))


def _decode_tiff(data: bytes, name: str, max_pixels: int) -> Tensor:
    """A TIFF that Pillow misreads or does not read."""
    try:
        pixels, orientation = tiff.read(data, max_pixels=max_pixels)
    except tiff.UnknownTiff as error:
        raise BadImage(name, str(error)) from None
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    turn = _TURNS.get(orientation)
    return _to_tensor(_to_rgb(image if turn is None else image.transpose(turn), name))


@functools.cache
def _register_heif() -> None:
    importlib.import_module("pillow_heif").register_heif_opener()


def _check_size(image: Image.Image, name: str, max_pixels: int) -> None:
    width, height = image.size
    if width * height > max_pixels:
        limit = f"the limit of {max_pixels} (--loader.max-pixels in training)"
        raise BadImage(name, f"{width} x {height} pixels, more than {limit}")
    if width * height == 0:
        raise BadImage(name, "it has no pixels")


def unknown_format(data: bytes) -> str:
    """Why a file's bytes are no image, for people."""
    if not data:
        return "the file is empty"
    return f"not an image in a known format, or its first bytes are damaged (it starts with {data[:8]!r})"


@functools.cache
def _jpeg_decoder() -> Callable[..., Tensor] | None:
    """torchcodec's JPEG decoder, half as long under way as Pillow; None where torchcodec is not installed."""
    try:
        from torchcodec.decoders import decode_jpeg
    except (ImportError, OSError, RuntimeError, AttributeError):  # absent, older, or its libraries do not load
        return None
    return cast(Callable[..., Tensor], decode_jpeg)  # a list is what it gives for a list


def _decode_fast(data: bytes, width: int, height: int) -> Tensor | None:
    """The same pixels as Pillow gives, sooner; None where Pillow should have a look (and the last word)."""
    decoder = _jpeg_decoder()
    if decoder is None:
        return None
    try:
        decoded = decoder(data, mode="RGB")
    except (RuntimeError, ValueError):
        return None
    if decoded.shape not in ((3, height, width), (3, width, height)):
        return None
    return decoded.contiguous()


def _upright(pixels: Image.Image, image: Image.Image) -> Image.Image:
    """`pixels` turned as the EXIF tag of `image` says. (Pillow has already turned a TIFF when it loaded it.)

    Only EXIF counts, as in browsers; Pillow's own helper would also look into XMP, which torchcodec does not.
    """
    data = image.info.get("exif")
    if not data or image.format == "TIFF":
        return pixels
    try:
        exif = Image.Exif()
        exif.load(data)
        turn = _TURNS.get(exif.get(_ORIENTATION, 1))
    except Exception:  # noqa: BLE001 - damaged EXIF is no damage to the image
        return pixels
    return pixels if turn is None else pixels.transpose(turn)


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return Image.fromarray(_to_eight_bits(image, name)).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        layer = image.convert("LA").convert("RGBA") if image.mode == "La" else image.convert("RGBA")
        white = Image.new("RGBA", layer.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, layer).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _to_eight_bits(image: Image.Image, name: str) -> np.ndarray:
    """Grey values of more than 8 bits as uint8 (H, W); see the top of this file for the scale."""
    values = np.asarray(image).astype(np.float32)
    if not np.isfinite(values).all():
        raise BadImage(name, "it holds values that are not finite numbers")
    low, high = float(values.min()), float(values.max())
    if image.mode == "F":
        low, high = (0.0, 1.0) if low >= 0 and high <= 1 else (low, high)
    elif low >= 0 and high <= 65535:
        narrow = image.mode == "I" and image.format == "TIFF" and high <= 255  # 8 bits in an integer of 32
        low, high = 0.0, 255.0 if narrow else float((1 << _bits(image)) - 1)
    if high == low:
        return np.zeros(values.shape, np.uint8)
    values -= low
    values *= 255 / (high - low)
    return np.clip(np.rint(values, out=values), 0, 255, out=values).astype(np.uint8)


def _bits(image: Image.Image) -> int:
    """Bits that a TIFF says its values have (12-bit cameras and scanners), 16 in everything else."""
    tags = getattr(image, "tag_v2", None)
    bits = tags.get(_TIFF_BITS_PER_SAMPLE, (16,))[0] if tags is not None else 16
    return bits if 8 < bits < 16 else 16


def _to_tensor(pixels: Image.Image) -> Tensor:
    # (H, W, 3) as Pillow lays pixels out -> (3, H, W) as torch wants them; the copy is also what makes it writable
    return torch.from_numpy(np.ascontiguousarray(np.asarray(pixels).transpose(2, 0, 1)))
