"""Regions of feature maps, and masks pasted into images.

B images, C channels, H W space, L levels, R regions, S side of a region's map. Regions are (image, x0, y0, x1, y1).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

_FINEST = 14  # in strides of the finest level, which has regions of up to twice this side (56 pixels at stride 4)


def regions(boxes: Sequence[Tensor]) -> Tensor:
    """Turns the boxes (N_i, 4) of each image into regions (R, 5), with the image's index in front."""
    return torch.cat([F.pad(of_image, (1, 0), value=float(i)) for i, of_image in enumerate(boxes)])


class Pooled(NamedTuple):
    """The maps of regions, level by level: putting them in the regions' order would copy them all."""

    maps: Tensor
    """(R, C, S, S), float32."""
    order: Tensor
    """int64 (R,): the index of each map's region."""

    def restored(self, x: Tensor) -> Tensor:
        """Puts a head's outputs for the maps (R, ...) in the regions' order."""
        return x[self.order.argsort()]


def pool_regions(maps: Sequence[Tensor], rois: Tensor, strides: Sequence[int], size: int) -> Pooled:
    """RoIAlign (arXiv 1703.06870; aligned, as many samples as pixels), of each region on the level for its size.

    maps: (B, C, H_l, W_l) for each level, with its stride in `strides`. rois: (R, 5) in pixels of the image. The result
    is (R, C, size, size). The level is floor(log2(side / 56)) for a finest stride of 4 (arXiv 1612.03144, equation 1;
    mmdetection's SingleRoIExtractor).
    """
    from torchvision.ops import roi_align

    side = ((rois[:, 3] - rois[:, 1]) * (rois[:, 4] - rois[:, 2])).sqrt()
    levels = (side / (_FINEST * strides[0]) + 1e-6).log2().floor().clamp(0, len(maps) - 1)
    places, parts = [], []
    for level, (of_level, stride) in enumerate(zip(maps, strides, strict=True)):
        chosen = (levels == level).nonzero().flatten()
        places.append(chosen)
        # Also where no region is chosen: every map stays in the autograd graph.
        parts.append(roi_align(of_level.float(), rois[chosen], size, 1 / stride, -1, True))
    return Pooled(torch.cat(parts), torch.cat(places))


def crop_masks(masks: Tensor, boxes: Tensor, which: Tensor, size: int) -> Tensor:
    """Crops masks (N, H, W) to boxes (R, 4) and resizes them: bool (R, size, size). which: int64 (R,), each box's mask.

    As mmdetection's BitmapMasks.crop_and_resize: RoIAlign, then pixels that are at least half covered.
    """
    from torchvision.ops import roi_align

    height, width = masks.shape[1:]
    x, y = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    rois = torch.stack([which.to(boxes.dtype), x[:, 0], y[:, 0], x[:, 1], y[:, 1]], dim=1)
    return roi_align(masks.unsqueeze(1).to(boxes.dtype), rois, size, 1.0, -1, True).squeeze(1) >= 0.5


def paste_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int], *, threshold: float) -> Tensor:
    """Pastes probabilities (N, S, S) within boxes (N, 4) into masks of an image of (H, W): bool (N, H, W).

    Bilinear, at the centres of the image's pixels; a box without area has no pixels. As mmdetection's FCNMaskHead,
    except that only the pixels in and around a box are computed.
    """
    height, width = size
    pasted = torch.zeros((len(masks), height, width), dtype=torch.bool, device=masks.device)
    corners = torch.cat([boxes[:, :2].floor() - 1, boxes[:, 2:].ceil() + 1], dim=1).long().tolist()
    for number, (x0, y0, x1, y1) in enumerate(corners):
        x0, y0, x1, y1 = max(x0, 0), max(y0, 0), min(x1, width), min(y1, height)
        left, top, right, bottom = boxes[number].unbind()
        if x0 >= x1 or y0 >= y1 or not (right > left and bottom > top):
            continue
        x = (torch.arange(x0, x1, device=masks.device) + 0.5 - left) / (right - left) * 2 - 1
        y = (torch.arange(y0, y1, device=masks.device) + 0.5 - top) / (bottom - top) * 2 - 1
        grid = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1).unsqueeze(0)  # (1, rows, columns, 2)
        values = F.grid_sample(masks[number, None, None].float(), grid.to(torch.float32), align_corners=False)
        pasted[number, y0:y1, x0:x1] = values[0, 0] >= threshold
    return pasted
