"""Parameter groups with layer-wise decay, the optimiser, and the schedule as a pure function of the step."""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import nn

from convnext.train.config import OptimConfig, ScheduleConfig


class HasDepth(Protocol):
    """A model that owns its depth map, as every model here does."""

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]: ...


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Weight decay is for matrices and filters: not for biases, norms, layer scale or GRN (whose tensors are 4-D)."""
    return parameter.ndim > 1 and not name.endswith((".bias", ".gamma", ".beta"))


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """AdamW's groups: one for each depth, decayed and not; `lr_scale` is layer_decay ** (depths above it).

    The rule of the paper's section A.2 and the official optim_factory.py, for any model that has `depth_ids`.
    Frozen parameters are left out. `names` says what is in a group.
    """
    depths = model.depth_ids(blocks_per_group=config.blocks_per_group)  # type: ignore[operator]
    deepest = max(depths.values())
    groups: dict[tuple[int, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # Without layer-wise decay two groups are enough, and two steps of the optimiser's kernel.
        depth = depths[name] if config.layer_decay != 1.0 else deepest
        decayed = is_decayed(name, parameter)
        if (depth, decayed) not in groups:
            scale = config.layer_decay ** (deepest - depth)
            decay = config.weight_decay if decayed else 0.0
            groups[depth, decayed] = {
                "params": [],
                "names": [],
                "lr": config.lr * scale,
                "lr_scale": scale,
                "weight_decay": decay,
            }
        groups[depth, decayed]["params"].append(parameter)
        groups[depth, decayed]["names"].append(name)
    return list(groups.values())


def build_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over `parameter_groups`, in torch's fused kernel where the parameters' device has one."""
    device = next(model.parameters()).device.type
    groups = parameter_groups(model, config)
    return torch.optim.AdamW(groups, betas=config.betas, eps=config.eps, fused=device in ("cpu", "cuda"))


def learning_rate(step: int, *, lr: float, min_lr: float, warmup_steps: int, total_steps: int) -> float:
    """The learning rate of optimiser step `step` (0-based): linear from 0 to `lr` inclusive, then a cosine to `min_lr`.

    Equal to the official `utils.cosine_scheduler`: the last step of the warm-up and the first of the cosine both have
    `lr`, and the cosine stops one step short of `min_lr`.
    """
    if step < warmup_steps:
        return lr * step / (warmup_steps - 1) if warmup_steps > 1 else lr
    share = (step - warmup_steps) / max(total_steps - warmup_steps, 1)
    return min_lr + 0.5 * (lr - min_lr) * (1 + math.cos(math.pi * min(share, 1.0)))


def set_learning_rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Gives every group `value` times its own scale."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["lr_scale"]


def planned_steps(config: ScheduleConfig, steps_per_epoch: int) -> tuple[int, int]:
    """(warm-up steps, total steps) of a schedule, whole numbers; at least one step in all."""
    total = max(round(config.epochs * steps_per_epoch), 1)
    return min(round(config.warmup_epochs * steps_per_epoch), total), total
