"""Regions of maps by hand, and masks pasted into images and cropped from them. C channels, H W space, R regions."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import roi_align

from convnext.ops import roi
from convnext.ops.roi import crop_masks, paste_masks, regions


def pool_regions(maps, rois, strides, size):
    """The maps of regions in the regions' order."""
    pooled = roi.pool_regions(maps, rois, strides, size)
    assert sorted(pooled.order.tolist()) == list(range(len(rois)))
    return pooled.restored(pooled.maps)


STRIDES = (4, 8, 16, 32)


def levels(batch: int = 1, side: int = 512) -> list[Tensor]:
    """Maps of which each has one value: 10 x the image's number + the level's."""
    numbers = 10.0 * torch.arange(batch).view(-1, 1, 1, 1)
    return [(numbers + level).expand(-1, 1, side // s, side // s) for level, s in enumerate(STRIDES)]


def ramp(height: int, width: int, stride: int) -> Tensor:
    """A map of 100 + 3 x - 2 y, where (x, y) are the places of its pixels' centres in the image."""
    x = (torch.arange(width) + 0.5) * stride
    y = (torch.arange(height) + 0.5) * stride
    return (100 + 3 * x - 2 * y.unsqueeze(1)).view(1, 1, height, width)


def test_regions():
    boxes = [torch.tensor([[1.0, 2, 3, 4]]), torch.zeros(0, 4), torch.tensor([[5.0, 6, 7, 8], [9, 10, 11, 12]])]
    assert regions(boxes).tolist() == [[0, 1, 2, 3, 4], [2, 5, 6, 7, 8], [2, 9, 10, 11, 12]]
    assert regions([torch.zeros(0, 4)]).shape == (0, 5)


# Regions out of maps


@pytest.mark.parametrize(
    ("width", "height", "level"),
    [
        (0, 0, 0),
        (5, 5, 0),
        (56, 56, 0),
        (111, 111, 0),
        (112, 112, 1),
        (113, 113, 1),
        (223, 223, 1),
        (224, 224, 2),
        (225, 225, 2),
        (447, 447, 2),
        (448, 448, 3),
        (500, 500, 3),
        (56, 224, 1),  # as large as 112 x 112
        (448, 27, 0),
    ],
)
def test_level_of_a_region(width, height, level):
    pooled = pool_regions(levels(), torch.tensor([[0.0, 2, 2, 2 + width, 2 + height]]), STRIDES, 2)
    assert pooled.tolist() == [[[[level] * 2] * 2]]


def test_levels_end_with_the_maps():
    """A region larger than the coarsest level's comes from the coarsest; borders lie at twice the strides' sides."""
    rois = torch.tensor([[0.0, 0, 0, 500, 500]])
    assert pool_regions(levels()[:2], rois, STRIDES[:2], 1).item() == 1
    for side, level in ((223.0, 0), (224.0, 1)):
        rois = torch.tensor([[0.0, 0, 0, side, side]])
        doubled = pool_regions([F.interpolate(m, scale_factor=0.5) for m in levels()], rois, (8, 16, 32, 64), 1)
        assert doubled.item() == level


def test_regions_keep_their_order():
    sides, images = [500, 20, 130, 300, 30, 140], [1, 0, 2, 0, 2, 1]
    rois = torch.tensor([[float(i), 0, 0, side, side] for i, side in zip(images, sides, strict=True)])
    assert pool_regions(levels(3), rois, STRIDES, 1).flatten().tolist() == [13, 0, 21, 2, 20, 11]


@pytest.mark.parametrize(
    "box",
    [[40.0, 60.0, 90.0, 100.0], [33.3, 41.7, 170.2, 160.9], [100.0, 60.0, 360.0, 310.5], [31.0, 20.0, 480.0, 490.0]],
)
def test_a_ramp_has_its_value_at_the_centre_of_each_part(box):
    """Where a map is linear, so are its samples: a part's mean is the value at its centre, on every level."""
    maps = [ramp(512 // s, 512 // s, s).double() for s in STRIDES]
    x0, y0, x1, y1 = box
    places = (torch.arange(7) + 0.5) / 7
    x, y = x0 + places * (x1 - x0), y0 + places * (y1 - y0)
    expected = 100 + 3 * x - 2 * y.unsqueeze(1)
    assert torch.allclose(pool_regions(maps, torch.tensor([[0.0, *box]]), STRIDES, 7)[0, 0], expected, rtol=1e-5)


def test_one_level_is_torchvision_s():
    torch.manual_seed(0)
    x = torch.randn(2, 3, 20, 24)
    corner, side = torch.rand(30, 2) * 80 - 10, torch.rand(30, 2) * 60
    rois = torch.cat([torch.randint(2, (30, 1)), corner, corner + side], dim=1)
    expected = roi_align(x, rois, 7, spatial_scale=0.25, sampling_ratio=-1, aligned=True)
    assert torch.equal(pool_regions([x], rois, (4,), 7), expected)


def test_every_level_has_a_gradient():
    """Of zero where no region comes from it."""
    maps = [torch.randn(1, 2, 128 // s, 128 // s, requires_grad=True) for s in STRIDES]
    pool_regions(maps, torch.tensor([[0.0, 8, 8, 40, 40], [0, 0, 0, 120, 120]]), STRIDES, 7).sum().backward()
    assert [bool((m.grad != 0).any()) for m in maps if m.grad is not None] == [True, True, False, False]


def test_no_region():
    maps = [torch.randn(1, 2, 128 // s, 128 // s, requires_grad=True) for s in STRIDES]
    pooled = pool_regions(maps, torch.zeros(0, 5), STRIDES, 7)
    assert pooled.shape == (0, 2, 7, 7)
    pooled.sum().backward()
    assert all(m.grad is not None for m in maps)


def test_pooled_in_float32():
    maps = [m.bfloat16() for m in levels()]
    assert pool_regions(maps, torch.tensor([[0.0, 0, 0, 200, 200]]), STRIDES, 2).dtype == torch.float32


# Masks cropped from images


def rectangle(x0: int, y0: int, x1: int, y1: int, *, height: int = 20, width: int = 20) -> Tensor:
    mask = torch.zeros(height, width, dtype=torch.bool)
    mask[y0:y1, x0:x1] = True
    return mask


def test_crop_of_a_rectangle():
    masks = torch.stack([rectangle(5, 5, 15, 10), rectangle(0, 0, 5, 20)])
    boxes = torch.tensor([[0.0, 0, 20, 20], [0, 0, 20, 20], [5, 5, 15, 10], [10, 0, 30, 10], [-20, -20, 20, 20]])
    cropped = crop_masks(masks, boxes, torch.tensor([0, 1, 0, 0, 1]), 4).int().tolist()
    assert cropped[0] == [[0, 0, 0, 0], [0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    assert cropped[1] == [[1, 0, 0, 0]] * 4
    assert cropped[2] == [[1, 1, 1, 1]] * 4
    assert cropped[3] == [[0, 0, 0, 0]] * 2 + [[1, 1, 0, 0]] * 2  # cut off at the border: 10..20 x 0..10
    assert cropped[4] == [[1, 0, 0, 0]] * 4  # so is this


@pytest.mark.parametrize(("covered", "expected"), [(0, False), (1, False), (2, True), (3, True), (4, True)])
def test_half_covered_is_covered(covered, expected):
    """Of four pixels."""
    mask = rectangle(6, 3, 6 + covered, 5)
    assert crop_masks(mask.unsqueeze(0), torch.tensor([[6.0, 3, 10, 5]]), torch.tensor([0]), 1).item() is expected


def test_crop_of_none():
    cropped = crop_masks(torch.zeros(0, 20, 30, dtype=torch.bool), torch.zeros(0, 4), torch.zeros(0).long(), 28)
    assert (cropped.shape, cropped.dtype) == ((0, 28, 28), torch.bool)


# Masks pasted into images


def test_a_full_mask_fills_its_box():
    """Exactly the pixels whose centre is within; box 1 reaches beyond the image, 2 and 3 have no area."""
    boxes = torch.tensor(
        [[5.0, 7, 25, 12], [-10, 30, 20, 90], [5, 5, 5, 20], [5, 20, 9, 19], [3.4, 3.6, 8.4, 8.6], [60, 0, 70, 9]]
    )
    pasted = paste_masks(torch.ones(6, 28, 28), boxes, (40, 50), threshold=0.5)
    expected = [
        rectangle(5, 7, 25, 12, height=40, width=50),
        rectangle(0, 30, 20, 40, height=40, width=50),
        rectangle(0, 0, 0, 0, height=40, width=50),
        rectangle(0, 0, 0, 0, height=40, width=50),
        rectangle(3, 4, 8, 9, height=40, width=50),
        rectangle(0, 0, 0, 0, height=40, width=50),  # to the right of the image
    ]
    assert pasted.dtype == torch.bool
    for given, wanted in zip(pasted, expected, strict=True):
        assert torch.equal(given, wanted)


def test_corners_of_a_large_mask_are_round():
    """Beyond a mask's outermost centres it fades to 0. At 100 pixels the first centre is at 0.14 of 28 parts, where the
    mask has 0.64: at the corner 0.64**2, less than a half; one pixel on, 0.92 * 0.64."""
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([[0.0, 0, 100, 100]]), (100, 100), threshold=0.5)[0]
    missing = [tuple(place) for place in (~pasted).nonzero().tolist()]
    assert missing == [(0, 0), (0, 99), (99, 0), (99, 99)]


def test_a_mask_in_four_parts():
    """A quarter of the mask is a quarter of the box; thresholds count from themselves on."""
    mask = torch.tensor([[[0.2, 0.4], [0.6, 0.8]]])
    box = torch.tensor([[10.0, 20, 12, 22]])  # its four pixels' centres are the mask's
    for threshold, expected in ((0.1, [[1, 1], [1, 1]]), (0.4, [[0, 1], [1, 1]]), (0.7, [[0, 0], [0, 1]])):
        pasted = paste_masks(mask, box, (30, 30), threshold=threshold)[0]
        assert pasted[20:22, 10:12].int().tolist() == expected
        assert pasted.sum() == sum(map(sum, expected))


def whole(mask: Tensor, box: Tensor, size: tuple[int, int]) -> Tensor:
    """The plain way: every pixel of the image is looked up in the mask."""
    height, width = size
    x = ((torch.arange(width) + 0.5 - box[0]) / (box[2] - box[0])) * 2 - 1
    y = ((torch.arange(height) + 0.5 - box[1]) / (box[3] - box[1])) * 2 - 1
    grid = torch.stack([x.expand(height, -1), y.unsqueeze(1).expand(-1, width)], dim=-1)
    return F.grid_sample(mask[None, None], grid.unsqueeze(0), align_corners=False)[0, 0] >= 0.5


def test_as_from_the_whole_image():
    """For boxes within the image, partly or wholly beyond it, around all of it, and thinner than a pixel."""
    torch.manual_seed(0)
    centre, side = torch.rand(200, 2) * 90 - 20, torch.rand(200, 2) ** 3 * 120 + 0.05
    boxes = torch.cat([centre - side / 2, centre + side / 2], dim=1)
    masks = torch.rand(200, 28, 28)
    pasted = paste_masks(masks, boxes, (45, 55), threshold=0.5)
    for given, mask, box in zip(pasted, masks, boxes, strict=True):
        assert torch.equal(given, whole(mask, box, (45, 55)))
    assert 0 < pasted.float().mean() < 0.5
    assert (pasted.flatten(1).sum(1) == 0).any()


def test_paste_of_none():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (6, 7), threshold=0.5).shape == (0, 6, 7)
