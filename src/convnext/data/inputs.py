"""What predictors accept as images: files, addresses, bytes, Pillow's images, arrays and tensors, one or many.

Shapes: H W space, C channels, B images. Arrays are (H, W, C), tensors (C, H, W), as their libraries have them; C is 3
(RGB), 1 (grey) or 4 (RGB and opacity, laid on white). Values are uint8 in 0..255, or floating point in 0..1.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnext.core.errors import UserError
from convnext.core.network import shown
from convnext.core.text import printable
from convnext.data.bands import decode_bands, grey, scaled
from convnext.data.decode import BadImage, from_pillow
from convnext.data.fetch import MissingImage, fetch

__all__ = ["MAX_PIXELS", "BadImage", "MissingImage", "WrongImage", "image_name", "is_single", "iterate", "read_image"]

MAX_PIXELS = 100_000_000
"""Larger images are refused before they are decoded (decompression bombs)."""

_NUMPY = "an array (H, W, 3), (H, W, 4) or (H, W), uint8 in 0..255 or floating point in 0..1"
_TORCH = "a tensor (3, H, W), (4, H, W), (1, H, W) or (H, W), uint8 in 0..255 or floating point in 0..1"
_KINDS = "a path, an address (https://...), the bytes of a file, a Pillow image, a NumPy array or a tensor"
_LONGEST = 300  # characters of a path in a message
_SLACK = 1e-3  # beyond 0..1: rounding, in half precision too


class WrongImage(UserError, ValueError):
    """Something that is no image, or an array whose shape, type or values are not those of one."""


def read_image(image: Any, *, max_pixels: int = MAX_PIXELS, bands: int = 3, white: float = 0.0) -> Tensor:
    """An image of any accepted kind as a new uint8 (3, H, W) on the CPU, RGB in 0..255, upright, contiguous.

    image: one of
        str, Path: a file (JPEG, PNG, WebP, GIF, BMP, TIFF, PPM)
        str that begins with https:// or http://: such a file on the web (100 MB at most; none with CONVNEXT_OFFLINE=1)
        bytes, bytearray, memoryview: the content of such a file
        PIL.Image.Image: of any mode; turned as its EXIF tag says
        numpy.ndarray: (H, W, 3), (H, W, 4), (H, W, 1) or (H, W), uint8 in 0..255 or floating point in 0..1
        torch.Tensor: (3, H, W), (4, H, W), (1, H, W) or (H, W), uint8 in 0..255 or floating point in 0..1, any device
    max_pixels: larger images are refused, before they are decoded.
    bands, white: of a model that takes other than 3 bands, uint8 (bands, H, W), as `bands.decode_bands` has it; arrays
        and tensors have so many bands then, of any type of number.

    Raises MissingImage (a FileNotFoundError) where a file is not there or cannot be fetched, WrongImage (a ValueError)
    for what is no image or an array of another form, BadImage for a file that cannot be decoded. All are UserErrors.
    """
    if (data := _file(image)) is not None:
        return decode_bands(data, name=image_name(image, None), max_pixels=max_pixels, bands=bands, white=white)
    if bands != 3:
        return _of_bands(image, max_pixels, bands, white)
    if isinstance(image, Image.Image):
        return from_pillow(image, name=image_name(image, None), max_pixels=max_pixels)
    if isinstance(image, Tensor):
        return _from_tensor(image, max_pixels)
    if isinstance(image, np.ndarray):
        return _from_array(image, max_pixels)
    raise WrongImage(_no_image(image))


def image_name(image: Any, number: int | None) -> str:
    """What messages and results call an image: its path or address, "<bytes>", or "image 3" for one without a name.

    number: its place among those that were given; None where there is only one. No control characters.
    """
    if isinstance(image, str | os.PathLike):
        return shown(image) if isinstance(image, str) and _is_url(image) else printable(str(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return "<bytes>"
    file = getattr(image, "filename", "") if isinstance(image, Image.Image) else ""
    if file:
        return printable(file if isinstance(file, str) else str(file))
    return "the image" if number is None else f"image {number}"


def is_single(image: Any) -> bool:
    """Whether this is one image rather than several: lists, tuples and generators of images are several, and so are
    arrays and tensors of 4 dimensions, (B, H, W, C) and (B, C, H, W)."""
    if isinstance(image, np.ndarray | Tensor):
        return image.ndim != 4
    one = isinstance(image, str | bytes | bytearray | memoryview | os.PathLike | Image.Image | dict) or hasattr(
        image, "read"
    )
    return one or not isinstance(image, Iterable)


def iterate(images: Any) -> Iterator[Any]:
    """The images of a list, tuple, generator or batch one by one, each as `read_image` takes it; one image is itself.

    Lazily: nothing is asked of a generator before its turn. What is no image comes through, for `read_image` to refuse.
    """
    if is_single(images):
        yield images
    else:
        yield from images


def _file(image: Any) -> bytes | None:
    """The bytes of a file that is given by its path or address, or as its bytes; None for what is no file."""
    if isinstance(image, str) and _is_url(image):
        return fetch(image)
    if isinstance(image, str | os.PathLike):
        return _content(image)
    return bytes(image) if isinstance(image, bytes | bytearray | memoryview) else None


def _of_bands(image: Any, max_pixels: int, bands: int, white: float) -> Tensor:
    """An array (H, W, C), a tensor (C, H, W) or Pillow's image of so many bands, or of grey for 1, as uint8."""
    if isinstance(image, Image.Image) and bands == 1:
        return grey(from_pillow(image, name=image_name(image, None), max_pixels=max_pixels))
    if isinstance(image, Tensor):
        values, kind = image.detach().cpu().numpy(), "A tensor"
    elif isinstance(image, np.ndarray | Image.Image):
        values, kind = np.asarray(image), "An array"
        values = values[None] if values.ndim == 2 else np.moveaxis(values, -1, 0)
    else:
        raise WrongImage(_no_image(image))
    values = values[None] if values.ndim == 2 else values
    given = f"{kind} {_shape(values.shape)}"
    if values.ndim != 3 or values.shape[0] != bands or values.dtype.kind not in "uif":
        what = f"{given} of {values.dtype}, bands first,"
        raise WrongImage(f"{what} is no image of the {bands} bands that the model takes.")
    if values[0].size == 0 or values[0].size > max_pixels:
        raise WrongImage(f"{given} has no pixels, or more than the limit of {max_pixels:,} (max_pixels).")
    return torch.from_numpy(np.ascontiguousarray(scaled(values, white, given)).copy())


