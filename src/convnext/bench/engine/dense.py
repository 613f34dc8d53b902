"""Measures detectors and segmenters: the job of one contestant, and all contestants in turns.

B images, H W space.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.bench.engine.cells import Settings
from convnext.bench.engine.dense_results import Contestant, DenseEntry, DensePlan, DenseResult, Work
from convnext.bench.engine.machine import this_machine
from convnext.bench.engine.results import Trial
from convnext.bench.engine.trial import (
    BuiltCandidates,
    Call,
    Choice,
    SliceTimer,
    build_all,
    build_and_measure_memory,
    choose,
    set_up_process,
)
from convnext.bench.engine.turns import Measurement, measure_in_turns
from convnext.bench.engine.worker import Job
from convnext.core.logs import Progress

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


@dataclass
class DenseJob(ABC):
    """One contestant at one kind of work, as a job for a process (see `worker.Job`)."""

    plan: DensePlan
    contestant: Contestant
    work: Work
    scratch: Path
    """The folder with the shared weights."""
    _candidates: BuiltCandidates | None = field(default=None, init=False)
    _slices: SliceTimer | None = field(default=None, init=False)

    @abstractmethod
    def check(self) -> Any:
        """Raises UserError if it computes something else than ours. Returns what the entry says of its `regions`."""

    @abstractmethod
    def build_network(self) -> tuple[nn.Module, Tensor, Callable[[nn.Module, Tensor], Callable[[], Any]]]:
        """The network for this work, its images (B, 3, H, W), and a function that makes the forward pass of both.

        That function is called once both are on their device. The forward pass returns losses by name in training, and
        anything in inference.
        """

    @abstractmethod
    def imports(self) -> Sequence[str]:
        """Modules to import before memory is measured, since they are no part of the network's memory."""

    @property
    def settings(self) -> Settings:
        """The plan's settings for the engine."""
        plan = self.plan
        return Settings(
            size=min(plan.size), seconds=plan.seconds, threads=plan.threads, device=plan.device, seed=plan.seed
        )

    def build(self) -> None:
        set_up_process(self.settings, training=self.work == "train")
        self._candidates = build_all({layout: partial(self._build, layout) for layout in LAYOUTS})

    def choose(self) -> Choice:
        assert self._candidates is not None
        return choose(self._candidates, self.settings)

    def prepare(self, choice: Choice) -> int | None:
        set_up_process(self.settings, training=self.work == "train")
        for name in self.imports():
            import_module(name)
        build = partial(self._build, choice.best)
        call, most = build_and_measure_memory(build, device=torch.device(self.plan.device))
        self._slices = SliceTimer(call, self.settings, seconds=choice.tried[choice.best])
        return most

    def slice(self) -> float:
        assert self._slices is not None
        return self._slices()

    def _build(self, layout: str) -> Call:
        """The call that is timed, in one memory layout."""
        module, x, forward = self.build_network()
        device = torch.device(self.plan.device)
        module = module.to(device).to(memory_format=LAYOUTS[layout])
        x = x.to(device, memory_format=LAYOUTS[layout])
        return self.timed_call(module, forward(module, x), device)

    def timed_call(self, module: nn.Module, forward: Callable[[], Any], device: torch.device) -> Call:
        """Inference, or a step of training. bfloat16 is by autocast over float32 weights."""
        dtype = getattr(torch, self.plan.dtype)
        cast_to = partial(torch.autocast, device.type, dtype, enabled=dtype != torch.float32)
        if self.work == "inference":
            module.eval()

            @torch.inference_mode()
            def infer() -> Any:
                with cast_to():
                    return forward()

            return infer
        parameters = list(module.train().requires_grad_(True).parameters())
        # At a rate of 0 the optimizer does all its work and the weights stay, so every step is the same work.
        optimizer = torch.optim.AdamW(parameters, lr=0.0, fused=True)

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with cast_to():
                loss = torch.stack(list(forward().values())).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step


def measure_all(
    plan: DensePlan,
    names: Sequence[Contestant],
    make_job: Callable[[Contestant, Work], Job],
    *,
    absent: Mapping[Contestant, str],
    progress: Progress,
) -> DenseResult:
    """Measures all contestants at every work of the plan. absent: contestants that cannot run, and why."""
    entries: list[DenseEntry] = []
    for number, work in enumerate(plan.works):
        begun = number * len(names) * (1 + plan.rounds)

        def report(done: int, text: str, begun: int = begun, work: Work = work) -> None:
            progress.update(begun + done, f"{work}: {text}")

        jobs = {name: make_job(name, work) for name in names}
        found = measure_in_turns(jobs, rounds=plan.rounds, seed=plan.seed, report=report)
        entries += [_entry(name, work, found[name]) for name in names]
        entries += [DenseEntry(name, work, note=why) for name, why in absent.items()]
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    return DenseResult(plan, this_machine(plan.device), date, tuple(entries))


def _entry(name: Contestant, work: Work, found: Measurement) -> DenseEntry:
    choice = found.choice
    tried = () if choice is None else tuple(Trial(layout, seconds) for layout, seconds in choice.tried.items())
    if choice is not None:
        tried += tuple(Trial(layout, failed=why) for layout, why in choice.failed.items())
    return DenseEntry(
        *(name, work),
        note=found.failed,
        choice="" if choice is None else choice.best,
        tried=tried,
        regions=found.checked,
        seconds=found.seconds,
        memory=found.memory,
    )
