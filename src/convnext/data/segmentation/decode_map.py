"""The bytes of a label map to the code of each pixel: its value, or its colour. H W space.

A palette's index, a grey value of 1 to 32 bits, or a colour. Values of 2 and 4 bits count from 0, as they stand in the
file, where Pillow spreads them over 0 to 255.
"""

from __future__ import annotations

import io
import warnings
from typing import NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from convnext.data import tiff
from convnext.data.decode import BadImage

LABEL_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".pgm", ".ppm", ".pnm")
"""File endings (lower case) of label maps: formats that lose nothing."""
LOSSY_SUFFIXES = (".jpg", ".jpeg")
"""File endings of what people save label maps as, though it changes their values."""
_FORMATS = ("PNG", "BMP", "TIFF", "GIF", "PPM", "JPEG")
_PLAIN = ("L", "P", "1", "I", "I;16", "I;16B", "I;16L")
_MOST = 1 << 16  # values
_PNG = b"\x89PNG\r\n\x1a\n"
_LOSSY = (
    "it is a JPEG, which changes values. Save it again as PNG, from where it was drawn; or a mapping file (--labels) "
    'with "others": "nearest" takes each value for the nearest class'
)


class RawMap(NamedTuple):
    """A label map as it stands in its file."""

    codes: np.ndarray
    """int32 (H, W): values, or colours packed into a number, red first."""
    by_colour: bool
    table: np.ndarray | None = None
    """int32 (n,): the colour of each value, where the file has a palette."""
    lossy: bool = False
    """Whether its format changes values."""


def code_words(codes: np.ndarray, by_colour: bool) -> str:
    """Values or colours that are no class, in words: the first few."""
    what = "colours" if by_colour else "values"
    shown = ", ".join(f"#{code:06x}" if by_colour else str(code) for code in codes[:5].tolist())
    return f"{what} that are no class: {shown}{', ...' if len(codes) > 5 else ''}"


def read_codes(data: bytes, *, name: str, max_pixels: int, by_colour: bool, lossy: bool = False) -> np.ndarray:
    """The code of each pixel of a label map, int32 (H, W): its value (or place in the file's palette), or its colour.

    The header is looked at before anything is decompressed. lossy: whether a JPEG will do. Raises BadImage for whatever
    cannot be read, and for a colour image where values are asked for.
    """
    found = read_map(data, name=name, max_pixels=max_pixels, by_colour=by_colour)
    check_kind(found, name, by_colour=by_colour, lossy=lossy)
    return found.codes


def check_kind(found: RawMap, name: str, *, by_colour: bool, lossy: bool) -> None:
    """Raises BadImage for colours where values are asked for, and for a JPEG unless that will do (`lossy`)."""
    if found.lossy and not lossy:
        raise BadImage(name, _LOSSY)
    if found.by_colour and not by_colour:
        raise BadImage(name, "a colour image; say in a mapping file which class each colour is (--labels)")