def _is_url(text: str) -> bool:
    return text[:8].lower().startswith(("https://", "http://"))


def _content(given: str | os.PathLike[str]) -> bytes:
    """The bytes of a file. Raises MissingImage, and WrongImage for a folder."""
    path, name = Path(given), printable(str(given))
    name = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."  # somebody's base64
    if not str(given):
        raise MissingImage("An empty path was given as an image: give the path of a file.")
    try:
        if path.is_dir():
            raise WrongImage(f"{name} is a folder: give the path of an image, or a list of them.")
        if path.exists() and not path.is_file():
            raise WrongImage(f"{name} is no regular file: give the path of an image, or its bytes.")
        return path.read_bytes()
    except FileNotFoundError:
        scheme = name.partition("://")[0]
        if "://" in name and scheme.isalnum():
            raise MissingImage(f"{name} is not https: save the image, and give the path of the file.") from None
        where = "" if path.is_absolute() else f" (looked for from {printable(str(Path.cwd()))})"
        raise MissingImage(f"There is no file {name}{where}.") from None
    except ValueError as error:
        if isinstance(error, UserError):
            raise
        raise MissingImage(f"{name} is no path of a file.") from None  # a zero byte in it
    except OSError as error:
        raise MissingImage(f"{name} cannot be read: {error.strerror}.") from None


def _no_image(given: Any) -> str:
    """What is wrong with something that is not of any accepted kind."""
    kind = type(given)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__name__}"
    if given is None:
        hint = ""
    elif hasattr(given, "read"):
        hint = " Of an open file, give the bytes: image.read()."
    elif isinstance(given, list | tuple):
        hint = " Of a list of numbers, make an array: numpy.array(image, dtype=numpy.uint8)."
    elif hasattr(given, "__array__"):
        hint = " Make it an array first: numpy.asarray(image)."
    else:
        hint = ""
    return f"{printable(name)} is no image: {_KINDS} is accepted.{hint}"


