"""The training loop: learning rate, micro-batches, optimiser step, average, log, evaluation, checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor, nn

from convnext.core import distributed
from convnext.core.device import pick_dtype
from convnext.core.errors import UserError
from convnext.core.logs import Progress, RunLog, say
from convnext.training.best import Best, all_finite, not_finite
from convnext.training.checkpoint import TrainState, save_checkpoint
from convnext.training.config import LoopConfig, ScheduleConfig
from convnext.training.optim import learning_rate, planned_steps, set_learning_rate
from convnext.training.parallel import synchronized
from convnext.training.task import Task


@dataclass(frozen=True)
class Plan:
    """Batch sizes and numbers of steps, computed from the settings, the number of images and the number of ranks."""

    global_batch: int
    micro_batch: int
    accumulation: int
    steps_per_epoch: int
    warmup_steps: int
    total_steps: int
    drop_steps: tuple[int, ...] = ()
    """The steps at which the learning rate is divided by 10, for a schedule in steps."""


def make_plan(*, num_images: int, loop: LoopConfig, schedule: ScheduleConfig, world_size: int) -> Plan:
    """Computes the plan. Where there are fewer images than the global batch, a step takes all of them.

    Micro-batches are of equal size (the largest divisor of a rank's share that is at most the setting), so that the
    mean of their losses is the loss of the batch. Raises UserError where a rank would have no image.
    """
    share = min(loop.global_batch, num_images) // world_size
    if share < 1:
        raise UserError(f"{world_size} devices cannot share {min(loop.global_batch, num_images)} images per step.")
    limit = min(loop.micro_batch or share, share)
    micro = next(size for size in range(limit, 0, -1) if share % size == 0)
    steps_per_epoch = max(num_images // (share * world_size), 1)
    warmup, total = planned_steps(schedule, steps_per_epoch)
    drops = tuple(round(epoch * steps_per_epoch) for epoch in schedule.drops)
    return Plan(share * world_size, micro, share // micro, steps_per_epoch, warmup, total, drops)


@dataclass
class Loop:
    """One training run. `run` trains from the state's step to the last one; the other methods are its parts."""

    state: TrainState
    task: Task
    model: nn.Module  # what is called: state.model or its data-parallel wrapper
    plan: Plan
    config: LoopConfig
    lr: float  # peak learning rate
    schedule: ScheduleConfig
    clip_grad: float
    log: RunLog | None  # None on ranks that do not write
    checkpoint: Path
    keep: Callable[[dict[str, Tensor], dict[str, Any]], None]  # called with the best weights so far and their figures

    def run(self) -> None:
        """Trains from the state's step to the plan's last step."""
        state, plan, config = self.state, self.plan, self.config
        batches = self.task.batches(start_step=state.step, global_batch=plan.global_batch, micro_batch=plan.micro_batch)
        eval_steps = (
            max(round(config.eval_epochs * plan.steps_per_epoch), 1) if config.eval_epochs else plan.total_steps
        )
        clock = _Clock(images_per_step=plan.global_batch)
        with Progress("training", plan.total_steps, unit="step", start=state.step) as progress:
            while state.step < plan.total_steps:
                losses, norm = self.one_step(batches)
                state.step += 1
                clock.steps += 1
                look = state.step == plan.total_steps or state.step % eval_steps == 0
                save = look or self.agreed(clock.since_save() > config.checkpoint_seconds)
                if save or state.step % config.log_steps == 0:
                    values, rate = self.checked(losses), clock.rate()
                    loss, lr = sum(values.values()), self.lr_at(state.step - 1)
                    parts = {"losses": values} if len(values) > 1 else {}
                    self.write("step", loss=loss, **parts, lr=lr, grad_norm=norm.item(), images_per_second=rate)
                    note = f"epoch {state.step / plan.steps_per_epoch:.1f}  loss {loss:.3f}  {_rate(rate)}"
                    progress.update(state.step, note)
                if look:
                    self.evaluate_and_save_best()
                if save:
                    save_checkpoint(self.checkpoint, state, self.sampler())
                    clock.saved()

    def one_step(self, batches: Iterator[Any]) -> tuple[dict[str, Tensor], Tensor]:
        """Takes one optimiser step. Returns its mean losses and the gradient norm before clipping, on the device."""
        state, plan = self.state, self.plan
        set_learning_rate(state.optimizer, self.lr_at(state.step))
        state.optimizer.zero_grad(set_to_none=True)
        self.model.train()
        device = next(state.model.parameters()).device
        dtype = pick_dtype(self.config.precision, device)
        means: dict[str, Tensor] = {}
        for micro in range(plan.accumulation):
            batch = next(batches)
            with synchronized(self.model, when=micro == plan.accumulation - 1):
                with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
                    losses = self.task.losses(self.model, batch, step=state.step, micro=micro)
                    loss = torch.stack(list(losses.values())).sum() / plan.accumulation
                state.scaler.scale(loss).backward()
            for name, value in losses.items():
                means[name] = means.get(name, 0) + value.detach() / plan.accumulation
        state.scaler.unscale_(state.optimizer)  # in every precision: clipping needs unscaled gradients
        limit = self.clip_grad or float("inf")
        norm = torch.nn.utils.clip_grad_norm_(state.model.parameters(), limit)
        state.scaler.step(state.optimizer)
        state.scaler.update()
        if state.ema is not None:
            state.ema.update(state.model, state.step)
        return means, norm

    def lr_at(self, step: int) -> float:
        """The learning rate of optimiser step `step`."""
        plan, schedule = self.plan, self.schedule
        return learning_rate(
            step,
            lr=self.lr,
            min_lr=schedule.min_lr,
            warmup_steps=plan.warmup_steps,
            total_steps=plan.total_steps,
            warmup_start=schedule.warmup_start,
            shape=schedule.shape,
            drop_steps=plan.drop_steps,
        )

    def checked(self, losses: dict[str, Tensor]) -> dict[str, float]:
        """The losses of the batch, averaged over all ranks. Raises UserError where one is not finite."""
        means = torch.stack(list(losses.values()))
        distributed.sum_over_ranks([means])
        values = dict(zip(losses, (means / distributed.world_size()).tolist(), strict=True))
        for name, value in values.items():
            if not math.isfinite(value):
                self.diverged(f"The loss ({name}) became {value} at step {self.state.step}")
        return values

    def diverged(self, what: str) -> NoReturn:
        """Ends a run that cannot go on: raises UserError with what is left of it and what to try."""
        best = self.state.best
        step = "" if best is None or best.step is None else f", those of step {best.step},"
        kept = "no weights were good enough to keep" if best is None else f"the best weights so far{step} are kept too"
        saved = "The last checkpoint is kept" if self.checkpoint.exists() else "There is no checkpoint yet"
        rate = "--optim.lr, and --optim.matrix-lr" if self.matrices else "--optim.lr"
        text = (
            f"{what}: the run has diverged. {saved}; {kept}. Start again with a lower learning rate ({rate}), clipping "
            "(--optim.clip-grad 1) or --loop.precision float32."
        )
        self.write("note", text=text, warning=True)
        raise UserError(text)

    @property
    def matrices(self) -> bool:
        """Whether matrices have a learning rate of their own."""
        return any(group.get("matrices") for group in self.state.optimizer.param_groups)

    def evaluate_and_save_best(self) -> None:
        """Evaluates the weights and their average, if any; keeps the better of the two if it is the best so far.

        Raises UserError where neither gives finite numbers.
        """
        state = self.state
        state.model.eval()
        candidates = [_Candidate(False, *self.evaluated())]
        if state.ema is not None:
            with state.ema.applied_to(state.model):
                candidates.append(_Candidate(True, *self.evaluated()))
        for one in candidates:
            self.write("eval", ema=one.averaged, **one.figures)
        sound = [one for one in candidates if not one.wrong]
        if not sound:
            self.diverged(f"At step {state.step} {candidates[-1].wrong}")
        better = sound[0]
        for other in sound[1:]:
            better = other if self.outcome(other).beats(self.outcome(better)) else better
        if distributed.is_main():
            epoch, name = state.step / self.plan.steps_per_epoch, " (average)" if better.averaged else ""
            listed = ", ".join(f"{key} {_text(value)}" for key, value in better.figures.items())
            say(f"epoch {epoch:.4g}: {listed}{name}")
        if self.outcome(better).beats(state.best):
            state.best = self.outcome(better)
            if distributed.is_main():
                weights = state.ema.state_dict() if better.averaged and state.ema else state.model.state_dict()
                chosen = state.best.chosen(self.task.goal)
                more = {"chosen": chosen} if chosen else {}
                self.keep(weights, {"step": state.step, "ema": better.averaged, **better.figures, **more})

    def evaluated(self) -> tuple[dict[str, Any], str]:
        """The figures of the model's present weights, and what is not finite about them (empty: nothing)."""
        model, goal = self.state.model, self.task.goal
        if not all_finite(model.state_dict().values()):
            return {goal: None}, "the weights are not finite numbers"
        figures = dict(self.task.evaluate(model))
        return figures, not_finite(figures)

    def outcome(self, candidate: _Candidate) -> Best:
        """What decides whether weights are the best."""
        figures = candidate.figures
        goal: float | None = figures[self.task.goal]
        if goal is not None and not math.isfinite(goal):
            goal = None
        return Best(goal, figures.get("loss"), self.state.step)

    def agreed(self, wish: bool) -> bool:
        """Whether rank 0 wishes it, on all ranks: their clocks differ, and all save together."""
        if distributed.world_size() == 1:
            return wish
        flag = torch.tensor(float(wish and distributed.is_main()), device=next(self.state.model.parameters()).device)
        distributed.sum_over_ranks([flag])
        return bool(flag.item())

    def sampler(self) -> dict[str, int]:
        """The position of the sampler, and everything that its order depends on."""
        plan = self.plan
        return {
            "position": self.state.step % plan.steps_per_epoch,
            "num_images": self.task.num_images,
            "global_batch": plan.global_batch,
            "micro_batch": plan.micro_batch,
            "world_size": distributed.world_size(),
            "seed": self.config.seed,
            "total_steps": plan.total_steps,
        }

    def write(self, event: str, **values: Any) -> None:
        """Writes one line of the log."""
        if self.log is not None:
            epoch = round(self.state.step / self.plan.steps_per_epoch, 4)
            self.log.write(event, step=self.state.step, epoch=epoch, **values)


class _Candidate(NamedTuple):
    """Weights that were evaluated."""

    averaged: bool
    figures: dict[str, Any]
    wrong: str  # what is not finite about them; empty: nothing


def _text(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.4g}"


def _rate(value: float) -> str:
    return f"{value:.0f} images/s" if value >= 10 else f"{value:.1f} images/s"


class _Clock:
    """The time since the last rate and the last checkpoint. Evaluation and saving are not part of the rate."""

    def __init__(self, *, images_per_step: int) -> None:
        self.images_per_step, self.steps = images_per_step, 0
        self._window = self._saved = time.monotonic()

    def since_save(self) -> float:
        return time.monotonic() - self._saved

    def saved(self) -> None:
        self._saved = self._window = time.monotonic()

    def rate(self) -> float:
        """Images per second since the last call."""
        now = time.monotonic()
        images, seconds = self.steps * self.images_per_step, now - self._window
        self._window, self.steps = now, 0
        return images / max(seconds, 1e-9)
