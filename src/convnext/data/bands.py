"""Images of other than three bands: grey, colours with opacity, multispectral TIFFs and NumPy arrays.

Shapes: C bands, H W space. Values of more than 8 bits become 8 bits by one scale for the whole data set, `white`: an
image's own least and greatest value would make light and dark images alike.
"""

from __future__ import annotations

import io

import numpy as np
import torch
from torch import Tensor

from convnext.data import tiff
from convnext.data.decode import IMAGE_SUFFIXES, BadImage, decode, guarded, open_image, unknown_format

NUMPY = ".npy"
"""Ending of files with an array (H, W, C), (C, H, W) or (H, W), for images of other than three bands."""


def suffixes(bands: int) -> tuple[str, ...]:
    """Endings of files that are taken for images of so many bands."""
    return IMAGE_SUFFIXES if bands == 3 else (*IMAGE_SUFFIXES, NUMPY)


_MAGIC = b"\x93NUMPY"
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey (ITU-R BT.601), as Pillow has it


def decode_bands(data: bytes, *, name: str, max_pixels: int, bands: int, white: float = 0.0) -> Tensor:
    """The image in a file's bytes as uint8 (bands, H, W).

    bands: 1 takes any image, in grey; 3 is `decode`; 4 takes images with an opacity or a fourth band, as they are;
    other numbers take TIFFs and .npy files of so many. white: the value that becomes 255, for values of more than 8
    bits; 0: the greatest that their type holds, 1 for floating point.

    Raises BadImage, for an image of another number of bands too.
    """
    if bands == 3:
        return decode(data, name=name, max_pixels=max_pixels)
    values = _read(data, name, max_pixels, bands)
    return torch.from_numpy(np.ascontiguousarray(scaled(values, white, name)))


def greatest(data: bytes, *, name: str, max_pixels: int, bands: int) -> float:
    """The greatest value in a file, for `white`: that of its type for 8 bits, else the 99.9th percentile. Raises
    BadImage."""
    values = _read(data, name, max_pixels, bands)
    if values.dtype == np.uint8:
        return 255.0
    _check_finite(values, name)
    return float(np.percentile(values, 99.9))


def _read(data: bytes, name: str, max_pixels: int, bands: int) -> np.ndarray:
    def values() -> np.ndarray:
        try:
            return _values(data, name, max_pixels, bands)
        except tiff.UnknownTiff as error:
            raise BadImage(name, str(error)) from None

    return guarded(values, name, lambda: unknown_format(data))


def _values(data: bytes, name: str, max_pixels: int, bands: int) -> np.ndarray:
    """(bands, H, W) as the file has them."""
    if data.startswith(_MAGIC):
        return _of_array(data, name, max_pixels, bands)
    if tiff.is_tiff(data):
        found = tiff.read_bands(data, max_pixels=max_pixels)
        if found.shape[0] == bands:
            return found
    if bands == 1:
        return grey(decode(data, name=name, max_pixels=max_pixels)).numpy()
    with open_image(data, name=name, max_pixels=max_pixels) as image:
        found = np.asarray(image.convert("RGBA") if image.mode in ("PA", "P") else image)
    if found.ndim != 3 or found.shape[2] != bands:
        has = 1 if found.ndim == 2 else found.shape[2]
        many = "s" if has > 1 else ""
        raise BadImage(name, f"it has {has} band{many}, not {bands} (--loader.bands of `convnext train`)")
    return np.moveaxis(found, 2, 0)


def _of_array(data: bytes, name: str, max_pixels: int, bands: int) -> np.ndarray:
    """The array of a .npy file, whichever of its ends the bands are at."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = header(stream)
    if dtype.hasobject or dtype.kind not in "uif":
        raise BadImage(name, f"an array of {dtype}; numbers are accepted")
    if int(np.prod(shape, dtype=np.int64)) > max_pixels * max(bands, 1):
        raise BadImage(name, f"an array {shape} has more values than the limit of {max_pixels} pixels allows")
    values = np.load(io.BytesIO(data), allow_pickle=False)
    if values.ndim == 2:
        values = values[None]
    if values.ndim != 3 or values.size == 0 or bands not in (values.shape[0], values.shape[2]):
        raise BadImage(name, f"an array {shape}; (H, W, {bands}) or ({bands}, H, W) is asked for (--loader.bands)")
    if values.shape[2] == bands and values.shape[0] == bands:
        raise BadImage(name, f"an array {shape}: which axis holds the bands cannot be told")
    return values if values.shape[0] == bands else np.moveaxis(values, 2, 0)


def grey(image: Tensor) -> Tensor:
    """uint8 (3, H, W) to uint8 (1, H, W)."""
    weights = torch.tensor(_LUMA)[:, None, None]
    return (image * weights).sum(dim=0, keepdim=True).round().clamp(0, 255).to(torch.uint8)


def scaled(values: np.ndarray, white: float, name: str) -> np.ndarray:
    """Values of any type as uint8 of the same shape: those from `white` on are 255 (see `decode_bands`). Raises
    BadImage."""
    if values.dtype == np.uint8:
        return values
    _check_finite(values, name)
    kind = values.dtype.kind
    top = white or (1.0 if kind == "f" else float(np.iinfo(values.dtype).max))
    low = float(values.min())
    if low < 0:
        raise BadImage(name, f"it holds values below 0 (down to {low:g}); shift them")
    return np.rint(np.clip(values.astype(np.float64) / top, 0, 1) * 255).astype(np.uint8)


def _check_finite(values: np.ndarray, name: str) -> None:
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise BadImage(name, "it holds values that are not finite numbers")
