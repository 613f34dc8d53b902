"""What the training loop relies on in a task: a suite that every task's tests inherit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn


def tensors(value: Any) -> list[Tensor]:
    """Every tensor in a batch, whatever its nesting."""
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, (tuple, list)):
        return [found for item in value for found in tensors(item)]
    return []


def alike(one: Any, two: Any) -> bool:
    first, second = tensors(one), tensors(two)
    return len(first) == len(second) and all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


class TaskContract:
    """Subclasses say how to make the task (on at least eight images) and a model for it."""

    def task(self, seed: int = 0) -> Any:
        raise NotImplementedError

    def model(self) -> nn.Module:
        raise NotImplementedError

    def take(self, task: Any, count: int, start: int = 0) -> list[Any]:
        batches = task.batches(start_step=start, global_batch=4, micro_batch=2)
        return [next(batches) for _ in range(count)]

    def losses(self, task: Any, model: nn.Module, batch: Any, *, step: int = 0, micro: int = 0) -> dict[str, Tensor]:
        torch.manual_seed(0)  # what a task draws from the global generator, a checkpoint holds
        return dict(task.losses(model, batch, step=step, micro=micro))

    def test_batches_are_a_pure_function_of_the_step(self) -> None:
        whole, tail = self.take(self.task(), 10), self.take(self.task(), 4, start=3)
        assert all(alike(one, two) for one, two in zip(whole[6:], tail, strict=True))
        assert not alike(whole[0], whole[2])

    def test_another_seed_gives_other_batches(self) -> None:
        one, two = (self.take(self.task(seed=seed), 4) for seed in (0, 1))
        assert not alike(one, two)

    def test_losses_are_float32_numbers_with_gradients(self) -> None:
        task, model = self.task(), self.model().train()
        for dtype in (torch.float32, torch.bfloat16):
            with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
                losses = self.losses(task, model, self.take(task, 1)[0])
            assert all(loss.shape == () and loss.dtype == torch.float32 for loss in losses.values())
            torch.stack(list(losses.values())).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())

    def test_losses_are_a_pure_function_of_batch_and_step(self) -> None:
        task, model = self.task(), self.model().train()
        batch = self.take(task, 1)[0]
        before = {name: value.clone() for name, value in model.state_dict().items()}
        first = self.losses(task, model, batch, step=3)
        model.load_state_dict(before)
        assert {n: v.item() for n, v in first.items()} == {
            n: v.item() for n, v in self.losses(task, model, batch, step=3).items()
        }

    def test_evaluation_has_the_goal_and_touches_nothing(self) -> None:
        task, model = self.task(), self.model().eval()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        state = torch.get_rng_state()
        figures = task.evaluate(model)
        assert task.goal in figures
        assert all(value is None or math.isfinite(value) for value in figures.values())
        assert torch.equal(state, torch.get_rng_state())
        assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())

    def test_an_epoch_has_all_training_images(self) -> None:
        task = self.task()
        assert task.num_images == len(task.train) >= 8
