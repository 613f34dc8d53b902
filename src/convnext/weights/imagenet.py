"""The classes of ImageNet's sets, in the order that published classifiers have them. No torch here.

ImageNet-1K's stand in `imagenet.csv`. Those of ImageNet-22K (the release of autumn 2011; 21,841 classes, sorted by
WordNet id, as the folders of its training images are read) stand in `imagenet22k.csv`, with a mark at those that timm
calls ImageNet-12K: the classes with enough images, in the same order (timm 1.0.31, data/_info). Names are the first of
each WordNet synset.
"""

from __future__ import annotations

import csv
from collections import Counter
from functools import cache
from importlib import resources
from typing import NamedTuple


class Classes(NamedTuple):
    """Classes in the order of a classifier's outputs."""

    data: str
    """The dataset, as "ImageNet-1K"."""
    names: tuple[str, ...]
    """For people: unique, for those that name several classes have the id added."""
    ids: tuple[str, ...]
    """WordNet ids: the names of the class folders."""


COUNTS = {1000: "ImageNet-1K", 11821: "ImageNet-12K", 21841: "ImageNet-22K"}
"""Number of classes -> the set that has so many."""


@cache
def imagenet_classes(count: int = 1000) -> Classes:
    """The classes of the set that has `count` of them, one of `COUNTS`; KeyError for another number."""
    data = COUNTS[count]
    rows = _rows("imagenet.csv" if count == 1000 else "imagenet22k.csv")
    if data == "ImageNet-12K":
        rows = [row for row in rows if row["in_12k"]]
    times = Counter(row["name"] for row in rows)
    names = (f"{row['name']} ({row['wnid']})" if times[row["name"]] > 1 else row["name"] for row in rows)
    return Classes(data, tuple(names), tuple(row["wnid"] for row in rows))


def _rows(file: str) -> list[dict[str, str]]:
    text = resources.files("convnext.weights").joinpath(file).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
