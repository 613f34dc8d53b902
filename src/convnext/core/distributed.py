"""A thin layer over torch.distributed: ranks, barriers and sums. In a single process it does nothing."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    """This process's rank, 0 in a single process. Before the group exists, it is read from torchrun's environment."""
    if dist.is_initialized():
        return dist.get_rank()
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


def world_size() -> int:
    """The number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process, rank 0, writes files and prints messages."""
    return rank() == 0


def barrier() -> None:
    """Waits until all processes get here."""
    if dist.is_initialized():
        dist.barrier()


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replaces each tensor by its sum over all processes, in place. The tensors are on the process's own device."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)


def gather_objects(value: T) -> list[T]:
    """Gathers every process's `value` on every process, in order of rank."""
    if not dist.is_initialized():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return cast("list[T]", values)


@contextmanager
def process_group(device: torch.device) -> Generator[None, None, None]:
    """Joins torchrun's process group for the duration of the block. Without torchrun, does nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()
