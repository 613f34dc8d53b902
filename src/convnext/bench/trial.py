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
from convnext.bench.timing import GivenUp, at_most, calls_in, in_a_line, play, timed
from convnext.core.memory import keep_freed_memory

COLD = 10.0
"""Seconds that a first call may take beyond later ones: it finds neither memory nor kernels ready."""

Call = Callable[[], Any]
Build = Callable[[], Call]

_ROUNDS, _PART = 5, 2  # of a trial, in slices of a half


@dataclass(frozen=True)
class Choice:
    """The fastest candidate; seconds of a call of each that ran, and why the others could not."""

    best: str
    tried: dict[str, float]
    failed: dict[str, str]

    def with_best_of(self, other: Choice) -> Choice:
        """The fastest of all candidates by the better of two trials each."""
        names = {**self.tried, **other.tried}
        tried = {name: min(c.tried[name] for c in (self, other) if name in c.tried) for name in names}
        failed = {name: why for name, why in {**self.failed, **other.failed}.items() if name not in tried}
        return Choice(min(tried, key=lambda name: tried[name]), tried, failed)


@dataclass(frozen=True)
class Built:
    """Candidates that could be built; why the others could not."""

    calls: dict[str, Call]
    failed: dict[str, str]


def build_all(candidates: Mapping[str, Build]) -> Built:
    """Builds every candidate. One that cannot be is left out, whatever its error; if none can, the first one's error is
    raised."""
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


def warmed(build: Build) -> Call:
    """What `build` gives, run once: what compiles at its first call has done so, and one that cannot run says it."""
    call = build()
    call()
    return call


def _settle(call: Call, device: torch.device) -> None:
    """Has a call that ran once do what it does only in the next ones: on CUDA a graph is recorded in the second."""
    if device.type == "cuda":
        seconds_of(call, 2, device=device)


def choose(
    built: Built, settings: Settings, *, most: float | None = None, first: Callable[[Call], object] | None = None
) -> Choice:
    """Runs every candidate once, then all in turn for short slices, or only twice where the fastest one's call fills a
    slice.

    `first` runs one for the first time in place of `first_call`. One that cannot run is out, whatever its error, as is
    one whose call takes more than `most` seconds; if all are, raises the first one's error, or GivenUp where that is
    anybody's.
    """
    device = torch.device(settings.device)
    once: dict[str, float] = {}
    errors: dict[str, Exception] = {}
    for name, call in built.calls.items():
        try:
            (first or partial(first_call, most=most))(call)
            _settle(call, device)
            with at_most(most):
                seconds = seconds_of(call, 1, device=device)
            once[name] = seconds
        except Exception as error:  # noqa: BLE001 - whatever a library raises, other settings may do
            errors[name] = error
    if not once:
        raise min(errors.values(), key=lambda error: not isinstance(error, GivenUp))
    slices = {
        name: partial(seconds_of, built.calls[name], calls_in(settings.seconds / _PART, call=seconds), device=device)
        for name, seconds in once.items()
    }
    long = min(once.values()) > settings.seconds  # such a call averages over the noise by itself
    played = play(slices, rounds=1 if long else _ROUNDS, seed=settings.seed).seconds
    tried = {name: statistics.median([once[name], *seconds] if long else seconds) for name, seconds in played.items()}
    failed = built.failed | {name: in_a_line(error) for name, error in errors.items()}
    return Choice(min(tried, key=lambda name: tried[name]), tried, failed)


def first_call(call: Call, *, most: float | None) -> Any:
    """What the first call gives; raises GivenUp where it takes much longer than the later ones may, `most` seconds."""
    with at_most(most, cold=COLD):
        return call()


def build_measured(build: Build, *, device: torch.device) -> tuple[Call, int | None]:
    """What `build` gives, run once, and the bytes that it adds to this process at most while it runs.

    Those are weights, packed copies of them and activations, but not what building took for a while. None where a
    peak cannot be measured.
    """
    before = memory.in_use(device)
    call = warmed(build)
    _settle(call, device)
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
    """Threads; float32 that is float32 (TF32 would be another precision); in training, memory that is kept.

    A CUDA device that is named by its number becomes the current one: events and graphs are the current one's. cuDNN
    chooses by its rules and not by trial: processes that are prepared side by side would spoil each other's.
    """
    device = torch.device(settings.device)
    if training and device.type == "cpu":
        keep_freed_memory()
    if device.type == "cuda" and device.index is not None:
        torch.cuda.set_device(device)
    torch.set_num_threads(settings.threads)
    torch.backends.cudnn.benchmark = False
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
