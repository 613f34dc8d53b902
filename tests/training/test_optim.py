"""Schedules against the official numbers, parameter groups against the paper's rule."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from convnext.models.create import create_model
from convnext.training.config import OptimConfig, ScheduleConfig
from convnext.training.optim import build_optimizer, learning_rate, parameter_groups, planned_steps, set_learning_rate

IN1K = {"lr": 4e-3, "min_lr": 1e-6, "warmup_steps": 6240, "total_steps": 93600}


@pytest.mark.parametrize(
    ("step", "value"),
    [
        (0, 0.0),
        (1, 6.411283859592884e-07),
        (6239, 0.004),
        (6240, 0.004),
        (46800, 0.0022243729699685643),
        (93599, 1.0000012929028863e-06),
    ],
)
def test_the_schedule_is_the_official_one(step: int, value: float) -> None:
    """Values of the official utils.cosine_scheduler for ImageNet-1K at batch 4096 (300 epochs, 20 of warm-up)."""
    assert learning_rate(step, **IN1K) == pytest.approx(value, rel=1e-12, abs=1e-18)


def test_a_schedule_without_warmup_starts_at_its_height() -> None:
    assert learning_rate(0, lr=1.0, min_lr=0.0, warmup_steps=0, total_steps=4) == 1.0
    assert learning_rate(2, lr=1.0, min_lr=0.0, warmup_steps=0, total_steps=4) == pytest.approx(0.5)
    assert learning_rate(0, lr=1.0, min_lr=0.0, warmup_steps=1, total_steps=4) == 1.0  # not a division by zero


STEPS = {"lr": 1e-4, "min_lr": 1e-6, "warmup_steps": 500, "warmup_start": 0.001, "total_steps": 36_000}


@pytest.mark.parametrize(
    ("step", "value"),
    [
        (0, 1e-7),  # a thousandth
        (1, 3.002004008016032e-07),  # 1e-4 * (0.001 + 0.999 * 1 / 499)
        (100, 2.012004008016032e-05),
        (250, 5.0150100200400802e-05),
        (498, 9.979979959919840e-05),
        (499, 1e-4),  # the last of 500 steps
        (500, 1e-4),
        (26_999, 1e-4),
        (27_000, 1e-5),
        (32_999, 1e-5),
        (33_000, 1e-6),
        (35_999, 1e-6),  # and not the cosine's end
    ],
)
def test_the_detectors_schedule_of_steps(step: int, value: float) -> None:
    """36 epochs of 1,000 steps with drops after 27 and 33, by hand: mmdetection's LinearLR and MultiStepLR."""
    assert learning_rate(step, shape="steps", drop_steps=(27_000, 33_000), **STEPS) == pytest.approx(value, rel=1e-9)


def test_steps_without_warmup_and_drops_within_it() -> None:
    plain = {"lr": 1.0, "min_lr": 0.0, "total_steps": 10}
    values = [learning_rate(step, warmup_steps=0, shape="steps", drop_steps=(2, 4), **plain) for step in range(6)]
    assert values == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])
    assert learning_rate(7, warmup_steps=0, shape="steps", drop_steps=(), **plain) == 1.0  # steps, but none: it stays
    both = [
        learning_rate(step, warmup_steps=3, warmup_start=0.5, shape="steps", drop_steps=(2,), **plain)
        for step in range(4)
    ]
    assert both == pytest.approx([0.5, 0.75, 0.1, 0.1])


def test_a_cosine_can_begin_its_warmup_above_zero() -> None:
    values = [
        learning_rate(step, lr=2.0, min_lr=0.0, warmup_steps=3, total_steps=9, warmup_start=0.5) for step in range(3)
    ]
    assert values == pytest.approx([1.0, 1.5, 2.0])


def test_warmup_in_steps_takes_the_place_of_that_in_epochs() -> None:
    schedule = ScheduleConfig(epochs=36, warmup_epochs=20, warmup_steps=500)
    assert planned_steps(schedule, 7329) == (500, 263_844)
    assert planned_steps(schedule, 10) == (360, 360)  # no longer than all


