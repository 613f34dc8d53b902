"""What goes on in a contestant's process: candidates tried, the fastest built and its memory measured, slices run."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from convnext.bench import memory
from convnext.bench.cells import Settings
from convnext.bench.timing import calls_in, in_a_line, play, timed
from convnext.core.memory import keep_freed_memory

Call = Callable[[], Any]
Build = Callable[[], Call]

_ROUNDS = 3  # of a trial, in slices of a quarter


@dataclass(frozen=True)
class Choice:
    """The fastest candidate; seconds of a call of each that ran, and why the others could not."""

    best: str
    tried: dict[str, float]
    failed: dict[str, str]


@dataclass(frozen=True)
class Built:
    """Candidates that are ready to run; why the others could not be built."""

    calls: dict[str, Call]
    failed: dict[str, str]


def build_all(candidates: Mapping[str, Build]) -> Built:
    """Builds every candidate. One that cannot be built is left out, whatever its error; if none can, the first one's
    error is raised."""
    calls: dict[str, Call] = {}
    errors: dict[str, Exception] = {}
    for name, build in candidates.items():
        try:
            calls[name] = build()
        except Exception as error:  # noqa: BLE001 - whatever a compiler raises, other settings may do
            errors[name] = error
    if not calls:
        raise next(iter(errors.values()))
    return Built(calls, {name: in_a_line(error) for name, error in errors.items()})


def choose(built: Built, settings: Settings) -> Choice:
    """Runs the candidates in turn for short slices; those whose call fills a slice by itself, once."""
    device = torch.device(settings.device)
    first = {name: seconds_of(call, 1, device=device) for name, call in built.calls.items()}
    tried = first
    if min(first.values()) <= settings.seconds:  # a longer call averages over the noise by itself
        slices = {
            name: partial(seconds_of, call, calls_in(settings.seconds / 4, call=first[name]), device=device)
            for name, call in built.calls.items()
        }
        played = play(slices, rounds=_ROUNDS, seed=settings.seed)
        tried = {name: statistics.median(seconds) for name, seconds in played.seconds.items()}
    return Choice(min(tried, key=lambda name: tried[name]), tried, built.failed)


def build_measured(build: Build, *, device: torch.device) -> tuple[Call, int | None]:
    """What `build` gives, run once, and the bytes that it adds to this process at most while it runs.

    Those are weights, packed copies of them and activations, but not what building took for a while. None where a
    peak cannot be measured.
    """
    before = memory.in_use(device)
    call = build()
    call()  # what compiles at its first call does it now
    memory.in_use(device)  # gives back what building took
    if before is None or not memory.forget_peak(device):
        return call, None
    seconds_of(call, 1, device=device)
    most = memory.peak(device)
    return call, None if most is None else max(most - before, 0)


class Slices:
    """Runs `call`, of about `seconds`, for the time slice whenever it is called; returns the seconds of one call."""

    def __init__(self, call: Call, settings: Settings, *, seconds: float) -> None:
        self._call, self._device = call, torch.device(settings.device)
        self._calls = calls_in(settings.seconds, call=seconds)

    def __call__(self) -> float:
        if self._calls > 1:  # caches and threads are another's after its turn
            seconds_of(self._call, 1, device=self._device)
        return seconds_of(self._call, self._calls, device=self._device)


def seconds_of(call: Call, calls: int, *, device: torch.device) -> float:
    """Seconds of one call, of `calls` in a row; on CUDA by events, once the device has done all of them."""
    if device.type != "cuda":
        return timed(call, calls)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / calls


def set_up(settings: Settings, *, training: bool = False) -> None:
    """Threads; float32 that is float32 (TF32 would be another precision); in training, memory that is kept."""
    if training and torch.device(settings.device).type == "cpu":
        keep_freed_memory()
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
