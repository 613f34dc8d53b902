"""Images with a class for every pixel: what segmentation trains and is evaluated on.

Shapes: an image is uint8 (3, H, W), its labels uint8 (H, W); N images, K classes.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnext.core.text import printable
from convnext.data.decode import BadImage, decode
from convnext.data.segmentation.palette import Colour, Palette
from convnext.data.strings import Strings

LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
"""File endings (lower case) of label maps: formats that lose nothing."""
_FORMATS = ("PNG", "BMP", "TIFF")
_PLAIN = ("L", "P", "1", "I", "I;16", "I;16B", "I;16L")


class LabelMapDataset:
    """Images and their label maps. Picklable and safe to fork: read in worker processes.

    root, images: the images' folder, and their paths in it. label_root, labels: of their label maps. indices: which
    of them, in this order; None: all. pixels: int64 (K,), of each class in all of them, where they were counted.
    """

    def __init__(
        self,
        root: Path,
        images: Strings,
        label_root: Path,
        labels: Strings,
        palette: Palette,
        *,
        max_pixels: int,
        indices: np.ndarray | None = None,
        pixels: np.ndarray | None = None,
    ) -> None:
        self.root, self.label_root, self.palette, self.max_pixels = root, label_root, palette, max_pixels
        self._images, self._labels, self.pixels = images, labels, pixels
        self._chosen = np.arange(len(images)) if indices is None else indices

    @property
    def classes(self) -> tuple[str, ...]:
        """K names."""
        return self.palette.classes

    @property
    def colours(self) -> tuple[Colour, ...]:
        """Of each class, to draw it in."""
        return self.palette.colours

    @property
    def values(self) -> tuple[int, ...]:
        """Of each class its value in label maps that are written in the data's convention."""
        return self.palette.values

    def __len__(self) -> int:
        """N, the number of images."""
        return len(self._chosen)

    def name(self, index: int) -> str:
        """The image's path below its folder."""
        return printable(self._images[self._chosen[index]])

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W). Raises BadImage where it cannot be read."""
        data = _bytes(self.root, self._images[self._chosen[index]], self.name(index))
        return decode(data, name=self.name(index), max_pixels=self.max_pixels)

    def labels(self, index: int) -> Tensor:
        """uint8 (H, W): the class of each pixel, IGNORE_INDEX where it has none. Raises BadImage where the label map
        cannot be read, or holds what is no class."""
        path = self._labels[self._chosen[index]]
        data = _bytes(self.label_root, path, self.name(index))
        codes = read_codes(data, name=path, max_pixels=self.max_pixels, by_colour=self.palette.by_colour)
        classes, unknown = self.palette.decoded(codes)
        if len(unknown):
            raise BadImage(self.name(index), f"its label map has {code_words(unknown, self.palette.by_colour)}")
        return torch.from_numpy(classes)

    def selected(self, indices: Sequence[int] | Tensor) -> LabelMapDataset:
        """Some of these images, in the given order."""
        chosen = self._chosen[np.asarray(indices, dtype=np.int64)]
        parts = (self.root, self._images, self.label_root, self._labels, self.palette)
        return LabelMapDataset(*parts, max_pixels=self.max_pixels, indices=chosen, pixels=self.pixels)


def code_words(codes: np.ndarray, by_colour: bool) -> str:
    """Values or colours that are no class, in words: the first few."""
    what = "colours" if by_colour else "values"
    shown = ", ".join(f"#{code:06x}" if by_colour else str(code) for code in codes[:5].tolist())
    return f"{what} that are no class: {shown}{', ...' if len(codes) > 5 else ''}"


def read_codes(data: bytes, *, name: str, max_pixels: int, by_colour: bool) -> np.ndarray:
    """The code of each pixel of a label map, int32 (H, W): its value (or place in the file's palette), or its colour.

    The header is looked at before anything is decompressed. Raises BadImage for whatever cannot be read, and for a
    colour image where values are asked for.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read_codes(data, name, max_pixels, by_colour)
    except BadImage:
        raise
    except Image.DecompressionBombError:
        raise BadImage(name, "it has more pixels than Pillow accepts at all (178,956,970)") from None
    except Exception as error:  # noqa: BLE001 - damaged files make decoders raise nearly anything
        reason = str(error).splitlines()[0][:200] if str(error) and data else "the file is empty"
        raise BadImage(name, f"no label map that can be read: {reason}") from None


def _read_codes(data: bytes, name: str, max_pixels: int, by_colour: bool) -> np.ndarray:
    with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
        width, height = image.size
        if width * height > max_pixels:
            raise BadImage(name, f"{width} x {height} pixels, more than the limit of {max_pixels}")
        if by_colour:
            colours = np.asarray(image.convert("RGB")).astype(np.int32)
            return colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
        if image.mode in _PLAIN:
            codes = np.asarray(image).astype(np.int32)
            if codes.size and (codes.min() < 0 or codes.max() >= 1 << 16):
                raise BadImage(name, f"values of {codes.min()} to {codes.max()}; classes have values of 0 to 65535")
            return codes
        channels = np.asarray(image)[..., :3] if image.mode in ("RGB", "RGBA", "LA") else None
        grey = channels is not None and all(
            (channels[..., 0] == channels[..., i]).all() for i in range(1, 3) if image.mode != "LA"
        )
        if channels is None or not grey:
            raise BadImage(
                name, f"a colour image ({image.mode}); say in a mapping file which class each colour is (--labels)"
            )
        return channels[..., 0].astype(np.int32)


def _bytes(root: Path, path: str, name: str) -> bytes:
    try:
        with open(os.path.join(root, path), "rb") as file:
            return file.read()
    except OSError as error:
        raise BadImage(name, f"{path} cannot be read ({error.strerror})") from None
