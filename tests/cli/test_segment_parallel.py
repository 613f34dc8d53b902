"""Two processes: a segmenter trains, and an evaluation counts every picture once, as one process does."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp

from convnext.cli.main import main
from convnext.core import distributed
from convnext.core.logs import read_log
from convnext.data.config import LoaderConfig
from convnext.data.loader import BadImages
from convnext.data.segmentation.open import SegmentationData
from convnext.tasks.segmentation.evaluate import Evaluation, evaluate
from convnext.tasks.segmentation.weights import load_segmenter
from labelmaps import labelled

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
OPTIONS = [
    *("--model.backbone.depths", "1", "1", "1", "1", "--model.backbone.dims", "8", "16", "16", "16"),
    *("--model.width", "16", "--augment.crop", "32", "--input.short", "48", "--input.long", "64"),
    *("--loader.workers", "0", "--loop.global-batch", "4", "--loop.micro-batch", "2", "--schedule.epochs", "3"),
    *("--loop.precision", "float32", "--loop.device", "cpu", "--loop.log-steps", "1", "--ema.decay", "0"),
]


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def evaluation(folder: Path) -> Evaluation:
    """On three pictures, which two processes cannot share alike."""
    source = SegmentationData(folder / "data").for_evaluation(LoaderConfig())
    loaded = load_segmenter(folder / "run")
    loader, bad = LoaderConfig(workers=0), BadImages(3, max_bad=0)
    return evaluate(loaded.model, source, input=loaded.metadata.input, loader=loader, device=CPU, bad=bad)


def _work(rank: int, ports: tuple[str, str], folder: str) -> None:
    """What each of two processes does."""
    torch.set_num_threads(1)
    place = Path(folder)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": ports[0]}
    data, out = str(place / "data"), str(place / "run")
    assert main(["train", "small/segmenter", "--data", data, "--out", out, *OPTIONS]) == 0
    os.environ["MASTER_PORT"] = ports[1]
    with distributed.process_group(CPU):
        distributed.barrier()
        torch.save(evaluation(place).counts, place / f"rank{rank}.pt")


def test_two_processes_train_and_judge_as_one(tmp_path: Path) -> None:
    labelled(tmp_path / "data", train=8, val=3)
    mp.spawn(_work, ((free_port(), free_port()), str(tmp_path)), nprocs=2)

    events = read_log(tmp_path / "run" / "log.jsonl")
    assert [event["step"] for event in events if event["event"] == "step"] == [1, 2, 3, 4, 5, 6]
    alone = evaluation(tmp_path)
    assert int(alone.counts.sum()) == 3 * (48 * 64 - 1)
    for rank in (0, 1):
        assert torch.equal(torch.load(tmp_path / f"rank{rank}.pt", weights_only=True), alone.counts)
