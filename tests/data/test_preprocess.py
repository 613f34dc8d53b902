"""The evaluation transform against the official pipeline (Pillow and torchvision), and its rules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import CenterCrop, InterpolationMode, Resize
from torchvision.transforms.v2 import functional as v2

from convnext.data.config import InputConfig
from convnext.data.preprocess import center_crop, eval_transform, resize, resolved_resize

MODES = {"bicubic": InterpolationMode.BICUBIC, "bilinear": InterpolationMode.BILINEAR}


def tensor(image: Image.Image | np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


@pytest.mark.parametrize(
    ("size", "rule"), [(8, "warp"), (32, "warp"), (33, "crop"), (224, "crop"), (383, "crop"), (384, "warp")]
)
def test_the_rule_that_auto_stands_for(size, rule):
    assert resolved_resize(InputConfig(size=size)) == rule
    for chosen in ("crop", "warp"):
        assert resolved_resize(InputConfig(size=size, resize=chosen)) == chosen


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
@pytest.mark.parametrize(("height", "width"), [(75, 100), (101, 64), (57, 57), (40, 133), (20, 31), (64, 64)])
def test_as_the_official_pipeline(picture, height, width, interpolation):
    image = Image.fromarray(picture(height, width))
    config = InputConfig(size=56, interpolation=interpolation)
    official = CenterCrop(56)(Resize(int(56 / 0.875), interpolation=MODES[interpolation])(image))
    ours = eval_transform(tensor(image), config)
    assert ours.shape == (3, 56, 56)
    assert ours.dtype == torch.uint8
    difference = (ours.int() - tensor(official).int()).abs()
    assert int(difference.max()) <= 2  # rounding of fixed-point weights
    assert float(difference.float().mean()) < 0.3


@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_the_pixels_of_torchvisions_tensor_transforms(picture, interpolation):
    for height, width, to in ((75, 100, (64, 85)), (20, 31, (64, 99)), (101, 64, (40, 40))):
        image = tensor(picture(height, width))
        theirs = v2.resize(image, list(to), interpolation=MODES[interpolation], antialias=True)
        assert torch.equal(resize(image, *to, interpolation), theirs)


def test_warp_fits_everything_in(picture):
    image = tensor(picture(30, 90))
    ours = eval_transform(image, InputConfig(size=40, resize="warp"))
    assert torch.equal(ours, v2.resize(image, [40, 40], interpolation=MODES["bicubic"], antialias=True))


def test_nothing_is_done_to_what_fits(picture):
    image = tensor(picture(32, 32))
    assert eval_transform(image, InputConfig(size=32)) is image
    whole = eval_transform(tensor(picture(64, 64)), InputConfig(size=64, crop_ratio=1.0))
    assert torch.equal(whole, tensor(picture(64, 64)))


@pytest.mark.parametrize(
    ("height", "width", "size"), [(7, 9, 4), (8, 9, 4), (3, 9, 4), (2, 3, 5), (5, 5, 5), (1, 2, 6)]
)
def test_center_crop_is_torchvisions(picture, height, width, size):
    image = tensor(picture(height, width))
    ours = center_crop(image, size)
    assert torch.equal(ours, v2.center_crop(image, [size, size]))
    assert ours.is_contiguous()


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 500), (500, 1), (2, 3)])
@pytest.mark.parametrize("rule", ["crop", "warp"])
def test_the_oddest_sizes(picture, height, width, rule):
    assert eval_transform(tensor(picture(height, width)), InputConfig(size=48, resize=rule)).shape == (3, 48, 48)


def test_a_strip_does_not_become_gigabytes():
    strip = torch.zeros((3, 1, 100_000), dtype=torch.uint8)
    strip[:, :, 50_000:] = 255
    for image in (strip, strip.transpose(1, 2).contiguous()):
        result = eval_transform(image, InputConfig(size=224))
        assert result.shape == (3, 224, 224)
        assert 100 < float(result.float().mean()) < 155  # still the middle
