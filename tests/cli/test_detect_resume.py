"""Kill -9 a detector's training in mid-epoch, resume, and compare with the run that was left alone: every bit."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from test_resume import assert_identical, command

from convnext.core.logs import read_log
from painted import OPTIONS, paint

pytestmark = pytest.mark.slow

STEPS = 8  # an epoch: 16 pictures, 2 for each step, 1 at a time
EVERYTHING_ON = [
    *OPTIONS,
    *("--schedule.epochs", "3", "--loop.global-batch", "2", "--loop.micro-batch", "1"),
    *("--model.backbone.drop-path-rate", "0.2", "--optim.layer-decay", "0.8", "--ema.decay", "0.9"),
    *("--loop.checkpoint-seconds", "0"),
]


def kill_in_mid_epoch(words: list[str], run: Path, *, after_step: int) -> None:
    """Starts the run and kills it, without any chance to tidy up, once it has logged that step."""
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while max((event.get("step", 0) for event in read_log(run / "log.jsonl")), default=0) < after_step:
        assert process.poll() is None, "the run ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def test_a_killed_run_resumes_to_the_bit(convnext: Callable[..., Any], tmp_path: Path) -> None:
    """Without processes that read, and with two of them: the pictures are the same."""
    paint(tmp_path / "data", "train", range(16), empty=(5,))
    paint(tmp_path / "data", "val", range(16, 19))
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    words = ["small/mask_rcnn", "--data", str(tmp_path / "data"), *EVERYTHING_ON, "--out"]
    assert convnext("train", *words, whole).status == 0
    kill_in_mid_epoch(command(*words, killed, "--loader.workers", "2"), killed, after_step=STEPS + 2)
    stopped_at = torch.load(killed / "last.pt", weights_only=True)["step"]
    assert stopped_at % STEPS != 0
    assert stopped_at < 3 * STEPS
    done = convnext("train", "--resume", killed)
    assert done.status == 0, done.err
    assert f"going on from step {stopped_at}" in done.err

    one, two = (torch.load(run / "last.pt", weights_only=True) for run in (whole, killed))
    assert {"model", "ema", "optimizer", "rng"} <= set(one)
    assert_identical(one, two)
    assert (whole / "best.safetensors").read_bytes() == (killed / "best.safetensors").read_bytes()
    logs = [[event for event in read_log(run / "log.jsonl") if event["event"] == "step"] for run in (whole, killed)]
    assert [event["step"] for event in logs[1]] == list(range(1, 3 * STEPS + 1))  # nothing twice, nothing missing
    for name in ("loss", "losses", "lr", "grad_norm"):
        assert [event[name] for event in logs[0]] == [event[name] for event in logs[1]]
    assert (whole / "results.json").read_bytes() == (killed / "results.json").read_bytes()
