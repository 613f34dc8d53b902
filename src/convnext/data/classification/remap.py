"""Images labelled for one model's classes: the same class names, whatever their order or number here."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from convnext.core.errors import UserError, nearest
from convnext.data.classification.dataset import ClassificationDataset
from convnext.data.classification.dataset import class_dirs as class_dirs_of


class RemappedDataset:
    """A data set whose targets are positions in `classes`; a data set itself.

    `class_dirs` are the names of the folders that the model's data had, where they are known (ImageNet's ids): folders
    of these names count before names for people, which differ from list to list.

    Raises UserError where the data set has a class that `classes` lacks, or one that stands there twice.
    """

    def __init__(self, dataset: ClassificationDataset, classes: Sequence[str], class_dirs: Sequence[str] = ()) -> None:
        self.dataset, self.classes = dataset, tuple(classes)
        keyed = bool(class_dirs) and set(class_dirs_of(dataset)) <= set(class_dirs)
        given, known = (class_dirs_of(dataset), class_dirs) if keyed else (dataset.classes, self.classes)
        if tuple(given) == tuple(known):
            self.targets = dataset.targets
            return
        places = {name: i for i, name in enumerate(known)}
        used = [given[i] for i in torch.unique(dataset.targets).tolist()]
        unknown = [name for name in used if name not in places]
        if unknown:
            hint = nearest(unknown[0], places) or f" It knows {', '.join(self.classes[:5])}, ..."
            raise UserError(
                f"{len(unknown)} of the data's {len(used)} classes are not among the model's {len(self.classes)}: "
                f"'{unknown[0]}', for one.{hint} The class folders need the names that the model was trained with."
            )
        doubled = sorted(name for name in used if list(known).count(name) > 1)
        if doubled:
            raise UserError(
                f"The model has the class '{doubled[0]}' twice: the data needs all its classes, in its order."
            )
        lookup = torch.tensor([places.get(name, -1) for name in given])
        self.targets = lookup[dataset.targets]

    def __len__(self) -> int:
        return len(self.dataset)

    def read(self, index: int) -> Tensor:
        """uint8 (3, H, W); raises `decode.BadImage`."""
        return self.dataset.read(index)

    def name(self, index: int) -> str:
        return self.dataset.name(index)
