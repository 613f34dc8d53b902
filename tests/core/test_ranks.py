"""Ranks and sums: alone, and between two processes."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

from convnext.core import distributed

CPU = torch.device("cpu")


def test_alone(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    with distributed.process_group(CPU):
        assert not dist.is_initialized()
        assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
        tensor = torch.tensor([1.0, 2.0])
        distributed.sum_over_ranks([tensor])
        assert tensor.tolist() == [1.0, 2.0]
        assert distributed.gather_objects({"a": 1}) == [{"a": 1}]
        distributed.barrier()


def test_one_announced_process_needs_no_group(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "1")
    with distributed.process_group(CPU):
        assert not dist.is_initialized()


def _work(rank: int, port: int, folder: str) -> None:
    """What each of two processes does; an assertion that fails ends the process, and with it the test."""
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with distributed.process_group(CPU):
        assert (distributed.rank(), distributed.world_size()) == (rank, 2)
        assert distributed.is_main() == (rank == 0)
        sums = torch.tensor([1.0, 10.0]) * (rank + 1), torch.tensor(rank + 5)
        distributed.sum_over_ranks(iter(sums))
        assert [value.tolist() for value in sums] == [[3.0, 30.0], 11]
        mine = {"rank": rank, "names": ["x"] * rank, "state": torch.full((2,), rank)}
        values = distributed.gather_objects(mine)
        assert [value["rank"] for value in values] == [0, 1]  # in order of rank, on every process
        assert [len(value["names"]) for value in values] == [0, 1]
        assert values[1]["state"].tolist() == [1, 1]
        if distributed.is_main():
            Path(folder, "written").write_text("by the main process")
        distributed.barrier()
        assert Path(folder, "written").exists()
    assert not dist.is_initialized()
    Path(folder, f"done{rank}").touch()


@pytest.mark.slow
def test_two_processes(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    mp.spawn(_work, (port, str(tmp_path)), nprocs=2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["done0", "done1", "written"]


def test_rank_outside_of_the_group(monkeypatch):
    """After training, a process of torchrun still knows whether it is the one that writes."""
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert (distributed.rank(), distributed.is_main(), distributed.world_size()) == (1, False, 1)
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert distributed.is_main()
    monkeypatch.delenv("WORLD_SIZE")
    assert distributed.is_main()