def read_map(data: bytes, *, name: str, max_pixels: int, by_colour: bool = False) -> RawMap:
    """A label map as it stands in its file: values where it has values, unless colours are asked for (`by_colour`).

    Raises BadImage, and nothing else.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _read(data, name, max_pixels, by_colour)
    except BadImage:
        raise
    except Image.DecompressionBombError:
        raise BadImage(name, "it has more pixels than Pillow accepts at all (178,956,970)") from None
    except Exception as error:  # noqa: BLE001 - damaged files make decoders raise nearly anything
        reason = str(error).splitlines()[0][:200] if str(error) and data else "the file is empty"
        raise BadImage(name, f"no label map that can be read: {reason}") from None


def _read(data: bytes, name: str, max_pixels: int, by_colour: bool) -> RawMap:
    try:
        opened = Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        if not tiff.is_tiff(data):
            raise
        return RawMap(_whole(_tiff_values(data, name, max_pixels), name), False)
    with opened as image:
        _check_size(*image.size, name, max_pixels)
        pages = getattr(image, "n_frames", 1)
        if pages > 1 and image.format in ("TIFF", "GIF", "PNG"):
            raise BadImage(name, f"it has {pages} pages; a label map has one")
        if image.format == "TIFF" and tiff.misread(image):
            return RawMap(_whole(_tiff_values(data, name, max_pixels), name), False)
        lossy = image.format in ("JPEG", "MPO")
        if by_colour:
            return RawMap(_packed(_opaque(image, name)), True, lossy=lossy)
        if image.mode in (*_PLAIN, "F"):
            codes = _whole(np.asarray(image), name)
            return RawMap(codes // _spread(data), False, _table(image), lossy)
        kept = _opaque(image, name)
        grey = kept.mode == "L" or all((np.asarray(kept)[..., 0] == np.asarray(kept)[..., i]).all() for i in (1, 2))
        if grey:
            values = np.asarray(kept) if kept.mode == "L" else np.asarray(kept)[..., 0]
            return RawMap(values.astype(np.int32), False, lossy=lossy)
        return RawMap(_packed(kept), True, lossy=lossy)


def _check_size(width: int, height: int, name: str, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise BadImage(name, f"{width} x {height} pixels, more than the limit of {max_pixels}")


def _spread(data: bytes) -> int:
    """By what Pillow multiplies the values of a grey PNG of 2 or 4 bits."""
    if not data.startswith(_PNG) or len(data) < 26 or data[25] != 0:
        return 1
    return {2: 85, 4: 17}.get(data[24], 1)


def _whole(values: np.ndarray, name: str) -> np.ndarray:
    """Values as int32. Raises BadImage for those that are not whole, or out of range."""
    if values.dtype.kind == "f" and not (np.isfinite(values).all() and (values == np.rint(values)).all()):
        raise BadImage(name, "its values are not whole numbers; a label map holds the number of a class in each pixel")
    if values.size and (values.min() < 0 or values.max() >= _MOST):
        raise BadImage(name, f"values of {values.min()} to {values.max()}; classes have values of 0 to 65535")
    return values.astype(np.int32)


def _tiff_values(data: bytes, name: str, max_pixels: int) -> np.ndarray:
    """The values of a TIFF that Pillow misreads or does not read, as they stand in it: (H, W)."""
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as file:
        if len(file.pages) != 1 or not isinstance(page := file.pages[0], tifffile.TiffPage):
            raise BadImage(name, f"it has {len(file.pages)} pages; a label map has one")
        _check_size(page.imagewidth, page.imagelength, name, max_pixels)
        if page.samplesperpixel != 1:
            raise BadImage(name, f"a TIFF of {page.samplesperpixel} bands of {page.dtype}; a label map has one band")
        return page.asarray().reshape(page.imagelength, page.imagewidth)


def _table(image: Image.Image) -> np.ndarray | None:
    """The colours of a palette, packed; None without one, and where it is no more than the scale of grey."""
    if image.mode != "P" or image.palette is None:
        return None
    colours = np.array(image.getpalette("RGB"), dtype=np.int32).reshape(-1, 3)
    if (colours == np.arange(len(colours))[:, None]).all():
        return None
    return colours[:, 0] << 16 | colours[:, 1] << 8 | colours[:, 2]


def _opaque(image: Image.Image, name: str) -> Image.Image:
    """An image as L or RGB. Raises BadImage where that would hide what its transparent pixels mean."""
    grey = image.mode in ("L", "LA", "La", "1", "I", "F") or image.mode.startswith("I;16")
    plain = image.convert("L" if grey and image.mode != "L" and "A" in image.mode.upper() else "RGB")
    if image.mode not in ("RGBA", "LA", "PA"):
        return plain
    clear = np.asarray(image.convert("RGBA"))[..., 3] == 0
    if not clear.any() or clear.all():
        return plain
    codes = np.asarray(plain).astype(np.int64) if plain.mode == "L" else _packed(plain)
    hidden, shown = np.unique(codes[clear]), np.unique(codes[~clear])
    if len(hidden) > 1 or (len(shown) == 1 and shown[0] == hidden[0]):
        raise BadImage(
            name,
            f"{100 * clear.mean():.2g} % of its pixels are transparent, and which class that means is not in their "
            "colours: save it without transparency",
        )
    return plain


def _packed(image: Image.Image) -> np.ndarray:
    """Colours packed into int32 (H, W), red first."""
    colours = np.asarray(image.convert("RGB")).astype(np.int32)
    return colours[..., 0] << 16 | colours[..., 1] << 8 | colours[..., 2]
