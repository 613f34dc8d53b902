"""Which image when, in which shape, on which rank, whatever the number of workers; and what becomes of bad images."""

from __future__ import annotations

import functools
import itertools
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from convnext.core.errors import UserError
from convnext.core.seeding import mix_seed
from convnext.data import loader as module
from convnext.data.classification.augment import train_transform
from convnext.data.classification.batch import ClassificationBatch, load_eval_batch, load_train_batch
from convnext.data.classification.config import AugmentConfig
from convnext.data.config import InputConfig, LoaderConfig
from convnext.data.decode import BadImage
from convnext.data.loader import (
    BadImages,
    Sampling,
    balanced_order,
    eval_batches,
    micro_batch_sizes,
    resolved_workers,
    steps_per_epoch,
    train_batches,
    train_indices,
    train_order,
)
from convnext.data.preprocess import eval_transform

INPUT = InputConfig(size=8)
AUGMENT = AugmentConfig(crop="padded", padding=1)


class Made:
    """Image i is made from i; those in `broken` cannot be read, and reading `deadly` kills the process."""

    classes = ("even", "odd", "third")

    def __init__(self, n: int, broken: tuple[int, ...] = (), deadly: int = -1) -> None:
        self.n, self.broken, self.deadly = n, broken, deadly
        self.targets = torch.arange(n) % 3

    def __len__(self) -> int:
        return self.n

    def read(self, index: int) -> torch.Tensor:
        if index in self.broken:
            raise BadImage(self.name(index), "cut short")
        if index == self.deadly:
            os.kill(os.getpid(), signal.SIGKILL)
        return torch.randint(0, 256, (3, 9, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(index))

    def name(self, index: int) -> str:
        return f"image {index}"


def bad(source: Made, max_bad: float = 1.0) -> BadImages:
    return BadImages(len(source), max_bad=max_bad)


def training(source: Made, *, start_step: int = 0, workers: int = 0, **options: Any) -> Iterator[ClassificationBatch]:
    settings: dict[str, Any] = {"global_batch": 6, "micro_batch": 4, "seed": 1, "bad": bad(source)} | options
    load = functools.partial(load_train_batch, dataset=source, augment=AUGMENT, input=INPUT, seed=settings["seed"])
    return train_batches(load, num_images=len(source), workers=workers, start_step=start_step, **settings)


def evaluation(source: Made, *, workers: int = 0, **options: Any) -> list[ClassificationBatch]:
    settings: dict[str, Any] = {"batch_size": 4, "bad": bad(source)} | options
    load = functools.partial(load_eval_batch, dataset=source, input=INPUT)
    return list(eval_batches(load, num_images=len(source), workers=workers, **settings))


def some(batches: Iterator[ClassificationBatch], count: int) -> list[ClassificationBatch]:
    return list(itertools.islice(batches, count))


def same(ours: list[ClassificationBatch], theirs: list[ClassificationBatch]) -> bool:
    return len(ours) == len(theirs) and all(
        torch.equal(a, b) for one, other in zip(ours, theirs, strict=True) for a, b in zip(one, other, strict=True)
    )


@given(st.integers(1, 200), st.integers(1, 64), st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=50, deadline=None)
def test_an_epoch_takes_each_image_at_most_once_and_drops_the_surplus(n, global_batch, seed, epoch):
    steps = steps_per_epoch(n, global_batch)
    assert steps == max(1, n // global_batch)
    taken = [train_indices(epoch * steps + k, n=n, global_batch=global_batch, seed=seed) for k in range(steps)]
    assert {number for number, _ in taken} == {epoch}
    images = torch.cat([indices for _, indices in taken])
    assert len(images) == min(n, steps * global_batch)
    assert torch.equal(images, train_order(n, seed=seed, epoch=epoch)[: len(images)])
    assert len(set(images.tolist())) == len(images)


def test_orders_are_pure_and_golden():
    order = train_order(10, seed=1, epoch=2)
    order[0] = -1  # the caller's own copy
    assert train_order(10, seed=1, epoch=2).tolist() == [6, 3, 4, 0, 5, 7, 1, 9, 2, 8]
    assert not torch.equal(train_order(10, seed=1, epoch=2), train_order(10, seed=1, epoch=3))
    assert not torch.equal(train_order(10, seed=1, epoch=2), train_order(10, seed=2, epoch=2))


def test_micro_batches_by_hand():
    assert micro_batch_sizes(1000, global_batch=256, micro_batch=100) == [100, 100, 56]
    assert micro_batch_sizes(1000, global_batch=256, micro_batch=64, world_size=2) == [64, 64]
    assert micro_batch_sizes(7, global_batch=256, micro_batch=64, world_size=2) == [3]
    with pytest.raises(UserError, match="3 images a step cannot be shared among 4 processes"):
        micro_batch_sizes(3, global_batch=256, micro_batch=64, world_size=4)


def test_training_batches_are_what_the_functions_say():
    source = Made(20)
    batches = some(training(source), 8)
    for step in range(4):
        epoch, indices = train_indices(step, n=20, global_batch=6, seed=1)
        assert epoch == step // 3
        for batch, expected in zip(batches[2 * step : 2 * step + 2], indices.split([4, 2]), strict=True):
            assert torch.equal(batch.indices, expected)
            assert torch.equal(batch.targets, expected % 3)
            assert (batch.images.dtype, batch.images.shape) == (torch.uint8, (len(expected), 3, 8, 8))
            for image, i in zip(batch.images, expected.tolist(), strict=True):
                assert torch.equal(image, train_transform(source.read(i), AUGMENT, INPUT, mix_seed(1, epoch, i)))


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    source = Made(20, broken=(3, 11))
    assert same(some(training(source, workers=workers), 9), some(training(source), 9))
    assert same(evaluation(source, workers=workers), evaluation(source))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_resume_goes_on_exactly(workers):
    source = Made(20)
    whole = some(training(source, workers=workers), 14)
    assert same(some(training(source, start_step=5, workers=workers), 4), whole[10:])


def test_global_chance_is_neither_used_nor_changed():
    state = torch.get_rng_state()
    first = some(training(Made(20)), 3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(77)
    assert same(some(training(Made(20)), 3), first)


def test_ranks_share_each_step():
    source = Made(20)
    whole = some(training(source, global_batch=9, micro_batch=9), 4)
    ranks = [some(training(source, global_batch=9, micro_batch=3, ranks=(r, 2)), 8) for r in (0, 1)]
    for step in range(4):
        shares = [torch.cat([batch.indices for batch in rank[2 * step : 2 * step + 2]]) for rank in ranks]
        assert [len(share) for share in shares] == [4, 4]  # equal; the ninth is left out
        assert torch.equal(torch.cat(shares), whole[step].indices[:8])


def test_images_of_a_step_are_sorted_by_aspect():
    source = Made(23)
    aspects = (torch.arange(23) * 7 % 5).float()  # many equal ones: they keep the order of the step
    plain = some(training(source, global_batch=9, micro_batch=9), 4)
    ranks = [
        some(training(source, global_batch=9, micro_batch=3, ranks=(r, 2), sampling=Sampling(aspects=aspects)), 8)
        for r in (0, 1)
    ]
    for step in range(4):
        expected = sorted(plain[step].indices.tolist()[:8], key=lambda i: float(aspects[i]))
        shares = [torch.cat([batch.indices for batch in rank[2 * step : 2 * step + 2]]) for rank in ranks]
        assert torch.cat(shares).tolist() == expected
    late = some(
        training(source, global_batch=9, micro_batch=3, ranks=(1, 2), sampling=Sampling(aspects=aspects), start_step=2),
        4,
    )
    assert same(late, ranks[1][4:])


def test_fewer_images_than_a_batch():
    batches = some(training(Made(5), global_batch=64, micro_batch=64), 3)
    assert [sorted(batch.indices.tolist()) for batch in batches] == [[0, 1, 2, 3, 4]] * 3
    assert len({tuple(batch.indices.tolist()) for batch in batches}) > 1


@given(st.integers(0, 30), st.integers(1, 9), st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_evaluation_sees_every_image_once_over_all_ranks(n, batch_size, world_size):
    source = Made(n)
    seen = [
        batch
        for rank in range(world_size)
        for batch in evaluation(source, batch_size=batch_size, ranks=(rank, world_size))
    ]
    indices = [i for batch in seen for i in batch.indices.tolist()]
    assert sorted(indices) == list(range(n))
    assert all(len(batch.indices) <= batch_size for batch in seen)
    for batch in seen[:2]:
        assert torch.equal(batch.targets, source.targets[batch.indices])
        assert torch.equal(batch.images[0], eval_transform(source.read(int(batch.indices[0])), INPUT))


def test_evaluation_is_in_order():
    assert [batch.indices.tolist() for batch in evaluation(Made(6))] == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize("workers", [0, 2])
def test_bad_images_in_evaluation_are_left_out_and_counted(workers, capsys):
    source = Made(10, broken=(1, 4, 5, 6, 7))
    found = bad(source)
    batches = evaluation(source, workers=workers, bad=found)
    assert [batch.indices.tolist() for batch in batches] == [[0, 2, 3], [8, 9]]  # a batch without any is no batch
    assert found.found == {f"image {i}": "cut short" for i in (1, 4, 5, 6, 7)}
    evaluation(source, workers=workers, bad=found)
    assert capsys.readouterr().err.count("Skipped an image that cannot be read: image 4: cut short\n") == 1


def test_bad_images_in_training_are_replaced_from_their_micro_batch():
    source = Made(12, broken=(0, 5, 7))
    found = bad(source)
    batches = some(training(source, global_batch=12, micro_batch=6, bad=found), 4)
    for step in range(2):
        _, indices = train_indices(step, n=12, global_batch=12, seed=1)
        for batch, wanted in zip(batches[2 * step : 2 * step + 2], indices.split(6), strict=True):
            assert len(batch.images) == 6
            good = [i for i in wanted.tolist() if i not in source.broken]
            assert set(batch.indices.tolist()) == set(good)
            kept = [place for place, i in enumerate(wanted.tolist()) if i in good]
            assert torch.equal(batch.indices[kept], wanted[kept])
            assert torch.equal(batch.targets, batch.indices % 3)
            for image, i in zip(batch.images, batch.indices.tolist(), strict=True):
                assert torch.equal(image, train_transform(source.read(i), AUGMENT, INPUT, mix_seed(1, step, i)))
    assert sorted(found.found) == ["image 0", "image 5", "image 7"]


def test_a_micro_batch_of_bad_images_is_filled_from_its_neighbours():
    source = Made(10, broken=(2, 3, 9))
    order = train_order(10, seed=1, epoch=0).tolist()
    batches = some(training(source, global_batch=10, micro_batch=1), 10)
    expected = [{2: 4, 3: 4, 9: 0}.get(i, i) for i in order]
    assert [int(batch.indices) for batch in batches] == expected


def test_too_many_bad_images_are_an_error():
    source = Made(500, broken=tuple(range(0, 500, 10)))
    with pytest.raises(
        UserError, match=r"6 images cannot be read, more than the 5 .* 500(.|\n)*image \d+: cut short"
    ) as told:
        evaluation(source, bad=bad(source, 0.01))
    assert "--loader.max-bad 0.02 (now 0.01)" in str(told.value)
    few = BadImages(10, max_bad=0.01)
    for i in range(3):  # three are always tolerated
        few.add(f"{i}", "x")
        few.add(f"{i}", "x")
    with pytest.raises(UserError, match="4 images"):
        few.add("3", "x")


def test_nothing_that_can_be_read_is_an_error():
    source = Made(8, broken=tuple(range(8)))
    with pytest.raises(UserError, match=r"None of \d+ images in a row can be read; the first is image \d"):
        next(training(source))


def test_a_worker_that_is_killed_is_explained():
    source = Made(8, deadly=3)
    with pytest.raises(UserError, match=r"was killed: out of memory(.|\n)*--loader.workers 2"):
        evaluation(source, workers=1)


def test_the_number_of_workers(monkeypatch):
    def auto(size: int, *, cores: int, gpu: bool, world_size: int = 1) -> int:
        monkeypatch.setattr(module.torch.cuda, "is_available", lambda: gpu)
        monkeypatch.setattr(module.os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        return resolved_workers(LoaderConfig(), size=size, world_size=world_size)

    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert [auto(224, cores=n, gpu=False) for n in (1, 2, 6, 64)] == [1, 1, 3, 8]
    assert [auto(224, cores=n, gpu=True) for n in (1, 2, 6, 64)] == [1, 2, 6, 8]
    assert auto(32, cores=64, gpu=False) == 0
    assert auto(32, cores=4, gpu=True) == 4
    assert auto(224, cores=16, gpu=True, world_size=4) == 4
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")  # of 8 ranks, 2 are on this machine
    assert auto(224, cores=16, gpu=True, world_size=8) == 8
    assert resolved_workers(LoaderConfig(workers=3), size=8) == 3


def test_the_number_of_threads_is_put_back():
    threads = torch.get_num_threads()
    next(training(Made(8)))
    assert torch.get_num_threads() == threads


def test_classes_come_equally_often() -> None:
    classes = torch.tensor([0] * 90 + [1] * 6 + [2] * 4)
    first, second = (balanced_order(classes, seed=3, epoch=epoch) for epoch in (0, 1))
    for order in (first, second):
        assert torch.bincount(classes[order % 100]).tolist() in ([33, 33, 34], [33, 34, 33], [34, 33, 33])
        assert len(set(order.tolist())) == 100  # the k-th time that an image comes is another one
        for image in range(90, 100):
            times = sorted((order[order % 100 == image] // 100).tolist())
            assert times == list(range(len(times)))
            assert len(times) in (5, 6, 8, 9)
    assert torch.equal(first, balanced_order(classes, seed=3, epoch=0))
    assert not torch.equal(first, second)
    assert set((first % 100).tolist()) != set((second % 100).tolist())
    assert set(balanced_order(torch.arange(8), seed=0, epoch=0).tolist()) == set(range(8))
    assert balanced_order(torch.tensor([5, 5, 5]), seed=0, epoch=0).sort().values.tolist() == [0, 1, 2]


@pytest.mark.parametrize("workers", [0, 2])
def test_balanced_batches_are_a_pure_function_of_the_step(workers: int) -> None:
    source = Made(12)
    source.targets = torch.tensor([0] * 10 + [1] * 2)
    sampling = Sampling(classes=source.targets)
    whole = some(training(source, sampling=sampling), 8)
    assert same(some(training(source, sampling=sampling, workers=workers, start_step=2), 4), whole[4:])
    epoch = torch.cat([batch.indices for batch in whole[:4]])
    assert torch.bincount(source.targets[epoch]).tolist() == [6, 6]
    assert torch.equal(torch.cat([batch.targets for batch in whole[:4]]), source.targets[epoch])
    views = torch.cat([batch.images for batch in whole[:4]])[epoch == 10]
    assert len({view.numpy().tobytes() for view in views}) > 1  # augmented anew each time


def test_balanced_ranks_share_a_step() -> None:
    source = Made(12)
    sampling = Sampling(aspects=torch.arange(12).float(), classes=source.targets)
    whole = some(training(source, sampling=sampling, micro_batch=6), 2)
    halves = [some(training(source, sampling=sampling, micro_batch=3, ranks=(rank, 2)), 2) for rank in (0, 1)]
    for step in range(2):
        assert torch.equal(torch.cat([half[step].indices for half in halves]), whole[step].indices)
