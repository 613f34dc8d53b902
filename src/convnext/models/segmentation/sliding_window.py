"""A class for each pixel of a picture of any size, within a bound of memory.

B windows, K classes, H W the picture's space, h w that of a view of it (the picture resized). Sizes are (H, W), boxes
are rows y0:y1 and columns x0:x1, as (y0, y1, x0, x1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from convnext.models.segmentation.encoder_decoder import EncoderDecoder

Size = tuple[int, int]
Box = tuple[int, int, int, int]
MEGABYTES = 1024
"""Memory for the logits of a picture, unless another bound is asked for."""
_COPIES = 4  # of a tile's logits that are held at a time: summed windows, resized rows, resized, probabilities


class View(NamedTuple):
    """A picture as the network is to see it."""

    image: Tensor
    """uint8 (3, h, w): the picture at some size, on any device."""
    mirrored: bool


class SlidingWindow(NamedTuple):
    """How a view is cut."""

    side: int
    """Of the square that is judged at a time; 0: the whole view at once."""
    stride: int
    """From one window to the next."""
    batch: int = 1
    """Windows that the network sees at a time."""


def segment_tta(
    model: EncoderDecoder,
    views: Sequence[View],
    original: Size,
    *,
    windows: SlidingWindow,
    prepare: Callable[[Tensor], Tensor],
    megabytes: int = MEGABYTES,
) -> Tensor:
    """The class of each pixel of a picture of size `original`, uint8 (H, W), on the network's device.

    Windows slide over each view; where they overlap, the mean of their logits counts (mmsegmentation's
    `slide_inference`). The logits are resized to the picture's size; those of several views become probabilities, whose
    mean decides (its `aug_test`). prepare: uint8 (B, 3, h, w) to what the network takes, on its device.

    The picture is judged a tile at a time, so that logits and their copies take `megabytes` at most (but for a tile of
    one pixel); tiles change nothing in the result, they cost the windows that reach over their borders once more. A
    picture within the bound is one tile. Besides, there are the views, a byte for each pixel found, and what the
    network itself takes for one batch of windows.
    """
    found = torch.empty(original, dtype=torch.uint8, device=next(model.parameters()).device)
    for tile in tiles(original, _tile_pixels(model.num_classes, views, original, megabytes)):
        y0, y1, x0, x1 = tile
        if len(views) == 1:
            scores = _logits(model, views[0], tile, original, windows, prepare)
        else:
            scores = torch.zeros((model.num_classes, y1 - y0, x1 - x0), device=found.device)
            for view in views:
                scores += _logits(model, view, tile, original, windows, prepare).softmax(dim=0)
        found[y0:y1, x0:x1] = scores.argmax(dim=0)
    return found


def spans(length: int, side: int, stride: int) -> list[tuple[int, int]]:
    """Where windows begin and end along a side of the view: the last one ends with it. side 0: one takes all."""
    if side == 0 or length <= side:
        return [(0, length)]
    starts = range(0, length - side + stride, stride)
    ends = [min(start + side, length) for start in starts]
    return [(end - side, end) for end in ends]


def tiles(size: Size, pixels: int) -> Iterator[Box]:
    """A picture's parts of at most so many pixels, about square: rows from the top, each from the left."""
    height, width = size
    if height * width <= pixels:
        rows = columns = 1
    else:
        side = max(math.isqrt(pixels), 1)
        rows = -(-height // side)
        columns = -(-width // max(pixels // -(-height // rows), 1))
    tall, wide = -(-height // rows), -(-width // columns)
    for y in range(0, height, tall):
        for x in range(0, width, wide):
            yield y, min(y + tall, height), x, min(x + wide, width)


def _tile_pixels(num_classes: int, views: Sequence[View], original: Size, megabytes: int) -> int:
    """Pixels of a tile whose logits, at the size of the largest view, fit into the memory that may be taken."""
    area = original[0] * original[1]
    grown = max(1.0, *(view.image.shape[1] * view.image.shape[2] / area for view in views))
    return max(int(megabytes * 2**20 / (4 * num_classes * _COPIES * grown)), 1)


def _logits(
    model: EncoderDecoder,
    view: View,
    tile: Box,
    original: Size,
    windows: SlidingWindow,
    prepare: Callable[[Tensor], Tensor],
) -> Tensor:
    """Logits of a tile of the picture, float32 (K, y1 - y0, x1 - x0), from a view of it."""
    y0, y1, x0, x1 = tile
    height, width = view.image.shape[1:]
    if view.mirrored:
        x0, x1 = original[1] - x1, original[1] - x0
    image = view.image.flip(2) if view.mirrored else view.image
    if (y1 - y0, x1 - x0) == original:
        logits = _slid(model, image, (0, height, 0, width), windows, prepare)
        if (height, width) != original:
            logits = F.interpolate(logits[None], size=original, mode="bilinear", align_corners=False)[0]
    else:
        rows, columns = _sources(y0, y1, original[0], height), _sources(x0, x1, original[1], width)
        region = (int(rows.low[0]), int(rows.high[-1]) + 1, int(columns.low[0]), int(columns.high[-1]) + 1)
        logits = _slid(model, image, region, windows, prepare)
        if (height, width) != original:
            logits = _resampled(_resampled(logits, rows, dim=1), columns, dim=2)
    return logits.flip(2) if view.mirrored else logits


class _Sources(NamedTuple):
    """For each pixel of a part of a resized side: the two that it lies between, and the share of the second."""

    low: Tensor
    high: Tensor
    share: Tensor


def _sources(start: int, end: int, length: int, given: int) -> _Sources:
    """Of the pixels start:end of a side of `length`, resized bilinearly from `given` pixels (align_corners False)."""
    places = ((torch.arange(start, end, dtype=torch.float64) + 0.5) * (given / length) - 0.5).clamp_(min=0)
    low = places.long()
    share = (places - low).float()
    return _Sources(low, (low + (share > 0)).clamp(max=given - 1), share)  # a pixel of its own needs no other


def _resampled(x: Tensor, sources: _Sources, *, dim: int) -> Tensor:
    """A map resized along one dimension; it begins at the first of its sources."""
    first, device = sources.low[0], x.device
    shape = [-1 if d == dim else 1 for d in range(x.ndim)]
    low, high = (x.index_select(dim, (part - first).to(device)) for part in (sources.low, sources.high))
    return low.lerp_(high, sources.share.to(device).view(shape).expand_as(low))


def _slid(
    model: EncoderDecoder, image: Tensor, region: Box, windows: SlidingWindow, prepare: Callable[[Tensor], Tensor]
) -> Tensor:
    """Logits of a region of a view, float32 (K, y1 - y0, x1 - x0): the mean over the windows that reach into it."""
    y0, y1, x0, x1 = region
    height, width = image.shape[1:]
    across = [span for span in spans(width, windows.side, windows.stride) if span[0] < x1 and span[1] > x0]
    down = [span for span in spans(height, windows.side, windows.stride) if span[0] < y1 and span[1] > y0]
    boxes = [(*rows, *columns) for rows in down for columns in across]
    total = count = None
    for start in range(0, len(boxes), windows.batch):
        some = boxes[start : start + windows.batch]
        logits = model(prepare(torch.stack([image[:, a:b, c:d] for a, b, c, d in some])))
        if len(boxes) == 1 and boxes[0] == region:
            return logits[0]
        if total is None or count is None:
            total = logits.new_zeros((logits.shape[1], y1 - y0, x1 - x0))
            count = logits.new_zeros((y1 - y0, x1 - x0))
        for (a, b, c, d), one in zip(some, logits, strict=True):
            top, bottom, left, right = max(a, y0), min(b, y1), max(c, x0), min(d, x1)
            inside = (..., slice(top - y0, bottom - y0), slice(left - x0, right - x0))
            total[inside] += one[:, top - a : bottom - a, left - c : right - c]
            count[inside] += 1
    assert total is not None
    assert count is not None
    return total.div_(count)
