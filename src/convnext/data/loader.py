"""Which image when: a pure function of (seed, step), with any number of workers, so that a resume is exact.

Shapes: N images. What a batch is, and how its images are read, is the caller's: `load` makes it from a piece of work,
in a worker process (`load_train_batch` of each task's data).

Workers are forked where the system can (Linux). That shares the index of a million images with the parent instead of
copying it, starts in milliseconds where spawning would import torch for seconds in each, and lets scripts without a
`__main__` guard work. What makes forking unsafe in general does not happen in these workers: they touch no CUDA, and
torch runs on one thread in them, so that no lock or thread pool of the parent is ever waited for.
"""

from __future__ import annotations

import functools
import multiprocessing
import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from convnext.core.errors import UserError
from convnext.core.logs import say
from convnext.core.seeding import mix_seed
from convnext.data.batch import Loaded, Work
from convnext.data.config import LoaderConfig

B = TypeVar("B")
_MAX_WORKERS = 8
_SMALL = 64  # images up to this size are read sooner than they are handed over, unless a GPU waits for them


class BadImages:
    """The images that could not be read: each is said once, and more than max(3, max_bad * num_images) are an error.

    quiet: they are counted, not said.
    """

    def __init__(self, num_images: int, *, max_bad: float, quiet: bool = False) -> None:
        self.quiet = quiet
        self.found: dict[str, str] = {}  # name -> reason
        self.num_images, self.max_bad = num_images, max_bad
        self.limit = max(3, int(max_bad * num_images))

    def add(self, name: str, reason: str) -> None:
        """Counts an image, once however often it comes. Raises UserError when there are more than the limit."""
        if name in self.found:
            return
        self.found[name] = reason
        if not self.quiet:
            say(f"Skipped an image that cannot be read: {name}: {reason}")
        if len(self.found) > self.limit:
            few = "\n".join(f"    {name}: {reason}" for name, reason in list(self.found.items())[:5])
            raise UserError(
                f"{len(self.found)} images cannot be read, more than the {self.limit} that are tolerated among "
                f"{self.num_images:,}. The first:\n{few}\nRepair or remove them; `convnext train` tolerates a greater "
                f"share with --loader.max-bad {max(2 * self.max_bad, 0.02):g} (now {self.max_bad:g})."
            )


class Sampling(NamedTuple):
    """What the order of training images depends on, besides chance. N images."""

    aspects: Tensor | None = None
    """float (N,); the images of a step are sorted by it, so that images of like shape meet in a micro-batch and little
    is padded."""
    classes: Tensor | None = None
    """int64 (N,); each class comes equally often, and `load` is given images as `balanced_order` has them."""


_PLAIN = Sampling()


