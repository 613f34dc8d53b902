"""Seeds as pure functions, and generator states stored and put back."""

from __future__ import annotations

import itertools
import random

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from convnext.core.seeding import capture_rng, mix_seed, restore_rng, seed_everything

whole = st.integers(-(1 << 63), (1 << 63) - 1)


@given(st.lists(whole, max_size=4))
def test_range_and_repetition(parts):
    seed = mix_seed(*parts)
    assert 0 <= seed < 1 << 63  # what torch.Generator.manual_seed and random.Random take
    assert mix_seed(*parts) == seed
    torch.Generator().manual_seed(seed)


def test_known_values():
    """The same on every machine and for ever: runs are resumed elsewhere."""
    assert mix_seed(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF >> 1  # splitmix64's published first value
    assert [mix_seed(0), mix_seed(1)] == [3980143261097177850, 8417223528544944484]
    assert [mix_seed(0, 0), mix_seed(1, 2, 3)] == [2547805098422156800, 2623250113353451629]


def test_no_collisions():
    """Small (seed, epoch, index), as a training has them, and shorter ones: all different."""
    seeds = [mix_seed(*parts) for parts in itertools.product(range(40), repeat=3)]
    seeds += [mix_seed(*parts) for parts in itertools.product(range(40), repeat=2)]
    seeds += [mix_seed(part) for part in range(-2000, 2000)]
    assert len(set(seeds)) == len(seeds) == 64000 + 1600 + 4000


def test_distribution():
    """Every bit is set half of the time, and a step of one in any part changes half of the bits."""
    seeds = np.array([mix_seed(s, e, i) for s in range(10) for e in range(10) for i in range(100)], dtype=np.uint64)
    bits = (seeds[:, None] >> np.arange(63, dtype=np.uint64)) & np.uint64(1)
    assert np.abs(bits.mean(0) - 0.5).max() < 0.025  # five standard deviations of 10,000 coins
    for step in ((1, 0, 0), (0, 1, 0), (0, 0, 1)):
        near = [(mix_seed(3, 4, i), mix_seed(3 + step[0], 4 + step[1], i + step[2])) for i in range(1000)]
        changed = np.mean([(a ^ b).bit_count() for a, b in near])
        assert abs(changed - 31.5) < 0.7


def test_order_counts():
    assert mix_seed(1, 2) != mix_seed(2, 1)
    assert mix_seed(0) != mix_seed(0, 0)


def draws():
    return torch.rand(4).tolist(), np.random.rand(4).tolist(), random.random()  # noqa: NPY002 - the global generator


def test_seed_everything():
    seed_everything(5)
    first = draws()
    seed_everything(6)
    other = draws()
    seed_everything(5)
    assert draws() == first
    assert all(a != b for a, b in zip(first, other, strict=True))
    seed_everything(mix_seed(1, 2, 3))  # larger than NumPy's seeds


def test_capture_and_restore(tmp_path):
    seed_everything(1)
    torch.rand(3)
    torch.save(capture_rng(), tmp_path / "state.pt")
    first = torch.randn(5), torch.randperm(10)
    torch.rand(100)
    restore_rng(torch.load(tmp_path / "state.pt", weights_only=True))  # plain tensors: safe to read
    again = torch.randn(5), torch.randperm(10)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_captured_state_is_a_copy():
    state = capture_rng()
    before = state["torch"].clone()
    torch.rand(10)
    assert torch.equal(state["torch"], before)
