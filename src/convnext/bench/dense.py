"""One contestant at one kind of work on a network for dense tasks, and all of them taking turns.

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

from convnext.bench.alternate import Turns, alternate
from convnext.bench.cells import Settings
from convnext.bench.dense_results import Asked, Contestant, DenseResult, Entry, Work
from convnext.bench.results import Tried
from convnext.bench.run import this_machine
from convnext.bench.trial import Built, Call, Choice, Slices, build_all, build_measured, choose, set_up
from convnext.bench.worker import Job
from convnext.core.logs import Progress

LAYOUTS = {"NCHW": torch.contiguous_format, "NHWC": torch.channels_last}


@dataclass
class DenseJob(ABC):
    """One contestant at one kind of work (see `worker.Job`). `scratch`: the folder with the common weights."""

    asked: Asked
    contestant: Contestant
    work: Work
    scratch: Path
    _candidates: Built | None = field(default=None, init=False)
    _slices: Slices | None = field(default=None, init=False)

    @abstractmethod
    def check(self) -> Any:
        """What is told of its work; raises UserError where it computes something else than ours."""

    @abstractmethod
    def built(self) -> tuple[nn.Module, Tensor, Callable[[nn.Module, Tensor], Callable[[], Any]]]:
        """The network for this work, its images (B, 3, H, W), and what makes of both, on their device, its forward
        pass: anything in inference, losses by name in training."""

    @abstractmethod
    def imports(self) -> Sequence[str]:
        """Modules that are no part of a network's memory."""

    @property
    def settings(self) -> Settings:
        asked = self.asked
        return Settings(
            size=min(asked.size),
            seconds=asked.seconds,
            threads=asked.threads,
            device=asked.device,
            seed=asked.seed,
        )

    def build(self) -> None:
        set_up(self.settings, training=self.work == "train")
        self._candidates = build_all({layout: partial(self._ready, layout) for layout in LAYOUTS})

    def choose(self) -> Choice:
        assert self._candidates is not None
        return choose(self._candidates, self.settings)

    def prepare(self, choice: Choice) -> int | None:
        set_up(self.settings, training=self.work == "train")
        for name in self.imports():
            import_module(name)
        build = partial(self._ready, choice.best)
        call, most = build_measured(build, device=torch.device(self.asked.device))
        self._slices = Slices(call, self.settings, seconds=choice.tried[choice.best])
        return most

    def slice(self) -> float:
        assert self._slices is not None
        return self._slices()

    def _ready(self, layout: str) -> Call:
        """What is timed."""
        module, x, forward = self.built()
        device = torch.device(self.asked.device)
        module = module.to(device).to(memory_format=LAYOUTS[layout])
        x = x.to(device, memory_format=LAYOUTS[layout])
        return self.call(module, forward(module, x), device)

    def call(self, module: nn.Module, forward: Callable[[], Any], device: torch.device) -> Call:
        """What inference gives, or a step of training. bfloat16 is by autocast over float32 weights."""
        dtype = getattr(torch, self.asked.dtype)
        cast_to = partial(torch.autocast, device.type, dtype, enabled=dtype != torch.float32)
        if self.work == "inference":
            module.eval()

            @torch.inference_mode()
            def found() -> Any:
                with cast_to():
                    return forward()

            return found
        parameters = list(module.train().requires_grad_(True).parameters())
        # At a rate of 0 the optimiser has all its work, and the weights stay: so does the work of every other step.
        optimizer = torch.optim.AdamW(parameters, lr=0.0, fused=True)

        def step() -> Tensor:
            optimizer.zero_grad(set_to_none=True)
            with cast_to():
                loss = torch.stack(list(forward().values())).sum()
            loss.backward()
            optimizer.step()
            return loss.detach()

        return step


def take_turns(
    asked: Asked,
    names: Sequence[Contestant],
    jobs: Callable[[Contestant, Work], Job],
    *,
    absent: Mapping[Contestant, str],
    progress: Progress,
) -> DenseResult:
    """All contestants at every work that was asked for. absent: contestants that cannot run, and why."""
    entries: list[Entry] = []
    for number, work in enumerate(asked.works):
        begun = number * len(names) * (1 + asked.rounds)
        turns = alternate(
            {name: jobs(name, work) for name in names},
            rounds=asked.rounds,
            seed=asked.seed,
            heard=lambda done, text, begun=begun, work=work: progress.update(begun + done, f"{work}: {text}"),
        )
        entries += [_entry(name, work, turns[name]) for name in names]
        entries += [Entry(name, work, note=why) for name, why in absent.items()]
    date = datetime.now().astimezone().isoformat(timespec="seconds")
    return DenseResult(asked, this_machine(asked.device), date, tuple(entries))


def _entry(name: Contestant, work: Work, turns: Turns) -> Entry:
    choice = turns.choice
    tried = () if choice is None else tuple(Tried(layout, seconds) for layout, seconds in choice.tried.items())
    if choice is not None:
        tried += tuple(Tried(layout, failed=why) for layout, why in choice.failed.items())
    return Entry(
        *(name, work),
        note=turns.failed,
        choice="" if choice is None else choice.best,
        tried=tried,
        regions=turns.checked,
        seconds=turns.seconds,
        memory=turns.memory,
    )
