"""Parameter groups with layer-wise decay, the optimiser, and the learning rate as a pure function of the step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Literal, Protocol, cast

import torch
from torch import nn

from convnext.training.config import OptimConfig, ScheduleConfig
from convnext.training.muon import Muon


class HasDepth(Protocol):
    """A model that knows the depth of each of its parameters, as every model here does."""

    def depth_ids(self, *, blocks_per_group: int = 3) -> dict[str, int]: ...


def is_decayed(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter gets weight decay: matrices and filters do.

    Biases, norms, layer scale, GRN (whose tensors are 4-D), position embeddings (as in Swin and DeiT) and the token
    that stands for masked places do not.
    """
    places = ("class_token", "mask_token", "pos_embedding", "position_bias_table")
    return parameter.ndim > 1 and not name.endswith((".bias", ".gamma", ".beta", *places))


def is_matrix(name: str, parameter: nn.Parameter, depths: dict[str, int]) -> bool:
    """Whether Muon updates this parameter: the weight of a linear layer or of a convolution over all channels.

    AdamW updates the stem and the classifier, whose inputs or outputs are not features, and depthwise filters
    (C, 1, k, k).
    """
    inner = 0 < depths[name] < max(depths.values())
    return is_decayed(name, parameter) and inner and parameter.shape[1] > 1


def parameter_groups(model: nn.Module, config: OptimConfig) -> list[dict[str, Any]]:
    """The optimiser's groups: for each depth, one with weight decay and one without.

    A group's `lr_scale` is layer_decay ** (number of depths above it): the rule of the paper's section A.2 and of the
    official optim_factory.py, for any model that has `depth_ids`. With muon, matrices have their own groups, whose
    `lr_scale` is also multiplied by matrix_lr / lr. Frozen parameters are left out. `names` lists a group's parameters.
    """
    owner = cast("HasDepth", model)
    depths = owner.depth_ids(blocks_per_group=config.blocks_per_group)
    by_three = owner.depth_ids()  # here depth 0 is the stem, whatever the grouping
    deepest = max(depths.values())
    groups: dict[tuple[int, bool, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        # Without layer-wise decay two groups are enough: two calls of the optimiser's kernel.
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
    """AdamW or Muon over `parameter_groups`. AdamW uses torch's fused kernel where the device has one."""
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
    """The learning rate of optimiser step `step` (0-based): a linear warm-up from warmup_start * lr, then `shape`.

    cosine: warm-up to `lr`, then a cosine to `min_lr`, which it would reach one step after the last. The last step of
    the warm-up and the first of the cosine both have `lr` (official utils.cosine_scheduler). steps: divided by 10 at
    each of `drop_steps` (mmdetection's LinearLR and MultiStepLR). linear: a line from `lr` at step 0 to `min_lr` one
    step after the last, times the warm-up (mmcv's "poly" of power 1 with linear warm-up, as for the official
    segmenters).
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
    """Sets the learning rate of every group to `value` times its `lr_scale`."""
    for group in optimizer.param_groups:
        group["lr"] = value * group["lr_scale"]


def planned_steps(config: ScheduleConfig, steps_per_epoch: int) -> tuple[int, int]:
    """The numbers of warm-up steps and of all steps; there is at least one step."""
    total = config.steps or max(round(config.epochs * steps_per_epoch), 1)
    return min(config.warmup_steps or round(config.warmup_epochs * steps_per_epoch), total), total
