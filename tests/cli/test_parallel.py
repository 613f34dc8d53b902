"""Two processes train the same model as one, on the same images, and count every validation image once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

pytestmark = pytest.mark.slow

SETTINGS = [
    *("--schedule.epochs", "2", "--model.dims", "8", "8", "16", "16", "--model.drop-path-rate", "0"),
    *("--loop.global-batch", "128", "--loop.micro-batch", "32", "--loop.precision", "float32", "--loop.device", "cpu"),
]


def test_two_processes_equal_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    command = ["-m", "convnext", "train", "demo", *SETTINGS, "--out"]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    for line in ([sys.executable, *command, str(one)], [*launcher, *command, str(two)]):
        done = subprocess.run(line, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    weights = [load_file(run / "best.safetensors") for run in (one, two)]
    for name, value in weights[0].items():
        torch.testing.assert_close(weights[1][name], value, rtol=1e-3, atol=2e-5)
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (one, two)]
    ends = [[event for event in log if event["event"] == "eval"][-1] for log in logs]
    assert ends[0]["top1"] == ends[1]["top1"]
    assert abs(ends[0]["loss"] - ends[1]["loss"]) < 1e-4
    assert len(torch.load(two / "last.pt", weights_only=True)["rng"]) == 2