def test_planned_steps_are_whole_and_the_warmup_fits() -> None:
    assert planned_steps(ScheduleConfig(epochs=300, warmup_epochs=20), 312) == (6240, 93600)
    assert planned_steps(ScheduleConfig(epochs=0.5, warmup_epochs=2), 10) == (5, 5)
    assert planned_steps(ScheduleConfig(epochs=0.001, warmup_epochs=0), 10) == (0, 1)


@pytest.mark.parametrize("name", ["convnext_tiny", "convnextv2_tiny", "convnext_isotropic_large", "convnext_large_mlp"])
def test_only_matrices_and_filters_are_decayed(name: str) -> None:
    with torch.device("meta"):
        model = create_model(name)
    decayed, plain = set(), set()
    for group in parameter_groups(model, OptimConfig(weight_decay=0.05)):
        (decayed if group["weight_decay"] else plain).update(group["names"])
    expected = {name for name, module in model.named_modules() if isinstance(module, (nn.Conv2d, nn.Linear))}
    assert decayed == {f"{module}.weight" for module in expected}
    assert decayed | plain == {name for name, _ in model.named_parameters()}
    assert not decayed & plain


def test_layer_decay_is_the_papers_for_base() -> None:
    """The scales of facts/recipes.yaml (official optim_factory.py) for 12 groups at 0.8."""
    with torch.device("meta"):
        model = create_model("convnext_base")
    scales = {
        name: group["lr_scale"]
        for group in parameter_groups(model, OptimConfig(lr=1.0, layer_decay=0.8))
        for name in group["names"]
    }
    published = {
        "downsample_layers.0.0.weight": 0.05498,
        "stages.0.2.gamma": 0.06872,
        "downsample_layers.1.1.weight": 0.0859,
        "stages.1.0.dwconv.weight": 0.0859,
        "downsample_layers.2.1.weight": 0.10737,
        "stages.2.0.pwconv1.weight": 0.10737,
        "stages.2.26.pwconv2.bias": 0.64,
        "downsample_layers.3.0.weight": 0.8,
        "stages.3.2.norm.bias": 0.8,
        "norm.weight": 1.0,
        "head.weight": 1.0,
    }
    for name, scale in published.items():
        assert scales[name] == pytest.approx(scale, rel=2e-4), name


def test_frozen_parameters_are_left_out() -> None:
    model = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=3)
    model.downsample_layers.requires_grad_(False)
    names = {name for group in parameter_groups(model, OptimConfig()) for name in group["names"]}
    assert names
    assert not any(name.startswith("downsample_layers") for name in names)


def test_every_group_follows_the_schedule_with_its_own_scale() -> None:
    model = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=3)
    optimizer = build_optimizer(model, OptimConfig(lr=1.0, layer_decay=0.5))
    set_learning_rate(optimizer, 0.2)
    assert {round(group["lr"] / group["lr_scale"], 12) for group in optimizer.param_groups} == {0.2}
    assert len({group["lr_scale"] for group in optimizer.param_groups}) == 6


def test_one_step_of_adamw_by_hand() -> None:
    """Decoupled decay, then a first step of lr in the direction of the gradient's sign."""
    model = create_model("convnext_atto", depths=(1, 1, 1, 1), dims=(4, 8, 8, 8), num_classes=2)
    optimizer = build_optimizer(model, OptimConfig(lr=0.1, weight_decay=0.5, eps=1e-12))
    weight, bias = model.head.weight, model.head.bias
    before_weight, before_bias = weight.detach().clone(), bias.detach().clone()
    weight.grad, bias.grad = torch.full_like(weight, 3.0), torch.full_like(bias, -2.0)
    optimizer.step()
    torch.testing.assert_close(weight.detach(), before_weight * (1 - 0.1 * 0.5) - 0.1)
    torch.testing.assert_close(bias.detach(), before_bias + 0.1)


def test_the_cosine_falls_all_the_way() -> None:
    values = [learning_rate(step, lr=1.0, min_lr=0.1, warmup_steps=5, total_steps=50) for step in range(50)]
    assert values[:5] == sorted(values[:5])
    assert values[5:] == sorted(values[5:], reverse=True)
    assert values[-1] == pytest.approx(0.1 + 0.45 * (1 + math.cos(math.pi * 44 / 45)))
