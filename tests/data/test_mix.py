"""Batches on the device: normalising, erasing, mixing; by hand and against timm."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from convnext.data.config import InputConfig, MixConfig
from convnext.data.mix import blend, cut_box, draw, erase, mix, prepare, smoothed


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_prepare_by_hand():
    images = torch.tensor([0, 128, 255], dtype=torch.uint8).reshape(1, 3, 1, 1).expand(2, 3, 4, 5)
    result = prepare(images, InputConfig(mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 2.0)))
    assert (result.shape, result.dtype) == ((2, 3, 4, 5), torch.float32)
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result[1, :, 2, 3], torch.tensor([-1.0, (128 / 255 - 0.25) / 0.25, 0.5]))


def test_prepare_in_evaluation_first_serves_training_too():
    config = InputConfig(mean=(0.1, 0.2, 0.3))  # constants of its own, made here first
    images = torch.zeros((1, 3, 4, 4), dtype=torch.uint8)
    with torch.inference_mode():
        prepare(images, config)
    weight = torch.ones(3, 3, 1, 1, requires_grad=True)
    torch.nn.functional.conv2d(prepare(images, config), weight).sum().backward()
    assert weight.grad is not None


def boxes(images: torch.Tensor) -> list[tuple[int, int, int, int] | None]:
    """Where images that were zero have been erased; checks that it is a full rectangle."""
    found = []
    for image in images:
        touched = (image != 0).all(0)
        if not touched.any():
            found.append(None)
            continue
        ys, xs = torch.nonzero(touched, as_tuple=True)
        box = int(ys.min()), int(ys.max()) + 1, int(xs.min()), int(xs.max()) + 1
        assert int(touched.sum()) == (box[1] - box[0]) * (box[3] - box[2])
        assert not (image != 0).any(0)[~touched].any()
        found.append(box)
    return found


def test_erasing_has_the_documented_chances():
    images = torch.zeros(1500, 3, 32, 32)
    assert erase(images, 0.25, seeded(0)) is images
    found = [box for box in boxes(images) if box is not None]
    assert len(found) / 1500 == pytest.approx(0.25, abs=0.03)
    heights = np.array([box[1] - box[0] for box in found])
    widths = np.array([box[3] - box[2] for box in found])
    shares = heights * widths / 1024
    assert 0.01 < shares.min() < 0.05
    assert 0.28 < shares.max() < 0.37
    assert heights.max() < 32 > widths.max()
    assert np.log(heights / widths).mean() == pytest.approx(0, abs=0.12)
    assert np.abs(np.log(heights / widths)).max() < np.log(1 / 0.3) + 0.3
    noise = images[images != 0]
    assert float(noise.mean()) == pytest.approx(0, abs=0.02)
    assert float(noise.std()) == pytest.approx(1, abs=0.02)


def test_erasing_is_a_pure_function_of_the_generator():
    results = []
    for scramble in (1, 2):
        torch.manual_seed(scramble)
        random.seed(scramble)
        results.append(erase(torch.zeros(8, 3, 16, 16), 0.9, seeded(4)))
    assert torch.equal(*results)
    assert not torch.equal(results[0], erase(torch.zeros(8, 3, 16, 16), 0.9, seeded(5)))
    assert not torch.equal(results[0][0], results[0][1])


def test_erasing_none_and_the_tiniest():
    generator = seeded(0)
    state = generator.get_state()
    assert int(erase(torch.zeros(4, 3, 8, 8), 0.0, generator).count_nonzero()) == 0
    assert torch.equal(generator.get_state(), state)
    assert int(erase(torch.zeros(4, 3, 1, 1), 1.0, generator).count_nonzero()) == 0  # no rectangle is smaller


def test_smoothed_by_hand():
    expected = torch.tensor([[0.025, 0.025, 0.925, 0.025], [0.925, 0.025, 0.025, 0.025]])
    torch.testing.assert_close(smoothed(torch.tensor([2, 0]), 4, 0.1), expected)
    assert smoothed(torch.tensor([1]), 3, 0.0).tolist() == [[0, 1, 0]]


def test_mixup_by_hand():
    images = torch.tensor([1.0, 2.0, 10.0]).reshape(3, 1, 1, 1).repeat(1, 3, 2, 2)
    mixed, soft = blend(images, smoothed(torch.tensor([0, 1, 2]), 3, 0.0), 0.75, None)
    torch.testing.assert_close(mixed[:, 0, 0, 0], torch.tensor([3.25, 2.0, 7.75]))  # the middle one with itself
    torch.testing.assert_close(soft, torch.tensor([[0.75, 0, 0.25], [0, 1, 0], [0.25, 0, 0.75]]))


def test_cutmix_by_hand():
    images = torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1).repeat(1, 3, 4, 4)
    mixed, soft = blend(images, smoothed(torch.tensor([0, 1]), 2, 0.0), 0.875, (1, 3, 3, 4))
    expected = torch.ones(4, 4)
    expected[1:3, 3] = 2
    assert torch.equal(mixed[0, 1], expected)
    assert torch.equal(mixed[1, 2], 3 - expected)
    torch.testing.assert_close(soft, torch.tensor([[0.875, 0.125], [0.125, 0.875]]))


@pytest.mark.parametrize("cutmix", [False, True])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.63, 1.0])
def test_blending_is_timms(monkeypatch, cutmix, share):
    from timm.data import mixup as timm_mixup

    box = (2, 7, 1, 9)
    corrected = 1 - 40 / 120 if cutmix else share
    theirs = timm_mixup.Mixup(mixup_alpha=1.0, cutmix_alpha=1.0, label_smoothing=0.1, num_classes=5)
    monkeypatch.setattr(theirs, "_params_per_batch", lambda: (share, cutmix))
    monkeypatch.setattr(timm_mixup, "rand_bbox", lambda *_, **__: box)
    images, targets = torch.randn(6, 3, 10, 12, generator=seeded(0)), torch.tensor([0, 1, 2, 3, 4, 0])
    expected, expected_soft = theirs(images.clone(), targets)
    drawn = (corrected, box if cutmix else None) if share != 1 else (1.0, None)
    ours, soft = blend(images.clone(), smoothed(targets, 5, 0.1), *drawn)
    torch.testing.assert_close(ours, expected)
    torch.testing.assert_close(soft, expected_soft)


def test_boxes_are_timms(monkeypatch):
    from timm.data import mixup as timm_mixup

    chance, points = random.Random(0), random.Random(0)
    monkeypatch.setattr(np.random, "randint", lambda low, high, size=None: points.randrange(high))
    for share in (0.0, 0.03, 0.4, 0.9, 1.0) * 20:
        left, box = cut_box(30, 17, share, chance)
        their_box, their_share = timm_mixup.cutmix_bbox_and_lam((3, 30, 17), share)
        assert box == tuple(int(edge) for edge in their_box)
        assert left == pytest.approx(float(their_share))


def test_draws_have_the_documented_chances():
    chance = random.Random(0)
    draws = [draw(32, 32, MixConfig(mixup=0.8, cutmix=1.0, prob=0.8, switch_prob=0.25), chance) for _ in range(4000)]
    none = sum(share == 1 and box is None for share, box in draws) / 4000
    cut = sum(box is not None for _, box in draws) / 4000
    assert none == pytest.approx(0.2, abs=0.02)
    assert cut == pytest.approx(0.2, abs=0.02)
    shares = np.array([share for share, box in draws if box is None and share < 1])
    assert shares.mean() == pytest.approx(0.5, abs=0.02)
    assert shares.var() == pytest.approx(1 / (4 * (2 * 0.8 + 1)), abs=0.01)  # the variance of Beta(0.8, 0.8)
    only_cut = [draw(8, 8, MixConfig(mixup=0, cutmix=1.0, prob=1.0), chance)[1] for _ in range(50)]
    only_mix = [draw(8, 8, MixConfig(mixup=0.8, cutmix=0, prob=1.0), chance)[1] for _ in range(50)]
    assert None not in only_cut
    assert set(only_mix) == {None}


@pytest.mark.parametrize("config", [MixConfig(), MixConfig(mixup=0, cutmix=0), MixConfig(prob=0), MixConfig(mixup=0)])
@pytest.mark.parametrize("batch", [1, 4, 5])
def test_soft_targets_always_come_and_sum_to_one(config, batch):
    targets = torch.arange(batch) % 3
    for seed in range(10):
        images, soft = mix(torch.randn(batch, 3, 8, 8), targets, num_classes=3, config=config, generator=seeded(seed))
        assert (images.shape, soft.shape, soft.dtype) == ((batch, 3, 8, 8), (batch, 3), torch.float32)
        torch.testing.assert_close(soft.sum(1), torch.ones(batch))


def test_no_mixing_leaves_images_alone():
    images = torch.randn(4, 3, 8, 8)
    config = MixConfig(mixup=0, cutmix=0, smoothing=0.0)
    same, soft = mix(images.clone(), torch.tensor([0, 1, 2, 0]), num_classes=3, config=config, generator=seeded(0))
    assert torch.equal(same, images)
    assert torch.equal(soft, torch.eye(3)[[0, 1, 2, 0]])


def test_mixing_is_a_pure_function_of_the_generator():
    images, targets = torch.randn(6, 3, 16, 16, generator=seeded(1)), torch.tensor([0, 1, 2, 0, 1, 2])

    def once(seed: int) -> torch.Tensor:
        return mix(images.clone(), targets, num_classes=3, config=MixConfig(), generator=seeded(seed))[0]

    results = [once(seed) for seed in range(6)]
    random.seed(5)
    torch.manual_seed(5)
    assert all(torch.equal(once(seed), results[seed]) for seed in range(6))
    assert not torch.equal(results[0], results[1])


def test_layout_is_kept():
    images = torch.randn(4, 3, 8, 8).contiguous(memory_format=torch.channels_last)
    for seed in range(4):
        mixed, _ = mix(
            erase(images, 0.5, seeded(seed)),
            torch.zeros(4, dtype=torch.int64),
            num_classes=2,
            config=MixConfig(),
            generator=seeded(seed),
        )
        assert mixed.is_contiguous(memory_format=torch.channels_last)
