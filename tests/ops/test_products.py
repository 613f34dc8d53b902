"""Products of bfloat16 on a processor without arithmetic for it: nearer to float32 than torch's, in the same types.

B batch, C channels, H W space.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from functorch.compile import make_boxed_func
from torch import Tensor, nn
from torch._dynamo.backends.common import aot_autograd

from convnext.models.create import create_model
from convnext.models.fuse import fuse
from convnext.ops import low_precision as products
from convnext.ops.depthwise import DepthwiseConv2d
from convnext.ops.low_precision import Conv2d, Linear, goes_through_float32

HALF = torch.bfloat16
PRODUCTS = ("convolution", "addmm", "aten.mm", "bmm")  # in the names of the operators that multiply
CASES = {  # a layer, torch's own of the same kind and weights, and the shape of an input
    "linear": (lambda: Linear(24, 10), lambda: nn.Linear(24, 10), (3, 5, 24)),
    "without bias": (lambda: Linear(24, 10, bias=False), lambda: nn.Linear(24, 10, bias=False), (3, 24)),
    "patches": (lambda: Conv2d(3, 8, 4, stride=4), lambda: nn.Conv2d(3, 8, 4, stride=4), (2, 3, 16, 16)),
    "padded": (
        lambda: Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False),
        lambda: nn.Conv2d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2, bias=False),
        (2, 4, 9, 12),
    ),
    "depthwise": (
        lambda: DepthwiseConv2d(8, 7, padding=3),
        lambda: nn.Conv2d(8, 8, 7, padding=3, groups=8),
        (2, 8, 9, 9),
    ),
}


@pytest.fixture(params=[True, False], ids=["no kernels", "kernels"])
def emulated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    """As if the processor were without, or with, kernels for bfloat16: both ways are taken on any machine."""
    monkeypatch.setattr(products, "_NO_KERNELS", request.param)
    return request.param


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_NO_KERNELS", True)


def case(name: str) -> tuple[nn.Module, nn.Module, Tensor]:
    """The layer and torch's, with the same random weights, and an input, all with values that bfloat16 has."""
    torch.manual_seed(0)
    layer, theirs, shape = CASES[name][0](), CASES[name][1](), CASES[name][2]
    with torch.no_grad():
        for mine, other in zip(layer.parameters(), theirs.parameters(), strict=True):
            other.copy_(mine.copy_(torch.randn(mine.shape).to(HALF)))
    return layer, theirs, torch.randn(shape).to(HALF)


def near(given: Tensor, expected: Tensor, ulps: float = 1.0) -> bool:
    """Within bfloat16's rounding (8 bits) of the largest value."""
    return bool((given.float() - expected.float()).abs().max() <= ulps * 2.0**-8 * expected.abs().max())


@torch.no_grad()
@pytest.mark.parametrize("name", CASES)
def test_inference_is_float32s_rounded_once(name: str, without: None) -> None:
    layer, theirs, x = case(name)
    given = layer.to(HALF)(x)
    assert given.dtype == HALF
    assert torch.equal(given, theirs(x.float()).to(HALF))


@pytest.mark.parametrize("name", CASES)
def test_results_and_gradients_in_the_operands_types(name: str, emulated: bool) -> None:
    layer, theirs, x = case(name)
    layer = layer.to(HALF).train()
    given, wide = x.clone().requires_grad_(), x.float().requires_grad_()
    y, expected = layer(given), theirs(wide)
    assert (y.dtype, y.shape) == (HALF, expected.shape)
    assert near(y, expected, ulps=2)
    above = torch.randn(y.shape).to(HALF)
    mine = torch.autograd.grad(y, [given, *layer.parameters()], above)
    others = torch.autograd.grad(expected, [wide, *theirs.parameters()], above.float())
    for a, b in zip(mine, others, strict=True):
        assert (a.dtype, a.shape) == (HALF, b.shape)
        assert near(a, b, ulps=4)


@pytest.mark.parametrize("name", CASES)
def test_under_autocast(name: str, emulated: bool) -> None:
    """float32 weights and gradients, results in bfloat16: as torch's layers have it."""
    layer, theirs, x = case(name)
    x = x.float().requires_grad_()
    with torch.autocast("cpu", HALF):
        y, expected = layer.train()(x), theirs(x)
    assert y.dtype == expected.dtype == HALF
    assert near(y, expected, ulps=2)
    for a, b in zip(
        torch.autograd.grad(y.float().square().sum(), [x, *layer.parameters()]),
        torch.autograd.grad(expected.float().square().sum(), [x, *theirs.parameters()]),
        strict=True,
    ):
        assert a.dtype == b.dtype == torch.float32
        assert near(a, b, ulps=4)


@pytest.mark.parametrize("name", CASES)
def test_float32_and_float64_are_torchs(name: str, emulated: bool) -> None:
    layer, theirs, x = case(name)
    for dtype in (torch.float32, torch.float64):
        assert torch.equal(layer.to(dtype)(x.to(dtype)), theirs.to(dtype)(x.to(dtype)))


