"""Which device and which floating type."""

from __future__ import annotations

import pytest
import torch

from convnext.core import device as device_module
from convnext.core.device import available_cpus, describe, has_fast_bf16_flags, pick_device, pick_dtype
from convnext.core.errors import UserError

SAPPHIRE_RAPIDS = """\
processor	: 0
vendor_id	: GenuineIntel
model name	: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
flags		: fpu vme sse2 avx2 avx512f avx512_vnni avx512_bf16 amx_bf16 avx512_fp16 amx_tile amx_int8
bugs		: spectre_v1
"""
SKYLAKE = """\
processor	: 0
model name	: Intel(R) Xeon(R) CPU @ 2.00GHz (no amx_bf16 here)
flags		: fpu vme sse2 avx2 avx512f avx512dq avx512bw avx512vl
bugs		: avx512_bf16
"""
ZEN4 = "processor	: 0\nflags		: fpu avx2 avx512f avx512_bf16 sha_ni\n"
GRAVITON3 = """\
processor	: 0
BogoMIPS	: 2100.00
Features	: fp asimd evtstrm aes crc32 atomics fphp asimdhp sve i8mm bf16 dgh rng
CPU implementer	: 0x41
"""
GRAVITON2 = "processor	: 0\nFeatures	: fp asimd evtstrm aes crc32 atomics fphp asimdhp svebf16\n"


@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [(SAPPHIRE_RAPIDS, True), (SKYLAKE, False), (ZEN4, True), (GRAVITON3, True), (GRAVITON2, False), ("", False)],
)
def test_bf16_flags(cpuinfo, fast):
    assert has_fast_bf16_flags(cpuinfo) is fast


def test_cpu():
    assert pick_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["gpu", "", "cuda:x", "Cpu", "tpu:0"])
def test_no_such_kind(name):
    with pytest.raises(UserError, match=rf"Unknown device '{name}'. Accepted: auto, cpu, cuda"):
        pick_device(name)


@pytest.mark.parametrize("name", ["meta", "xpu", "cuda:99"])
def test_not_on_this_machine(name):
    with pytest.raises(UserError, match=f"'{name}' is not on this machine"):
        pick_device(name)


def test_cuda_index(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cuda") == torch.device("cuda")
    with pytest.raises(UserError, match="'cuda:2' is not on this machine"):
        pick_device("cuda:2")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"), [(True, False, "cuda:3"), (False, True, "mps"), (False, False, "cpu")]
)
def test_auto(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    monkeypatch.setenv("LOCAL_RANK", "3")  # torchrun's: each process has a device of its own
    assert str(pick_device("auto")) == expected


def test_dtype(monkeypatch):
    cpu = torch.device("cpu")
    assert pick_dtype("float16", cpu) == torch.float16
    assert pick_dtype("bfloat16", cpu) == torch.bfloat16
    for fast, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(device_module, "cpu_has_fast_bf16", lambda fast=fast: fast)
        assert pick_dtype("auto", cpu) == expected
        assert pick_dtype("float32", cpu) == torch.float32
    assert pick_dtype("auto", torch.device("mps")) == torch.float32


def test_description():
    assert available_cpus() >= 1
    assert describe(torch.device("cpu")).startswith(f"cpu ({available_cpus()} processors, ")
