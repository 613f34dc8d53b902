"""A running average of a model's weights, in float32, updated once for each optimiser step."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Averages of every parameter and floating buffer of `model`, under the model's own state-dict names.

    Args:
        model: the plain module (not a compiled or data-parallel wrapper, whose prefixes would stick to the names).
        decay: weight of the past at each step, in (0, 1).
        warmup: begin with min(decay, (1 + step) / (10 + step)).
    """

    def __init__(self, model: nn.Module, *, decay: float, warmup: bool = True) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"An average's decay lies in (0, 1), not {decay}.")
        self.decay, self.warmup = decay, warmup
        self.shadow = {
            name: value.detach().clone().float() if value.is_floating_point() else value.detach().clone()
            for name, value in model.state_dict().items()
        }

    def decay_at(self, step: int) -> float:
        """The decay used after optimiser step `step` (0-based)."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the weights, after optimiser step `step`."""
        weight = 1.0 - self.decay_at(step)
        averages, values = [], []
        for name, value in model.state_dict().items():
            average = self.shadow[name]
            if average.is_floating_point():
                averages.append(average)
                values.append(value.detach().float())
            else:
                average.copy_(value)
        torch._foreach_lerp_(averages, values, weight)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """The model holds the average for the duration, then its own weights again, bit for bit."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.shadow)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def state_dict(self) -> dict[str, Tensor]:
        return self.shadow

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        for name, value in self.shadow.items():
            value.copy_(state[name])
