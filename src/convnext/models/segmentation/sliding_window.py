"""Sliding-window inference of a segmenter, with test-time augmentation, within a bound of memory.

B windows, K classes, H W the image's space, h w that of an augmentation of it (the image resized). Sizes are
(H, W), boxes are rows y0:y1 and columns x0:x1, as (y0, y1, x0, x1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from convnext.models.network import check_finite
from convnext.models.segmentation.encoder_decoder import EncoderDecoder

Size = tuple[int, int]
Box = tuple[int, int, int, int]
MEGABYTES = 1024
"""Memory for the logits of an image, unless another bound is asked for."""
_COPIES = 4  # of a tile's logits that are held at a time: summed windows, resized rows, resized, probabilities


class AugmentedImage(NamedTuple):
    """An image at one size, mirrored or not."""

    image: Tensor
    """uint8 (3, h, w): the image at some size, not yet mirrored, on any device."""
    flipped: bool
    """Whether it is predicted mirrored from left to right."""


class SlidingWindow(NamedTuple):
    """How an image is cut into overlapping windows."""

    size: int
    """Side of the square that is predicted at a time; 0: the whole image at once."""
    stride: int
    """From one window to the next."""
    batch: int = 1
    """Windows that the network takes at a time."""


def segment_tta(
    model: EncoderDecoder,
    augmented: Sequence[AugmentedImage],
    original: Size,
    *,
    window: SlidingWindow,
    prepare: Callable[[Tensor], Tensor],
    megabytes: int = MEGABYTES,
) -> Tensor:
    """The class of each pixel of an image of size `original`, uint8 (H, W), on the network's device.

    Windows slide over each augmentation; where they overlap, the mean of their logits counts (mmsegmentation's
    `slide_inference`). The logits are resized to the image's size; those of several augmentations become
    probabilities, whose mean decides (its `aug_test`). prepare: uint8 (B, 3, h, w) to what the network takes, on its
    device.

    The image is predicted a tile at a time, so that logits and their copies take `megabytes` at most (but for a tile of
    one pixel); tiles change nothing in the result, they cost the windows that reach over their borders once more. An
    image within the bound is one tile. Besides, there are the augmented images, a byte for each pixel found, and what
    the network itself takes for one batch of windows.

    Raises NotFinite where scores are not numbers: the largest of those would still be some class.
    """
    found = torch.empty(original, dtype=torch.uint8, device=next(model.parameters()).device)
    for tile in tiles(original, _tile_pixels(model.num_classes, augmented, original, megabytes)):
        y0, y1, x0, x1 = tile
        if len(augmented) == 1:
            scores = _logits(model, augmented[0], tile, original, window, prepare)
        else:
            scores = torch.zeros((model.num_classes, y1 - y0, x1 - x0), device=found.device)
            for one in augmented:
                scores += _logits(model, one, tile, original, window, prepare).softmax(dim=0)
        check_finite([scores])
        found[y0:y1, x0:x1] = scores.argmax(dim=0)
    return found


def spans(length: int, size: int, stride: int) -> list[tuple[int, int]]:
    """Where windows begin and end along a side of the image: the last one ends with it. size 0: one takes all."""
    if size == 0 or length <= size:
        return [(0, length)]
    starts = range(0, length - size + stride, stride)
    ends = [min(start + size, length) for start in starts]
    return [(end - size, end) for end in ends]


def tiles(size: Size, pixels: int) -> Iterator[Box]:
    """An image's parts of at most so many pixels, about square: rows from the top, each from the left."""
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


def _tile_pixels(num_classes: int, augmented: Sequence[AugmentedImage], original: Size, megabytes: int) -> int:
    """Pixels of a tile whose logits, at the size of the largest augmentation, fit into the memory that may be taken."""
    area = original[0] * original[1]
    grown = max(1.0, *(one.image.shape[1] * one.image.shape[2] / area for one in augmented))
    return max(int(megabytes * 2**20 / (4 * num_classes * _COPIES * grown)), 1)


def _logits(
    model: EncoderDecoder,
    augmented: AugmentedImage,
    tile: Box,
    original: Size,
    window: SlidingWindow,
    prepare: Callable[[Tensor], Tensor],
) -> Tensor:
    """Logits of a tile of the image, float32 (K, y1 - y0, x1 - x0), from an augmentation of it."""
    y0, y1, x0, x1 = tile
    height, width = augmented.image.shape[1:]
    if augmented.flipped:
        x0, x1 = original[1] - x1, original[1] - x0
    image = augmented.image.flip(2) if augmented.flipped else augmented.image
    if (y1 - y0, x1 - x0) == original:
        logits = _slide_inference(model, image, (0, height, 0, width), window, prepare)
        if (height, width) != original:
            logits = F.interpolate(logits[None], size=original, mode="bilinear", align_corners=False)[0]
    else:
        rows, columns = _sources(y0, y1, original[0], height), _sources(x0, x1, original[1], width)
        region = (int(rows.low[0]), int(rows.high[-1]) + 1, int(columns.low[0]), int(columns.high[-1]) + 1)
        logits = _slide_inference(model, image, region, window, prepare)
        if (height, width) != original:
            logits = _resize_along(_resize_along(logits, rows, dim=1), columns, dim=2)
    return logits.flip(2) if augmented.flipped else logits


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


def _resize_along(x: Tensor, sources: _Sources, *, dim: int) -> Tensor:
    """A map resized along one dimension; it begins at the first of its sources."""
    first, device = sources.low[0], x.device
    shape = [-1 if d == dim else 1 for d in range(x.ndim)]
    low, high = (x.index_select(dim, (part - first).to(device)) for part in (sources.low, sources.high))
    return low.lerp_(high, sources.share.to(device).view(shape).expand_as(low))


def _slide_inference(
    model: EncoderDecoder, image: Tensor, region: Box, window: SlidingWindow, prepare: Callable[[Tensor], Tensor]
) -> Tensor:
    """Logits of a region of an augmentation, float32 (K, y1 - y0, x1 - x0): the mean over the windows that reach it."""
    y0, y1, x0, x1 = region
    height, width = image.shape[1:]
    across = [span for span in spans(width, window.size, window.stride) if span[0] < x1 and span[1] > x0]
    down = [span for span in spans(height, window.size, window.stride) if span[0] < y1 and span[1] > y0]
    boxes = [(*rows, *columns) for rows in down for columns in across]
    total = count = None
    for start in range(0, len(boxes), window.batch):
        some = boxes[start : start + window.batch]
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
