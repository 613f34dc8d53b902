"""torch.compile: each block compiled on its own, as training does it, and the whole model at once."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch
import torch.fx
from kinds import V1, V2, ZEPTO, build, difference, image, randomise

from convnext.models.layers import DropPath

# torch's own, in some versions
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning"),
]


@pytest.mark.slow
@torch.no_grad()
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on the CPU")
def test_compiled_block_gives_the_same(monkeypatch):
    """Through the real compiler: one block, forward, for the compiler takes seconds."""
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    torch.compiler.reset()
    plain, model = randomise(build(V2)), randomise(build(V2))
    model.block_list()[0].compile(fullgraph=True)
    assert difference(model(image()), plain(image())) < 1e-5
    assert list(model.state_dict()) == list(plain.state_dict())  # compiled in place: no `_orig_mod.`


def test_compiled_gradients_are_the_same():
    """The compiler's forward and backward graphs of two blocks, run as they are."""
    torch.compiler.reset()
    plain, model = randomise(build(V2)), randomise(build(V2))
    for block in model.block_list()[1:3]:  # the last of a stage and the first of the next
        block.compile(fullgraph=True, backend="aot_eager")
    for m in (plain, model):
        m(image()).square().sum().backward()
    for (name, given), expected in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert given.grad is not None
        assert expected.grad is not None
        assert difference(given.grad, expected.grad) < 1e-4, name


@pytest.mark.parametrize("size", [V2, ZEPTO])
@pytest.mark.parametrize("training", [False, True])
def test_one_graph(size, training):
    """Traced without a break, drop path included (the graph is run as it is: no compiler needed)."""
    torch.compiler.reset()
    model = randomise(build(size, drop_path_rate=0.3)).train(training)
    assert any(isinstance(module, DropPath) and module.rate > 0 for module in model.modules())
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = image(2, 3, 32)
    torch.manual_seed(0)
    expected = model(x)
    torch.manual_seed(0)
    assert difference(compiled(x).detach(), expected.detach()) < 1e-6


@torch.no_grad()
@pytest.mark.parametrize("trace", [torch.fx.symbolic_trace, lambda model: torch.jit.trace(model, image(1))])
def test_traced(trace):
    """The check of the input is no part of a traced model."""
    model = randomise(build(V1))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.trace is deprecated
        traced = trace(model)
    assert torch.equal(traced(image()), model(image()))
