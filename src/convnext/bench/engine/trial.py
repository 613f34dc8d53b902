"""The work inside a contestant's process: candidates are built and timed, and the fastest one runs in slices."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from convnext.bench.engine import memory
from convnext.bench.engine.cells import Settings
from convnext.bench.engine.timing import GivenUp, calls_per_slice, error_line, run_rounds, time_limit, timeit
from convnext.core.memory import keep_freed_memory

FIRST_CALL_SECONDS = 10.0
"""How much longer a first call may take than later ones: neither memory nor kernels are ready for it."""

Call = Callable[[], Any]
Build = Callable[[], Call]

_ROUNDS, _PARTS = 5, 2  # a trial has five rounds, each of half a slice


@dataclass(frozen=True)
class Choice:
    """The fastest candidate; the seconds of a call of each that ran; why the others failed."""

    best: str
    tried: dict[str, float]
    failed: dict[str, str]

    def merged_with(self, other: Choice) -> Choice:
        """The choice after two trials: the better time of each candidate counts."""
        names = {**self.tried, **other.tried}
        tried = {name: min(c.tried[name] for c in (self, other) if name in c.tried) for name in names}
        failed = {name: why for name, why in {**self.failed, **other.failed}.items() if name not in tried}
        return Choice(min(tried, key=lambda name: tried[name]), tried, failed)


@dataclass(frozen=True)
class BuiltCandidates:
    """Candidates that were built; why the others could not be."""

    calls: dict[str, Call]
    failed: dict[str, str]


def build_all(candidates: Mapping[str, Build]) -> BuiltCandidates:
    """Builds every candidate. One that fails is left out, whatever its error; if all fail, raises the first error."""
    calls: dict[str, Call] = {}
    errors: dict[str, Exception] = {}
    for name, build in candidates.items():
        try:
            calls[name] = build()
        except Exception as error:  # noqa: BLE001 - whatever a compiler raises, other settings may work
            errors[name] = error
    if not calls:
        raise next(iter(errors.values()))
    return BuiltCandidates(calls, {name: error_line(error) for name, error in errors.items()})


def build_and_warm_up(build: Build) -> Call:
    """Builds a call and runs it once, which compiles it or shows that it cannot run."""
    call = build()
    call()
    return call


def _record_graphs(call: Call, device: torch.device) -> None:
    """On CUDA, runs a call that ran once twice more: a graph is recorded in its second call."""
    if device.type == "cuda":
        seconds_per_call(call, 2, device=device)


def choose(
    built: BuiltCandidates,
    settings: Settings,
    *,
    max_seconds: float | None = None,
    first: Callable[[Call], object] | None = None,
) -> Choice:
    """Runs every candidate once, then all in turn for short slices, and names the fastest.

    Where a call of the fastest one fills a slice, each runs only twice.

    Args:
        built: the candidates.
        settings: length of a slice, device and seed.
        max_seconds: a candidate whose call takes longer is out; None: no limit.
        first: makes the first call of a candidate in place of `first_call`.

    Raises:
        GivenUp: if no candidate is left and one of them took too long.
        Exception: if no candidate is left, the error of the first one.
    """
    device = torch.device(settings.device)
    once: dict[str, float] = {}
    errors: dict[str, Exception] = {}
    for name, call in built.calls.items():
        try:
            (first or partial(first_call, max_seconds=max_seconds))(call)
            _record_graphs(call, device)
            with time_limit(max_seconds):
                seconds = seconds_per_call(call, 1, device=device)
            once[name] = seconds
        except Exception as error:  # noqa: BLE001 - whatever a library raises, other settings may work
            errors[name] = error
    if not once:
        raise min(errors.values(), key=lambda error: not isinstance(error, GivenUp))
    part = settings.seconds / _PARTS
    slices = {
        name: partial(seconds_per_call, built.calls[name], calls_per_slice(part, call=seconds), device=device)
        for name, seconds in once.items()
    }
    long = min(once.values()) > settings.seconds  # such a call averages over the noise by itself
    times = run_rounds(slices, rounds=1 if long else _ROUNDS, seed=settings.seed).seconds
    tried = {name: statistics.median([once[name], *seconds] if long else seconds) for name, seconds in times.items()}
    failed = built.failed | {name: error_line(error) for name, error in errors.items()}
    return Choice(min(tried, key=lambda name: tried[name]), tried, failed)


def first_call(call: Call, *, max_seconds: float | None) -> Any:
    """Makes the first call and returns its result.

    Raises GivenUp if it takes over `FIRST_CALL_SECONDS` longer than the `max_seconds` that later calls may take.
    """
    with time_limit(max_seconds, extra=FIRST_CALL_SECONDS):
        return call()


def build_and_measure_memory(build: Build, *, device: torch.device) -> tuple[Call, int | None]:
    """Builds a call and warms it up. Also returns the bytes that it adds to this process at most while it runs.

    Those are weights, packed copies of them and activations, but not what building took for a while. None where the
    peak cannot be measured.
    """
    before = memory.current_bytes(device)
    call = build_and_warm_up(build)
    _record_graphs(call, device)
    memory.current_bytes(device)  # gives back what building took
    if before is None or not memory.reset_peak(device):
        return call, None
    seconds_per_call(call, 1, device=device)
    peak = memory.peak_bytes(device)
    return call, None if peak is None else max(peak - before, 0)


class SliceTimer:
    """Runs `call`, which takes about `seconds`, for one time slice; returns the seconds of one call."""

    def __init__(self, call: Call, settings: Settings, *, seconds: float) -> None:
        self._call, self._device = call, torch.device(settings.device)
        self._calls = calls_per_slice(settings.seconds, call=seconds)

    def __call__(self) -> float:
        if self._calls > 1:  # the contestant before it left other data in the caches
            seconds_per_call(self._call, 1, device=self._device)
        return seconds_per_call(self._call, self._calls, device=self._device)


def seconds_per_call(call: Call, calls: int, *, device: torch.device) -> float:
    """Seconds of one call: the mean of `calls` in a row. On CUDA by events, after the device has done all of them."""
    if device.type != "cuda":
        return timeit(call, calls)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    begin.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000 / calls


def set_up_process(settings: Settings, *, training: bool = False) -> None:
    """Sets this process's threads and device, and true float32: TF32 is another precision.

    In training on a processor, freed memory is kept. A CUDA device that is named by its number becomes the current
    one, since events and graphs belong to the current one. cuDNN chooses its kernels by its rules and not by trial:
    processes that are prepared at the same time would spoil each other's trials.
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
