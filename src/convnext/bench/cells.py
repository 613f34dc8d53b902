"""What is measured: cells (one model at one kind of work), contestants in each, and how. No torch here.

A contestant is a library in a mode of execution. All contestants of a cell have the same weights and the same input.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

Library = Literal["convnext", "timm", "torchvision", "transformers"]
Mode = Literal["eager", "compile", "aoti"]
DType = Literal["float32", "bfloat16"]
Work = Literal["forward", "train"]

OURS: Literal["convnext"] = "convnext"
LIBRARIES: tuple[Library, ...] = ("convnext", "timm", "torchvision", "transformers")
MODES: tuple[Mode, ...] = ("eager", "compile", "aoti")
MODELS = ("convnext_tiny", "convnext_small", "convnext_base", "convnextv2_tiny")


@dataclass(frozen=True)
class Cell:
    """One model at one kind of work: forward for inference, train for forward, cross-entropy and backward."""

    model: str
    dtype: DType
    batch: int
    work: Work

    @property
    def title(self) -> str:
        return f"{self.model}  {self.work}  {self.dtype}  batch {self.batch}"


@dataclass(frozen=True)
class Settings:
    """How every cell is measured."""

    size: int = 224
    """Height and width of the images, in pixels."""
    seconds: float = 1.0
    """The time slice of a contestant in a round; a contestant whose one call takes longer runs once."""
    starts: int = 3
    """How often everybody is started afresh: two processes of the same program differ by where their memory lies."""
    rounds: int = 5
    """Rounds after each start; each contestant has one slice in each."""
    threads: int = 1
    device: str = "cpu"
    seed: int = 0
    """Of the weights, the images and the order of contestants in each round."""
    give_up: float = 0.0
    """A contestant is given up where its call takes more than so many times ours, and than a second; 0: nobody is."""


@dataclass(frozen=True)
class Candidate:
    """One of the settings that a contestant may be run with; the fastest of them stands for the contestant.

    Legal for every library: the memory layout of weights and images; on a processor Inductor's freezing (weights as
    constants, packed for its kernels; for inference; not tried on CUDA, which has no such packing); on CUDA its CUDA
    graphs (all kernels launched as one).
    """

    channels_last: bool = False
    frozen: bool = False
    graphs: bool = False

    @property
    def name(self) -> str:
        """NHWC (what torch calls channels_last) or NCHW, and whether it is frozen or runs as CUDA graphs."""
        layout = "NHWC" if self.channels_last else "NCHW"
        return layout + (" frozen" if self.frozen else "") + (" graphs" if self.graphs else "")


def plan(
    models: Sequence[str], dtypes: Sequence[DType], batches: Sequence[int], works: Sequence[Work]
) -> tuple[Cell, ...]:
    """Every cell, those that take least time first: forward before train, small batches before large ones."""
    order = product(works, sorted(set(batches)), dtypes, models)
    return tuple(dict.fromkeys(Cell(model, dtype, batch, work) for work, batch, dtype, model in order))


def modes_of(work: Work, modes: Sequence[Mode]) -> tuple[Mode, ...]:
    """The modes in which that work can be done: an AOTInductor package has no backward."""
    return tuple(mode for mode in modes if work == "forward" or mode != "aoti")


def candidates(mode: Mode, work: Work, device: str) -> tuple[Candidate, ...]:
    """What is tried for a contestant: both layouts, each with and without what pays most under Inductor on that device.

    On CUDA those are graphs, which a package cannot have; elsewhere freezing, which training cannot have.
    """
    cuda = device.startswith("cuda")
    freezing = (False, True) if mode != "eager" and work == "forward" and not cuda else (False,)
    graphs = (False, True) if mode == "compile" and cuda else (False,)
    return tuple(Candidate(*chosen) for chosen in product((False, True), freezing, graphs))


def seconds_for(cell: Cell, settings: Settings, modes: Sequence[Mode], libraries: int, *, call: float) -> float:
    """About how long a cell takes, where one call takes `call` seconds.

    The rounds can be reckoned. What building and compiling takes is a guess: two cores of 2024 and ConvNeXt-T.
    """
    slice_ = max(call, settings.seconds)
    trial = 3 * call + (0.0 if call > settings.seconds else _TRIAL * settings.seconds)
    beside = min(settings.threads, libraries)  # so many are built at a time
    total = 0.0
    for mode in modes_of(cell.work, modes):
        building = {"eager": 0.0, "compile": _COMPILE, "aoti": _PACKAGE}[mode]
        again = _LOAD + (building / 4 if mode == "compile" else 0.0)  # the compiler keeps what it has compiled
        trying = len(candidates(mode, cell.work, settings.device)) * (1.25 * building / beside + 2 * trial)
        total += 2 * _LOAD + trying + settings.starts * (again + 2 * call + 1.3 * settings.rounds * slice_)
    return libraries * total + settings.starts * (settings.rounds + 2) * slice_


_TRIAL = 2.5  # slices: five rounds, half a slice each
_LOAD = 3.0  # seconds until a process has its model
_COMPILE = 20.0  # seconds that torch.compile takes for a candidate, its C++ compiler included
_PACKAGE = 30.0  # the same for export and an AOTInductor package
