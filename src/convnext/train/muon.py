"""Muon: steps of orthogonalised momentum for matrices, AdamW for everything else.

M matrices of one shape, R rows, C columns.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import torch
from torch import Tensor
from torch.optim.adamw import adamw

# Odd polynomial a x + b x^3 + c x^5 that takes every singular value in (0, 1] near 1 in five rounds, and the number of
# those rounds: https://kellerjordan.github.io/posts/muon
_A, _B, _C, _ROUNDS = 3.4445, -4.7750, 2.0315, 5


def orthogonalized(matrices: Tensor) -> Tensor:
    """The nearest half-orthogonal matrices, roughly: (M, R, C) to the same, singular values near 1 (about 0.7 to 1.2).

    Newton-Schulz rounds in the type that comes in: torch.optim.Muon takes bfloat16, which most CPUs multiply slowly.
    """
    x = matrices.mT if matrices.shape[1] > matrices.shape[2] else matrices  # the smaller side's products are cheaper
    x = x / (torch.linalg.matrix_norm(x, keepdim=True) + 1e-7)
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=_B, alpha=_C), x, beta=_A)
    return x.mT if matrices.shape[1] > matrices.shape[2] else x


class Muon(torch.optim.Optimizer):
    """Muon on the groups that have `matrices` set, AdamW on the others; decay is decoupled in both.

    A convolution's filters (C_out, C_in, k, k) are taken as C_out rows. The step of an (R, C) matrix is
    sqrt(max(1, R / C)) times the learning rate, as in the original.

    Args:
        groups: parameter groups with `params`, `lr`, `weight_decay` and `matrices`.
        momentum: decay of the matrices' momentum (Nesterov's).
        betas, eps: AdamW's.
    """

    def __init__(
        self, groups: list[dict[str, Any]], *, momentum: float, betas: tuple[float, float], eps: float
    ) -> None:
        super().__init__(groups, {"momentum": momentum, "betas": betas, "eps": eps})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Updates every parameter that has a gradient."""
        matrices: dict[tuple[int, int], list[tuple[Tensor, Tensor, dict[str, Any]]]] = defaultdict(list)
        for group in self.param_groups:
            if not group["matrices"]:
                self._adamw(group)
                continue
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update = self._momentum(parameter, group["momentum"])
                    matrices[update.shape[0], update.shape[1]].append((parameter, update, group))
        for (rows, columns), entries in matrices.items():  # all of one shape at once: few, larger products
            updates = orthogonalized(torch.stack([update for _, update, _ in entries]))
            for (parameter, _, group), update in zip(entries, updates, strict=True):
                lr = group["lr"] * max(1.0, rows / columns) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update.view_as(parameter), alpha=-lr)

    def _momentum(self, parameter: Tensor, momentum: float) -> Tensor:
        """The parameter's momentum, looking one step ahead, as a float32 matrix (R, C)."""
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
