"""The depthwise convolution is torch's, and so are its gradients, whichever way the filters' is computed.

B batch, C channels, H W space, k kernel size.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd

from convnext.ops import depthwise
from convnext.ops.depthwise import DepthwiseConv2d, filter_gradient

x86 = pytest.mark.skipif(not depthwise._HERE, reason="the faster gradient is for x86 processors with oneDNN")


def case(kernel: int, stride: int, dilation: int, shape: tuple[int, int]) -> tuple[DepthwiseConv2d, Tensor]:
    torch.manual_seed(0)
    conv = DepthwiseConv2d(6, kernel, stride=stride, padding=kernel // 2 * dilation, dilation=dilation).double()
    return conv.train(), torch.randn(3, 6, *shape, dtype=torch.float64, requires_grad=True)


def gradients(y: Tensor, x: Tensor, conv: nn.Conv2d) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(1)
    above = torch.randn(y.shape, generator=generator, dtype=torch.float64).to(y.dtype)
    return torch.autograd.grad(y, [x, *conv.parameters()], above)


@pytest.mark.parametrize("shape", [(16, 16), (13, 9), (4, 30)])
@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (3, 1), (1, 2), (2, 2)])
@pytest.mark.parametrize("kernel", [3, 5, 7, 11])
def test_result_and_gradients_are_those_of_torch(kernel, stride, dilation, shape):
    conv, x = case(kernel, stride, dilation, shape)
    y = conv(x)
    expected = F.conv2d(x, conv.weight, conv.bias, stride, kernel // 2 * dilation, dilation, 6)
    assert torch.equal(y, expected)
    for given, theirs in zip(gradients(y, x, conv), gradients(expected, x, conv), strict=True):
        torch.testing.assert_close(given, theirs, rtol=1e-10, atol=1e-10)


def test_filter_gradient_by_hand():
    """One channel, a 3x3 filter on a 3x3 map: the gradient of place (i, j) sums x there times the gradient above."""
    x = torch.arange(9.0).reshape(1, 1, 3, 3)
    above = torch.zeros(1, 1, 3, 3)
    above[0, 0, 1, 1] = 2.0  # the middle output sees every input under its own place
    assert torch.equal(filter_gradient(x, above, 3, stride=1, padding=1, dilation=1), 2 * x)
    above = torch.zeros(1, 1, 3, 3)
    above[0, 0, 0, 0] = 1.0  # the corner sees the padding, and four inputs
    expected = torch.tensor([[0.0, 0, 0], [0, 0, 1], [0, 3, 4]]).reshape(1, 1, 3, 3)
    assert torch.equal(filter_gradient(x, above, 3, stride=1, padding=1, dilation=1), expected)


@x86
def test_when_it_is_used():
    """In training, with large filters on maps of a middle size; the rest is torch's own."""

    def way(conv: DepthwiseConv2d, x: Tensor) -> str:
        return type(conv(x).grad_fn).__name__

    conv, x = case(7, 1, 1, (8, 8))
    assert "_Depthwise" in way(conv, x)
    assert "_Depthwise" not in way(conv.eval(), x)
    conv.train()
    assert "_Depthwise" not in way(conv, x[..., :3])  # maps of 2 and 3 pixels
    assert "_Depthwise" not in way(case(3, 1, 1, (8, 8))[0], x)
    conv.weight.requires_grad_(False)  # frozen filters need no gradient
    assert "_Depthwise" not in way(conv, x)
    with torch.no_grad():
        assert not conv(x).requires_grad


@x86
@pytest.mark.parametrize(("of_x", "of_bias"), [(False, True), (True, False)])
def test_only_what_is_asked_for(of_x, of_bias):
    conv, x = case(5, 1, 1, (8, 8))
    x = x.detach().requires_grad_(of_x)
    assert conv.bias is not None
    conv.bias.requires_grad_(of_bias)
    conv(x).sum().backward()
    assert (x.grad is not None, conv.bias.grad is not None) == (of_x, of_bias)
    assert conv.weight.grad is not None


def test_without_bias():
    conv = DepthwiseConv2d(4, 5, padding=2, bias=False).train()
    x = torch.randn(2, 4, 8, 8, requires_grad=True)
    plain = nn.Conv2d(4, 4, 5, padding=2, groups=4, bias=False)
    plain.load_state_dict(conv.state_dict())
    for given, theirs in zip(gradients(conv(x), x, conv), gradients(plain(x), x, plain), strict=True):
        torch.testing.assert_close(given, theirs, rtol=1e-4, atol=1e-5)


