"""Settings of training. No torch here: the command line reads these before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser and its parameter groups (AdamW: paper Tables 5 and 6)."""

    name: Literal["adamw", "muon"] = "adamw"
    """adamw, the papers' choice; muon takes orthogonalised steps on matrices, which learns faster in short runs."""
    lr: float = 4e-3
    """Learning rate at its height, for the stated global batch (never scaled behind your back)."""
    matrix_lr: float = 0.02
    """muon: learning rate of the matrices at its height; the other parameters have `lr`."""
    momentum: float = 0.95
    """muon: decay of the matrices' momentum."""
    weight_decay: float = 0.05
    """Decay of weights; biases, norms, layer scale and GRN are never decayed."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decay rates of AdamW's moment estimates."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    layer_decay: float = 1.0
    """Factor on the learning rate for each group of layers further from the head; 1: none. Fine-tuning: 0.7 to 0.9."""
    blocks_per_group: int = 3
    """Consecutive blocks that share one learning rate under layer_decay (3: the paper's rule, 1: V2's); 0: the whole
    of a stage (the paper's segmenters)."""
    clip_grad: float = 0.0
    """Largest norm of the whole gradient; 0: no clipping."""


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate as a pure function of the step: a linear warm-up, then a cosine (as officially),
    steps (the detectors' schedules) or a line (the segmenters')."""

    epochs: float = 300.0
    """Passes over the training images."""
    warmup_epochs: float = 20.0
    """Passes during which the learning rate rises linearly from 0."""
    min_lr: float = 1e-6
    """Where the cosine or the line ends."""
    shape: Literal["cosine", "steps", "linear"] = "cosine"
    """cosine and linear: down to `min_lr`. steps: a tenth after each of `drops`."""
    drops: tuple[float, ...] = ()
    """Passes after which the learning rate falls to a tenth (shape = steps)."""
    warmup_steps: int = 0
    """Optimiser steps of the warm-up, where `warmup_epochs` is 0."""
    warmup_start: float = 0.0
    """Where the warm-up begins, as a share of the highest learning rate."""
    steps: int = 0
    """Optimiser steps, whatever the number of images; 0: `epochs` says how long."""


@dataclass(frozen=True)
class EmaConfig:
    """A running average of the weights, updated after every optimiser step."""

    decay: float = 0.0
    """Decay for each step, e.g. 0.9999; 0: no average. Its horizon is 1 / (1 - decay) steps."""
    warmup: bool = True
    """Start with a short horizon, min(decay, (1 + step) / (10 + step)), so that early noise is forgotten."""


@dataclass(frozen=True)
class LoopConfig:
    """How the loop runs: batches, types, and how often it looks up from its work."""

    global_batch: int = 4096
    """Images for each optimiser step, over all devices and accumulated micro-batches."""
    micro_batch: int = 0
    """Images on a device at a time; 0: all of its share at once. Accumulation follows from the two."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of autocast; auto: bfloat16 where the device is fast at it, else float32."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    compile: bool = False
    """Compile every block with torch.compile."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass: less memory, about a third more time."""
    seed: int = 0
    """Fixes every random choice."""
    eval_epochs: float = 1.0
    """Evaluate after this many epochs; 0: only at the end."""
    checkpoint_seconds: float = 300.0
    """Save at least this often, besides at every evaluation."""
    log_steps: int = 10
    """Log every so many optimiser steps."""
