"""A data set's labels, read: what tests of tables share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from convnext.data.classification.config import TableConfig
from convnext.data.classification.dataset import labels_of
from convnext.data.classification.open import ClassificationData
from convnext.data.config import LoaderConfig

Made = Callable[..., Path]


def labels(path: Path, **settings: str) -> dict[str, str]:
    """Image -> its label, or labels, in the whole data."""
    data = ClassificationData(path, table=TableConfig(**settings))  # pyright: ignore[reportArgumentType]
    train = data.splits(LoaderConfig(val_fraction=0.0), seed=0).train
    return {train.name(i): labels_of(train, i) for i in range(len(train))}


def note(path: Path, loader: LoaderConfig = LoaderConfig(), **settings: str) -> str:  # noqa: B008
    return ClassificationData(path, table=TableConfig(**settings)).splits(loader, seed=0).note  # pyright: ignore[reportArgumentType]
