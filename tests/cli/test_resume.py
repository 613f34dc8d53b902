"""Kill -9 in mid-epoch, resume, and compare with the run that was left alone: every bit of the checkpoint."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from convnext.core.logs import read_log

pytestmark = pytest.mark.slow

EVERYTHING_ON = [
    *("--schedule.epochs", "3", "--model.drop-path-rate", "0.2", "--mix.mixup", "0.8", "--mix.cutmix", "1"),
    *(
        "--mix.erase",
        "0.25",
        "--augment.randaugment-ops",
        "2",
        "--loop.micro-batch",
        "64",
        "--loop.global-batch",
        "128",
    ),
    *("--model.dims", "8", "8", "16", "16", "--loop.log-steps", "1", "--loop.checkpoint-seconds", "0"),
    *("--ema.decay", "0.9", "--optim.layer-decay", "0.8", "--optim.clip-grad", "1"),
]


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "convnext", "train", *map(str, words)]


def kill_in_mid_epoch(run: Path, *, after_step: int) -> None:
    """Starts the run and kills it, without any chance to tidy up, once it has logged that step."""
    process = subprocess.Popen(
        command("demo", "--out", run, *EVERYTHING_ON), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    deadline = time.monotonic() + 120
    while max((event.get("step", 0) for event in read_log(run / "log.jsonl")), default=0) < after_step:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def assert_identical(one: Any, two: Any, where: str = "") -> None:
    assert type(one) is type(two), where
    if isinstance(one, torch.Tensor):
        assert torch.equal(one, two), where
    elif isinstance(one, dict):
        assert list(one) == list(two), where
        for key in one:
            assert_identical(one[key], two[key], f"{where}.{key}")
    elif isinstance(one, list):
        assert len(one) == len(two), where
        for number, (a, b) in enumerate(zip(one, two, strict=True)):
            assert_identical(a, b, f"{where}[{number}]")
    else:
        assert one == two, where


@pytest.mark.parametrize("workers", [0, 2])
def test_a_killed_run_resumes_to_the_bit(tmp_path: Path, workers: int) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command("demo", "--out", whole, *EVERYTHING_ON), check=True, capture_output=True)
    kill_in_mid_epoch(killed, after_step=17)  # 12 steps an epoch
    stopped_at = torch.load(killed / "last.pt", weights_only=True)["step"]
    assert stopped_at % 12 != 0
    assert stopped_at < 36
    done = subprocess.run(command("--resume", killed), check=True, capture_output=True, text=True)
    assert f"going on from step {stopped_at}" in done.stderr

    one, two = (torch.load(run / "last.pt", weights_only=True) for run in (whole, killed))
    assert_identical(one, two)
    assert (whole / "best.safetensors").read_bytes() == (killed / "best.safetensors").read_bytes()
    steps = [event["step"] for event in read_log(killed / "log.jsonl") if event["event"] == "step"]
    assert steps == list(range(1, 37))  # nothing twice, nothing missing
    losses = [
        [event["loss"] for event in read_log(run / "log.jsonl") if event["event"] == "step"] for run in (whole, killed)
    ]
    assert losses[0] == losses[1]


def test_a_run_killed_before_its_first_checkpoint_starts_again(tmp_path: Path) -> None:
    run = tmp_path / "run"
    subprocess.run(
        command("demo", "--out", run, *EVERYTHING_ON, "--schedule.epochs", "1"), check=True, capture_output=True
    )
    (run / "last.pt").unlink()
    subprocess.run(command("--resume", run), check=True, capture_output=True)
    assert torch.load(run / "last.pt", weights_only=True)["step"] == 12