def steps_per_epoch(num_images: int, global_batch: int) -> int:
    """Optimiser steps in an epoch, at least 1. What is left over after full batches waits for another epoch's order."""
    return max(1, num_images // global_batch)


@functools.lru_cache(maxsize=4)
def _order(n: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(n, generator=torch.Generator().manual_seed(mix_seed(seed, epoch)))


def train_order(n: int, *, seed: int, epoch: int) -> Tensor:
    """The order of an epoch's images: a permutation of 0..n-1, int64 (n,), the same for the same arguments."""
    return _order(n, seed, epoch).clone()


def balanced_order(classes: Tensor, *, seed: int, epoch: int) -> Tensor:
    """n images in which each class comes equally often (to one image), int64 (n,), the same for the same arguments.

    classes: int64 (n,). Of a frequent class, each epoch takes other images; those of a rare one come again and again:
    the k-th time (from 0) image i stands there as i + k * n, so that it can be augmented in another way.
    """
    n = len(classes)
    chance = torch.Generator().manual_seed(mix_seed(seed, epoch))
    mixed = torch.randperm(n, generator=chance)
    mixed = mixed[torch.argsort(classes[mixed], stable=True)]  # class by class, in each in a new order
    counts = torch.bincount(classes)
    shares = (1.0 / counts.double())[classes[mixed]].cumsum(0) / int((counts > 0).sum())
    places = (torch.arange(n) + torch.rand(1, generator=chance).double()) / n  # n steps of equal width
    chosen = mixed[torch.searchsorted(shares, places).clamp_max(n - 1)]
    together = torch.argsort(chosen, stable=True)
    first = torch.searchsorted(chosen[together], chosen[together])
    again = torch.empty_like(chosen)
    again[together] = torch.arange(n) - first
    return (chosen + n * again)[torch.randperm(n, generator=chance)]


def train_indices(step: int, *, n: int, global_batch: int, seed: int) -> tuple[int, Tensor]:
    """(epoch, images int64) of optimiser step `step`, counted from 0 over all epochs.

    global_batch images; where there are fewer in all (n < global_batch), all n, in that epoch's order.
    """
    epoch, position = divmod(step, steps_per_epoch(n, global_batch))
    return epoch, _order(n, seed, epoch)[position * global_batch : (position + 1) * global_batch].clone()


def micro_batch_sizes(n: int, *, global_batch: int, micro_batch: int, world_size: int = 1) -> list[int]:
    """How many images each micro-batch of one optimiser step has, on each rank: the last may be smaller.

    Raises UserError where a rank would get no image at all.
    """
    share = min(n, global_batch) // world_size
    if share == 0:
        raise UserError(
            f"{min(n, global_batch)} images a step cannot be shared among {world_size} processes. Start fewer "
            "processes, or use a larger batch."
        )
    return [min(micro_batch, share - start) for start in range(0, share, micro_batch)]


def train_batches(
    load: Callable[[Work], Loaded[B]],
    *,
    num_images: int,
    workers: int,
    global_batch: int,
    micro_batch: int,
    seed: int,
    start_step: int,
    bad: BadImages,
    ranks: tuple[int, int] = (0, 1),
    sampling: Sampling = _PLAIN,
) -> Iterator[B]:
    """Endless micro-batches of augmented images, from optimiser step `start_step` on.

    load: makes the batch of some images in some epoch, a pure function of them; it fills the places of images that
    cannot be read, and names those, which are counted in `bad`. workers: processes (`resolved_workers`).
    ranks: (this process's rank, the number of processes). The images of each step (`train_indices`) are shared
    equally among the ranks (what does not divide is left out), and each rank's share is cut into micro-batches as
    `micro_batch_sizes` says. The same arguments give the same batches with any number of
    workers.
    """
    world_size = ranks[1]
    sizes = micro_batch_sizes(num_images, global_batch=global_batch, micro_batch=micro_batch, world_size=world_size)
    work = _TrainWork(num_images, global_batch, seed, start_step, sizes, ranks, sampling)
    return _batches(load, work, bad, workers=workers, may_be_empty=False)


def eval_batches(
    load: Callable[[Work], Loaded[B]],
    *,
    num_images: int,
    workers: int,
    batch_size: int,
    bad: BadImages,
    ranks: tuple[int, int] = (0, 1),
) -> Iterator[B]:
    """Every image once over all ranks, in order.

    ranks: (this process's rank r, the number w of processes); rank r has the images r, r + w, ... `load` and `workers`
    as in `train_batches`, but an image that cannot be read is left out: batches may be smaller than `batch_size`.
    """
    rank, world_size = ranks
    mine = torch.arange(rank, max(num_images, rank), world_size)
    work = [Work(0, indices) for indices in mine.split(batch_size) if len(indices)]
    return _batches(load, work, bad, workers=min(workers, len(work)), may_be_empty=True)


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def resolved_workers(loader: LoaderConfig, *, size: int, world_size: int = 1) -> int:
    """Worker processes on each rank. A number that was chosen is kept; -1 (auto) is decided from the machine.

    Images of 64 pixels and less need no workers unless a GPU waits for them: measured on CIFAR-10, reading and
    augmenting one takes 0.1 to 0.2 ms, little beside the step of any model on a CPU. Otherwise at most 8, and on a
    machine without GPU half of the cores, for the model needs them more.
    """
    if loader.workers >= 0:
        return loader.workers
    gpu = torch.cuda.is_available()
    if size <= _SMALL and not gpu:
        return 0
    cores = usable_cores()
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))  # ranks on this machine
    cores = cores // max(here, 1)
    return min(max(cores if gpu else cores // 2, 1), _MAX_WORKERS)


class _TrainWork:
    """The micro-batches of one rank, for ever."""

    def __init__(
        self,
        n: int,
        global_batch: int,
        seed: int,
        start_step: int,
        sizes: Sequence[int],
        ranks: tuple[int, int],
        sampling: Sampling,
    ) -> None:
        self.n, self.global_batch, self.seed, self.start_step = n, global_batch, seed, start_step
        self.sizes, self.ranks, self.sampling = list(sizes), ranks, sampling

    def __iter__(self) -> Iterator[Work]:
        (rank, world_size), share = self.ranks, sum(self.sizes)
        step, balanced = self.start_step, {-1: torch.empty(0)}
        while True:
            epoch, indices = train_indices(step, n=self.n, global_batch=self.global_batch, seed=self.seed)
            if (classes := self.sampling.classes) is not None:
                if epoch not in balanced:
                    balanced = {epoch: balanced_order(classes, seed=self.seed, epoch=epoch)}
                start = step % steps_per_epoch(self.n, self.global_batch) * self.global_batch
                indices = balanced[epoch][start : start + self.global_batch]
            indices = indices[: share * world_size]  # before sorting: else the widest would always be left out
            if (aspects := self.sampling.aspects) is not None:
                indices = indices[torch.argsort(aspects[indices % self.n], stable=True)]
            mine = indices[rank * share : (rank + 1) * share]
            yield from (Work(epoch, micro) for micro in mine.split(self.sizes))
            step += 1


class _Reader(Dataset[Loaded[B]]):
    """A DataLoader's data set whose "index" is a piece of work and whose "sample" is the whole batch."""

    def __init__(self, load: Callable[[Work], Loaded[B]]) -> None:
        self.load = load

    def __getitem__(self, index: Work) -> Loaded[B]:
        threads = torch.get_num_threads()
        # single images are too small to share: without workers, two threads took three times as long as one
        torch.set_num_threads(1)
        try:
            return self.load(index)
        finally:
            torch.set_num_threads(threads)


def _batches(
    load: Callable[[Work], Loaded[B]], work: Iterable[Work], bad: BadImages, *, workers: int, may_be_empty: bool
) -> Iterator[B]:
    """Starts the workers now, before the caller starts CUDA and threads; what they read is yielded in order."""
    fork = workers > 0 and "fork" in multiprocessing.get_all_start_methods()
    with warnings.catch_warnings():
        # of more workers than cores (they were asked for), and on forking beside threads (see the top of this file)
        warnings.simplefilter("ignore")
        running = iter(
            DataLoader(
                _Reader(load),
                sampler=work,
                batch_size=None,  # a piece of work is a whole micro-batch already
                num_workers=workers,
                collate_fn=_as_it_is,
                generator=torch.Generator(),  # its own: a seed drawn from the global one would make a resume differ
                pin_memory=torch.cuda.is_available(),
                multiprocessing_context="fork" if fork else None,
                worker_init_fn=_start_worker if workers else None,
            )
        )
    return _yielded(running, bad, may_be_empty)


def _yielded(running: Iterator[Loaded[B]], bad: BadImages, may_be_empty: bool) -> Iterator[B]:
    try:
        for batch, count, failures in running:
            for name, reason in failures:
                bad.add(name, reason)
            if count:
                yield batch
            elif not may_be_empty:
                name, reason = failures[0]
                raise UserError(
                    f"None of {len(failures)} images in a row can be read; the first is {name}: {reason}. Check "
                    "the disk and the data."
                )
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise UserError(
            "A process that reads images was killed: out of memory, or of shared memory (in a container, start it with "
            "--shm-size=8g). Fewer processes need less: --loader.workers 2 in `convnext train`, --workers 2 in "
            "`convnext evaluate`; or 0 for none."
        ) from error


def _as_it_is(loaded: Any) -> Any:
    return loaded  # else the DataLoader would turn it into a list


def _start_worker(worker: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle; it stops the workers
