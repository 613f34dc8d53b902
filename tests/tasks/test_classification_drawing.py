"""Thumbnails and annotated pictures: sizes, squareness, and names of every kind."""

import numpy as np
import pytest
import torch

from convnext.report.drawing import thumbnail
from convnext.tasks.classification.draw import annotated

LINES = [("golden retriever", 0.9), ("Labrador", 0.06), ("cat", 0.04)]


def noise(height, width):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)


def test_tiny_images_grow_with_square_pixels():
    image = noise(8, 6)
    shown = np.asarray(thumbnail(image, 100))
    assert shown.shape == (96, 72, 3)  # 12 times, the largest whole factor
    assert (shown[::12, ::12] == image.permute(1, 2, 0).numpy()).all()
    assert (shown[11::12, 11::12] == image.permute(1, 2, 0).numpy()).all()


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(300, 400, (96, 72)), (400, 300, (72, 96)), (96, 96, (96, 96)), (60, 50, (80, 96)), (3, 4000, (96, 1))],
)
def test_other_images_fit_the_side(height, width, size):
    assert thumbnail(noise(height, width), 96).size == size


def test_channels_stay_in_place():
    image = torch.zeros(3, 200, 200, dtype=torch.uint8)
    image[0] = 200
    assert thumbnail(image, 96).getpixel((50, 50)) == (200, 0, 0)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (1, 1), (224, 224), (3000, 4000), (40, 2000), (2000, 40)])
def test_annotated_is_readable_at_any_size(height, width):
    shown = annotated(noise(1, 1).expand(3, height, width), LINES, title="a.jpg")
    assert shown.mode == "RGB"
    assert min(shown.size) >= 200
    assert max(shown.size) <= 2000


def blue(picture):
    """How many pixels have the colour of the first bar."""
    return int((np.asarray(picture).reshape(-1, 3) == (43, 108, 176)).all(1).sum())


@pytest.mark.parametrize("image", [torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 90, 160, dtype=torch.uint8)])
def test_the_bar_is_as_long_as_the_probability(image):
    half, whole = (blue(annotated(image, [("x", share)], title="")) for share in (0.5, 1.0))
    assert half == pytest.approx(whole / 2, rel=0.05)
    assert whole > 500
    for share in (0.0, float("nan"), -1.0):
        assert blue(annotated(image, [("x", share)], title="")) == 0
    assert blue(annotated(image, [("x", 7.0)], title="")) == whole


@pytest.mark.parametrize(
    "name",
    ["", "x" * 9999, "Ελλάδα Київ", "עברית العربية", "東京 서울", "🐈", "two\nlines\t", "broken \udcff", "\0"],
)
def test_every_name_can_be_drawn(name):
    shown = annotated(noise(8, 8), [(name, 0.5)], title=name)
    assert shown.size == annotated(noise(8, 8), [("cat", 0.5)], title="a").size  # no name widens the panel


def test_long_names_keep_out_of_the_figures():
    long, short = (
        np.asarray(annotated(torch.zeros(3, 8, 8, dtype=torch.uint8), [(name, 0.5)], title=""))
        for name in ("W" * 99, "")
    )
    changed = np.nonzero((long != short).any((0, 2)))[0]
    assert changed.size
    assert changed.max() < long.shape[1] - 22 - 55  # the margin and "50.0 %" in bold


def test_no_lines():
    assert min(annotated(noise(8, 8), [], title="a.jpg").size) > 0


@pytest.mark.parametrize("image", [torch.zeros(3, 8, 8), noise(0, 8), noise(8, 8)[0]])
def test_other_tensors_are_refused(image):
    with pytest.raises(ValueError, match=r"uint8 image \(C, H, W\)"):
        thumbnail(image, 96)
    with pytest.raises(ValueError, match=r"uint8 image \(C, H, W\)"):
        annotated(image, LINES, title="a")
