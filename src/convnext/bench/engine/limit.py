"""The limit: the time of a model's multiply-accumulates as plain matrix products, which only another algorithm beats.

Every linear layer is a product of its own shape with its own weights: rows of the activation times its matrix. All
convolutions together are one product of a convenient shape with as many multiply-accumulates. There is no norm,
activation, shortcut or copy. torch can multiply in several ways, and the fastest counts. B batch, H W space.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from convnext.bench.engine.cells import Cell, Settings, Work
from convnext.bench.engine.trial import (
    BuiltCandidates,
    Call,
    Choice,
    SliceTimer,
    build_all,
    build_and_warm_up,
    choose,
    seconds_per_call,
    set_up_process,
)
from convnext.models.create import create_model

_SIDE = 512  # inner and outer length of the one product for all convolutions


@dataclass(frozen=True)
class Product:
    """The shape of a matrix product: (rows, inner) x (inner, outer)."""

    rows: int
    inner: int
    outer: int
    own_weights: bool = False
    """Whether the second operand is a layer's weights, which are read for this product alone."""

    @property
    def macs(self) -> int:
        return self.rows * self.inner * self.outer


def matrix_products(model: nn.Module, *, batch: int, size: int, work: Work, in_chans: int = 3) -> list[Product]:
    """The products that make up all multiply-accumulates of `model`, which is on the meta device.

    Training does each three times: for the output, for the gradient of the weights and for the gradient of the input.
    The first layer needs no gradient of its input.
    """
    linear: list[Product] = []
    convolved: list[int] = []

    def note(layer: nn.Module, _given: Any, output: Tensor) -> None:
        if isinstance(layer, nn.Linear):
            rows = output.numel() // layer.out_features
            linear.append(Product(rows, layer.in_features, layer.out_features, own_weights=True))
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
    """Measures the products of a cell in a process of its own (see `worker.Job`)."""

    cell: Cell
    settings: Settings
    max_seconds: float | None = None
    """It is given up if one call takes longer; None: never."""
    _candidates: BuiltCandidates | None = field(default=None, init=False)
    _slices: SliceTimer | None = field(default=None, init=False)

    @property
    def builds_in_parallel(self) -> bool:
        """It is built alone: that is hardly any work."""
        return False

    def check(self) -> None:
        """Has nothing to compare with."""

    def build(self) -> None:
        set_up_process(self.settings, training=self.cell.work == "train")
        self._candidates = build_all({name: partial(self._build, multiply) for name, multiply in _MULTIPLIES.items()})

    def choose(self) -> Choice:
        assert self._candidates is not None
        return choose(self._candidates, self.settings, max_seconds=self.max_seconds)

    def prepare(self, choice: Choice) -> int | None:
        set_up_process(self.settings, training=self.cell.work == "train")
        call = build_and_warm_up(partial(self._build, _MULTIPLIES[choice.best]))
        self._slices = SliceTimer(call, self.settings, seconds=choice.tried[choice.best])
        return None

    def slice(self) -> float:
        assert self._slices is not None
        return self._slices()

    @torch.inference_mode()
    def _build(self, multiply: Multiply) -> Call:
        device, dtype = torch.device(self.settings.device), getattr(torch, self.cell.dtype)
        with torch.device("meta"):
            model = create_model(self.cell.model)
        wanted = matrix_products(model, batch=self.cell.batch, size=self.settings.size, work=self.cell.work)
        shared: dict[tuple[int, int], Tensor] = {}

        def activation(rows: int, columns: int) -> Tensor:
            if (rows, columns) not in shared:
                shared[rows, columns] = torch.randn(rows, columns, device=device).to(dtype)
            return shared[rows, columns]

        runs = []
        for p in wanted:
            own = p.own_weights
            weight = torch.randn(p.outer, p.inner, device=device).to(dtype) if own else activation(p.outer, p.inner)
            runs.append(multiply(activation(p.rows, p.inner), weight))

        @torch.inference_mode()
        def run() -> None:
            for product in runs:
                product()

        return run if device.type != "cuda" else _as_cuda_graph(run)


def _as_cuda_graph(run: Call) -> Call:
    """The same with all launches as one CUDA graph: launching small products takes longer than they do."""
    run()  # libraries allocate their workspaces
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


Multiply = Callable[[Tensor, Tensor], Call]
"""Takes x (rows, inner) and a weight (outer, inner); returns a call that computes their product (rows, outer)."""


def _plain(x: Tensor, weight: Tensor) -> Call:
    return partial(F.linear, x, weight)


def _in_place(x: Tensor, weight: Tensor) -> Call:
    """Writes into memory that is there already."""
    return partial(torch.mm, x, weight.t(), out=x.new_empty(len(x), len(weight)))


def _packed(x: Tensor, weight: Tensor) -> Call:
    """Has the weight in oneDNN's own layout, as Inductor's freezing does. Private to torch, so it may fail."""
    packed = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous(), len(x))
    return partial(torch.ops.mkldnn._linear_pointwise, x, packed, None, "none", [], "")


_MULTIPLIES: dict[str, Multiply] = {"plain": _plain, "into place": _in_place, "packed": _packed}


def macs_per_second(settings: Settings) -> float:
    """Roughly how many float32 multiply-accumulates this machine does in a second, from a few tenths of a second."""
    set_up_process(settings)
    device = torch.device(settings.device)
    x = torch.randn(1024, 1024, device=device)
    seconds = min(seconds_per_call(lambda: F.linear(x, x), 5, device=device) for _ in range(4))
    return 1024**3 / seconds
