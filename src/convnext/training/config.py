"""Settings of training. No torch here: the command line reads them before torch is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class OptimConfig:
    """The optimiser and its parameter groups (AdamW: paper Tables 5 and 6)."""

    name: Literal["adamw", "muon"] = "adamw"
    """adamw: the papers' optimiser. muon: orthogonalised steps for matrices, which learn faster in short runs."""
    lr: float = 4e-3
    """Peak learning rate, for the global batch as it is set: it is never scaled."""
    matrix_lr: float = 0.02
    """muon: peak learning rate of the matrices; the other parameters have `lr`."""
    momentum: float = 0.95
    """muon: decay of the matrices' momentum."""
    weight_decay: float = 0.05
    """Weight decay; biases, norms, layer scale and GRN have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's betas: decay of its moment estimates."""
    eps: float = 1e-8
    """AdamW's epsilon."""
    layer_decay: float = 1.0
    """Factor on the learning rate for each group of layers away from the head; 1: off. Fine-tuning: 0.7 to 0.9."""
    blocks_per_group: int = 3
    """Consecutive blocks that share a learning rate under layer_decay: 3 in the paper, 1 in V2; 0: all blocks of a
    stage (the paper's segmenters)."""
    clip_grad: float = 0.0
    """Largest norm of the gradient; 0: no clipping."""


@dataclass(frozen=True)
class ScheduleConfig:
    """The learning rate as a pure function of the step: a linear warm-up, then a cosine (the official classifiers),
    steps (the detectors) or a line (the segmenters)."""

    epochs: float = 300.0
    """Passes over the training images."""
    warmup_epochs: float = 20.0
    """Length of the warm-up, in passes over the training images."""
    min_lr: float = 1e-6
    """Learning rate at the end of the cosine or the line."""
    shape: Literal["cosine", "steps", "linear"] = "cosine"
    """cosine, linear: down to `min_lr`. steps: divided by 10 after each of `drops`."""
    drops: tuple[float, ...] = ()
    """Passes after which the learning rate is divided by 10 (shape = steps)."""
    warmup_steps: int = 0
    """Length of the warm-up in optimiser steps; 0: `warmup_epochs` sets it."""
    warmup_start: float = 0.0
    """Learning rate at the start of the warm-up, as a share of the peak."""
    steps: int = 0
    """Length of the run in optimiser steps; 0: `epochs` sets it."""


@dataclass(frozen=True)
class EmaConfig:
    """An exponential moving average of the weights, updated after every optimiser step."""

    decay: float = 0.0
    """Decay per step, e.g. 0.9999; 0: no average. It averages over about 1 / (1 - decay) steps."""
    warmup: bool = True
    """Start with the decay (1 + step) / (10 + step), so that early weights are forgotten."""


@dataclass(frozen=True)
class LoopConfig:
    """How the loop runs: batch sizes, precision, device, and how often it evaluates, saves and logs."""

    global_batch: int = 4096
    """Images per optimiser step, over all devices and accumulated micro-batches."""
    micro_batch: int = 0
    """Images on a device at a time, at most; 0: all of its share. Gradients are accumulated over micro-batches."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Type of autocast; auto: bfloat16 on devices that are fast at it, else float32."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1 or mps."""
    compile: bool = False
    """Compile every block with torch.compile."""
    activation_checkpointing: bool = False
    """Recompute each block in the backward pass: less memory, about a third more time."""
    seed: int = 0
    """Seed of all randomness."""
    eval_epochs: float = 1.0
    """Evaluate every so many epochs; 0: only at the end."""
    checkpoint_seconds: float = 300.0
    """Save a checkpoint at least every so many seconds, and after every evaluation."""
    log_steps: int = 10
    """Log every so many optimiser steps."""
