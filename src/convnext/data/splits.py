"""Which images are held out: drawn from a seed, written down by name, held out again. N images."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

from convnext.core.errors import UserError
from convnext.core.seeding import mix_seed


class Named(Protocol):
    """Images with names that are unique among them."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str: ...


D = TypeVar("D", bound=Named)
T = TypeVar("T")
_TRIES = 100  # images on each side that are tried for an exchange


def stratified_split(targets: Tensor, *, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Holds out `fraction` of each class: sorted indices (train, val), int64, together every index once.

    targets: int64 (N,). Of a class with n images, round(fraction * n) are held out, but at least one and never all; a
    class with a single image stays in training. fraction 0 holds out none. The same arguments give the same split.
    Raises UserError for a fraction outside [0, 1).
    """
    _check(fraction)
    held = torch.zeros(len(targets), dtype=torch.bool)
    order = torch.argsort(targets, stable=True)  # the images of each class side by side, in their order
    start = 0
    for label, count in enumerate(torch.bincount(targets).tolist()):
        members = order[start : start + count]
        start += count
        if count < 2 or fraction == 0:
            continue
        # a generator for each class: adding images to one class does not change what is held out of another
        generator = torch.Generator().manual_seed(mix_seed(seed, label))
        amount = min(max(round(fraction * count), 1), count - 1)
        held[members[torch.randperm(count, generator=generator)[:amount]]] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def random_split(n: int, *, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """Holds out round(fraction * n) of n images at random, but at least one and never all: sorted indices (train, val),
    int64. fraction 0, or a single image, holds out none. Raises UserError for a fraction outside [0, 1)."""
    _check(fraction)
    amount = min(max(round(fraction * n), 1), n - 1) if fraction > 0 else 0
    order = torch.randperm(n, generator=torch.Generator().manual_seed(mix_seed(seed, n)))
    return order[amount:].sort().values, order[:amount].sort().values


def covering_split(present: Tensor, *, fraction: float, seed: int) -> tuple[Tensor, Tensor]:
    """As `random_split`, then changed as little as makes both parts hold what can be learned and judged.

    present: bool (N, K), what each image holds (classes with pixels, with objects). Of each class that two images or
    more hold, one is held out and one stays, and the only one stays, where exchanging two images does that without
    losing another class. The same arguments give the same split.
    """
    train, val = random_split(len(present), fraction=fraction, seed=seed)
    if not len(val):
        return train, val
    held = torch.zeros(len(present), dtype=torch.bool)
    held[val] = True
    order = torch.randperm(len(present), generator=torch.Generator().manual_seed(mix_seed(seed, len(present), 1)))
    total = present.sum(0)
    for k in torch.argsort(total, stable=True).tolist():  # the rarest first: it has the least choice
        for into in (True, False):
            enough = int(total[k]) > (1 if into else 0)
            if enough and not bool(present[held == into, k].any()):
                _exchange(present, held, k, order, into=into)
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def _exchange(present: Tensor, held: Tensor, k: int, order: Tensor, *, into: bool) -> None:
    """Brings an image with class k into the held-out part (or out of it), in exchange for one that is not missed."""
    inside = held[order] == into
    comes = order[~inside & present[order, k]][:_TRIES].tolist()
    goes = order[inside]
    goes = goes[torch.argsort(present[goes].sum(1), stable=True)][:_TRIES].tolist()  # who holds least is missed least
    here, there, several = present[held == into].sum(0), present[held != into].sum(0), present.sum(0) > 1
    for come in comes:
        for go in goes:
            lost_here = (here == 1) & present[go] & ~present[come]
            lost_there = (there == 1) & present[come] & ~present[go]
            from_held, from_train = (lost_here, lost_there) if into else (lost_there, lost_here)
            if not bool(((from_held & several) | from_train).any()):
                held[come], held[go] = into, not into
                return


def restored(source: Named, split: dict[str, Any], where: str | Path) -> tuple[Tensor, Tensor]:
    """Indices of the images that a saved split does not hold out, and of those that it does."""
    names = split.get("val")
    if not isinstance(names, list) or "seed" not in split or "fraction" not in split:
        raise UserError("The saved split is not one: it needs 'seed', 'fraction' and the held-out names in 'val'.")
    called = identity if split.get("exact") else source_name
    index: dict[str, list[int]] = {}
    for i in range(len(source)):
        index.setdefault(called(source, i), []).append(i)
    missing = [name for name in names if name not in index]
    if missing:
        raise UserError(
            f"{len(missing)} of {len(names)} held-out images are no longer in {where} (as {missing[0]!r}). Put them "
            "back, give the folder where the data is now, or start a new run."
        )
    held = torch.zeros(len(source), dtype=torch.bool)
    # of an earlier version's record, all images that are printed alike: none that was held out is ever trained on
    held[torch.tensor([i for name in names for i in index[name]], dtype=torch.int64)] = True
    return torch.nonzero(~held).flatten(), torch.nonzero(held).flatten()


def identity(source: Named, index: int) -> str:
    """What tells an image from all others of a data set: its `key`, where it has those, else its name.

    Names are for people: two files whose names differ in a control character alone are printed alike.
    """
    return getattr(source, "key", source.name)(index)


def source_name(source: Named, index: int) -> str:
    """An image's name as it is printed."""
    return source.name(index)


def held_out_names(source: Named, indices: Iterable[int]) -> Record:
    """The part of a record that names held-out images; "exact" where their printed names may not tell them apart."""
    chosen = list(indices)
    alike = any("?" in source.name(i) for i in chosen)  # what `printable` puts in place of a character
    return {"val": [identity(source, i) for i in chosen]} | ({"exact": True} if alike else {})


def selected(dataset: D, indices: Tensor) -> D:
    """Some images of a data set, in the given order. Raises UserError for one that cannot give some of its images."""
    select = getattr(dataset, "selected", None)
    if select is None:
        raise UserError(
            f"{type(dataset).__name__} has no method selected(indices), which gives some of its images; a part of it "
            "was to be taken. Give it one, or train on a training and a validation set."
        )
    return select(indices)


def same_parts(split: dict[str, Any], name: str) -> None:
    """Raises UserError where the data has the validation part `name` now, but had none when `split` was saved."""
    if split.get("kind") != "given":
        raise UserError(
            f"The data now has a part '{name}', which it did not have when the run was started. Move that part away to "
            "evaluate on the same images as before, or name the data to evaluate on."
        )


def the_part(split: str, parts: Mapping[str, T], where: str | Path) -> T:
    """The part of that name. Raises UserError, with those that there are, where there is none."""
    if split not in parts:
        raise UserError(f"{where} has no part '{split}'; it has {' and '.join(parts)}. Leave --split out, or name one.")
    return parts[split]


def _check(fraction: float) -> None:
    if not 0 <= fraction < 1:
        raise UserError(f"The share to hold out (--loader.val-fraction) lies in 0..1, as 0.1; it was {fraction}.")


Record = dict[str, Any]
"""{"seed", "fraction", "kind": "given" | "stratified" | "random" | "none", "val": [names]}, to be saved as JSON.

With "exact": true the names are each image's `identity`, else what is printed."""


class Splits(Generic[D]):
    """The training and validation parts of a data set, each read when it is first asked for.

    Args:
        train, val: read the parts; each is called once at most.
        held_out: False where no image could be held out: `val` is `train` then, and figures say how well it was
            memorised.
        note: sentences for people, made of both parts: what was found, how it was split, what was left out.
        record: what to save of the split, made of the validation part.
    """

    def __init__(
        self,
        train: Callable[[], D],
        val: Callable[[], D],
        *,
        held_out: bool,
        note: Callable[[D, D], str],
        record: Callable[[D], Record],
    ) -> None:
        self.held_out = held_out
        self._read_train, self._read_val, self._note, self._record = train, val, note, record

    @cached_property
    def train(self) -> D:
        """The images to train on."""
        return self._read_train()

    @cached_property
    def val(self) -> D:
        """The images to validate on."""
        return self._read_val()

    @cached_property
    def note(self) -> str:
        """What was found and how it was split, for people."""
        return self._note(self.train, self.val)

    @cached_property
    def record(self) -> Record:
        """The split as JSON values; names of held-out images."""
        return self._record(self.val)


def given_splits(
    train: Callable[[], D],
    val: Callable[[], D],
    name: str,
    saved: Record | None,
    *,
    found: Callable[[D], str],
    seed: int,
    fraction: float,
    is_test: bool | None = None,
) -> Splits[D]:
    """The parts that the data has.

    name: of the validation part. is_test: whether it is the test part; None: by its name. saved: a record, whose
    images are taken again. found: the training part in words.
    Raises UserError, when the validation part is read, where it lacks images of the record.
    """

    def read_val() -> D:
        part = val()
        if saved is None:
            return part
        same_parts(saved, name)
        _, held = restored(part, saved, name)
        return part if len(held) == len(part) else selected(part, held)

    def note(train: D, val: D) -> str:
        text = f"Found {found(train)} to train on, {len(val):,} images in '{name}' to validate on."
        if name.lower().startswith("test") if is_test is None else is_test:
            text += (
                " There is no 'val', so the test images choose the best model: its figures on them flatter a little."
            )
        return text

    def record(val: D) -> Record:
        return {"seed": seed, "fraction": fraction, "kind": "given", **held_out_names(val, range(len(val)))}

    return Splits(train, read_val, held_out=True, note=note, record=record)


def drawn_splits(
    dataset: D,
    saved: Record | None,
    where: str | Path,
    *,
    found: str,
    seed: int,
    fraction: float,
    targets: Tensor | None = None,
    present: Tensor | None = None,
) -> Splits[D]:
    """A share of the images held out at random, or those that a saved record held out.

    found: the data set in words. targets: int64 (N,), classes of which the same share each is held out. present: bool
    (N, K), what each image holds, of which both parts should have some (`covering_split`).
    """
    if saved is not None:
        kept, held = restored(dataset, saved, where)
        seed, fraction = saved["seed"], saved["fraction"]
    elif targets is not None:
        kept, held = stratified_split(targets, fraction=fraction, seed=seed)
    elif present is not None:
        kept, held = covering_split(present, fraction=fraction, seed=seed)
    else:
        kept, held = random_split(len(dataset), fraction=fraction, seed=seed)
    if not len(held):
        single = "a single image cannot be held out" if targets is None else "each class has a single image"
        return no_split(
            lambda: dataset,
            found=found,
            why="none was to be held out" if fraction == 0 else single,
            seed=seed,
            fraction=fraction,
        )
    of_each = ", some of each class," if targets is not None else ""
    note = f"Found {found}; {len(held):,} of them{of_each} are held out to validate on (seed {seed})."
    kind = "random" if targets is None else "stratified"
    names = held_out_names(dataset, held.tolist())
    return Splits(
        lambda: selected(dataset, kept),
        lambda: selected(dataset, held),
        held_out=True,
        note=lambda train, val: note,
        record=lambda val: {"seed": seed, "fraction": fraction, "kind": kind, **names},
    )


def no_split(dataset: Callable[[], D], *, found: str, why: str, seed: int = 0, fraction: float = 0.0) -> Splits[D]:
    """All images to train and to validate on. why: none is held out."""
    note = f"Found {found}; {why}. All figures are on the training images themselves."
    splits = Splits(
        dataset,
        lambda: splits.train,
        held_out=False,
        note=lambda train, val: note,
        record=lambda val: {"seed": seed, "fraction": fraction, "kind": "none", "val": []},
    )
    return splits


def limited(
    splits: Splits[D], fraction: float, *, seed: int, targets: Callable[[D], Tensor] | None = None
) -> Splits[D]:
    """The same with a share of the training images alone, and a line that says so; the validation part stays.

    fraction: above 0, up to 1 (all). targets: int64 (N,), classes of which the same share each is taken, of each at
    least one image. The same arguments give the same images.
    """
    if fraction == 1:
        return splits

    def train() -> D:
        whole = splits.train
        if targets is None:
            kept, _ = random_split(len(whole), fraction=1 - fraction, seed=mix_seed(seed, 1))
        else:
            kept, _ = stratified_split(targets(whole), fraction=1 - fraction, seed=mix_seed(seed, 1))
        return selected(whole, kept)

    def note(train: D, val: D) -> str:
        of_each = " of each class" if targets is not None else ""
        return (
            f"{splits.note}\n{len(train):,} of the training images are trained on: the share{of_each} that "
            f"--loader.train-fraction {fraction:g} asks for."
        )

    return Splits(train, lambda: splits.val, held_out=splits.held_out, note=note, record=lambda val: splits.record)


def with_notes(splits: Splits[D], more: Callable[[D, D], Sequence[str]]) -> Splits[D]:
    """The same with more lines in the note, made of both parts; empty ones are left out."""

    def note(train: D, val: D) -> str:
        return "\n".join([splits.note, *(line.rstrip() for line in more(train, val) if line)])

    return Splits(
        lambda: splits.train,
        lambda: splits.val,
        held_out=splits.held_out,
        note=note,
        record=lambda val: splits.record,
    )


def with_record(splits: Splits[D], more: Record) -> Splits[D]:
    """The same with more values in the record."""
    return Splits(
        lambda: splits.train,
        lambda: splits.val,
        held_out=splits.held_out,
        note=lambda train, val: splits.note,
        record=lambda val: splits.record | more,
    )
