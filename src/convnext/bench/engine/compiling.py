"""Calls that torch compiles: their compiler's time does not count, and a slow one can be interrupted."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from convnext.bench.engine.cells import Candidate
from convnext.bench.engine.timing import Deadline

_FINISHING = 2.0  # seconds in which a compiler that has ended is certainly out of its own code


def compile_model(module: nn.Module, candidate: Candidate) -> Callable[[Tensor], Tensor]:
    """torch.compile with the candidate's options of Inductor. The first call is what compiles."""
    options: dict[str, str | int | bool | Callable[..., Any]] = {
        "freezing": candidate.frozen,
        "triton.cudagraphs": candidate.graphs,
    }
    return torch.compile(module, dynamic=False, options=options)


@contextlib.contextmanager
def pause_while_compiling(deadline: Deadline) -> Iterator[None]:
    """Stops the clock while torch compiles: in the first call, and again in the first backward pass.

    When torch says that it has ended, it still has work to do for a moment, and nothing may interrupt it there.
    """
    from torch._dynamo.callback import callback_handler

    begun = callback_handler.register_start_callback(lambda _: deadline.pause())
    ended = callback_handler.register_end_callback(lambda _: deadline.resume(at_least=_FINISHING))
    try:
        yield
    finally:
        callback_handler.remove_start_callback(begun)
        callback_handler.remove_end_callback(ended)


def interruptible_backward() -> contextlib.AbstractContextManager[object]:
    """Makes an eager backward pass return to Python at every saved tensor; otherwise nothing can interrupt it.

    It is not for compiled calls. Those return to Python by themselves, and would be compiled again.
    """
    return torch.autograd.graph.saved_tensors_hooks(lambda saved: saved.detach(), lambda packed: packed)
