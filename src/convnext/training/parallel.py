"""Activation checkpointing, compilation and data parallelism, applied to a model's blocks from outside.

Nothing here changes a parameter's name: a checkpoint is the same compiled or not, on one device or on many.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from typing import Protocol, cast

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.checkpoint import checkpoint

from convnext.core import distributed


class HasBlocks(Protocol):
    """A model that lists its blocks, as every model here does."""

    def block_list(self) -> list[nn.Module]: ...


def to_channels_last(model: nn.Module) -> None:
    """Changes the weights of ordinary convolutions to channels_last, in place.

    Depthwise weights (C, 1, 7, 7) have one input channel, so they already are in both layouts; changing them only makes
    DDP warn about strides.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d) and module.groups == 1:
            module.to(memory_format=torch.channels_last)


def parallelize(model: nn.Module, *, activation_checkpointing: bool, compile_blocks: bool) -> nn.Module:
    """Applies what is asked for. Returns what the loop calls: the model itself or its data-parallel wrapper."""
    to_channels_last(model)
    for block in cast("HasBlocks", model).block_list():
        if activation_checkpointing:
            # Set on the instance instead of wrapping the module: names in the state dict stay the same.
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)
        if compile_blocks:
            block.compile()
    if distributed.world_size() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device.index] if device.type == "cuda" else None)


@contextmanager
def synchronized(model: nn.Module, when: bool) -> Generator[None, None, None]:
    """In this block, backward passes sum gradients over ranks only `when` it is a step's last micro-batch."""
    if isinstance(model, DistributedDataParallel) and not when:
        with model.no_sync():
            yield
    else:
        yield
