"""Images with the class of each pixel laid over them, and maps of classes as files.

H W space; images are uint8 RGB tensors (3, H, W), labels uint8 (H, W), IGNORE_INDEX where a pixel has no class.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from convnext.ops.losses import IGNORE_INDEX
from convnext.report.drawing import Colour, thumbnail
from convnext.report.panels import legend, stacked, title_strip, unit_of

_LONGEST, _SHORTEST = 1280, 640  # pixels of the shown image's longer side: larger ones shrink, smaller ones grow
_TINT, _BORDER = 0.55, 0.45  # how much is seen of a class's colour, and how dark its border is


def overlaid(
    image: Tensor,
    labels: Tensor,
    classes: Sequence[str],
    colours: Sequence[Colour],
    *,
    title: str = "",
    longest: int = _LONGEST,
    named: bool = True,
) -> Image.Image:
    """The image with its classes' colours over it, darker where two of them meet, and below it a legend of those that
    are there with their shares of the image, the largest first; a line of `title` above. Pixels without a class stay
    as they are.

    The longer side is shown with 640 to `longest` (at least 640) pixels. named: whether there is a legend. Raises
    ValueError for labels of another size than the image, or without a name or a colour.
    """
    if labels.shape != image.shape[-2:]:
        raise ValueError(f"Labels {tuple(labels.shape)} of an image {tuple(image.shape)}.")
    counts = torch.bincount(labels.flatten(), minlength=IGNORE_INDEX + 1)[:IGNORE_INDEX]
    last = int(counts.nonzero().max()) if bool(counts.any()) else -1
    if last >= min(len(classes), len(colours)):
        raise ValueError(f"Labels lie in 0..{min(len(classes), len(colours)) - 1}, not {last}.")
    side = min(max(*image.shape[-2:], _SHORTEST), max(longest, _SHORTEST))
    shown = thumbnail(image, side)
    parts = [_tinted(shown, labels, colours)]
    unit = unit_of(max(shown.size))
    if title:
        parts.insert(0, title_strip(title, shown.width, unit))
    if named:
        order: list[int] = torch.argsort(counts, descending=True, stable=True).tolist()
        there = [(colours[k], classes[k], _share(int(counts[k]), labels.numel())) for k in order if counts[k]]
        parts.append(legend(there, shown.width, unit))
    return stacked(parts)


def _share(pixels: int, of: int) -> str:
    share = 100 * pixels / of
    return f"{share:.0f} %" if share >= 1 else "< 1 %"


def _tinted(shown: Image.Image, labels: Tensor, colours: Sequence[Colour]) -> Image.Image:
    """The shown image with its classes over it: of each of its pixels the class of the nearest one."""
    map_ = np.asarray(Image.fromarray(labels.cpu().numpy()).resize(shown.size, Image.Resampling.NEAREST))
    table = np.zeros((IGNORE_INDEX + 1, 3), dtype=np.float32)
    table[: len(colours)] = colours
    strength = np.where(map_ == IGNORE_INDEX, 0.0, _TINT).astype(np.float32)[..., None]
    blended = np.asarray(shown, dtype=np.float32) * (1 - strength) + table[map_] * strength
    border = np.zeros(map_.shape, dtype=bool)
    border[1:] |= map_[1:] != map_[:-1]
    border[:, 1:] |= map_[:, 1:] != map_[:, :-1]
    blended[border] *= 1 - _BORDER
    return Image.fromarray(blended.round().astype(np.uint8))


def index_map(labels: Tensor, values: Sequence[int], colours: Sequence[Colour]) -> Image.Image:
    """A label map as data sets have them: each class's own value, in its colour. 8 bits with a palette, or 16 bits
    where a value takes them; pixels without a class have the value 255.

    values: of each class, in label maps of its data set; empty: its index.
    """
    own = np.full(IGNORE_INDEX + 1, IGNORE_INDEX, dtype=np.int64)
    own[: len(colours)] = values or range(len(colours))
    map_ = own[labels.cpu().numpy()]
    if map_.max(initial=0) > 255:
        return Image.fromarray(map_.astype(np.uint16))
    indexed = Image.fromarray(map_.astype(np.uint8), mode="P")
    palette = np.zeros((256, 3), dtype=np.uint8)
    for value, colour in zip(own[: len(colours)].tolist(), colours, strict=True):
        palette[value] = colour
    indexed.putpalette(palette.tobytes())
    return indexed
