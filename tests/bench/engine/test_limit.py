"""The matrix products hold every multiply-accumulate of the model, and none more."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convnext.bench.engine.cells import Cell, Settings
from convnext.bench.engine.limit import LimitJob, Product, _plain, macs_per_second, matrix_products
from convnext.bench.engine.timing import GivenUp
from convnext.models.create import count_macs, create_model


def meta(name: str) -> nn.Module:
    with torch.device("meta"):
        return create_model(name)


@pytest.mark.parametrize("name", ["convnext_atto", "convnext_tiny", "convnextv2_tiny", "convnext_isotropic_small"])
@pytest.mark.parametrize(("batch", "size"), [(1, 224), (3, 64)])
def test_inference(name: str, batch: int, size: int) -> None:
    model = meta(name)
    found = matrix_products(model, batch=batch, size=size, work="forward")
    # The convolutions' one product has a whole number of rows: less than one row is lost or added.
    assert sum(p.macs for p in found) == pytest.approx(batch * count_macs(model, size), abs=512**2)
    layers = [m for m in model.modules() if isinstance(m, nn.Linear)]
    assert len(found) == len(layers) + 1
    assert [(p.inner, p.outer) for p in found if p.own_weights] == [(m.in_features, m.out_features) for m in layers]


def test_by_hand() -> None:
    """Stem 4x4 of 3 channels to 8 on 2 x 2 patches, two blocks' worth of shapes below."""
    model = nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.Conv2d(8, 8, 7, padding=3, groups=8), _Last(), nn.Linear(8, 32))
    model = model.to("meta")
    convolved = 5 * 4 * (8 * 48) + 5 * 4 * (8 * 49)  # batch 5, 4 places: dense 3 * 16, depthwise 49
    forward = matrix_products(model, batch=5, size=8, work="forward")
    assert forward[0] == Product(5 * 4, 8, 32, own_weights=True)
    assert forward[1].macs == pytest.approx(convolved, abs=64)
    train = matrix_products(model, batch=5, size=8, work="train")
    assert train[0] == forward[0]
    assert train[1].macs == pytest.approx(3 * convolved - 5 * 4 * 8 * 48, abs=64)  # no gradient of the image
    assert train[2:] == [Product(5 * 4, 32, 8), Product(32, 5 * 4, 8)]


class _Last(nn.Module):
    """Channels last, for a linear layer."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.permute(0, 2, 3, 1)


def test_training_is_three_times_inference_but_for_the_first_layer() -> None:
    model = meta("convnext_tiny")
    forward = sum(p.macs for p in matrix_products(model, batch=2, size=96, work="forward"))
    train = sum(p.macs for p in matrix_products(model, batch=2, size=96, work="train"))
    stem = 2 * 24 * 24 * 96 * 48
    assert train == pytest.approx(3 * forward - stem, abs=4 * 512**2)


def test_a_limit_that_takes_too_long_is_given_up() -> None:
    job = LimitJob(Cell("convnext_atto", "float32", 1, "forward"), Settings(size=32), max_seconds=1e-6)
    job.build()
    with pytest.raises(GivenUp):
        job.choose()


def test_the_job_runs_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is timed is as many multiply-accumulates as the model's, counted by torch."""
    from torch.utils.flop_counter import FlopCounterMode

    job = LimitJob(Cell("convnext_atto", "float32", 2, "forward"), Settings(size=64, seconds=0.01, rounds=1))
    job.check()
    job.build()
    choice = job.choose()
    assert choice.failed == {}
    job.prepare(choice)
    assert job.slice() > 0
    run = job._build(_plain)
    with FlopCounterMode(display=False) as counter:
        run()
    assert counter.get_total_flops() // 2 == pytest.approx(2 * count_macs(meta("convnext_atto"), 64), abs=512**2)


def test_probe() -> None:
    assert 1e8 < macs_per_second(Settings()) < 1e15
