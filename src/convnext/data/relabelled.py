"""Images labelled for one model's classes: the same class names, whatever their order or number here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.data.source import Source


class Relabelled:
    """A source whose targets are positions in `classes`; a Source itself.

    Raises UserError where the source has a class that `classes` lacks, or one that stands there twice.
    """

    def __init__(self, source: Source, classes: Sequence[str]) -> None:
        self.source, self.classes = source, tuple(classes)
        if tuple(source.classes) == self.classes:
            self.targets = source.targets
            return
        places = {name: i for i, name in enumerate(self.classes)}
        used = [source.classes[i] for i in torch.unique(source.targets).tolist()]
        unknown = [name for name in used if name not in places]
        if unknown:
            hint = nearest(unknown[0], places) or f" It knows {', '.join(self.classes[:5])}, ..."
            raise UserError(
                f"{len(unknown)} of the data's {len(used)} classes are not among the model's {len(self.classes)}: "
                f"'{unknown[0]}', for one.{hint} The class folders need the names that the model was trained with."
            )
        doubled = sorted(name for name in used if self.classes.count(name) > 1)
        if doubled:
            raise UserError(
                f"The model has the class '{doubled[0]}' twice: the data needs all its classes, in its order."
            )
        lookup = torch.tensor([places.get(name, -1) for name in source.classes])
        self.targets = lookup[source.targets]

    def __len__(self) -> int:
        return len(self.source)

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W); raises `decode.BadImage`."""
        return self.source.read(index)

    def name(self, index: int) -> str:
        return self.source.name(index)
