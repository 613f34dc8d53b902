"""What is measured: cells (one model at one kind of work), the contestants of each, and how. No torch here.

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

_TRIAL_SLICES = 2.5  # a trial has five rounds, each of half a slice
# A guess, from two cores of 2024 and ConvNeXt-T:
_LOAD_SECONDS = 3.0  # until a process has its model
_COMPILE_SECONDS = 20.0  # torch.compile of a candidate, with its C++ compiler
_PACKAGE_SECONDS = 30.0  # export and an AOTInductor package


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
    """How often all processes are started: two processes of the same program differ by where their memory lies."""
    rounds: int = 5
    """Rounds after each start; each contestant has one slice in each."""
    threads: int = 1
    """Threads of each contestant."""
    device: str = "cpu"
    """cpu, cuda or cuda:N."""
    seed: int = 0
    """Of the weights, the images and the order of contestants in each round."""
    give_up: float = 0.0
    """A contestant is given up if its call takes over so many times as long as ours, and over a second. 0: never."""


@dataclass(frozen=True)
class Candidate:
    """One of the settings that a contestant may be run with. Its fastest candidate stands for the contestant.

    Every library may use them all.
    """

    channels_last: bool = False
    """The memory layout of weights and images: NHWC, which torch calls channels_last, or NCHW."""
    frozen: bool = False
    """Inductor's freezing: weights as constants, packed for its kernels. Inference on a processor only."""
    graphs: bool = False
    """CUDA graphs: all kernels launched as one."""

    @property
    def name(self) -> str:
        """NHWC or NCHW, followed by frozen or graphs."""
        layout = "NHWC" if self.channels_last else "NCHW"
        return layout + (" frozen" if self.frozen else "") + (" graphs" if self.graphs else "")


@dataclass(frozen=True)
class Plan:
    """What to measure, and how."""

    cells: tuple[Cell, ...]
    libraries: tuple[Library, ...]
    modes: tuple[Mode, ...]
    settings: Settings

    def contestants(self, cell: Cell) -> list[tuple[Library, Mode]]:
        """The contestants of a cell, mode by mode, libraries in the order of the plan."""
        return [(library, mode) for mode in modes_for(cell.work, self.modes) for library in self.libraries]


def all_cells(
    models: Sequence[str], dtypes: Sequence[DType], batches: Sequence[int], works: Sequence[Work]
) -> tuple[Cell, ...]:
    """Every cell once, short ones first: forward before train, small batches before large ones."""
    order = product(works, sorted(set(batches)), dtypes, models)
    return tuple(dict.fromkeys(Cell(model, dtype, batch, work) for work, batch, dtype, model in order))


def modes_for(work: Work, modes: Sequence[Mode]) -> tuple[Mode, ...]:
    """The modes that can do that work: an AOTInductor package has no backward pass."""
    return tuple(mode for mode in modes if work == "forward" or mode != "aoti")


def candidates_for(mode: Mode, work: Work, device: str) -> tuple[Candidate, ...]:
    """The candidates of a contestant: both layouts, each with and without what helps Inductor most on that device.

    On CUDA that is graphs, which a package cannot have. On a processor it is freezing, which training cannot have.
    """
    cuda = device.startswith("cuda")
    freezing = (False, True) if mode != "eager" and work == "forward" and not cuda else (False,)
    graphs = (False, True) if mode == "compile" and cuda else (False,)
    return tuple(Candidate(*chosen) for chosen in product((False, True), freezing, graphs))


def estimate_seconds(cell: Cell, settings: Settings, modes: Sequence[Mode], libraries: int, *, call: float) -> float:
    """About how many seconds a cell takes, where one call takes `call` seconds and so many libraries take part.

    The rounds can be calculated. The time for building and compiling is a guess.
    """
    slice_ = max(call, settings.seconds)
    trial = 3 * call + (0.0 if call > settings.seconds else _TRIAL_SLICES * settings.seconds)
    in_parallel = min(settings.threads, libraries)
    total = 0.0
    for mode in modes_for(cell.work, modes):
        building = {"eager": 0.0, "compile": _COMPILE_SECONDS, "aoti": _PACKAGE_SECONDS}[mode]
        again = _LOAD_SECONDS + (building / 4 if mode == "compile" else 0.0)  # the compiler keeps what it has compiled
        candidates = len(candidates_for(mode, cell.work, settings.device))
        trying = candidates * (1.25 * building / in_parallel + 2 * trial)
        total += 2 * _LOAD_SECONDS + trying
        total += settings.starts * (again + 2 * call + 1.3 * settings.rounds * slice_)
    return libraries * total + settings.starts * (settings.rounds + 2) * slice_
