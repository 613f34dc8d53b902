"""A task small enough to follow by hand, and a loop around it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from convnext.core.logs import RunLog
from convnext.core.seeding import mix_seed, seed_everything
from convnext.models.config import ModelConfig
from convnext.models.create import from_config
from convnext.training.checkpoint import TrainState
from convnext.training.config import LoopConfig, OptimConfig, ScheduleConfig
from convnext.training.ema import Ema
from convnext.training.loop import Loop, make_plan
from convnext.training.optim import build_optimizer
from convnext.training.parallel import parallelize


class Colours:
    """Images of one colour each; the class is the brightest channel. Batches are a pure function of the step."""

    goal = "top1"
    num_images = 64

    def __init__(self, seed: int = 0) -> None:
        self.seed = seed
        self.evaluations = 0

    def _make(self, *key: int, count: int) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(mix_seed(self.seed, *key))
        colours = torch.rand(count, 3, generator=generator)
        images = colours[:, :, None, None] + 0.1 * torch.randn(count, 3, 32, 32, generator=generator)
        return images, colours.argmax(dim=1)

    def batches(self, *, start_step: int, global_batch: int, micro_batch: int) -> Iterator[Any]:
        step = start_step
        while True:
            images, targets = self._make(step, count=global_batch)
            yield from zip(images.split(micro_batch), targets.split(micro_batch), strict=True)
            step += 1

    def losses(self, model: nn.Module, batch: Any, *, step: int, micro: int) -> Mapping[str, Tensor]:
        return {"class": nn.functional.cross_entropy(model(batch[0]).float(), batch[1])}

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Mapping[str, float]:
        self.evaluations += 1
        images, targets = self._make(-1, count=50)
        return {"top1": (model(images).argmax(1) == targets).float().mean().item()}


def make_loop(
    folder: Path,
    *,
    epochs: float = 3.0,
    micro_batch: int = 0,
    drop_path_rate: float = 0.2,
    precision: Any = "float32",
    clip_grad: float = 0.0,
    task: Any = None,
    optimizer: Any = "adamw",
    **parallel: bool,
) -> Loop:
    """A loop over the toy task with everything on that has a state: drop path, average, scaler."""
    seed_everything(1)
    model = from_config(
        ModelConfig(
            "convnext_atto",
            depths=(1, 1, 1, 1),
            dims=(8, 8, 16, 16),
            num_classes=3,
            drop_path_rate=drop_path_rate,
            layer_scale_init_value=0.1,
        )
    )
    config = LoopConfig(global_batch=16, micro_batch=micro_batch, precision=precision, device="cpu", log_steps=1)
    task = task or Colours()
    optim = OptimConfig(optimizer, lr=5e-3, layer_decay=0.9)
    schedule = ScheduleConfig(epochs, 0.5, 1e-6)
    plan = make_plan(num_images=task.num_images, loop=config, schedule=schedule, world_size=1)
    parallel = {"activation_checkpointing": False, "compile_blocks": False, **parallel}
    return Loop(
        state=TrainState(
            model=model,
            optimizer=build_optimizer(model, optim),
            scaler=torch.amp.GradScaler("cpu", init_scale=16.0, enabled=precision == "float16"),
            ema=Ema(model, decay=0.9),
        ),
        task=task,
        model=parallelize(model, **parallel),
        plan=plan,
        config=config,
        lr=optim.lr,
        schedule=schedule,
        clip_grad=clip_grad,
        log=RunLog(folder / "log.jsonl"),
        checkpoint=folder / "last.pt",
        keep=lambda weights, figures: None,
    )
