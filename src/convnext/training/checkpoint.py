"""Checkpoints: written atomically, read safely, and complete: a resumed run is the same run, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from convnext.core import distributed
from convnext.core.atomic import replacing
from convnext.core.errors import UserError
from convnext.core.pickles import read_pickle
from convnext.core.seeding import capture_rng, restore_rng
from convnext.training.best import Best, best_from
from convnext.training.ema import Ema

FORMAT = 1


@dataclass
class TrainState:
    """Everything that changes during training."""

    model: nn.Module
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: Ema | None = None
    step: int = 0
    """The number of optimiser steps done."""
    best: Best | None = None
    """Of the weights that are kept as the best so far; None: none are."""


def save_checkpoint(path: Path, state: TrainState, sampler: dict[str, int]) -> None:
    """Writes `state`, every rank's random generators and the sampler's position to `path`, atomically.

    All ranks call this; rank 0 writes.
    """
    generators = distributed.gather_objects(capture_rng())
    if not distributed.is_main():
        return
    content = {
        "format": FORMAT,
        "step": state.step,
        "best": state.best and state.best.as_values(),
        "model": state.model.state_dict(),
        "optimizer": state.optimizer.state_dict(),
        "scaler": state.scaler.state_dict(),
        "ema": state.ema.state_dict() if state.ema else None,
        "rng": generators,
        "sampler": sampler,
    }
    with replacing(path) as file:
        torch.save(content, file)


def load_checkpoint(path: Path, state: TrainState, sampler: dict[str, int]) -> None:
    """Loads a checkpoint into `state`.

    Raises UserError where the file is damaged, or was written with other data, batch sizes or seeds: resuming it would
    not give the same run.
    """
    content = _read(path)
    for key, value in sampler.items():
        stored = content["sampler"].get(key)
        if key != "position" and stored != value:
            raise UserError(
                f"{path} cannot be resumed: {key} was {stored} and is now {value}. Resume with the value it had."
            )
    state.model.load_state_dict(content["model"])
    state.optimizer.load_state_dict(content["optimizer"])
    state.scaler.load_state_dict(content["scaler"])
    if state.ema is not None:
        state.ema.load_state_dict(content["ema"])
    state.step, state.best = content["step"], best_from(content["best"])
    restore_rng(content["rng"][distributed.rank()])


def _read(path: Path) -> dict[str, Any]:
    content = read_pickle(path)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UserError(f"{path} is not a checkpoint of this version of convnext.")
    return content
