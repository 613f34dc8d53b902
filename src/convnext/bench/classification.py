"""Our classifiers beside timm's, torchvision's and transformers': the same weights and images, in several modes.

B batch, H W space, K classes.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.bench import classifiers
from convnext.bench.engine.cell import Contestants
from convnext.bench.engine.cells import OURS, Candidate, Cell, Library, Mode, Plan, Settings, candidates_for
from convnext.bench.engine.compiling import compile_model, interruptible_backward, pause_while_compiling
from convnext.bench.engine.machine import INSTALL, installed_version
from convnext.bench.engine.parity import TOLERANCE, random_images, relative_difference
from convnext.bench.engine.results import CellResult, Entry
from convnext.bench.engine.run import run_plan
from convnext.bench.engine.timing import GivenUp, time_limit
from convnext.bench.engine.trial import (
    FIRST_CALL_SECONDS,
    BuiltCandidates,
    Call,
    Choice,
    SliceTimer,
    build_all,
    build_and_measure_memory,
    choose,
    set_up_process,
)
from convnext.bench.engine.worker import preload
from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.models.fuse import fuse

_TOLERANCES = {"float32": TOLERANCE, "bfloat16": 0.1}
"""How far the result of a candidate may be from float32: bfloat16 has 8 bits of precision."""


@dataclass
class ClassifierJob:
    """One contestant of a cell, as a job for a process (see `worker.Job`)."""

    cell: Cell
    settings: Settings
    library: Library
    mode: Mode
    scratch: Path
    """A folder for packages."""
    fold: bool = True
    """Whether ours is folded for inference."""
    max_seconds: float | None = None
    """It is given up if one call takes longer; None: never."""
    _candidates: BuiltCandidates | None = field(default=None, init=False)
    _expected: Tensor | None = field(default=None, init=False)
    _slices: SliceTimer | None = field(default=None, init=False)

    @property
    def builds_in_parallel(self) -> bool:
        """Whether building keeps no more than one thread busy: a compiler's, or that of a program for a GPU."""
        return self.mode != "eager" or self.settings.device != "cpu"

    def check(self) -> None:
        """Raises UserError unless its float32 logits of one image are ours. Ours is folded if it is timed folded."""
        set_up_process(self.settings, training=self.cell.work == "train")
        x = self._images(1)
        with torch.inference_mode():
            off = relative_difference(self._build_model()(x), self._ours()(x))
        if not off <= TOLERANCE:
            raise UserError(
                f"{self.library}'s {self.cell.model} with our weights differs from ours by {off:.1e} relative in "
                f"float32, more than {TOLERANCE:.0e}: not the same computation, so times would not compare. "
                f"Leave {self.library} out (--libraries), and please report it with the versions."
            )

    def build(self) -> None:
        set_up_process(self.settings, training=self.cell.work == "train")
        found = candidates_for(self.mode, self.cell.work, self.settings.device)
        self._candidates = build_all({candidate.name: partial(self._build_compiled, candidate) for candidate in found})

    def choose(self) -> Choice:
        assert self._candidates is not None
        return choose(self._candidates, self.settings, max_seconds=self.max_seconds, first=self._check_first_call)

    def prepare(self, choice: Choice) -> int | None:
        set_up_process(self.settings, training=self.cell.work == "train")
        if self.mode != "eager":
            import_module("torch._inductor.compile_fx")  # the compiler itself is no part of the model's memory
        found = candidates_for(self.mode, self.cell.work, self.settings.device)
        candidate = next(c for c in found if c.name == choice.best)
        build = partial(self._build_call, candidate)
        call, memory = build_and_measure_memory(build, device=torch.device(self.settings.device))
        self._slices = SliceTimer(call, self.settings, seconds=choice.tried[choice.best])
        return None if candidate.graphs else memory  # torch's account leaves out what a graph keeps for itself

    def slice(self) -> float:
        assert self._slices is not None
        return self._slices()

    def _ours(self) -> classifiers.Model:
        """Our model with the shared weights, unfolded."""
        return classifiers.random_model(self.cell.model, seed=self.settings.seed)

    def _images(self, batch: int) -> Tensor:
        """The images (batch, 3, H, W) that every contestant is given."""
        return random_images((self.settings.size, self.settings.size), batch, seed=self.settings.seed)

    def _targets(self) -> Tensor:
        """Classes (B,) to train towards."""
        generator = torch.Generator().manual_seed(self.settings.seed + 2)
        return torch.randint(1000, (self.cell.batch,), generator=generator)

    def _build_model(self) -> nn.Module:
        """The library's model with the shared weights. Ours is folded for inference if `fold`."""
        if self.library == OURS and self.cell.work == "forward" and self.fold:
            return fuse(self._ours())
        return classifiers.build(self.library, self.cell.model, self._ours())

    def _build_compiled(self, candidate: Candidate) -> Call:
        """The call that is timed, compiled if the mode says so."""
        call = self._build_call(candidate)
        if self.mode == "compile" and self.cell.work == "train":
            self._compile_by_calling(call)
        return call

    def _compile_by_calling(self, call: Call) -> None:
        """Makes the first call, which compiles.

        It is interrupted as soon as it is too slow, but not given up: other processes build at the same time, so only
        `choose` can tell.
        """
        with contextlib.suppress(GivenUp), self._first_call_limit():
            call()

    @contextlib.contextmanager
    def _first_call_limit(self) -> Iterator[None]:
        """Raises GivenUp if the block, a first call, takes too long. A compiler's time does not count."""
        with time_limit(self.max_seconds, extra=FIRST_CALL_SECONDS) as deadline:
            if deadline is None:
                yield
                return
            with pause_while_compiling(deadline) if self.mode == "compile" else interruptible_backward():
                yield

    def _check_first_call(self, call: Call) -> None:
        """Makes the first call while nothing else runs. Raises ArithmeticError if its result is not ours in float32."""
        with self._first_call_limit():
            result = call()
        expected = self._expected_result()
        off = relative_difference(result[:1] if self.cell.work == "forward" else result, expected)
        if not off <= _TOLERANCES[self.cell.dtype]:  # NaN is not within it either
            raise ArithmeticError(f"computes something else: {off:.1e} relative from float32")

    @torch.inference_mode()
    def _expected_result(self) -> Tensor:
        """The result of our unfolded model in float32: the logits (1, K) of the first image, or the loss of all."""
        if self._expected is not None:
            return self._expected
        ours, x = self._ours(), self._images(self.cell.batch)
        if self.cell.work == "forward":
            expected = ours(x[:1])
        else:
            ours.train()  # a BatchNorm uses the statistics of the batch then
            expected = F.cross_entropy(ours(x), self._targets())
        self._expected = expected
        return expected

    def _build_call(self, candidate: Candidate) -> Call:
        """The call that is timed. In training it is compiled when it first runs."""
        device = torch.device(self.settings.device)
        layout = torch.channels_last if candidate.channels_last else torch.contiguous_format
        dtype = getattr(torch, self.cell.dtype)
        x = self._images(self.cell.batch).to(device, memory_format=layout)
        module = self._build_model().to(device).to(memory_format=layout)
        if self.cell.work == "train":
            return self._training_step(module, x, dtype, candidate)
        return partial(torch.inference_mode()(self._inference(module.to(dtype), x.to(dtype), candidate)), x.to(dtype))

    def _inference(self, module: nn.Module, x: Tensor, candidate: Candidate) -> Callable[[Tensor], Any]:
        """The module as its mode runs it, compiled for images like x."""
        if self.mode == "eager":
            return module
        if self.mode == "aoti":
            return self._package(module, x, candidate)
        from torch._inductor import config  # takes seconds, which only this mode needs

        run = compile_model(module, candidate)
        with config.patch(freezing=candidate.frozen), torch.inference_mode():
            self._compile_by_calling(partial(run, x))
        return run

    def _training_step(self, module: nn.Module, x: Tensor, dtype: torch.dtype, candidate: Candidate) -> Call:
        """Forward, cross-entropy and backward. bfloat16 is by autocast over float32 weights, as one trains."""
        module.train().requires_grad_(True)
        labels = self._targets().to(x.device)
        run: Callable[[Tensor], Tensor] = module
        if self.mode == "compile":
            run = compile_model(module, candidate)
        parameters = list(module.parameters())

        def step() -> Tensor:
            for parameter in parameters:
                parameter.grad = None
            with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
                loss = F.cross_entropy(run(x), labels)
            loss.backward()
            return loss.detach()

        return step

    def _package(self, module: nn.Module, x: Tensor, candidate: Candidate) -> Callable[[Tensor], Any]:
        """An AOTInductor package, exported by the first process that needs it and loaded as one would elsewhere."""
        path = self.scratch / f"{self.library} {candidate.name}.pt2"
        if not path.exists():
            with torch.no_grad():
                program = torch.export.export(module, (x,))
                torch._inductor.aoti_compile_and_package(
                    program, package_path=str(path), inductor_configs={"freezing": candidate.frozen}
                )
        # Loading unpacks into the folder for temporary files, and leaves that there when the process ends.
        usual = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(self.scratch)
        try:
            return torch._inductor.aoti_load_package(str(path))
        finally:
            os.environ.pop("TMPDIR")
            if usual is not None:
                os.environ["TMPDIR"] = usual


def excuse(library: Library, mode: Mode, cell: Cell) -> Entry | None:
    """Why a library takes no part in a cell: it is absent, or does not offer the model. None if it takes part."""
    if library != OURS and installed_version(library) is None:
        return Entry(library, mode, "absent", note=INSTALL[library])
    if not classifiers.offers(library, cell.model):
        return Entry(library, mode, "not offered", note=f"{library} has no {cell.model}")
    return None


CONTESTANTS = Contestants(ClassifierJob, excuse)


def measure(plan: Plan, out: Path) -> list[CellResult]:
    """Measures every cell that the folder `out` does not hold yet; returns all cells of the plan in order.

    Raises:
        UserError: if a library computes something else than ours does, or another version wrote what is in `out`.
    """
    for library in plan.libraries:
        if library != OURS and installed_version(library) is None:
            say(f"{library} is absent; to have it compared: {INSTALL[library]}")
    modules = ["convnext.bench.classification", "convnext.bench.engine.limit"]
    preload([*modules, *classifiers.modules(plan.libraries)])
    return run_plan(plan, CONTESTANTS, out)
