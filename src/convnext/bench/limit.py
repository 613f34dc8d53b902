"""The time of a model's multiply-accumulates as plain matrix products: nobody beats it without another algorithm.

Every pointwise layer is a product of its own shape, with weights of its own: rows of the activation times its matrix.
All convolutions together are one product of a convenient shape with as many multiply-accumulates. No norm, activation,
shortcut or copy. The fastest of several ways to have torch multiply counts. B batch, C channels, H W space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.bench.cells import Cell, Settings, Work
from convnext.bench.trial import Built, Call, Choice, Slices, build_all, choose, seconds_of, set_up, warmed
from convnext.models.create import create_model

_SIDE = 512  # inner and outer length of the convolutions' one product


@dataclass(frozen=True)
class Product:
    """(rows, inner) x (inner, outer). `own`: its second operand is a layer's weights, read for this product alone."""

    rows: int
    inner: int
    outer: int
    own: bool = False

    @property
    def macs(self) -> int:
        return self.rows * self.inner * self.outer


def products(model: nn.Module, *, batch: int, size: int, work: Work, in_chans: int = 3) -> list[Product]:
    """The products that hold all multiply-accumulates of `model` (on the meta device) at that work.

    Training does each three times: for the output, for the gradient of the weights and for that of the input, which
    the first layer does not need.
    """
    linear: list[Product] = []
    convolved: list[int] = []

    def note(layer: nn.Module, _given: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            rows = output.numel() // layer.out_features
            linear.append(Product(rows, layer.in_features, layer.out_features, own=True))
        elif isinstance(layer, nn.Conv2d):
            convolved.append(output.numel() * layer.weight[0].numel())

    hooks = [module.register_forward_hook(note) for module in model.modules()]
    try:
        with torch.no_grad():
            model(torch.empty(batch, in_chans, size, size, device="meta"))
    finally:
        for hook in hooks:
            hook.remove()
    macs = sum(convolved) if work == "forward" else 3 * sum(convolved) - convolved[0]
    side = next(side for side in (_SIDE, 64, 8, 1) if macs >= side**3)
    result = [*linear, Product(round(macs / side**2), side, side)]
    if work == "train":
        result += [Product(p.rows, p.outer, p.inner) for p in linear]  # of the input
        result += [Product(p.outer, p.rows, p.inner) for p in linear]  # of the weights
    return result


@dataclass
class LimitJob:
    """The products of a cell, as a job for a process (see `worker.Job`)."""

    cell: Cell
    settings: Settings
    most: float | None = None
    """Seconds of a call beyond which it is given up."""
    beside: ClassVar[bool] = False
    """It is built alone: that is hardly any work."""
    _candidates: Built | None = field(default=None, init=False)
    _slices: Slices | None = field(default=None, init=False)

    def check(self) -> None:
        """There is nobody to compare with."""

    def build(self) -> None:
        set_up(self.settings, training=self.cell.work == "train")
        self._candidates = build_all({name: partial(self._built, way) for name, way in _WAYS.items()})

    def choose(self) -> Choice:
        assert self._candidates is not None
        return choose(self._candidates, self.settings, most=self.most)

    def prepare(self, choice: Choice) -> int | None:
        set_up(self.settings, training=self.cell.work == "train")
        call = warmed(partial(self._built, _WAYS[choice.best]))
        self._slices = Slices(call, self.settings, seconds=choice.tried[choice.best])
        return None

    def slice(self) -> float:
        assert self._slices is not None
        return self._slices()

    @torch.inference_mode()
    def _built(self, way: Way) -> Call:
        device, dtype = torch.device(self.settings.device), getattr(torch, self.cell.dtype)
        with torch.device("meta"):
            model = create_model(self.cell.model)
        wanted = products(model, batch=self.cell.batch, size=self.settings.size, work=self.cell.work)
        shared: dict[tuple[int, int], Tensor] = {}

        def activation(rows: int, columns: int) -> Tensor:
            if (rows, columns) not in shared:
                shared[rows, columns] = torch.randn(rows, columns, device=device).to(dtype)
            return shared[rows, columns]

        runs = []
        for p in wanted:
            weight = torch.randn(p.outer, p.inner, device=device).to(dtype) if p.own else activation(p.outer, p.inner)
            runs.append(way(activation(p.rows, p.inner), weight))

        @torch.inference_mode()
        def run() -> None:
            for product in runs:
                product()

        return run if device.type != "cuda" else _recorded(run)


def _recorded(run: Call) -> Call:
    """All launches as one, as a CUDA graph: small products would otherwise take the time that launching them takes."""
    run()  # libraries take their workspaces
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


Way = Callable[[Tensor, Tensor], Call]
"""Of x (rows, inner) and a weight (outer, inner) makes a callable that computes their product (rows, outer)."""


def _plain(x: Tensor, weight: Tensor) -> Call:
    return partial(F.linear, x, weight)


def _in_place(x: Tensor, weight: Tensor) -> Call:
    """Into memory that is there already."""
    return partial(torch.mm, x, weight.t(), out=x.new_empty(len(x), len(weight)))


def _packed(x: Tensor, weight: Tensor) -> Call:
    """With the weight in oneDNN's own layout, as Inductor has it when it freezes; private to torch, so it may fail."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), len(x))
    return partial(torch.ops.mkldnn._linear_pointwise, x, packed, None, "none", [], "")


_WAYS: dict[str, Way] = {"plain": _plain, "into place": _in_place, "packed": _packed}


def probe(settings: Settings) -> float:
    """Multiply-accumulates a second of this machine in float32, roughly: one product, for a few tenths of a second."""
    set_up(settings)
    device = torch.device(settings.device)
    x = torch.randn(1024, 1024, device=device)
    seconds = min(seconds_of(lambda: F.linear(x, x), 5, device=device) for _ in range(4))
    return 1024**3 / seconds
