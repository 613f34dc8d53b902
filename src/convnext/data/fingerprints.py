"""What identifies an image: its pixels, exactly, and what it looks like; and which images are alike.

N images. The perceptual hash is dHash: the image in grey at 9 x 8 pixels, a bit for each pixel that is brighter than
its left neighbour (N. Krawetz, "Kind of like that", 2013).
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from convnext.core.logs import Progress
from convnext.data.batch import Loaded, Work
from convnext.data.dataset import Dataset
from convnext.data.decode import BadImage
from convnext.data.loader import BadImages, eval_batches, usable_cores

NEAR = 3
"""Bits of 64 in which the hashes of near-duplicates differ at most."""
_PLAIN = 6  # bits: a hash with fewer, of either kind, is of an image without structure, and says nothing
_BANDS = np.array_split(np.arange(64), NEAR + 1)  # of two hashes that near, one of the bands is equal
_CROWDED = 20_000  # images that share a band: comparing more, each with each, takes minutes
_BLOCK = 1024  # of them are compared with the others at a time
_WEIGHTS = (0.299, 0.587, 0.114)  # of red, green and blue in grey


class Fingerprint(NamedTuple):
    """Of one image."""

    image: int
    """Its index in the data set."""
    height: int
    width: int
    pixels: bytes
    """16 bytes: equal for equal pixels."""
    looks: int
    """64 bits: near for images that look alike."""


@dataclass(frozen=True)
class Survey:
    """All images of a data set, looked at."""

    found: list[Fingerprint]
    """In order, without those that cannot be read."""
    unreadable: dict[str, str]
    """Name -> reason."""


def fingerprint(image: Tensor, number: int = 0) -> Fingerprint:
    """Of an image, uint8 (C, H, W), of that number in its data set. Grey is the mean of other than 3 bands."""
    height, width = image.shape[1:]
    digest = hashlib.blake2b(image.numpy().tobytes(), digest_size=16, key=f"{height}x{width}".encode()).digest()
    weights = torch.tensor(_WEIGHTS) if len(image) == len(_WEIGHTS) else torch.full((len(image),), 1 / len(image))
    grey = torch.einsum("c,chw->hw", weights, image.float())
    small = F.interpolate(grey[None, None], size=(8, 9), mode="area")[0, 0]
    bits = (small[:, 1:] > small[:, :-1]).flatten().tolist()
    return Fingerprint(number, height, width, digest, sum(1 << place for place, bit in enumerate(bits) if bit))


def survey(dataset: Dataset, *, workers: int = -1, title: str = "Looking at images") -> Survey:
    """Reads every image once, in worker processes (-1: as many as this machine can use), with progress."""
    bad = BadImages(len(dataset), max_bad=1.0, quiet=True)
    batches = eval_batches(
        partial(_load, dataset=dataset),
        num_images=len(dataset),
        batch_size=16,
        bad=bad,
        workers=workers if workers >= 0 else usable_cores(),
    )
    found: list[Fingerprint] = []
    with Progress(title, len(dataset), unit="image") as progress:
        for batch in batches:
            found += batch
            progress.update(len(found) + len(bad.found))
    return Survey(found, dict(bad.found))


def _load(work: Work, *, dataset: Dataset) -> Loaded[list[Fingerprint]]:
    found, failures = [], []
    for index in work.indices.tolist():
        try:
            found.append(fingerprint(dataset.read(index), index))
        except BadImage as error:
            failures.append((error.name, error.reason))
    return Loaded(found, len(found), failures)


def same_pixels(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """Places, in `prints`, of images with equal pixels: groups of two and more, in order."""
    groups: defaultdict[bytes, list[int]] = defaultdict(list)
    for place, one in enumerate(prints):
        groups[one.pixels].append(place)
    return [group for group in groups.values() if len(group) > 1]


def look_alikes(prints: Sequence[Fingerprint]) -> tuple[list[tuple[int, int]], int]:
    """Pairs of places, in `prints`, of images that look alike but whose pixels differ, ascending; and how many images
    were not compared with all others.

    Their hashes differ in at most `NEAR` of 64 bits. Of equal images the first stands for all. Images without
    structure are not compared: their hashes say nothing; nor are those of which more than 20,000 share a part of the
    hash. Both are counted.
    """
    first = {one.pixels: place for place, one in reversed(list(enumerate(prints)))}
    unique = np.array(sorted(first.values()), dtype=np.int64)
    hashes = np.array([one.looks for one in prints], dtype=np.uint64)
    ones = np.bitwise_count(hashes[unique])
    telling = unique[(ones >= _PLAIN) & (ones <= 64 - _PLAIN)]
    left_out = set(unique.tolist()) - set(telling.tolist())
    pairs: set[tuple[int, int]] = set()
    for band in _BANDS:
        mask = np.uint64(sum(1 << int(bit) for bit in band))
        for group in _equal(hashes[telling] & mask):
            if len(group) > _CROWDED:
                left_out.update(telling[group].tolist())
            else:
                pairs.update(_near(telling[group], hashes))
    return sorted(pairs), len(left_out)


def _equal(values: np.ndarray) -> Iterator[np.ndarray]:
    """Places of equal values: groups of two and more."""
    order = np.argsort(values, kind="stable")
    starts = np.nonzero(np.diff(values[order]))[0] + 1
    return (np.sort(group) for group in np.split(order, starts) if len(group) > 1)


def _near(places: np.ndarray, hashes: np.ndarray) -> Iterator[tuple[int, int]]:
    """Pairs of places whose hashes are near; places ascending, compared in blocks."""
    chosen = hashes[places]
    for start in range(0, len(places), _BLOCK):
        block = chosen[start : start + _BLOCK]
        apart = np.bitwise_count(block[:, None] ^ chosen[None, start:])
        first, second = np.nonzero(np.triu(apart <= NEAR, 1))
        yield from zip(places[start + first].tolist(), places[start + second].tolist(), strict=True)