def test_when_it_is_done(without: None, monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.zeros(2)
    half = x.to(HALF)
    assert goes_through_float32(half, half)
    assert not goes_through_float32(half, x)  # torch refuses that, and so it does here
    assert not goes_through_float32(x, x)
    assert not goes_through_float32(x.half(), x.half())
    assert not goes_through_float32(half.to("meta"), half.to("meta"))
    with torch.autocast("cpu", HALF):
        assert goes_through_float32(x, x)
        assert goes_through_float32(half, x)
        assert not goes_through_float32(x.double(), x.double())  # autocast leaves it alone
    with torch.autocast("cpu", torch.float16):
        assert not goes_through_float32(x, x)
    monkeypatch.setattr(products, "_NO_KERNELS", False)
    assert not goes_through_float32(half, half)


def test_types_that_differ_are_refused(emulated: bool) -> None:
    with pytest.raises(RuntimeError, match="same dtype"):
        Linear(4, 2)(torch.zeros(1, 4, dtype=HALF))


def test_padding_of_any_mode(emulated: bool) -> None:
    torch.manual_seed(0)
    layer = Conv2d(3, 4, 3, padding=1, padding_mode="circular").to(HALF)
    theirs = nn.Conv2d(3, 4, 3, padding=1, padding_mode="circular")
    theirs.load_state_dict(layer.state_dict())
    x = torch.randn(1, 3, 5, 6).to(HALF)
    assert near(layer(x), theirs(x.float()), ulps=2)


@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto", "convnext_isotropic_small"])
def test_no_product_of_a_model_is_left_to_loops(name: str, without: None) -> None:
    """Every convolution and linear layer but the classifier multiplies float32, forward and backward."""
    from torch.utils._python_dispatch import TorchDispatchMode

    slow: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            if any(word in str(func) for word in PRODUCTS):
                rows = [a for a in args if isinstance(a, Tensor) and a.dtype == HALF]
                if rows and not any(1000 in a.shape for a in args if isinstance(a, Tensor)):
                    slow.append(str(func))
            return func(*args, **(kwargs or {}))

    torch.manual_seed(0)
    model = create_model(name, num_classes=1000)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad(), Watch():
        fuse(model).to(HALF)(x.to(HALF))
    assert slow == []
    with Watch(), torch.autocast("cpu", HALF):
        loss = model.train()(x).float().square().mean()
    with Watch():
        loss.backward()
    assert slow == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["convnext_atto", "convnextv2_atto", "convnext_isotropic_small"])
def test_a_compiler_leaves_no_product_to_loops(name: str, without: None) -> None:
    """Under autocast, whose state a compiler takes along into the backward pass; gradients as without a compiler."""
    slow: list[str] = []
    graphs: list[torch.fx.GraphModule] = []

    def compiled(graph: torch.fx.GraphModule, _inputs: Any) -> Any:
        graphs.append(graph)
        for node in graph.graph.nodes:
            if any(word in str(node.target) for word in PRODUCTS):
                given = [n.meta["val"] for n in node.all_input_nodes]
                if any(value.dtype == HALF for value in given) and not any(1000 in value.shape for value in given):
                    slow.append(str(node.target))
        return make_boxed_func(graph.forward)

    torch.manual_seed(0)
    model = create_model(name, num_classes=1000).train()
    with torch.no_grad():
        for value in model.parameters():
            value.normal_(std=0.1)
    x = torch.randn(1, 3, 64, 64)
    found = []
    for run in (model, torch.compile(model, backend=aot_autograd(fw_compiler=compiled, bw_compiler=compiled))):
        with torch.autocast("cpu", HALF):
            loss = run(x).float().square().mean()
        found.append(torch.autograd.grad(loss, list(model.parameters())))
    assert len(graphs) == 2
    assert slow == []
    assert all(near(a, b, ulps=8) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (3, 24), (2, 3, 5, 24)])
def test_compiled_gradients_of_a_linear_layer(shape: tuple[int, ...], bias: bool, without: None) -> None:
    """Of any number of dimensions, as without a compiler."""
    torch.manual_seed(0)
    layer, x = Linear(24, 10, bias=bias), torch.randn(shape, requires_grad=True)
    found = []
    for run in (layer, torch.compile(layer, backend="aot_eager")):
        with torch.autocast("cpu", HALF):
            y = run(x)
        found.append((y, *torch.autograd.grad(y.float().square().sum(), [x, *layer.parameters()])))
    for a, b in zip(*found, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        assert near(a, b)


@torch.no_grad()
def test_a_model_is_no_farther_from_float32_than_with_torchs_layers(
    without: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = create_model("convnext_atto", num_classes=1000).eval()
    for value in model.parameters():
        value.normal_(std=0.1)
    half, x = copy.deepcopy(model).to(HALF), torch.randn(2, 3, 64, 64)
    model = copy.deepcopy(half).float()  # the same values
    expected = model(x.to(HALF).float())
    ours = (half(x.to(HALF)).float() - expected).square().mean()
    monkeypatch.setattr(products, "_NO_KERNELS", False)
    theirs = (half(x.to(HALF)).float() - expected).square().mean()
    assert ours < 1.1 * theirs


def test_compiled_and_exported(without: None) -> None:
    layer, theirs, x = case("depthwise")
    layer = layer.to(HALF).eval()
    exported = torch.export.export(layer, (x,)).module()
    with torch.no_grad():
        assert torch.equal(exported(x), theirs(x.float()).to(HALF))
        assert torch.equal(torch.compile(layer, backend="aot_eager")(x), theirs(x.float()).to(HALF))
