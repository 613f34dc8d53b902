"""Many strings in little memory, for the names of images."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np


class Strings:
    """Many strings in two blocks of memory. Forked workers share those with their parent, where each string of a list
    would be copied into each worker as soon as it is looked at (Python counts references inside of objects)."""

    def __init__(self, strings: Sequence[str]) -> None:
        encoded = [os.fsencode(text) for text in strings]
        self._bytes = b"".join(encoded)
        self._ends = np.cumsum([0, *map(len, encoded)])

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index: int) -> str:
        return os.fsdecode(self._bytes[self._ends[index] : self._ends[index + 1]])
