"""Ranks, barriers and sums: a thin layer over torch.distributed, which does nothing in a single process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def rank() -> int:
    """This process's number among all, 0 where there is one; outside of the group too, as torchrun announces it."""
    if dist.is_initialized():
        return dist.get_rank()
    return int(os.environ.get("RANK", "0")) if int(os.environ.get("WORLD_SIZE", "1")) > 1 else 0


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_main() -> bool:
    """Whether this process writes files and talks to people."""
    return rank() == 0


def barrier() -> None:
    """Waits for all processes."""
    if dist.is_initialized():
        dist.barrier()


def sum_over_ranks(tensors: Iterable[Tensor]) -> None:
    """Replaces each tensor by its sum over all processes, in place. The tensors stand on the process's device."""
    if dist.is_initialized():
        for tensor in tensors:
            dist.all_reduce(tensor)


def gather_objects(value: T) -> list[T]:
    """Every process's `value`, in order of rank, on every process."""
    if not dist.is_initialized():
        return [value]
    values: list[T | None] = [None] * dist.get_world_size()
    dist.all_gather_object(values, value)
    return cast("list[T]", values)


@contextmanager
def process_group(device: torch.device) -> Iterator[None]:
    """Joins the group that `torchrun` announces in the environment, for the duration; without one, does nothing."""
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
