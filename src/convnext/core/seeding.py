"""Reproducible randomness: seeds that are functions of integers, and generator states to store and restore."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch

_MASK = (1 << 64) - 1


def mix_seed(*parts: int) -> int:
    """Mixes integers into one 63-bit seed. Inputs that differ little give unrelated seeds (splitmix64, chained)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state ^ (part & _MASK)) & _MASK
        state = (state + 0x9E3779B97F4A7C15) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state >> 1


def seed_everything(seed: int) -> None:
    """Seeds Python, NumPy and torch (every device)."""
    random.seed(seed)
    np.random.seed(seed % (1 << 32))  # noqa: NPY002 - libraries still draw from the global generator
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - torch does not annotate it


def capture_rng() -> dict[str, Any]:
    """The states of the generators that training draws from, as tensors (safe to load with weights_only=True)."""
    state: dict[str, Any] = {"torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        state["cuda"] = torch.cuda.get_rng_state_all()
    return state


def restore_rng(state: dict[str, Any]) -> None:
    """Restores the states that `capture_rng` returned."""
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available() and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all(state["cuda"])
