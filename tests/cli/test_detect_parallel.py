"""Two processes: a detector trains, and an evaluation sees every picture once and gives the figures of one process."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from convnext.cli.main import main
from convnext.core import distributed
from convnext.core.logs import read_log
from convnext.data.config import LoaderConfig
from convnext.data.loader import BadImages
from convnext.tasks.detection.evaluate import Evaluation, evaluate
from convnext.tasks.detection.weights import load_detector
from painted import INPUT, OPTIONS, Knowing, painted, validation

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def evaluations(folder: Path) -> list[Evaluation]:
    """Of one that knows the answers, and of a detector; on three pictures, which two processes cannot share alike."""
    source = validation(folder / "data").selected([0, 1, 2])
    models: list[Any] = [Knowing(source, wrong=(9,)), load_detector(folder / "run").model]
    return [
        evaluate(
            model,
            source,
            input=INPUT,
            loader=LoaderConfig(workers=0),
            batch_size=1,
            device=CPU,
            bad=BadImages(3, max_bad=0),
        )
        for model in models
    ]


def _work(rank: int, ports: tuple[str, str], folder: str) -> None:
    """What each of two processes does."""
    torch.set_num_threads(1)
    place = Path(folder)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ports[0]}
    settings = [*OPTIONS, "--loop.micro-batch", "1", "--ema.decay", "0", "--loop.device", "cpu"]
    assert (
        main(["train", "small/mask_rcnn", "--data", str(place / "data"), "--out", str(place / "run"), *settings]) == 0
    )
    os.environ["MASTER_PORT"] = ports[1]
    with distributed.process_group(CPU):
        distributed.barrier()
        torch.save([(e.box, e.mask, e.results) for e in evaluations(place)], place / f"rank{rank}.pt")


def in_order(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(results, key=lambda entry: (entry["image_id"], -entry["score"], entry["bbox"]))


def test_two_processes_train_and_judge_as_one(tmp_path: Path) -> None:
    painted(tmp_path / "data")
    mp.spawn(_work, ((free_port(), free_port()), str(tmp_path)), nprocs=2)

    events = read_log(tmp_path / "run" / "log.jsonl")
    steps = [event["step"] for event in events if event["event"] == "step"]
    assert steps == [1, 2, 3, 4]  # two for each epoch of eight pictures, written by one process
    assert len(torch.load(tmp_path / "run" / "last.pt", weights_only=True)["rng"]) == 2

    alone = evaluations(tmp_path)
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=False) for rank in (0, 1)]
    for number, expected in enumerate(alone):
        for found in ranks:
            box, mask, results = found[number]
            assert (box, mask) == (expected.box, expected.mask)
            assert in_order(results) == in_order(expected.results)
        assert {entry["image_id"] for entry in expected.results} == {18, 19, 20}
    assert alone[0].box.AP is not None
    assert 0 < alone[0].box.AP < 1
