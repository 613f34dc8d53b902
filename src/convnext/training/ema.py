"""Exponential moving average (EMA) of a model's weights, in float32, updated after every optimiser step."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """The averages of all parameters and floating-point buffers of `model`, under their names in its state dict.

    Args:
        model: the plain module, not a compiled or data-parallel wrapper, which would add prefixes to the names.
        decay: weight of the old average at each step, in (0, 1).
        warmup: begin with min(decay, (1 + step) / (10 + step)).
    """

    def __init__(self, model: nn.Module, *, decay: float, warmup: bool = True) -> None:
        if not 0.0 < decay < 1.0:
            raise ValueError(f"The decay of an average must be in (0, 1), not {decay}.")
        self.decay, self.warmup = decay, warmup
        self.shadow = {
            name: value.detach().clone().float() if value.is_floating_point() else value.detach().clone()
            for name, value in model.state_dict().items()
        }

    def decay_at(self, step: int) -> float:
        """The decay that is used after optimiser step `step` (0-based)."""
        return min(self.decay, (1 + step) / (10 + step)) if self.warmup else self.decay

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Moves the average towards the model's weights after optimiser step `step`."""
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
    def applied_to(self, model: nn.Module) -> Generator[None, None, None]:
        """Loads the average into the model for the duration of the block, then the model's own weights, bit for bit."""
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
