"""The running average: by hand, and that borrowing its weights gives the model's own back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from convnext.models.create import create_model
from convnext.training.ema import Ema
from convnext.training.parallel import parallelize


def filled(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1)
    nn.init.constant_(layer.weight, value)
    nn.init.constant_(layer.bias, value)
    return layer


def test_by_hand_without_warmup() -> None:
    layer = filled(0.0)
    ema = Ema(layer, decay=0.75, warmup=False)
    for step, value in enumerate((4.0, 8.0)):
        nn.init.constant_(layer.weight, value)
        ema.update(layer, step)
    assert ema.shadow["weight"].item() == pytest.approx((0.0 * 0.75 + 4 * 0.25) * 0.75 + 8 * 0.25)


def test_warmup_begins_with_a_short_horizon() -> None:
    ema = Ema(filled(0.0), decay=0.999)
    assert [ema.decay_at(step) for step in (0, 1, 90)] == pytest.approx([1 / 10, 2 / 11, 91 / 100])
    assert ema.decay_at(100_000) == 0.999


def test_the_average_is_float32_for_a_half_precision_model() -> None:
    layer = filled(1.0).to(torch.bfloat16)
    ema = Ema(layer, decay=0.9999, warmup=False)
    nn.init.constant_(layer.weight, 2.0)
    ema.update(layer, 0)
    assert ema.shadow["weight"].dtype == torch.float32
    assert ema.shadow["weight"].item() == pytest.approx(1.0001)  # would be lost in bfloat16


def test_buffers_are_averaged_or_copied() -> None:
    model = nn.BatchNorm1d(2)
    ema = Ema(model, decay=0.5, warmup=False)
    model(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    ema.update(model, 0)
    assert ema.shadow["num_batches_tracked"].item() == 1
    torch.testing.assert_close(ema.shadow["running_mean"], 0.5 * model.running_mean)


def test_applying_gives_the_models_own_weights_back_bit_for_bit() -> None:
    model = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=3)
    ema = Ema(model, decay=0.9)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    own = {name: value.clone() for name, value in model.state_dict().items()}
    with ema.applied_to(model):
        assert not torch.equal(model.head.weight, own["head.weight"])
    assert all(torch.equal(value, own[name]) for name, value in model.state_dict().items())


def test_an_interrupted_evaluation_gives_the_models_own_weights_back() -> None:
    model, seen = filled(1.0), []
    ema = Ema(filled(5.0), decay=0.9)

    def interrupted() -> None:
        with ema.applied_to(model):
            seen.append(model.weight.item())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (seen, model.weight.item()) == ([5.0], 1.0)


def test_names_do_not_change_under_compilation() -> None:
    model = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=3)
    names = list(model.state_dict())
    parallelize(model, activation_checkpointing=True, compile_blocks=True)
    assert list(Ema(model, decay=0.9).shadow) == names


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_a_decay_outside_zero_and_one_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match="decay"):
        Ema(filled(0.0), decay=decay)