def test_autocast():
    """In bfloat16 the result has that type, and gradients the parameters' own, near those of float32."""
    torch.manual_seed(0)
    conv, x = DepthwiseConv2d(8, 7, padding=3).train(), torch.randn(4, 8, 14, 14, requires_grad=True)
    expected = gradients(conv(x), x, conv)
    with torch.autocast("cpu", torch.bfloat16):
        y = conv(x)
    assert y.dtype == torch.bfloat16
    for given, theirs in zip(gradients(y, x, conv), expected, strict=True):
        assert given.dtype == torch.float32
        assert (given - theirs).norm() / theirs.norm() < 0.02


def test_many_images_sum_in_float32():
    """A bfloat16 gradient over many images is rounded once, not image by image."""
    x, above = torch.full((4096, 1, 5, 5), 0.25), torch.ones(4096, 1, 5, 5)
    expected = filter_gradient(x.double(), above.double(), 5, stride=1, padding=2, dilation=1)
    given = filter_gradient(x.bfloat16(), above.bfloat16(), 5, stride=1, padding=2, dilation=1)
    assert ((given.double() - expected).abs() / expected).max() < 2**-7


@x86
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_gradient_lies_as_the_filters_do(layout):
    """Else DDP copies it, and warns."""
    conv, x = case(7, 1, 1, (16, 16))
    conv(x.detach().contiguous(memory_format=layout)).sum().backward()
    assert conv.weight.grad is not None
    assert conv.weight.grad.stride() == conv.weight.stride() == (49, 49, 7, 1)


@x86
def test_a_compiler_leaves_it_as_it_is():
    """One operator in the compiled backward pass, whose convolution no compiler lays out anew; the same gradients."""
    conv, x = case(7, 1, 1, (8, 8))
    found: list[str] = []

    def compiled(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        found.extend(str(node.target) for node in graph.graph.nodes if node.op == "call_function")
        return make_boxed_func(graph.forward)

    run = torch.compile(conv, backend=aot_autograd(fw_compiler=compiled, bw_compiler=compiled))
    for given, theirs in zip(gradients(run(x), x, conv), gradients(conv(x), x, conv), strict=True):
        assert torch.equal(given, theirs)
    assert found.count("convnext.depthwise_filter_gradient.default") == 1
    assert sum("convolution" in name for name in found) == 2  # the layer itself, and the gradient of its input


def test_what_a_compiler_is_told_of_it_is_true():
    x = torch.randn(2, 3, 9, 9).to(memory_format=torch.channels_last)
    above = torch.randn(2, 3, 5, 5)
    torch.library.opcheck(
        torch.ops.convnext.depthwise_filter_gradient.default,
        (x, above, 7),
        {"stride": 2, "padding": 3, "dilation": 1},
    )


@x86
def test_gradients_of_gradients():
    conv, _ = case(5, 1, 1, (4, 4))
    torch.manual_seed(0)
    x = torch.randn(1, 6, 4, 4, dtype=torch.float64, requires_grad=True)

    def run(x: Tensor, weight: Tensor) -> Tensor:
        return torch.func.functional_call(conv, {"weight": weight}, x)

    weight = torch.randn(6, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, weight), fast_mode=True)
    assert torch.autograd.gradgradcheck(run, (x, weight), fast_mode=True)


@x86
def test_gradients_of_each_image():
    """Through torch.func: a gradient of its own for every image."""
    conv, x = case(7, 1, 1, (8, 8))
    parameters = {name: value.detach() for name, value in conv.named_parameters()}

    def loss(given: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(conv, given, image[None]).square().sum()

    apart = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x.detach())
    for i in range(3):
        alone = torch.func.grad(loss)(parameters, x[i].detach())
        for name, value in alone.items():
            torch.testing.assert_close(apart[name][i], value, rtol=1e-10, atol=1e-10)
    conv.zero_grad()
    conv(x).square().sum().backward()
    assert conv.weight.grad is not None
    torch.testing.assert_close(apart["weight"].sum(0), conv.weight.grad, rtol=1e-10, atol=1e-10)


def test_names_and_copies():
    conv = DepthwiseConv2d(4, 7, padding=3)
    assert {name: tuple(value.shape) for name, value in conv.state_dict().items()} == {
        "weight": (4, 1, 7, 7),
        "bias": (4,),
    }
    x = torch.randn(1, 4, 8, 8)
    assert torch.equal(copy.deepcopy(conv)(x), conv(x))


def test_elsewhere(monkeypatch):
    """On another processor it is torch's own."""
    conv, x = case(7, 1, 1, (8, 8))
    monkeypatch.setattr(depthwise, "_HERE", False)
    assert "_Depthwise" not in conv(x).grad_fn.name()  # type: ignore[union-attr]
