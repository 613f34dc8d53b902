"""Parameter groups with layer-wise decay, the optimiser, and the schedule as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol

import torch
from torch import nn

from convnext.train.config import OptimConfig, ScheduleConfig
from convnext.train.muon import Muon


class HasDepth(Protocol):
    """A model that owns its depth map, as every model here does."""

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]: ...


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay is for matrices and filters: not for biases, norms, layer scale, GRN (whose tensors are 4-D), and
    what stands for a place (Swin's and DeiT's own exceptions)."""
    places = ("class_token", "pos_embedding", "position_bias_table")
    return parameter.ndim > 1 and not name.endswith((".bias", ".gamma", ".beta", *places))


def is_matrix(name: str, parameter: nn.Parameter, depths: dict[str, int]) -> bool:
    """Whether Muon steps this parameter: a linear layer or a convolution over all channels.

    Not the stem and the classifier, whose inputs or outputs are no features, nor depthwise filters (C, 1, k, k).
    """
    inner = 0 < depths[name] < max(depths.values())
    return is_decayed(name, parameter) and inner and parameter.shape[1] > 1


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """The optimiser's groups: one for each depth, decayed and not; `lr_scale` is layer_decay ** (depths above it).

    The rule of the paper's section A.2 and the official optim_factory.py, for any model that has `depth_ids`.
    Under muon, matrices have groups of their own, whose `lr_scale` holds matrix_lr / lr as well. Frozen parameters are
    left out. `names` says what is in a group.
    """
    depths = model.depth_ids(blocks_per_group=config.blocks_per_group)  # type: ignore[operator]
    by_three = model.depth_ids()  # type: ignore[operator]  # where depth 0 is the stem, whatever the grouping
    deepest = max(depths.values())
    groups: dict[tuple[int, bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # Without layer-wise decay two groups are enough, and two steps of the optimiser's kernel.
        depth = depths[name] if config.layer_decay != 1.0 else deepest
        decayed = is_decayed(name, parameter)
        matrix = config.name == "muon" and is_matrix(name, parameter, by_three)
        if (depth, decayed, matrix) not in groups:
            scale = config.layer_decay ** (deepest - depth) * (config.matrix_lr / config.lr if matrix else 1.0)
            groups[depth, decayed, matrix] = {
                "params": [],
                "names": [],
                "lr": config.lr * scale,
                "lr_scale": scale,
                "weight_decay": config.weight_decay if decayed else 0.0,
                "matrices": matrix,
            }
        groups[depth, decayed, matrix]["params"].append(parameter)
        groups[depth, decayed, matrix]["names"].append(name)
    return list(groups.values())


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """AdamW or Muon over `parameter_groups`; AdamW's part in torch's fused kernel where the device has one."""
    groups = parameter_groups(model, config)
    if config.name == "muon":
        return Muon(groups, momentum=config.momentum, betas=config.betas, eps=config.eps)
    device = next(model.parameters()).device.type
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=device in ("cpu", "cuda"))


def learning_rate(
    step: int,
    *,
    lr: float,
    min_lr: float,
    warmup_steps: int,
    total_steps: int,
    warmup_start: float = 0.0,
    shape: Literal["cosine", "steps", "linear"] = "cosine",
    drop_steps: Sequence[int] = (),
) -> float:
    """The learning rate of optimiser step `step` (0-based): a linear warm-up from warmup_start * lr, and its shape.

    cosine: up to `lr` inclusive, then down to `min_lr`, one step short of it; the last step of the warm-up and the
    first of the cosine both have `lr` (official utils.cosine_scheduler). steps: from each of `drop_steps` on a tenth of
    what it was (mmdetection's LinearLR and MultiStepLR). linear: a line from `lr` at step 0 to `min_lr` one step beyond
    the last, times the warm-up (mmcv's "poly" of power 1 with linear warm-up, which the official segmenters have).
    """
    warm = 1.0
    if step < warmup_steps:
        whole = warmup_steps if shape == "linear" else warmup_steps - 1
        warm = warmup_start + (1 - warmup_start) * (step / whole if whole else 1.0)
    if shape == "steps":
        return lr * warm * 0.1 ** sum(step >= drop for drop in drop_steps)
    if shape == "linear":
        return warm * (min_lr + (lr - min_lr) * (1 - min(step / total_steps, 1.0)))
    if step < warmup_steps:
        return lr * warm
    share = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return min_lr + 0.5 * (lr - min_lr) * (1 + math.cos(math.pi * min(share, 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Gives every group `value` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["lr_scale"]


def planned_steps(config: ScheduleConfig, steps_per_epoch: int) -> tuple[int, int]:
    """(warm-up steps, total steps) of a schedule, whole numbers; at least one step in all."""
    total = config.steps or max(round(config.epochs * steps_per_epoch), 1)
    return min(config.warmup_steps or round(config.warmup_epochs * steps_per_epoch), total), total
