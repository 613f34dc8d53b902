"""How fast a recipe trains here, measured on random images, so that a sweep fits into the time it is given."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from convnext.core.device import pick_device, pick_dtype
from convnext.core.seeding import seed_everything
from convnext.models.create import from_config
from convnext.training.optim import build_optimizer

START = 12.0  # seconds until a run's process trains, and from its last step to its end, beside the evaluation
READ = 2e-4  # seconds to read and augment a small image where no other process does it
_LARGEST_TRIAL = 128  # images at a time


def seconds_an_image(recipe: Any, classes: int, *, threads: int) -> float:
    """Seconds of training a classifier for one image: forward, backward and the optimiser's step, the fastest of a few.

    threads: of the processor, where there is no GPU.
    """
    device, before = pick_device(recipe.loop.device), torch.get_num_threads()
    seed_everything(0)
    if device.type == "cpu":
        torch.set_num_threads(threads)
    try:
        model = from_config(replace(recipe.model, num_classes=classes)).to(device).train()
        optimizer = build_optimizer(model, recipe.optim)
        batch = min(recipe.loop.micro_batch or recipe.loop.global_batch, _LARGEST_TRIAL)
        dtype = pick_dtype(recipe.loop.precision, device)
        images = torch.randn(batch, 3, recipe.input.size, recipe.input.size, device=device)
        targets = torch.randint(classes, (batch,), device=device)
        taken = []
        for _ in range(4):
            begun = time.perf_counter()
            with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                loss = F.cross_entropy(model(images).float(), targets)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()  # the device is done
            taken.append(time.perf_counter() - begun)
    finally:
        torch.set_num_threads(before)
    return min(taken) / batch + (READ if device.type == "cpu" else 0.0)


def seconds_of_a_run(image: float, *, train: float, val: int) -> float:
    """Seconds that a run takes in all: so many training images of `image` seconds each, a start, and two evaluations
    (its own and that of the best weights at its end), which take a third of the time for an image."""
    return START + train * image + 2 * val * image / 3
