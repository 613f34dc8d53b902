"""torch.compile: each block compiled on its own, as training does it, and the whole model at once."""

from __future__ import annotations

import shutil

import pytest
import torch
from kinds import V2, build, difference, image, randomise
from torch import nn

from convnext.models.layers import DropPath


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs g++ on the CPU")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # torch's own, in some versions
@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_compiled_blocks_give_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("torch._inductor.config.compile_threads", 1)
    plain = randomise(build(V2))
    model = randomise(build(V2))
    block = model.block_list()[0]
    nn.Module.compile(block, fullgraph=True)
    torch.compiler.reset()
    x = image(2, 3, 32)
    expected, given = plain(x), model(x)
    assert difference(given.detach(), expected.detach()) < 1e-5
    assert list(model.state_dict()) == list(plain.state_dict())  # no `_orig_mod.` where blocks are compiled in place
    for m in (plain, model):
        m(x).square().sum().backward()
    for (name, given_grad), expected_grad in zip(model.named_parameters(), plain.parameters(), strict=True):
        assert given_grad.grad is not None
        assert expected_grad.grad is not None
        assert difference(given_grad.grad, expected_grad.grad) < 1e-4, name


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("training", [False, True])
def test_one_graph(training):
    """Traced without a break, drop path included (the graph is run as it is: no compiler needed)."""
    torch.compiler.reset()
    model = randomise(build(V2, drop_path_rate=0.3)).train(training)
    assert any(isinstance(module, DropPath) and module.rate > 0 for module in model.modules())
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    x = image(2, 3, 32)
    torch.manual_seed(0)
    expected = model(x)
    torch.manual_seed(0)
    assert difference(compiled(x).detach(), expected.detach()) < 1e-6
