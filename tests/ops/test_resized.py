"""A convolution over a resized map, without resizing it first."""

from __future__ import annotations

import pytest
import torch

from convnext.ops.resize_conv import conv_of_resized, conv_of_resized_reference

CONFIGS = [
    ((4, 6), (8, 12)),
    ((3, 5), (12, 20)),
    ((2, 2), (16, 16)),
    ((5, 7), (9, 16)),
    ((1, 1), (8, 9)),
    ((7, 6), (7, 6)),
]


@pytest.mark.parametrize(("given", "size"), CONFIGS)
def test_it_is_the_reference(given: tuple[int, int], size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 5, *given, requires_grad=True), torch.randn(4, 5, 3, 3, requires_grad=True)
    expected, found = conv_of_resized_reference(x, weight, size), conv_of_resized(x, weight, size)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    falling = torch.randn_like(expected)
    theirs = torch.autograd.grad(expected, (x, weight), falling)
    ours = torch.autograd.grad(found, (x, weight), falling)
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_in_double_precision_it_is_exact() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(1, 3, 4, 5, dtype=torch.float64), torch.randn(2, 3, 3, 3, dtype=torch.float64)
    off = conv_of_resized(x, weight, (7, 11)) - conv_of_resized_reference(x, weight, (7, 11))
    assert float(off.abs().max()) < 1e-13


def test_other_layouts_and_bfloat16() -> None:
    torch.manual_seed(0)
    x, weight = torch.randn(2, 8, 4, 4), torch.randn(4, 8, 3, 3)
    expected = conv_of_resized_reference(x, weight, (8, 8))
    last = conv_of_resized(x.contiguous(memory_format=torch.channels_last), weight, (8, 8))
    torch.testing.assert_close(last, expected, rtol=1e-5, atol=1e-5)
    half = conv_of_resized(x.bfloat16(), weight.bfloat16(), (8, 8))
    assert half.dtype == torch.bfloat16
    assert float((half.float() - expected).abs().max() / expected.abs().max()) < 0.02
