"""Muon: matrices move by their orthogonalised momentum, all other parameters by AdamW.

M matrices of one shape, R rows, C columns.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# The odd polynomial a x + b x^3 + c x^5, which brings singular values in (0, 1] near 1 in five rounds, and the number
# of rounds: https://kellerjordan.github.io/posts/muon
_A, _B, _C, _ROUNDS = 3.4445, -4.7750, 2.0315, 5


def orthogonalized(matrices: Tensor) -> Tensor:
    """Approximates the nearest semi-orthogonal matrices: (M, R, C) to (M, R, C), singular values about 0.7 to 1.2.

    Newton-Schulz iterations in the input's type. torch.optim.Muon computes in bfloat16, which is slow on most CPUs.
    """
    x = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices  # products of the smaller side are cheaper
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if matrices.shape[1] > matrices.shape[2] else x


class Muon(torch.optim.Optimizer):
    """Muon for the groups with `matrices` set, AdamW for the others; weight decay is decoupled in both.

    The filters (C_out, C_in, k, k) of a convolution are a matrix of C_out rows. The step of an (R, C) matrix is
    multiplied by sqrt(max(1, R / C)), as in the original.

    Args:
        groups: parameter groups with `params`, `lr`, `weight_decay` and `matrices`.
        momentum: decay of the matrices' Nesterov momentum.
        betas, eps: of AdamW.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, momentum: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(groups, {"momentum": momentum, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> Any:
        """Updates every parameter that has a gradient. `closure`, if any, is called first; returns its loss."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        matrices: dict[tuple[int, int], list[tuple[Tensor, Tensor, dict[str, Any]]]] = defaultdict(list)
        for group in self.param_groups:
            if not group["matrices"]:
                self._adamw(group)
                continue
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._momentum(parameter, group["momentum"])
                    matrices[update.shape[0], update.shape[1]].append((parameter, update, group))
        for (rows, columns), entries in matrices.items():  # all of one shape at once: fewer, larger products
            updates = orthogonalized(torch.stack([update for _, update, _ in entries]))
            for (parameter, _, group), update in zip(entries, updates, strict=True):
                lr = group["lr"] * max(1.0, rows / columns) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.view_as(parameter), alpha=-lr)
        return loss

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """The parameter's Nesterov momentum as a float32 matrix (R, C)."""
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter, memory_format=torch.contiguous_format)
        gradient = parameter.grad
        assert gradient is not None
        buffer = state["momentum"].lerp_(gradient, 1 - momentum)
        return gradient.contiguous().lerp(buffer, momentum).flatten(1).float()

    def _adamw(self, group: dict[str, Any]) -> None:
        """One step of torch's AdamW on a group."""
        used = [parameter for parameter in group["params"] if parameter.grad is not None]
        if not used:
            return
        for parameter in used:
            if not self.state[parameter]:
                self.state[parameter].update(
                    step=torch.zeros((), device=parameter.device),
                    exp_avg=torch.zeros_like(parameter),
                    exp_avg_sq=torch.zeros_like(parameter),
                )
        states = [self.state[parameter] for parameter in used]
        adamw(
            used,
            [parameter.grad for parameter in used],
            [state["exp_avg"] for state in states],
            [state["exp_avg_sq"] for state in states],
            [],
            [state["step"] for state in states],
            fused=used[0].device.type in ("cpu", "cuda"),
            amsgrad=False,
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            lr=group["lr"],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=False,
        )
