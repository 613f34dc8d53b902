"""A library in a mode of execution, as a job for a process. B batch, C channels, H W space, K classes."""

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

from convnext.bench import peers
from convnext.bench.cells import OURS, Candidate, Cell, Library, Mode, Settings, candidates
from convnext.bench.timing import GivenUp, Patience, at_most
from convnext.bench.trial import COLD, Built, Call, Choice, Slices, build_all, build_measured, choose, set_up
from convnext.core.errors import UserError
from convnext.models.fuse import fuse

PARITY = 1e-4  # the largest difference in float32, relative to the largest value
_IN_ORDER = 2.0  # seconds in which a compiler that has ended is certainly out of its own code
_NEAR = {"float32": PARITY, "bfloat16": 0.1}  # what each candidate's own output may differ by: bfloat16 has 8 bits


@dataclass
class ModelJob:
    """One contestant of a cell (see `worker.Job`).

    `scratch` is a folder for packages; `fold`: ours is folded for inference; `most`: seconds of a call beyond which it
    is given up, if there are any.
    """

    cell: Cell
    settings: Settings
    library: Library
    mode: Mode
    scratch: Path
    fold: bool = True
    most: float | None = None
    _candidates: Built | None = field(default=None, init=False)
    _expected: Tensor | None = field(default=None, init=False)
    _slices: Slices | None = field(default=None, init=False)

    @property
    def beside(self) -> bool:
        """Whether it is built beside others: building keeps one thread busy, a compiler's, or that of a program for
        another device."""
        return self.mode != "eager" or self.settings.device != "cpu"

    def check(self) -> None:
        """Its float32 logits of one image are ours, or UserError; ours are folded where they will be timed so."""
        set_up(self.settings, training=self.cell.work == "train")
        x = images(self.settings, 1)
        with torch.inference_mode():
            given, expected = self._module()(x), peers.reference(self.cell.model, seed=self.settings.seed)(x)
        off = difference(given, expected)
        if not off <= PARITY:
            raise UserError(
                f"{self.library}'s {self.cell.model} with our weights differs from ours by {off:.1e} relative in "
                f"float32, more than {PARITY:.0e}: not the same computation, so times would not compare. "
                f"Leave {self.library} out (--libraries), and please report it with the versions."
            )

    def build(self) -> None:
        set_up(self.settings, training=self.cell.work == "train")
        found = candidates(self.mode, self.cell.work, self.settings.device)
        self._candidates = build_all({candidate.name: partial(self._ahead, candidate) for candidate in found})

    def choose(self) -> Choice:
        assert self._candidates is not None
        return choose(self._candidates, self.settings, most=self.most, first=self._checked)

    def prepare(self, choice: Choice) -> int | None:
        set_up(self.settings, training=self.cell.work == "train")
        if self.mode != "eager":
            import_module("torch._inductor.compile_fx")  # the compiler itself is no part of the model's memory
        found = candidates(self.mode, self.cell.work, self.settings.device)
        candidate = next(c for c in found if c.name == choice.best)
        build = partial(self._built, candidate)
        call, most = build_measured(build, device=torch.device(self.settings.device))
        self._slices = Slices(call, self.settings, seconds=choice.tried[choice.best])
        return None if candidate.graphs else most  # torch's account leaves out what a graph keeps for itself

    def slice(self) -> float:
        assert self._slices is not None
        return self._slices()

    def _module(self) -> nn.Module:
        """The library's model with the common weights: ours folded where nothing is to be trained."""
        ours = peers.reference(self.cell.model, seed=self.settings.seed)
        if self.library == OURS and self.cell.work == "forward" and self.fold:
            return fuse(ours)
        return peers.build(self.library, self.cell.model, ours)

    def _ahead(self, candidate: Candidate) -> Call:
        """What is timed with these settings, compiled where it is to be."""
        call = self._built(candidate)
        if self.mode == "compile" and self.cell.work == "train":
            self._compiled_by(call)
        return call

    def _compiled_by(self, call: Call) -> None:
        """Runs it for the first time, which compiles it. One that is slow goes on no longer than it must: this may be
        beside others, so it is `choose` that gives it up."""
        with contextlib.suppress(GivenUp), self._patience():
            call()

    @contextlib.contextmanager
    def _patience(self) -> Iterator[None]:
        """Waits for a first call as long as it may take, to which a compiler's time is not counted."""
        with at_most(self.most, cold=COLD) as patience:
            if patience is None:
                yield
                return
            with _compiler_apart(patience) if self.mode == "compile" else _interruptible_backward():
                yield

    def _checked(self, call: Call) -> None:
        """Runs what is timed for the first time alone; ArithmeticError where its result is not ours in float32."""
        with self._patience():
            result = call()
        expected = self._ours()
        off = difference(result[:1] if self.cell.work == "forward" else result, expected)
        if not off <= _NEAR[self.cell.dtype]:  # NaN is not within it either
            raise ArithmeticError(f"computes something else: {off:.1e} relative from float32")

    @torch.inference_mode()
    def _ours(self) -> Tensor:
        """What our unfolded model gives in float32: the logits of the first image, or the loss of all."""
        if self._expected is not None:
            return self._expected
        ours = peers.reference(self.cell.model, seed=self.settings.seed)
        x = images(self.settings, self.cell.batch)
        if self.cell.work == "forward":
            expected = ours(x[:1])
        else:
            ours.train()  # a BatchNorm takes the batch's statistics then
            expected = F.cross_entropy(ours(x), targets(self.settings, self.cell.batch))
        self._expected = expected
        return expected

    def _built(self, candidate: Candidate) -> Call:
        """What is timed with these settings; in training it is compiled when it first runs."""
        device = torch.device(self.settings.device)
        layout = torch.channels_last if candidate.channels_last else torch.contiguous_format
        dtype = getattr(torch, self.cell.dtype)
        x = images(self.settings, self.cell.batch).to(device, memory_format=layout)
        module = self._module().to(device).to(memory_format=layout)
        if self.cell.work == "train":
            return self._training(module, x, dtype, candidate)
        return partial(torch.inference_mode()(self._inference(module.to(dtype), x.to(dtype), candidate)), x.to(dtype))

    def _inference(self, module: nn.Module, x: Tensor, candidate: Candidate) -> Callable[[Tensor], Any]:
        if self.mode == "eager":
            return module
        if self.mode == "aoti":
            return self._packaged(module, x, candidate)
        return self._compiled(module, x, candidate)

    def _compiled(self, module: nn.Module, x: Tensor, candidate: Candidate) -> Callable[[Tensor], Any]:
        """Compiled for inference at this shape; the first call is what compiles, so it is made here."""
        from torch._inductor import config  # takes seconds: for who compiles alone

        run = _compile(module, candidate)
        with config.patch(freezing=candidate.frozen), torch.inference_mode():
            self._compiled_by(partial(run, x))
        return run

    def _training(self, module: nn.Module, x: Tensor, dtype: torch.dtype, candidate: Candidate) -> Call:
        """Forward, cross-entropy and backward; bfloat16 by autocast over float32 weights, as one trains."""
        module.train().requires_grad_(True)
        labels = targets(self.settings, self.cell.batch).to(x.device)
        run: Callable[[Tensor], Tensor] = module
        if self.mode == "compile":
            run = _compile(module, candidate)
        parameters = list(module.parameters())

        def step() -> Tensor:
            for parameter in parameters:
                parameter.grad = None
            with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
                loss = F.cross_entropy(run(x), labels)
            loss.backward()
            return loss.detach()

        return step

    def _packaged(self, module: nn.Module, x: Tensor, candidate: Candidate) -> Callable[[Tensor], Any]:
        """An AOTInductor package: exported by whoever asks first, and loaded as one would load it elsewhere."""
        path = self.scratch / f"{self.library} {candidate.name}.pt2"
        if not path.exists():
            with torch.no_grad():
                program = torch.export.export(module, (x,))
                torch._inductor.aoti_compile_and_package(
                    program, package_path=str(path), inductor_configs={"freezing": candidate.frozen}
                )
        # It unpacks into a folder for temporary files, and leaves that there when its process ends.
        usual = os.environ.get("TMPDIR")
        os.environ["TMPDIR"] = str(self.scratch)
        try:
            return torch._inductor.aoti_load_package(str(path))
        finally:
            os.environ.pop("TMPDIR")
            if usual is not None:
                os.environ["TMPDIR"] = usual


