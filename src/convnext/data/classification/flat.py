"""A flat folder whose file names start with the class: cat_001.jpg, dog.12.png, "cat (3).jpg"."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from collections.abc import Sequence

_NAME = re.compile(r"(?P<prefix>.*[^\W\d_].*?)(?:[ _.\-]+|\s*(?=\())\(?\d+\)?")
_CAMERAS = re.compile(
    r"(img|dsc[nf]?|pxl|vid|mvimg|image|images|photo|pic|picture|frame|screenshot|scan|file|untitled|wa|gopr|dji|p|sam|"
    r"cimg|imag|sample|train|val|test|data|crop|patch|tile)",
    re.IGNORECASE,
)
"""Prefixes that cameras and programs write: no classes."""
_LEAST = 2  # prefixes, and images of each


def prefix_of(path: str) -> str:
    """What a file's name has before its number, as "cat" of cat_001.jpg; "" where it has no separator and number."""
    match = _NAME.fullmatch(posixpath.splitext(posixpath.basename(path))[0])
    return match["prefix"].rstrip(" _.-") if match else ""


def classes_in_names(paths: Sequence[str]) -> dict[str, int]:
    """Class -> how many images, where all names start with a class; empty where that is not evident.

    Evident: each name is a prefix, a separator and a number; there are two prefixes or more, with two images or more
    each; none is what a camera writes.
    """
    counts = Counter(map(prefix_of, paths))
    words = [re.split(r"[ _.\-]", prefix)[0] for prefix in counts]
    if "" in counts or len(counts) < _LEAST or min(counts.values()) < _LEAST:
        return {}
    if any(_CAMERAS.fullmatch(word) for word in words):
        return {}
    return dict(sorted(counts.items()))
