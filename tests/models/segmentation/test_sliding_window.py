"""A class for each pixel of a picture of any size. K classes, H W space."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from convnext.models.config import ModelConfig
from convnext.models.segmentation import sliding_window as windows_room
from convnext.models.segmentation.build import build_segmenter
from convnext.models.segmentation.config import SegmenterConfig
from convnext.models.segmentation.sliding_window import AugmentedImage, SlidingWindow, segment_tta, spans, tiles

K = 5


def network() -> Any:
    torch.manual_seed(0)
    backbone = ModelConfig("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8))
    model = build_segmenter(SegmenterConfig(backbone, num_classes=K, head="mlp", width=8, auxiliary_width=0))
    for value in (*model.parameters(), *(b for b in model.buffers() if b.is_floating_point())):
        value.data.uniform_(0.5, 1.5) if value.ndim == 1 else value.data.normal_(0, 0.5)
    return model.eval()


def prepare(images: Tensor) -> Tensor:
    return images.float() / 128 - 1


def picture(height: int, width: int, seed: int = 0) -> Tensor:
    coarse = torch.rand(1, 3, 6, 7, generator=torch.Generator().manual_seed(seed))
    return (F.interpolate(coarse, size=(height, width), mode="bilinear")[0] * 255).byte()


def slid(model: Any, image: Tensor, side: int, stride: int) -> Tensor:
    """mmsegmentation's slide_inference, written down once more from its rule."""
    _, height, width = image.shape
    total, count = torch.zeros(K, height, width), torch.zeros(height, width)
    for i in range(max(height - side + stride - 1, 0) // stride + 1):
        for j in range(max(width - side + stride - 1, 0) // stride + 1):
            y1, x1 = min(i * stride + side, height), min(j * stride + side, width)
            y0, x0 = max(y1 - side, 0), max(x1 - side, 0)
            total[:, y0:y1, x0:x1] += model(prepare(image[None, :, y0:y1, x0:x1]))[0]
            count[y0:y1, x0:x1] += 1
    return total / count


@pytest.mark.parametrize(
    ("length", "side", "stride", "expected"),
    [
        (100, 0, 10, [(0, 100)]),
        (100, 128, 85, [(0, 100)]),
        (128, 128, 85, [(0, 128)]),
        (129, 128, 85, [(0, 128), (1, 129)]),
        (213, 128, 85, [(0, 128), (85, 213)]),
        (214, 128, 85, [(0, 128), (85, 213), (86, 214)]),
        (683, 512, 341, [(0, 512), (171, 683)]),
    ],
)
def test_windows_along_a_side(length: int, side: int, stride: int, expected: list[tuple[int, int]]) -> None:
    assert spans(length, side, stride) == expected


@pytest.mark.parametrize("size", [(1, 1), (7, 13), (100, 3), (64, 64), (33, 1000)])
@pytest.mark.parametrize("pixels", [1, 10, 50, 700, 10**6])
def test_tiles_cover_a_picture_once_and_are_small_enough(size: tuple[int, int], pixels: int) -> None:
    seen = torch.zeros(size, dtype=torch.int64)
    for y0, y1, x0, x1 in tiles(size, pixels):
        seen[y0:y1, x0:x1] += 1
        assert (y1 - y0) * (x1 - x0) <= pixels
    assert (seen == 1).all()


@torch.inference_mode()
@pytest.mark.parametrize("size", [(70, 90), (64, 64), (40, 100), (130, 65)])
def test_sliding_is_mmsegmentations(size: tuple[int, int]) -> None:
    model, image = network(), picture(*size)
    for batch in (1, 3):
        found = segment_tta(
            model, [AugmentedImage(image, False)], size, window=SlidingWindow(64, 43, batch), prepare=prepare
        )
        assert torch.equal(found, slid(model, image, 64, 43).argmax(0).byte())
        assert found.dtype == torch.uint8


@torch.inference_mode()
def test_the_whole_at_its_size_and_resized() -> None:
    model, image = network(), picture(64, 96)
    whole = segment_tta(model, [AugmentedImage(image, False)], (64, 96), window=SlidingWindow(0, 1), prepare=prepare)
    logits = model(prepare(image[None]))
    assert torch.equal(whole, logits[0].argmax(0).byte())
    larger = segment_tta(model, [AugmentedImage(image, False)], (100, 151), window=SlidingWindow(0, 1), prepare=prepare)
    resized = F.interpolate(logits, size=(100, 151), mode="bilinear", align_corners=False)
    assert torch.equal(larger, resized[0].argmax(0).byte())


@torch.inference_mode()
def test_views_are_judged_together() -> None:
    model, original = network(), (60, 80)
    views = [AugmentedImage(picture(*size), mirrored) for size in ((64, 96), (96, 128)) for mirrored in (False, True)]
    found = segment_tta(model, views, original, window=SlidingWindow(64, 43), prepare=prepare)
    mean = torch.zeros(K, *original)
    for image, mirrored in views:
        logits = slid(model, image.flip(2) if mirrored else image, 64, 43)[None]
        logits = F.interpolate(logits, size=original, mode="bilinear", align_corners=False)[0]
        mean += (logits.flip(2) if mirrored else logits).softmax(0)
    assert torch.equal(found, mean.argmax(0).byte())


@torch.inference_mode()
@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize(
    ("seen", "original"), [((150, 170), (150, 170)), ((100, 130), (170, 210)), ((170, 210), (90, 70))]
)
def test_tiles_change_nothing(
    seen: tuple[int, int], original: tuple[int, int], mirrored: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, image, counts = network(), picture(*seen), []
    views = [AugmentedImage(image, mirrored), AugmentedImage(picture(80, 81, seed=1), not mirrored)]

    def small(size: tuple[int, int], pixels: int) -> list[tuple[int, int, int, int]]:
        found = list(tiles(size, 2000))
        counts.append(len(found))
        return found

    for some in (views[:1], views):
        whole = segment_tta(model, some, original, window=SlidingWindow(64, 43), prepare=prepare)
        with monkeypatch.context() as patch:
            patch.setattr(windows_room, "tiles", small)
            parts = segment_tta(model, some, original, window=SlidingWindow(64, 43), prepare=prepare)
        assert float((parts != whole).float().mean()) < 1e-3  # where logits are equal but for rounding, at most
    assert min(counts) > 3


@torch.inference_mode()
def test_memory_stays_within_its_bound() -> None:
    """The largest tensors of logits, whatever the picture's size, with a network that has none of its own."""

    class Flat(torch.nn.Module):
        num_classes = 50

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, images: Tensor) -> Tensor:
            return images[:, :1].expand(-1, 50, -1, -1).contiguous()

    largest = 0

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for one in out if isinstance(out, (tuple, list)) else [out]:
                if isinstance(one, Tensor) and one.is_floating_point():
                    largest = max(largest, one.untyped_storage().nbytes())
            return out

    image = picture(600, 700)
    views = [AugmentedImage(image, False), AugmentedImage(image, True)]
    with Watch():
        found = segment_tta(
            Flat(),  # type: ignore[arg-type]
            views,
            (600, 700),
            window=SlidingWindow(64, 43),
            prepare=prepare,
            megabytes=8,
        )
    assert found.shape == (600, 700)
    assert 0.2 * 2**20 < largest <= 8 * 2**20 / 4 * 1.3  # a quarter each of four copies, and a row and a column more
