"""What pre-training starts from where nobody names weights: nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from convnext.data.dataset import DataModule
from convnext.tasks.start import Start, Wish, from_scratch


def start(data: DataModule[Any], options: Mapping[str, str], wish: Wish) -> Start:
    """From scratch: that is what pre-training is for."""
    return from_scratch("pre-training is what others start from; --init NAME goes on with published weights")