def _interruptible_backward() -> contextlib.AbstractContextManager[object]:
    """Has the backward pass of what runs here come by Python at every tensor that it needs: else nothing interrupts it.

    Not for what is compiled: that is Python's by itself, and would be compiled anew.
    """
    return torch.autograd.graph.saved_tensors_hooks(lambda saved: saved.detach(), lambda packed: packed)


@contextlib.contextmanager
def _compiler_apart(patience: Patience) -> Iterator[None]:
    """Has patience stand still while torch's compiler works, at the first call and again at the first backward pass.

    When it says that it has ended, it still puts things in order for a moment, where nothing may interrupt it.
    """
    from torch._dynamo.callback import callback_handler

    begun = callback_handler.register_start_callback(lambda _: patience.pause())
    ended = callback_handler.register_end_callback(lambda _: patience.resume(soon=_IN_ORDER))
    try:
        yield
    finally:
        callback_handler.remove_start_callback(begun)
        callback_handler.remove_end_callback(ended)


def _compile(module: nn.Module, candidate: Candidate) -> Callable[[Tensor], Tensor]:
    """With the candidate's options of Inductor; compiled when it first runs."""
    options: dict[str, str | int | bool | Callable[..., Any]] = {
        "freezing": candidate.frozen,
        "triton.cudagraphs": candidate.graphs,
    }
    return torch.compile(module, dynamic=False, options=options)


def images(settings: Settings, batch: int) -> Tensor:
    """The images (batch, 3, H, W) that every contestant is given."""
    generator = torch.Generator().manual_seed(settings.seed + 1)
    return torch.randn(batch, 3, settings.size, settings.size, generator=generator)


def targets(settings: Settings, batch: int) -> Tensor:
    """Classes (batch,) to train towards."""
    generator = torch.Generator().manual_seed(settings.seed + 2)
    return torch.randint(1000, (batch,), generator=generator)


def difference(given: Tensor, expected: Tensor) -> float:
    """The largest difference relative to the largest expected value; infinite for another shape."""
    given, expected = given.detach().float().cpu(), expected.float().cpu()
    if given.shape != expected.shape:
        return float("inf")
    return ((given - expected).abs().max() / expected.abs().max()).item()