def _from_array(array: np.ndarray, max_pixels: int) -> Tensor:
    given = f"An array {_shape(array.shape)} of {array.dtype}"
    if array.ndim == 4:
        raise WrongImage(f"{given} is a batch, not an image: give its images one by one, {_NUMPY}.")
    if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
        hint = ""
        if array.shape[0] in (1, 3, 4):
            hint = " Channels come last in arrays: image.transpose(1, 2, 0)."
        raise WrongImage(f"{given} is no image: {_NUMPY} is accepted.{hint}")
    if array.ndim not in (2, 3):
        raise WrongImage(f"{given} is no image: {_NUMPY} is accepted.")
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise WrongImage(f"{given} is no image: {_NUMPY} is accepted.{_type_hint(str(array.dtype), 'numpy')}")
    with np.errstate(all="ignore"):  # torch has no float128, and none of another byte order
        values = array if array.dtype == np.uint8 else array.astype(np.float32)
    tensor = torch.from_numpy(np.ascontiguousarray(values) if values.flags.writeable else values.copy())
    return _rgb(tensor[None] if tensor.ndim == 2 else tensor.permute(2, 0, 1), given, max_pixels)


def _from_tensor(tensor: Tensor, max_pixels: int) -> Tensor:
    dtype = str(tensor.dtype).removeprefix("torch.")
    given = f"A tensor {_shape(tensor.shape)} of {dtype}"
    if tensor.ndim == 4:
        raise WrongImage(f"{given} is a batch, not an image: give its images one by one, {_TORCH}.")
    if tensor.ndim == 3 and tensor.shape[0] not in (1, 3, 4):
        hint = ""
        if tensor.shape[2] in (1, 3, 4):
            hint = " Channels come first in tensors: image.permute(2, 0, 1)."
        raise WrongImage(f"{given} is no image: {_TORCH} is accepted.{hint}")
    if tensor.ndim not in (2, 3) or tensor.layout != torch.strided or tensor.is_quantized or tensor.is_meta:
        raise WrongImage(f"{given} is no image: {_TORCH} is accepted.")
    if tensor.dtype != torch.uint8 and not tensor.is_floating_point():
        raise WrongImage(f"{given} is no image: {_TORCH} is accepted.{_type_hint(dtype, 'torch')}")
    tensor = tensor.detach().cpu()
    tensor = tensor if tensor.dtype == torch.uint8 else tensor.float()
    return _rgb(tensor[None] if tensor.ndim == 2 else tensor, given, max_pixels)


def _shape(shape: Iterable[int]) -> str:
    return f"({', '.join(map(str, shape))})"


def _type_hint(dtype: str, library: str) -> str:
    """How values of a type that is not accepted become ones that are; starts with a space, or is empty."""
    if dtype == "uint16":
        return " Of 16 bits, divide by 65535."
    if dtype == "bool":
        return " Of a mask, take 255 * image."
    if dtype.startswith(("int", "uint")):
        convert = "image.astype(numpy.uint8)" if library == "numpy" else "image.to(torch.uint8)"
        return f" Of values in 0..255, take {convert}."
    return ""


def _rgb(values: Tensor, given: str, max_pixels: int) -> Tensor:
    """uint8 or float32 (C, H, W), C 1, 3 or 4, to a new uint8 (3, H, W). given: what it was, for messages."""
    channels, height, width = values.shape
    if height * width == 0:
        raise WrongImage(f"{given} has no pixels.")
    if height * width > max_pixels:
        raise WrongImage(f"{given} has more pixels than the limit of {max_pixels:,} (max_pixels).")
    if values.dtype != torch.uint8:
        values = _eight_bits(values, given)
    if channels == 4:
        image = Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())
        return from_pillow(image, name=given, max_pixels=max_pixels)
    return values.expand(3, -1, -1).clone(memory_format=torch.contiguous_format)


def _eight_bits(values: Tensor, given: str) -> Tensor:
    """float32 in 0..1 to uint8 in 0..255, rounded. Raises WrongImage for other values."""
    low, high = (float(value) for value in values.aminmax())
    if not (low > -float("inf") and high < float("inf")):  # NaN: both are
        raise WrongImage(f"{given} has values that are not finite numbers (NaN, infinity).")
    if low < -_SLACK or high > 1 + _SLACK:
        if low < 0:
            hint = "Give an image as it is before its mean is subtracted; the model's own preprocessing does that."
        elif high <= 255:
            hint = "It looks like 0..255: divide by 255, or make it uint8."
        else:
            hint = "Scale it to 0..1."
        raise WrongImage(f"{given} has values of {low:.4g} to {high:.4g}; floating point is accepted in 0..1. {hint}")
    return values.mul(255).round_().clamp_(0, 255).to(torch.uint8)
