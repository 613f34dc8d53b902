"""Classes laid over a picture; label maps as files."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from convnext.ops.losses import IGNORE_INDEX
from convnext.tasks.segmentation.draw import index_map, overlaid
from convnext.tasks.segmentation.evaluate import confused

CLASSES, COLOURS = ("sky", "road", "car"), ((0, 0, 255), (0, 255, 0), (255, 0, 0))


def halves(height: int = 40, width: int = 640) -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.zeros(height, width, dtype=torch.uint8)
    labels[:, width // 2 :] = 1
    labels[0] = IGNORE_INDEX
    return torch.full((3, height, width), 100, dtype=torch.uint8), labels


def test_colours_lie_over_the_picture_and_borders_are_darker() -> None:
    image, labels = halves()
    drawn = np.array(overlaid(image, labels, CLASSES, COLOURS, named=False)).astype(int)
    assert drawn.shape == (40, 640, 3)
    assert drawn[20, 100].tolist() == [45, 45, 185]  # 0.45 of the picture, 0.55 of the class
    assert drawn[20, 500].tolist() == [45, 185, 45]
    assert drawn[0, 5].tolist() == [100, 100, 100]  # no class
    assert drawn[20, 320].sum() < drawn[20, 500].sum()
    assert torch.equal(image, torch.full((3, 40, 640), 100, dtype=torch.uint8))


def test_a_legend_names_what_is_there() -> None:
    image, labels = halves()
    plain = overlaid(image, labels, CLASSES, COLOURS, named=False)
    named = overlaid(image, labels, CLASSES, COLOURS, title="street.jpg")
    assert named.height > plain.height + 40
    below = np.array(named)[-40:]
    for colour, there in zip(COLOURS, (True, True, False), strict=True):
        assert bool((below == colour).all(axis=-1).any()) == there


@pytest.mark.parametrize("size", [(5, 7), (3000, 2000), (1, 900)])
def test_any_size_is_shown_readably(size: tuple[int, int]) -> None:
    image, labels = halves(*size)
    drawn = overlaid(image, labels, CLASSES, COLOURS, named=False)
    assert 600 <= max(drawn.size) <= 1280


def test_what_has_no_name_or_another_size_is_an_error() -> None:
    image, labels = halves()
    with pytest.raises(ValueError, match="Labels"):
        overlaid(image, labels[:-1], CLASSES, COLOURS)
    labels[3, 3] = 7
    with pytest.raises(ValueError, match=r"0\.\.2, not 7"):
        overlaid(image, labels, CLASSES, COLOURS)


def test_label_maps_have_the_datas_values_and_colours(tmp_path) -> None:
    labels = torch.tensor([[0, 1], [2, IGNORE_INDEX]], dtype=torch.uint8)
    index_map(labels, (4, 7, 9), COLOURS).save(tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as map_:
        assert map_.mode == "P"
        assert np.array(map_).tolist() == [[4, 7], [9, 255]]
        assert map_.convert("RGB").getpixel((0, 1)) == COLOURS[2]
    assert np.array(index_map(labels[:1], (), COLOURS)).tolist() == [[0, 1]]
    index_map(labels[:1], (300, 7, 9), COLOURS).save(tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as map_:
        assert np.array(map_).tolist() == [[300, 7]]


def test_the_largest_confusions_by_hand() -> None:
    counts = torch.tensor([[8, 2, 0], [0, 5, 0], [1, 3, 0]])
    assert confused(counts, CLASSES) == [
        {"name": "car", "taken_for": "road", "share": 0.75},
        {"name": "car", "taken_for": "sky", "share": 0.25},
        {"name": "sky", "taken_for": "road", "share": 0.2},
    ]
