"""Scale, applied from outside to named blocks: activation checkpointing, then compilation, then data parallel.

Nothing here changes a parameter's name: compiled or not, on one device or many, a checkpoint is the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from convnext.core import distributed


def to_channels_last(model: nn.Module) -> None:
    """Puts the weights of ordinary convolutions into channels_last, in place.

    Depthwise ones (C, 1, 7, 7) have one input channel, are both layouts at once, and only make DDP warn of strides.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            module.to(memory_format=torch.channels_last)


def parallelize(model: nn.Module, *, activation_checkpointing: bool, compile_blocks: bool) -> nn.Module:
    """Applies what is asked for; returns what the loop calls: the model itself, or its data-parallel wrapper."""
    to_channels_last(model)
    blocks: list[nn.Module] = model.block_list()  # type: ignore[operator]
    for block in blocks:
        if activation_checkpointing:
            # Bound to the instance, not wrapped in a module: state-dict names stay as they are.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if compile_blocks:
            block.compile()
    if distributed.world_size() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


@contextmanager
def synchronized(model: nn.Module, when: bool) -> Iterator[Any]:
    """Sums gradients over ranks in this backward pass only `when` it is a step's last micro-batch."""
    skip = isinstance(model, DistributedDataParallel) and not when
    with model.no_sync() if skip else nullcontext():  # type: ignore[operator]
        yield
